"""Read and set what freezes the groups of one hierarchy: the freezer of cgroup v1, or that of v2.

A group is frozen if it was told to freeze, or if a group above it was. With v1 a frozen process
receives no signal, not even SIGKILL, before it is thawed. With v2 it can be killed.
"""

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar, Final

import msgspec

from .files import GoneError, is_group, read, write
from .mounts import Mount


class FreezerReading(msgspec.Struct, frozen=True):
    """What the kernel says of one group."""

    requested: bool = False
    """Whether this group was told to freeze, and not just a group above it."""
    frozen: bool = False
    """Whether all that is in it, and in the groups below it, has stopped."""
    from_above: bool = False
    """Whether a group above it was told to freeze. Only v1 says so."""


class Freezer:
    """What freezes the groups of one hierarchy. Methods raise GroupError."""

    kills_frozen: ClassVar[bool] = True
    """Whether a frozen process can be killed."""
    _threads_file: ClassVar[str] = ""
    _thawed: ClassVar[tuple[str, str]] = ("", "")
    """The file that thaws a group, and what to write into it."""
    _frozen: ClassVar[str] = ""

    def __init__(self, root: Path, seen: str = "/") -> None:
        """Take the mount point, and the group of the hierarchy that is seen there."""
        self.root: Final = root
        self._seen: Final = Path(seen)

    def read(self, group: Path) -> FreezerReading:
        """Read the state of a group; that of the root, and of kernels without a freezer, is thawed.

        Raises GoneError if the group is not there.
        """
        try:
            return self._read(group)
        except GoneError:
            if is_group(group):
                return FreezerReading()
            raise

    def _read(self, group: Path) -> FreezerReading:
        raise NotImplementedError

    def can_freeze(self, group: Path) -> bool:
        """Tell whether the kernel has what freezes a group."""
        return (group / self._thawed[0]).exists()

    def freeze(self, group: Path) -> None:
        """Tell a group to freeze. `read` tells when it has frozen."""
        write(group / self._thawed[0], self._frozen)

    def thaw(self, group: Path) -> None:
        """Take back that a group was told to freeze."""
        write(group / self._thawed[0], self._thawed[1])

    def thaw_command(self, group: Path) -> str:
        """The command of a shell that thaws a group."""
        file, text = self._thawed
        return f"echo {text} > {shlex.quote(str(group / file))}"

    def threads(self, group: Path) -> frozenset[int]:
        """The threads of a group, without those of groups below it."""
        return frozenset(map(int, read(group / self._threads_file).split()))

    def above(self, group: Path) -> list[Path]:
        """The groups above a group that are seen here, the nearest first, the root included."""
        if group == self.root:
            return []
        return [each for each in group.parents if each.is_relative_to(self.root)]

    def path_of(self, thread: int) -> str | None:
        """The path of a thread's group in this hierarchy, None if it has no such hierarchy.

        Raises GoneError if the thread has ended.
        """
        for line in read(Path(f"/proc/{thread}/cgroup")).splitlines():
            _, controllers, path = line.split(":", 2)
            if self._is_own(controllers.split(",")):
                return path
        return None

    def group_at(self, path: str | None) -> Path | None:
        """The group with a path in this hierarchy, None if it is not seen here."""
        if path is None or not Path(path).is_relative_to(self._seen):
            return None
        return self.root / Path(path).relative_to(self._seen)

    def _is_own(self, controllers: list[str]) -> bool:
        """Tell whether a line of `/proc/<pid>/cgroup` is about this hierarchy."""
        raise NotImplementedError


class V1Freezer(Freezer):
    """The controller `freezer` of cgroup v1."""

    kills_frozen: ClassVar[bool] = False
    _threads_file: ClassVar[str] = "tasks"
    _thawed: ClassVar[tuple[str, str]] = ("freezer.state", "THAWED")
    _frozen: ClassVar[str] = "FROZEN"

    def _read(self, group: Path) -> FreezerReading:
        return FreezerReading(
            requested=read(group / "freezer.self_freezing").strip() == "1",
            frozen=read(group / "freezer.state").strip() == "FROZEN",
            from_above=read(group / "freezer.parent_freezing").strip() == "1",
        )

    def _is_own(self, controllers: list[str]) -> bool:
        return "freezer" in controllers


class V2Freezer(Freezer):
    """The freezer of cgroup v2, which each group has since Linux 5.2."""

    _threads_file: ClassVar[str] = "cgroup.threads"
    _thawed: ClassVar[tuple[str, str]] = ("cgroup.freeze", "0")
    _frozen: ClassVar[str] = "1"

    def _read(self, group: Path) -> FreezerReading:
        return FreezerReading(
            requested=read(group / "cgroup.freeze").strip() == "1",
            frozen="frozen 1" in read(group / "cgroup.events").splitlines(),
        )

    def _is_own(self, controllers: list[str]) -> bool:
        return controllers == [""]


def freezers(mounted: Iterable[Mount]) -> list[Freezer]:
    """One freezer for each version of cgroups that is mounted and can freeze."""
    found: dict[bool, Freezer] = {}
    for mount in mounted:
        if mount.unified:
            found.setdefault(True, V2Freezer(mount.point, mount.root))
        elif "freezer" in mount.controllers:
            found.setdefault(False, V1Freezer(mount.point, mount.root))
    return list(found.values())
