"""cgroup v1: a domain is a group in the tree of `cpuset` and one in that of `freezer`."""

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar, Final

from .files import check_writable, is_group, make, read, write
from .freezers import Freezer, V1Freezer
from .hierarchy import Hierarchy
from .mounts import V1Mounts

_CPUSET: Final = (
    ("cpuset.cpus", "cpuset.effective_cpus"),
    ("cpuset.mems", "cpuset.effective_mems"),
)


class V1(Hierarchy):
    """Domains in cgroup v1."""

    version: ClassVar[str] = "v1"
    effective: ClassVar[tuple[str, str]] = ("cpuset.effective_cpus", "cpuset.effective_mems")

    def __init__(self, found: V1Mounts, parts: list[str], others: Iterable[Freezer] = ()) -> None:
        self._roots: Final = (found.cpuset, found.freezer)
        self._parts: Final = parts
        super().__init__(
            found.cpuset,
            (root.joinpath(*parts) for root in self._roots),
            V1Freezer(found.freezer, found.seen),
            others,
        )

    def prepare(self) -> None:
        for root in self._roots:
            group = root
            for part in self._parts:
                group = group / part
                make(group)
                _inherit(group)

    def check(self) -> None:
        for root in self._roots:
            group = root
            for part in self._parts:
                if not is_group(group / part):
                    break
                group = group / part
                for own, _ in _CPUSET:
                    if (group / own).exists() and not read(group / own).strip():
                        check_writable(group / own)
            check_writable(group)

    def _complete(self, name: str) -> None:
        _inherit(self.parent / name)

    def defect(self, name: str) -> str | None:
        for own, effective in _CPUSET:
            if not read(self.parent / name / effective).strip():
                return f"{self.parent / name / own} is empty"
        return None


def _inherit(group: Path) -> None:
    """Copy CPUs and nodes from the group above: a group of cpuset without them takes no process."""
    for own, effective in _CPUSET:
        if (group / own).exists() and not read(group / own).strip():
            write(group / own, read(group.parent / effective).strip())
