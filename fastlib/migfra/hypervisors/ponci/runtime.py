"""The runtime of ponci that all tasks share: the hierarchy of cgroups, the options, the locks."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import msgspec

from fastlib.message import Task
from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.plugin_api.locks import NamedThreadLocks
from fastlib.migfra.virt.names import check_name
from fastlib.number_ranges import number_ranges

from .decisions import why_incomplete
from .domain_view import DomainView
from .files import read
from .freezers import freezers
from .group_names import check_group
from .hierarchy import Hierarchy
from .inspection import inspect
from .mounts import MOUNTINFO, Mount, V2Mount, find_hierarchy, parse_mounts
from .options import PonciOptions, parts
from .v1 import V1
from .v2 import V2

NAME: Final = "ponci"


class PonciRuntime(msgspec.Struct, frozen=True):
    """A host, the groups on it, and the locks of the tasks on them."""

    host: str
    options: PonciOptions
    hierarchy: Hierarchy
    locks: NamedThreadLocks

    @classmethod
    def of(cls, host: str, options: PonciOptions) -> "PonciRuntime":
        """Find the hierarchy and make the parent. Raises HypervisorError."""
        hierarchy = hierarchy_of(options)
        hierarchy.prepare()
        return cls(host, options, hierarchy, NamedThreadLocks())

    @contextmanager
    def exclusive(self, name: str, task: Task, context: Context) -> Iterator[None]:
        """Hold the lock of a domain. The task begins when the lock is held.

        Raises HypervisorError if its name or driver is invalid, TaskCancelledError and
        TaskExpiredError.
        """
        check_group(check_name(name))
        if task.driver not in (None, NAME):
            raise HypervisorError(
                f"hypervisor {NAME} has no driver {task.driver!r}; leave 'driver' out"
            )
        with self.locks.hold(name, context):
            context.begin().result()
            yield

    def check_exists(self, name: str) -> None:
        """Raise HypervisorError if there is no such domain."""
        if not self.hierarchy.exists(name):
            raise HypervisorError(
                f"there is no domain {name} on {self.host} (no group "
                f"{self.hierarchy.parent / name}); check its spelling, or start it first"
            )

    def view(self, name: str) -> DomainView:
        """Read the state of a domain. Raises HypervisorError if a group of it is missing."""
        view = inspect(self.hierarchy, name)
        if not view.there:
            self.check_exists(name)
        if why := why_incomplete(view):
            raise HypervisorError(why)
        return view

    def check_pinnable(self, name: str) -> None:
        """Raise HypervisorError if the CPUs of the domain cannot be set."""
        view = self.view(name)
        if view.defect and not (view.there[0] / "cpuset.cpus").exists():
            raise HypervisorError(f"{name} cannot be pinned: {view.defect}")

    def check_not_own(self, name: str, what: str) -> None:
        """Raise HypervisorError if this daemon is one of the domain's processes."""
        if os.getpid() in self.hierarchy.processes(name):
            raise HypervisorError(
                f"migfra itself runs in {name} and would {what} itself; move it to another group"
            )

    def cpus_of(self, vcpu_map: Sequence[Sequence[int]]) -> frozenset[int]:
        """Return the CPUs of a `vcpu-map`. Raises HypervisorError if no domain can get them."""
        return _ids_of_one_row("vcpu-map", "CPU", vcpu_map, self.hierarchy.available().cpus, self)

    def nodes_of(self, memnode_map: Sequence[Sequence[int]]) -> frozenset[int]:
        """Return the nodes of a `memnode-map`. Raises HypervisorError if no domain can get them."""
        return _ids_of_one_row(
            "memnode-map", "memory node", memnode_map, self.hierarchy.available().nodes, self
        )


def hierarchy_of(options: PonciOptions) -> Hierarchy:
    """Find the hierarchy of this machine. Raises HypervisorError."""
    mounted = parse_mounts(read(MOUNTINFO))
    found = find_hierarchy(mounted, _controllers)
    names, every = parts(options.parent), freezers(mounted)
    return V2(found, names, every) if isinstance(found, V2Mount) else V1(found, names, every)


def _ids_of_one_row(
    key: str,
    what: str,
    rows: Sequence[Sequence[int]],
    available: frozenset[int],
    runtime: PonciRuntime,
) -> frozenset[int]:
    if len(rows) != 1 or not rows[0]:
        found = "an empty row" if len(rows) == 1 else f"{len(rows)} rows"
        raise HypervisorError(
            f"the {key} must have one row, because a cgroup has one set of {what}s for all of its "
            f"processes, but it has {found}; give a row such as "
            f"{key}: [[{', '.join(map(str, sorted(available)))}]]"
        )
    wanted = frozenset(rows[0])
    if missing := wanted - available:
        raise HypervisorError(
            f"the {key} has the {what} {min(missing)}, but domains on {runtime.host} can only get "
            f"the {what}s {number_ranges(available)}; choose among those of "
            f"{runtime.hierarchy.parent / runtime.hierarchy.effective[what != 'CPU']}"
        )
    return wanted


def _controllers(mount: Mount) -> frozenset[str]:
    return frozenset(read(mount.point / "cgroup.controllers").split())
