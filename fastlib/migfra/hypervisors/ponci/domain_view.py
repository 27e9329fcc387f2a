"""What the kernel says of a domain: its groups in every hierarchy, and what freezes them.

`inspection.py` makes it. The properties decide nothing about a task; `decisions.py` does so.
"""

from pathlib import Path

import msgspec


class FreezeRequest(msgspec.Struct, frozen=True):
    """A group outside of a domain that was told to freeze."""

    group: Path
    thaw_command: str
    """The command of a shell that thaws it."""


class ForeignFreeze(msgspec.Struct, frozen=True):
    """Threads of a domain that are frozen through a group that is neither in nor above it."""

    request: FreezeRequest
    threads: frozenset[int]
    kills_frozen: bool
    """Whether they can be killed while they are frozen."""


class GroupView(msgspec.Struct, frozen=True):
    """A group of a domain in the hierarchy that freezes it."""

    path: Path
    requested: bool
    """Whether this group itself was told to freeze."""
    told: bool
    """Whether this group or any group above it was told to freeze."""
    frozen: bool
    """Whether it was told so and all that is in it has stopped."""
    threads: frozenset[int]
    """Its own threads. Those of another PID namespace are 0."""


class DomainView(msgspec.Struct, frozen=True, kw_only=True):
    """A domain at one moment."""

    name: str
    there: tuple[Path, ...]
    """Its group in each hierarchy that has one."""
    missing: tuple[Path, ...] = ()
    """Where a hierarchy has no group of it."""
    defect: str | None = None
    """Why no process can be put into a domain of which all groups are there."""
    groups: tuple[GroupView, ...] = ()
    """Its groups in the hierarchy that freezes it, each before those in it."""
    loose: frozenset[int] = frozenset()
    """Its threads that are not in the hierarchy that freezes it."""
    loose_processes: frozenset[int] = frozenset()
    """The processes of these threads."""
    above: tuple[FreezeRequest, ...] = ()
    """The groups above it that were told to freeze, the nearest first."""
    above_is_hidden: bool = False
    """Whether a group above it is frozen that cannot be seen from here, as in a container."""
    elsewhere: tuple[ForeignFreeze, ...] = ()
    processes: frozenset[int] = frozenset()
    """All its processes, in all hierarchies. Those of another PID namespace are 0."""
    kills_frozen: bool = True
    """Whether its processes can be killed while they are frozen."""
    root: Path = Path("/")
    """Where the hierarchy that freezes it is mounted."""

    @property
    def is_requested(self) -> bool:
        """Whether the domain's own group was told to freeze."""
        return bool(self.groups) and self.groups[0].requested

    @property
    def is_frozen(self) -> bool:
        """Whether the domain's own group has frozen, with all that is in it."""
        return bool(self.groups) and self.groups[0].frozen

    @property
    def is_frozen_from_above(self) -> bool:
        """Whether a group above the domain was told to freeze."""
        return bool(self.above) or self.above_is_hidden

    @property
    def requested_inside(self) -> tuple[Path, ...]:
        """The groups below the domain's own that were told to freeze, outer ones first."""
        return tuple(group.path for group in self.groups[1:] if group.requested)

    @property
    def still(self) -> frozenset[int]:
        """The threads that have stopped."""
        frozen = (group.threads for group in self.groups if group.frozen)
        return frozenset().union(*frozen, *(each.threads for each in self.elsewhere))

    @property
    def running(self) -> frozenset[int]:
        """The threads that nothing has stopped yet."""
        thawed = (group.threads for group in self.groups if not group.frozen)
        stopped = frozenset[int]().union(*(each.threads for each in self.elsewhere))
        return self.loose.union(*thawed) - stopped
