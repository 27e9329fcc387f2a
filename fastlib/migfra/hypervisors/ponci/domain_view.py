"""The kernel's view of a domain: its groups in every hierarchy, and what freezes them.

`inspection.py` makes it. `decisions.py` decides from it about tasks.
"""

from pathlib import Path

import msgspec


class FreezeRequest(msgspec.Struct, frozen=True):
    """A group outside of a domain that has a freeze request."""

    group: Path
    thaw_command: str
    """The shell command that thaws it."""


class ForeignFreeze(msgspec.Struct, frozen=True):
    """Threads of a domain that are frozen by a group that is neither in it nor above it."""

    request: FreezeRequest
    threads: frozenset[int]
    kills_frozen: bool
    """Whether they can be killed while they are frozen."""


class GroupView(msgspec.Struct, frozen=True):
    """A group of a domain in the hierarchy that freezes it."""

    path: Path
    requested: bool
    """Whether this group itself has a freeze request."""
    told: bool
    """Whether this group or any group above it has a freeze request."""
    frozen: bool
    """Whether a freeze was requested and all of its threads have stopped."""
    threads: frozenset[int]
    """The ids of its own threads. A thread of another PID namespace is 0."""


class DomainView(msgspec.Struct, frozen=True, kw_only=True):
    """A domain at one moment."""

    name: str
    there: tuple[Path, ...]
    """Its group in each hierarchy that has one."""
    missing: tuple[Path, ...] = ()
    """The paths at which a hierarchy lacks a group of it."""
    defect: str | None = None
    """Why no process can be put into a domain although all of its groups exist. None if one can."""
    groups: tuple[GroupView, ...] = ()
    """Its groups in the hierarchy that freezes it, outer ones first."""
    loose: frozenset[int] = frozenset()
    """Its threads that are not in the hierarchy that freezes it."""
    loose_processes: frozenset[int] = frozenset()
    """The processes of these threads."""
    above: tuple[FreezeRequest, ...] = ()
    """The groups above it that have a freeze request, the nearest first."""
    above_is_hidden: bool = False
    """Whether an invisible group above it is frozen, such as one outside of this container."""
    elsewhere: tuple[ForeignFreeze, ...] = ()
    processes: frozenset[int] = frozenset()
    """All its processes, in all hierarchies. A process of another PID namespace is 0."""
    kills_frozen: bool = True
    """Whether its processes can be killed while they are frozen."""
    root: Path = Path("/")
    """The mount point of the hierarchy that freezes it."""

    @property
    def is_requested(self) -> bool:
        """Whether the domain's own group has a freeze request."""
        return bool(self.groups) and self.groups[0].requested

    @property
    def is_frozen(self) -> bool:
        """Whether the domain's own group has frozen, with all threads in it."""
        return bool(self.groups) and self.groups[0].frozen

    @property
    def is_frozen_from_above(self) -> bool:
        """Whether a group above the domain has a freeze request."""
        return bool(self.above) or self.above_is_hidden

    @property
    def requested_inside(self) -> tuple[Path, ...]:
        """The groups below the domain's own that have a freeze request, outer ones first."""
        return tuple(group.path for group in self.groups[1:] if group.requested)

    @property
    def still(self) -> frozenset[int]:
        """The threads that have stopped."""
        frozen = (group.threads for group in self.groups if group.frozen)
        return frozenset().union(*frozen, *(each.threads for each in self.elsewhere))

    @property
    def running(self) -> frozenset[int]:
        """The threads that have not stopped."""
        thawed = (group.threads for group in self.groups if not group.frozen)
        stopped = frozenset[int]().union(*(each.threads for each in self.elsewhere))
        return self.loose.union(*thawed) - stopped
