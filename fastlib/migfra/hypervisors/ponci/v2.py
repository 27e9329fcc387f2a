"""cgroup v2: a domain is one group, and those above it must hand the controller cpuset down."""

from pathlib import Path
from typing import ClassVar, Final

from fastlib.migfra.errors import HypervisorError

from .files import GoneError, make, read, write
from .hierarchy import Hierarchy, State, parse_key_values
from .mounts import V2Mount


class V2(Hierarchy):
    """Domains in cgroup v2."""

    version: ClassVar[str] = "v2"
    effective: ClassVar[tuple[str, str]] = ("cpuset.cpus.effective", "cpuset.mems.effective")

    def __init__(self, found: V2Mount, parts: list[str]) -> None:
        self._root: Final = found.root
        self._parts: Final = parts
        super().__init__([found.root.joinpath(*parts)])

    def prepare(self) -> None:
        group = self._root
        _delegate_cpuset(group)
        for part in self._parts:
            group = group / part
            make(group)
            _delegate_cpuset(group)

    def is_ready(self, name: str) -> bool:
        return (self.parent / name).is_dir()

    def state(self, name: str) -> State:
        if parse_key_values(read(self.parent / name / "cgroup.events")).get("frozen") == "1":
            return "paused"
        return "freezing" if self.is_freeze_requested(name) else "running"

    def is_freeze_requested(self, name: str) -> bool:
        file = self.parent / name / "cgroup.freeze"
        return self.can_freeze(name) and read(file).strip() == "1"

    def can_freeze(self, name: str) -> bool:
        return (self.parent / name / "cgroup.freeze").exists()

    def check_freezable(self, name: str) -> None:
        if not self.can_freeze(name):
            raise HypervisorError(
                "this kernel cannot freeze a group of cgroup v2; use Linux 5.2 or newer"
            )

    def freeze(self, name: str) -> None:
        write(self.parent / name / "cgroup.freeze", "1")

    def thaw(self, name: str) -> None:
        write(self.parent / name / "cgroup.freeze", "0")

    def kill(self, name: str) -> bool:
        try:
            write(self.parent / name / "cgroup.kill", "1")
        except GoneError:
            return False  # before Linux 5.14
        return True


def _delegate_cpuset(group: Path) -> None:
    """Delegate the controller cpuset to the groups in a group. Raises HypervisorError."""
    if (group / "cgroup.type").exists():  # the root has none, and no such bounds
        _check_domain(group)
    control = group / "cgroup.subtree_control"
    if "cpuset" not in read(control).split():
        write(control, "+cpuset")


def _check_domain(group: Path) -> None:
    """Raise HypervisorError if no processes could be put into groups in a group.

    The kernel would let us make them all the same, and they would be of no use.
    """
    kind = read(group / "cgroup.type").strip()
    # The others do not tell their processes, only their threads.
    if kind in ("domain", "domain threaded"):
        count = len(read(group / "cgroup.procs").split())
        if count:
            raise HypervisorError(
                f"{group} has processes of its own ({count}), and then cgroup v2 lets none be put "
                "into the groups in it; move them into another group (systemd: "
                "DelegateSubgroup=daemon), or name another 'parent'"
            )
    if kind != "domain":
        raise HypervisorError(
            f"{group} is of the type {kind!r}, so that no process can be put into groups in it; "
            "name another 'parent', or undo what made groups above or in it threaded"
        )
