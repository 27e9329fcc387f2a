"""What every task on this host has to do with."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import msgspec

from fastlib.message import Task
from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.virt.names import check_name

from .files import read
from .hierarchy import Hierarchy
from .lists import written
from .mounts import MOUNTINFO, Mount, Unified, hierarchy_of, mounts
from .names import check_group
from .options import PonciOptions, parts
from .v1 import V1
from .v2 import V2
from .waiting import Locks

NAME: Final = "ponci"


class Site(msgspec.Struct, frozen=True):
    """A host, the groups on it, and which task has which of them."""

    host: str
    options: PonciOptions
    groups: Hierarchy
    locks: Locks

    @classmethod
    def of(cls, host: str, options: PonciOptions) -> "Site":
        """Find the hierarchy and make the parent. Raises HypervisorError."""
        found = hierarchy_of(mounts(read(MOUNTINFO)), _controllers)
        names = parts(options.parent)
        groups = V2(found, names) if isinstance(found, Unified) else V1(found, names)
        groups.prepare()
        return cls(host, options, groups, Locks())

    @contextmanager
    def alone(self, name: str, task: Task, context: Context) -> Iterator[None]:
        """Have a domain alone. Raises HypervisorError if there cannot be such a domain."""
        check_group(check_name(name))
        if task.driver not in (None, NAME):
            raise HypervisorError(
                f"hypervisor {NAME} has no driver {task.driver!r}; leave 'driver' out"
            )
        with self.locks.hold(name, context):
            yield

    def need(self, name: str) -> None:
        """Raises HypervisorError if there is no such domain."""
        if not self.groups.exists(name):
            raise HypervisorError(
                f"there is no domain {name} on {self.host}, which would be the group "
                f"{self.groups.parent / name}; look at its spelling, or start it first"
            )

    def refuse_own(self, name: str, what: str) -> None:
        """Raises HypervisorError if this daemon is one of the domain's processes."""
        if os.getpid() in self.groups.processes(name):
            raise HypervisorError(
                f"migfra itself runs in {name} and would {what} itself; move it to another group"
            )

    def cpus_of(self, vcpu_map: Sequence[Sequence[int]]) -> frozenset[int]:
        """The CPUs of a `vcpu-map`. Raises HypervisorError if a domain cannot get them."""
        return _one_row("vcpu-map", "CPU", vcpu_map, self.groups.available().cpus, self)

    def nodes_of(self, memnode_map: Sequence[Sequence[int]]) -> frozenset[int]:
        """The nodes of a `memnode-map`. Raises HypervisorError if a domain cannot get them."""
        return _one_row("memnode-map", "memory node", memnode_map, self.groups.available().nodes,
                        self)  # fmt: skip


def _one_row(
    key: str,
    what: str,
    rows: Sequence[Sequence[int]],
    available: frozenset[int],
    site: Site,
) -> frozenset[int]:
    if len(rows) != 1 or not rows[0]:
        found = "an empty row" if len(rows) == 1 else f"{len(rows)} rows"
        raise HypervisorError(
            f"the {key} has {found}, but a cgroup has one set of {what}s for all that runs in it; "
            f"give one row, such as {key}: [[{', '.join(map(str, sorted(available)))}]]"
        )
    wanted = frozenset(rows[0])
    if missing := wanted - available:
        raise HypervisorError(
            f"the {key} has the {what} {min(missing)}, but domains on {site.host} can get the "
            f"{what}s {written(available)} only; choose among those of "
            f"{site.groups.parent / site.groups.effective[what != 'CPU']}"
        )
    return wanted


def _controllers(mount: Mount) -> frozenset[str]:
    return frozenset(read(mount.point / "cgroup.controllers").split())
