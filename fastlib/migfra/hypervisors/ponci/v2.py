"""cgroup v2: a domain is one group. The groups above it must delegate the controller cpuset."""

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar, Final

from fastlib.migfra.errors import HypervisorError

from .files import GoneError, check_writable, is_group, make, read, write
from .freezers import Freezer, V2Freezer
from .hierarchy import Hierarchy
from .mounts import V2Mount


class V2(Hierarchy):
    """Domains in cgroup v2."""

    version: ClassVar[str] = "v2"
    effective: ClassVar[tuple[str, str]] = ("cpuset.cpus.effective", "cpuset.mems.effective")

    def __init__(self, found: V2Mount, parts: list[str], others: Iterable[Freezer] = ()) -> None:
        self._parts: Final = parts
        super().__init__(
            found.root, [found.root.joinpath(*parts)], V2Freezer(found.root, found.seen), others
        )

    def prepare(self) -> None:
        group = self.root
        _delegate_cpuset(group)
        for part in self._parts:
            group = group / part
            make(group)
            _delegate_cpuset(group)

    def check(self) -> None:
        group = self.root
        _check_delegation(group)
        for part in self._parts:
            if not is_group(group / part):
                check_writable(group)
                return
            group = group / part
            _check_delegation(group)
        check_writable(group)

    def defect(self, name: str) -> str | None:
        group = self.parent / name
        kind = read(group / "cgroup.type").strip()
        if kind not in ("domain", "domain threaded"):
            return f"{group} is of the type {kind!r}"
        if not (group / "cpuset.cpus").exists():
            control = shlex.quote(str(self.parent / "cgroup.subtree_control"))
            return (
                f"the groups in {self.parent} no longer have the controller cpuset; enable it "
                f"again (echo +cpuset > {control})"
            )
        return None

    def kill(self, name: str) -> bool:
        try:
            write(self.parent / name / "cgroup.kill", "1")
        except GoneError:
            return False  # before Linux 5.14
        return True


def _delegate_cpuset(group: Path) -> None:
    """Delegate the controller cpuset to the groups in a group. Raises HypervisorError."""
    if (group / "cgroup.type").exists():  # the root lacks this file and these restrictions
        _check_domain(group)
    control = group / "cgroup.subtree_control"
    if "cpuset" not in read(control).split():
        write(control, "+cpuset")


def _check_delegation(group: Path) -> None:
    """Raise HypervisorError if `_delegate_cpuset` would fail."""
    if (group / "cgroup.type").exists():
        _check_domain(group)
    control = group / "cgroup.subtree_control"
    if "cpuset" not in read(control).split():
        check_writable(control)


def _check_domain(group: Path) -> None:
    """Raise HypervisorError if no processes could be put into groups in a group.

    The kernel would still allow to make such groups, but they would be useless.
    """
    kind = read(group / "cgroup.type").strip()
    # Other types of groups do not list their processes, only their threads.
    if kind in ("domain", "domain threaded"):
        count = len(read(group / "cgroup.procs").split())
        if count:
            raise HypervisorError(
                f"{group} must have no processes of its own, or cgroup v2 accepts none in the "
                f"groups in it, but it has {count}; move them into another group (systemd: "
                "DelegateSubgroup=daemon), or name another 'parent'"
            )
    if kind != "domain":
        raise HypervisorError(
            f"{group} is of the type {kind!r}, so no process can be put into groups in it; name "
            "another 'parent', or undo what made groups above or in it threaded"
        )
