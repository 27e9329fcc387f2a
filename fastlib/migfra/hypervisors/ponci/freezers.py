"""Read and set the freezers of one hierarchy's groups, of cgroup v1 or v2.

A group is frozen if it or a group above it has a freeze request. With v1 a frozen process receives
no signal before it is thawed, not even SIGKILL. With v2 it can be killed.
"""

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar, Final

import msgspec

from .files import GoneError, is_group, read, write
from .mounts import Mount


class FreezerReading(msgspec.Struct, frozen=True):
    """The kernel's freezer state of one group."""

    requested: bool = False
    """Whether this group itself has a freeze request."""
    frozen: bool = False
    """Whether all threads in it and in the groups below it have stopped."""
    from_above: bool = False
    """Whether a group above it has a freeze request. Only v1 reports that."""


class Freezer:
    """Freezes and thaws the groups of one hierarchy. Methods raise GroupError."""

    kills_frozen: ClassVar[bool] = True
    """Whether a frozen process can be killed."""
    _threads_file: ClassVar[str] = ""
    _thawed: ClassVar[tuple[str, str]] = ("", "")
    """The file that thaws a group, and the text to write into it."""
    _frozen: ClassVar[str] = ""

    def __init__(self, root: Path, seen: str = "/") -> None:
        """Take the mount point, and the group of the hierarchy that is mounted there."""
        self.root: Final = root
        self._seen: Final = Path(seen)

    def read(self, group: Path) -> FreezerReading:
        """Read the state of a group. The root is thawed; so is each group without a freezer.

        Raises GoneError if the group does not exist.
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
        """Return whether the kernel can freeze a group."""
        return (group / self._thawed[0]).exists()

    def freeze(self, group: Path) -> None:
        """Request the freeze of a group. `read` reports when it has frozen."""
        write(group / self._thawed[0], self._frozen)

    def thaw(self, group: Path) -> None:
        """Withdraw the freeze request of a group."""
        write(group / self._thawed[0], self._thawed[1])

    def thaw_command(self, group: Path) -> str:
        """Return the shell command that thaws a group."""
        file, text = self._thawed
        return f"echo {text} > {shlex.quote(str(group / file))}"

    def threads(self, group: Path) -> frozenset[int]:
        """Return the threads of a group, without those of groups below it."""
        return frozenset(map(int, read(group / self._threads_file).split()))

    def above(self, group: Path) -> list[Path]:
        """Return the visible groups above a group, the nearest first, up to the root."""
        if group == self.root:
            return []
        return [each for each in group.parents if each.is_relative_to(self.root)]

    def path_of(self, thread: int) -> str | None:
        """Return the path of a thread's group in this hierarchy. None without such a hierarchy.

        Raises GoneError if the thread has ended.
        """
        for line in read(Path(f"/proc/{thread}/cgroup")).splitlines():
            _, controllers, path = line.split(":", 2)
            if self._is_own(controllers.split(",")):
                return path
        return None

    def group_at(self, path: str | None) -> Path | None:
        """Return the group with a path in this hierarchy. None if it is not visible here."""
        if path is None or not Path(path).is_relative_to(self._seen):
            return None
        return self.root / Path(path).relative_to(self._seen)

    def _is_own(self, controllers: list[str]) -> bool:
        """Return whether a line of `/proc/<pid>/cgroup` is about this hierarchy."""
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
    """The freezer of cgroup v2. Each group has it since Linux 5.2."""

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
    """Return a freezer for each mounted version of cgroups that can freeze."""
    found: dict[bool, Freezer] = {}
    for mount in mounted:
        if mount.unified:
            found.setdefault(True, V2Freezer(mount.point, mount.root))
        elif "freezer" in mount.controllers:
            found.setdefault(False, V1Freezer(mount.point, mount.root))
    return list(found.values())
