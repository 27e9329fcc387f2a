"""The hypervisor libvirt: all tasks, on this host and between hosts."""

from collections.abc import Mapping
from typing import Any, ClassVar

from fastlib.message import Evacuate, Migrate, Repin, Resume, Start, Stop, Suspend, Task
from fastlib.message.node import NodeReport
from fastlib.message.tasks import Query
from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.libvirt.connection.api import api
from fastlib.migfra.hypervisors.libvirt.tasks.evacuation import evacuate
from fastlib.migfra.hypervisors.libvirt.tasks.migrate import migrate
from fastlib.migfra.hypervisors.libvirt.tasks.recovery import recover
from fastlib.migfra.hypervisors.libvirt.tasks.start import start
from fastlib.migfra.hypervisors.libvirt.tasks.stop import stop
from fastlib.migfra.plugin_api.cancel_scope import CancelScope
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.plugin_api.hypervisor import Hypervisor, NodeContext, Outcome
from fastlib.migfra.virt.combination_checks import supported_compressions
from fastlib.migfra.virt.combinations import COMPRESSIONS
from fastlib.migfra.virt.hardware import huge_pages_of_host
from fastlib.migfra.virt.migration_limits import MigrationLimits
from fastlib.migfra.virt.names import check_name

from .domain import control, host_info, pinning
from .domain.emulator import Emulator
from .domain.host_hardware import read_hardware
from .errors import LibvirtError, LostError
from .known_problems import KnownProblems
from .migration.encryption import check_own_certificates
from .migration.option_checks import read_versions
from .migration.settling import Settler
from .options import LibvirtOptions
from .pool_reports import PoolReports
from .runtime import LibvirtRuntime
from .whereabouts import refuse_if_elsewhere


class LibvirtHypervisor(Hypervisor):
    """Manages the domains of this host with libvirt."""

    name: ClassVar[str] = "libvirt"
    Options: ClassVar[type[LibvirtOptions]] = LibvirtOptions
    begins_itself: ClassVar[bool] = True

    def __init__(self, options: LibvirtOptions, node: NodeContext) -> None:
        super().__init__(options, node)
        self._runtime = LibvirtRuntime(options, node)
        self._settler = Settler(self._runtime)
        self._problems = KnownProblems(node.log)
        self._pools = PoolReports(self._runtime, self._problems)

    # Life

    async def open(self) -> None:
        """Connect to this host's libvirt. Raises HypervisorError without it or libvirt-python."""
        api()
        local = await self._runtime.local()
        try:
            await self._runtime.notices.publish(local)
        except LostError:
            raise
        except LibvirtError as error:
            self.node.log.warning(
                "the limits of migrations are published with the next migration: %s", error
            )
        self._settler.begin()

    async def check_open(self) -> None:
        """Connect like `open`, but publish nothing. Checks the certificates of this host, too."""
        api()
        try:
            await check_own_certificates(self._runtime, await self._runtime.local())
        finally:
            await self.close()

    async def close(self) -> None:
        await self._settler.end()
        self._pools.close()
        await self._runtime.connections.close()

    def capabilities(self) -> dict[str, Any]:
        return {
            "driver": self.options.driver,
            "transport": self.options.transport,
            "migration": self.options.migration,
            "encryption": self.options.encryption,
            "migration-types": ["live", "warm", "offline"],
            "swap": True,
            "cancel": True,
            "post-copy": True,
            "compression": list(COMPRESSIONS),
            "disks": True,
            "outgoing-migrations": self.options.outgoing_migrations,
            "incoming-migrations": self.options.incoming_migrations,
        }

    async def outages(self) -> Mapping[str, str]:
        try:
            await self._runtime.local()
        except HypervisorError as error:
            return {f"libvirt on {self.node.host}": str(error)}
        return {}

    def migration_limits(self) -> MigrationLimits:
        return self._runtime.limits

    # Tasks

    async def start(self, task: Start, context: Context) -> Outcome:
        """Start a defined domain, or one from an XML description."""
        return await start(self._runtime, task, context)

    async def stop(self, task: Stop, context: Context) -> Outcome:
        """Stop a domain, or each active domain whose name matches."""
        return await stop(self._runtime, task, context)

    async def suspend(self, task: Suspend, context: Context) -> Outcome:
        """Pause a domain."""
        name = check_name(task.vm_name)
        with CancelScope(context) as scope:
            async with self._runtime.exclusive(name, task.driver, scope):
                local = await self._runtime.local(task.driver)
                await refuse_if_elsewhere(self._runtime, name, task.driver, "suspend it")
                await scope.begin()
                with context.measure(f"suspend-{name}"):
                    done = await local.call(control.suspend, name)
        return None if done else f"{name} was paused already"

    async def resume(self, task: Resume, context: Context) -> Outcome:
        """Resume a paused domain."""
        name = check_name(task.vm_name)
        with CancelScope(context) as scope:
            async with self._runtime.exclusive(name, task.driver, scope):
                local = await self._runtime.local(task.driver)
                await refuse_if_elsewhere(self._runtime, name, task.driver, "resume it")
                await scope.begin()
                with context.measure(f"resume-{name}"):
                    done = await local.call(control.resume, name)
        return None if done else f"{name} was running already"

    async def repin(self, task: Repin, context: Context) -> Outcome:
        """Change the CPUs that a domain's vCPUs may use."""
        name = check_name(task.vm_name)
        with CancelScope(context) as scope:
            async with self._runtime.exclusive(name, task.driver, scope):
                local = await self._runtime.local(task.driver)
                await refuse_if_elsewhere(self._runtime, name, task.driver, "repin it")
                await scope.begin()
                with context.measure("repin"):
                    await local.call(pinning.pin, name, task.vcpu_map)
        return None

    # Migration

    async def migrate(self, task: Migrate, context: Context) -> Outcome:
        """Move a domain to another host, and for a swap another one back."""
        return await migrate(self._runtime, task, context)

    async def evacuate(self, task: Evacuate, context: Context) -> Outcome:
        """Move every active domain to the destinations, within the limits of migrations."""
        return await evacuate(self._runtime, task, context)

    async def recover(self, task: Task, context: Context) -> Outcome:
        """Find out the result of a task that a crash of the daemon interrupted."""
        return await recover(self._runtime, task, context)

    async def query(self, task: Query, context: Context) -> NodeReport:
        """Describe the host and its domains."""
        local = await self._runtime.local(task.driver)
        facts = await local.call(host_info.read)
        hardware = await local.call(read_hardware)
        nodes = hardware.numa_nodes
        self._problems.note(
            "hardware",
            hardware.problem and f"some of the hardware is not known: {hardware.problem}",
        )
        versions = await read_versions(local, Emulator(), context)
        free = facts.free_memory
        return NodeReport(
            host=self.node.host,
            hypervisor=self.name,
            cpus=facts.cpus,
            memory=facts.memory,
            free_memory=None if free is None else max(0, free - self.options.reserved_memory),
            cpu_model=hardware.cpu_model,
            cpu_vendor=hardware.cpu_vendor,
            numa_nodes=nodes,
            huge_pages=None if nodes is None else huge_pages_of_host(nodes),
            storage_pools=await self._pools.read(task.driver),
            domains=facts.domains,
            unsettled=[entry.report for entry in self._runtime.unsettled.entries] or None,
            capabilities={"compression": supported_compressions(versions)},
            versions={"libvirt": facts.libvirt, "hypervisor": facts.hypervisor},
        )
