"""The task `start vm`: make a group with its CPUs and memory nodes."""

from typing import Final

import msgspec

from fastlib.message import Start
from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.plugin_api.context import Context

from .decisions import why_not_startable
from .files import GoneError, GroupError
from .hierarchy import Hierarchy
from .inspection import inspect
from .runtime import PonciRuntime

_MOST_TRIES: Final = 1000
"""The most tries to make a domain while another program removes its parent: a third of a second.

On two busy cores, 100 tries once failed in 30 ms.
"""

_UNSUPPORTED: Final = {
    "xml": "a cgroup has no XML; give 'vm-name', and the CPUs as 'vcpu-map'",
    "transient": "a cgroup has no permanent definition; leave 'transient' out",
    "vcpus": "a cgroup has no vCPUs; give the CPUs that it may use as one row of 'vcpu-map'",
    "memory": "ponci sets no limit of memory; leave 'memory' out, or give its memory nodes as "
    "'memnode-map'",
    "pci_ids": "a cgroup has no devices; leave 'pci-ids' out",
    "devs": "a cgroup has no devices; leave 'devs' out",
    "saved_state": "a cgroup has no saved image; leave 'saved-state' out",
    "disks": "a cgroup has no disks; leave 'disks' out",
    "ivshmem": "a cgroup has no devices, and its processes can share memory without one; leave "
    "'ivshmem' out",
}
"""Fields of a task that ponci does not support, each with the remedy."""


class StartSpec(msgspec.Struct, frozen=True, kw_only=True):
    """The domain to create."""

    name: str
    cpus: frozenset[int] | None
    """None means all that domains can get."""
    nodes: frozenset[int] | None
    probe: bool
    """Whether the task requests a probe explicitly. ponci cannot probe."""

    @classmethod
    def of(cls, task: Start, runtime: PonciRuntime) -> "StartSpec":
        """Return the plan of a task. Raises HypervisorError if a part of it is not supported."""
        for field, why in _UNSUPPORTED.items():
            if getattr(task, field) not in (None, ()):
                raise HypervisorError(why)
        assert task.vm_name is not None  # a task without a name has XML
        return cls(
            name=task.vm_name,
            cpus=None if task.vcpu_map is None else runtime.cpus_of(task.vcpu_map),
            nodes=None if task.memnode_map is None else runtime.nodes_of(task.memnode_map),
            probe=task.probe_with_ssh is True or task.probe_hostname is not None,
        )


def start(runtime: PonciRuntime, task: Start, context: Context) -> str | None:
    """Make a domain. Returns the details of the success, or None. Raises HypervisorError."""
    hierarchy = runtime.hierarchy
    spec = StartSpec.of(task, runtime)
    name = spec.name
    with runtime.exclusive(name, task, context):
        if why := why_not_startable(inspect(hierarchy, name), runtime.host):
            raise HypervisorError(why)
        context.save_state(making=True).result()
        context.check_cancelled()
        context.progress("create", vm_name=name)
        with context.measure("start"):
            _create(hierarchy, spec)
    context.log.info("put its processes into %s", hierarchy.parent / name)
    if not spec.probe:
        return None
    return f"{name} was not probed, because a cgroup does not answer on SSH"


def _create(hierarchy: Hierarchy, spec: StartSpec) -> None:
    """Make the parent and a domain in it. Retry if another program removes the parent.

    That may be a clean-up of empty groups, or another daemon. Raises HypervisorError.
    """
    removed = False
    for left in reversed(range(_MOST_TRIES)):
        before = None
        try:
            hierarchy.prepare()
            before = hierarchy.identity()
            hierarchy.create(spec.name, spec.cpus, spec.nodes)
            return
        except GroupError as error:
            changed = before is not None and before != hierarchy.identity()
            removed |= changed
            if not changed and not isinstance(error, GoneError):
                raise
            if left:
                continue
            if not removed:
                raise
            raise HypervisorError(
                f"another program removed {hierarchy.parent} each time before {spec.name} was in "
                f"it ({_MOST_TRIES} tries); stop that program, then start {spec.name} again"
            ) from error
