"""The hypervisor ponci: a domain is a cgroup. What has no method here has no support."""

from pathlib import Path
from typing import Any, ClassVar

from fastlib.message import Repin, Resume, Start, Stop, Suspend, Task
from fastlib.message.node import DomainReport, NodeReport
from fastlib.message.tasks import Query
from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.plugin_api.hypervisor import Hypervisor, NodeContext, Outcome

from .files import GoneError, read
from .freezing import resume, suspend
from .hierarchy import Hierarchy
from .options import PonciOptions
from .recovery import recover
from .site import NAME, Site
from .start import start
from .stop import stop


class PonciHypervisor(Hypervisor):
    """Groups of processes on this host; they do not migrate. All methods block, in threads."""

    name: ClassVar[str] = NAME
    Options: ClassVar[type[PonciOptions]] = PonciOptions

    def __init__(self, options: PonciOptions, node: NodeContext) -> None:
        super().__init__(options, node)
        self._opened: Site | None = None

    # Life

    def open(self) -> None:
        """Raises HypervisorError if there are no cgroups that could be domains."""
        self._opened = Site.of(self.node.host, self.options)

    def capabilities(self) -> dict[str, Any]:
        groups = self._site.groups
        return {"cgroup": groups.version, "parent": str(groups.parent), "cancel": True}

    @property
    def _site(self) -> Site:
        if self._opened is None:
            raise HypervisorError("the hypervisor ponci is not open")
        return self._opened

    # Tasks

    def start(self, task: Start, context: Context) -> Outcome:
        """Make a group with the CPUs and memory nodes of the first rows of the maps."""
        return start(self._site, task, context)

    def stop(self, task: Stop, context: Context) -> Outcome:
        """Delete a group, or each whose name matches; with `force` what runs in it is killed."""
        return stop(self._site, task, context)

    def suspend(self, task: Suspend, context: Context) -> Outcome:
        """Freeze a group."""
        with self._site.alone(task.vm_name, task, context):
            return suspend(self._site, task.vm_name, context)

    def resume(self, task: Resume, context: Context) -> Outcome:
        """Thaw a group."""
        with self._site.alone(task.vm_name, task, context):
            return resume(self._site, task.vm_name, context)

    def repin(self, task: Repin, context: Context) -> Outcome:
        """Change the CPUs that a group may use."""
        site = self._site
        with site.alone(task.vm_name, task, context):
            site.need(task.vm_name)
            cpus = site.cpus_of(task.vcpu_map)
            with context.measure("repin"):
                site.groups.set_cpus(task.vm_name, cpus)
        return None

    def recover(self, task: Task, context: Context) -> Outcome:
        """How a task ended that was under way when the daemon was killed."""
        return recover(self._site, task, context)

    def query(self, task: Query, context: Context) -> NodeReport:
        """What the host has for domains, and which there are."""
        groups = self._site.groups
        memory = _memory()
        return NodeReport(
            host=self.node.host,
            hypervisor=self.name,
            cpus=len(groups.available().cpus),
            memory=memory["MemTotal"],
            free_memory=memory["MemAvailable"],
            domains=_domains(groups),
        )


def _domains(groups: Hierarchy) -> list[DomainReport]:
    reports = []
    for name in groups.names():
        try:
            reports.append(DomainReport(name=name, state=groups.state(name)))
        except GoneError:
            if groups.exists(name):  # a half of it, by a crash or by hand
                reports.append(DomainReport(name=name, state="incomplete"))
    return reports


def _memory() -> dict[str, int]:
    """The memory of the host, in KiB."""
    lines = (line.split() for line in read(Path("/proc/meminfo")).splitlines())
    return {words[0].rstrip(":"): int(words[1]) for words in lines}
