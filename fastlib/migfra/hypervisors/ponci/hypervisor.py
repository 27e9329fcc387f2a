"""The hypervisor ponci: a domain is a cgroup. Tasks without a method are not supported."""

from pathlib import Path
from typing import Any, ClassVar

from fastlib.message import Repin, Resume, Start, Stop, Suspend, Task
from fastlib.message.node import DomainReport, NodeReport
from fastlib.message.tasks import Query
from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.plugin_api.domain_results import sound
from fastlib.migfra.plugin_api.hypervisor import Hypervisor, NodeContext, Outcome

from . import hardware
from .decisions import state_of
from .files import GoneError, GroupError, read
from .freezing import resume, suspend
from .hierarchy import Hierarchy
from .inspection import inspect
from .options import PonciOptions
from .recovery import recover
from .runtime import NAME, PonciRuntime, hierarchy_of
from .start import start
from .stop import stop


class PonciHypervisor(Hypervisor):
    """Manages groups of processes on this host. They do not migrate. Methods block, in threads."""

    name: ClassVar[str] = NAME
    Options: ClassVar[type[PonciOptions]] = PonciOptions
    begins_itself: ClassVar[bool] = True

    def __init__(self, options: PonciOptions, node: NodeContext) -> None:
        super().__init__(options, node)
        self._opened: PonciRuntime | None = None

    # Life

    def open(self) -> None:
        """Find the cgroups and make the parent. Raises HypervisorError without usable cgroups."""
        self._opened = PonciRuntime.of(self.node.host, self.options)

    def check_open(self) -> None:
        """Raise what `open` would raise, and make no group."""
        hierarchy_of(self.options).check()

    def capabilities(self) -> dict[str, Any]:
        hierarchy = self._runtime.hierarchy
        return {"cgroup": hierarchy.version, "parent": str(hierarchy.parent), "cancel": True}

    @property
    def _runtime(self) -> PonciRuntime:
        if self._opened is None:
            raise HypervisorError("the hypervisor ponci is not open")
        return self._opened

    # Tasks

    def start(self, task: Start, context: Context) -> Outcome:
        """Make a group with the CPUs and memory nodes of the first rows of the maps."""
        return start(self._runtime, task, context)

    def stop(self, task: Stop, context: Context) -> Outcome:
        """Delete a group, or each whose name matches. With `force` kill the processes in it."""
        return stop(self._runtime, task, context)

    def suspend(self, task: Suspend, context: Context) -> Outcome:
        """Freeze a group."""
        with self._runtime.exclusive(task.vm_name, task, context):
            return suspend(self._runtime, task.vm_name, context)

    def resume(self, task: Resume, context: Context) -> Outcome:
        """Thaw a group."""
        with self._runtime.exclusive(task.vm_name, task, context):
            return resume(self._runtime, task.vm_name, context)

    def repin(self, task: Repin, context: Context) -> Outcome:
        """Change the CPUs that a group may use."""
        runtime = self._runtime
        with runtime.exclusive(task.vm_name, task, context):
            runtime.check_pinnable(task.vm_name)
            cpus = runtime.cpus_of(task.vcpu_map)
            with context.measure("repin"):
                runtime.hierarchy.set_cpus(task.vm_name, cpus)
        return None

    def recover(self, task: Task, context: Context) -> Outcome:
        """Find out the result of a task that a crash of the daemon interrupted."""
        return recover(self._runtime, task, context)

    def query(self, task: Query, context: Context) -> NodeReport:
        """Describe the host and its domains. CPUs and NUMA nodes are those that domains can get."""
        hierarchy = self._runtime.hierarchy
        available = hierarchy.available()
        memory = _memory()
        model, vendor = hardware.cpu_of(read(hardware.CPU_INFO))
        return NodeReport(
            host=self.node.host,
            hypervisor=self.name,
            cpus=len(available.cpus),
            memory=memory["MemTotal"],
            free_memory=memory["MemAvailable"],
            cpu_model=model,
            cpu_vendor=vendor,
            numa_nodes=hardware.numa_nodes(available.cpus, available.nodes),
            huge_pages=hardware.huge_pages(),
            domains=_domains(hierarchy),
        )


def _domains(hierarchy: Hierarchy) -> list[DomainReport]:
    reports = []
    for name in hierarchy.names():
        try:
            view = inspect(hierarchy, name)
        except GoneError:
            continue  # it was removed in the meantime
        except GroupError:  # for example, this user must not read it
            reports.append(DomainReport(name=sound(name), state="unknown"))
            continue
        if view.there:
            reports.append(DomainReport(name=sound(name), state=state_of(view)))
    return reports


def _memory() -> dict[str, int]:
    """Return the memory of the host, in KiB."""
    lines = (line.split() for line in read(Path("/proc/meminfo")).splitlines())
    return {words[0].rstrip(":"): int(words[1]) for words in lines}
