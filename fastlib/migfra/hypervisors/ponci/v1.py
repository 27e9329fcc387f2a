"""cgroup v1: a domain is a group in the tree of `cpuset` and one in that of `freezer`."""

from pathlib import Path
from typing import ClassVar, Final

from fastlib.migfra.errors import HypervisorError

from .files import make, read, write
from .hierarchy import Hierarchy, State, describe_processes, processes_below
from .mounts import V1Mounts

_STATES: Final[dict[str, State]] = {
    "THAWED": "running",
    "FREEZING": "freezing",
    "FROZEN": "paused",
}
_CPUSET: Final = (
    ("cpuset.cpus", "cpuset.effective_cpus"),
    ("cpuset.mems", "cpuset.effective_mems"),
)


class V1(Hierarchy):
    """Domains in cgroup v1."""

    version: ClassVar[str] = "v1"
    effective: ClassVar[tuple[str, str]] = ("cpuset.effective_cpus", "cpuset.effective_mems")

    def __init__(self, found: V1Mounts, parts: list[str]) -> None:
        self._roots: Final = (found.cpuset, found.freezer)
        self._parts: Final = parts
        super().__init__(root.joinpath(*parts) for root in self._roots)
        self._freezers: Final = found.freezer.joinpath(*parts)

    def prepare(self) -> None:
        for root in self._roots:
            group = root
            for part in self._parts:
                group = group / part
                make(group)
                _inherit(group)

    def _complete(self, name: str) -> None:
        _inherit(self.parent / name)

    def is_ready(self, name: str) -> bool:
        if not all((parent / name).is_dir() for parent in self._parents):
            return False
        sets = self.sets(name)
        return bool(sets.cpus and sets.nodes)

    def state(self, name: str) -> State:
        return _STATES[read(self._freezers / name / "freezer.state").strip()]

    def is_freeze_requested(self, name: str) -> bool:
        return read(self._freezers / name / "freezer.self_freezing").strip() == "1"

    def can_freeze(self, name: str) -> bool:
        return (self._freezers / name / "freezer.state").exists()

    def freeze(self, name: str) -> None:
        write(self._freezers / name / "freezer.state", "FROZEN")

    def thaw(self, name: str) -> None:
        write(self._freezers / name / "freezer.state", "THAWED")

    def check_freezable(self, name: str) -> None:
        freezer = self._freezers / name
        if left := processes_below(self.parent / name) - processes_below(freezer):
            raise HypervisorError(
                f"{name} has {describe_processes(left)} in the tree of cpuset but not in that "
                f"of freezer, which would not freeze; write each into "
                f"{freezer}/cgroup.procs as well"
            )


def _inherit(group: Path) -> None:
    """Give a group of cpuset what the one above it has: without, no process can be put into it."""
    for own, effective in _CPUSET:
        if (group / own).exists() and not read(group / own).strip():
            write(group / own, read(group.parent / effective).strip())
