"""The simulated hypervisor: it computes all tasks in the cluster's time."""

import asyncio
from functools import partial
from typing import Any, ClassVar, Final

import msgspec

from fastlib.message import (
    Evacuate,
    Migrate,
    Repin,
    Resume,
    Start,
    Stop,
    Suspend,
    Task,
)
from fastlib.message.node import DomainReport, NodeReport
from fastlib.message.tasks import MigrateParameter, Query
from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.simulated.cluster.cluster import Cluster
from fastlib.migfra.hypervisors.simulated.cluster.description import State
from fastlib.migfra.hypervisors.simulated.cluster.joining import check_host
from fastlib.migfra.hypervisors.simulated.migration.encryption import encrypts
from fastlib.migfra.hypervisors.simulated.migration.migration import run_migration
from fastlib.migfra.hypervisors.simulated.migration.swap import check_swap, swap
from fastlib.migfra.hypervisors.simulated.migration.turn import in_turn
from fastlib.migfra.hypervisors.simulated.tasks.evacuation import evacuate
from fastlib.migfra.hypervisors.simulated.tasks.recovery import recover
from fastlib.migfra.hypervisors.simulated.tasks.start_arguments import StartArguments
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.plugin_api.domain_results import domain_result, migration_result
from fastlib.migfra.plugin_api.hypervisor import Hypervisor, NodeContext, Outcome
from fastlib.migfra.virt.combination_checks import check_order
from fastlib.migfra.virt.combinations import COMPRESSIONS
from fastlib.migfra.virt.hardware import huge_pages_of_host
from fastlib.migfra.virt.migration_limits import MigrationLimits
from fastlib.migfra.virt.migration_spec import MigrationSpec
from fastlib.migfra.virt.names import check_name, matching_in_thread
from fastlib.migfra.virt.new_disks import check_removal
from fastlib.migfra.virt.saved_state import StartOrder

from . import hardware
from .faults import Call
from .options import SimulatedOptions
from .runtime import SimulatedRuntime

DEFAULT_CLUSTER: Final = "default"


class SimulatedHypervisor(Hypervisor):
    """One host of a simulated cluster, for the daemon with `type: simulated`.

    It has no devices and no drivers, and its NUMA nodes are only reported. A task's options for
    them and for the transport have no effect.
    """

    name: ClassVar[str] = "simulated"
    Options: ClassVar[type[SimulatedOptions]] = SimulatedOptions
    begins_itself: ClassVar[bool] = True

    def __init__(self, options: SimulatedOptions, node: NodeContext) -> None:
        super().__init__(options, node)
        self._host = node.host
        self._opened: SimulatedRuntime | None = None

    # Life

    async def open(self) -> None:
        """Join the cluster. Raises ClusterError, and HypervisorError if it has no such host."""
        options: SimulatedOptions = self.options
        if options.file is not None:
            cluster = Cluster(options.create, options.file)
        else:
            cluster = Cluster.named(options.cluster or DEFAULT_CLUSTER, options.create)
        session = cluster.join(self._host, options.outgoing_migrations, options.incoming_migrations)
        self._opened = SimulatedRuntime(self._host, cluster, options, session)

    def check_open(self) -> None:
        """Raise the error that the host would get when it joins the cluster."""
        options: SimulatedOptions = self.options
        name = options.cluster or DEFAULT_CLUSTER
        check_host(self._host, name, options.create, options.file)

    async def close(self) -> None:
        """Leave the cluster. Domains with a migration in progress stay on their sources."""
        runtime, self._opened = self._opened, None
        if runtime is not None:
            runtime.cluster.leave(runtime.session)
            if self.options.file is not None:
                runtime.cluster.close()

    def capabilities(self) -> dict[str, Any]:
        return {
            "migration-types": ["live", "warm", "offline"],
            "swap": True,
            "cancel": True,
            "post-copy": True,
            "encryption": self.options.encryption,
            "compression": list(COMPRESSIONS),
            "disks": True,
            "outgoing-migrations": self.options.outgoing_migrations,
            "incoming-migrations": self.options.incoming_migrations,
        }

    def migration_limits(self) -> MigrationLimits:
        return self._runtime.limits

    @property
    def _runtime(self) -> SimulatedRuntime:
        if self._opened is None:
            raise HypervisorError("the simulated hypervisor is not open")
        return self._opened

    @property
    def cluster(self) -> Cluster:
        """The cluster, once it is open."""
        return self._runtime.cluster

    # Tasks

    async def start(self, task: Start, context: Context) -> Outcome:
        """Start a defined domain, or one from an XML description."""
        arguments = StartArguments.of_task(task)
        name = arguments.name
        with self._runtime.scope(context) as scope:
            async with self._runtime.call("start", name, scope):
                context.progress("start", vm_name=name)
                details = self.cluster.start(
                    name,
                    self._host,
                    memory=arguments.memory,
                    vcpus=arguments.vcpus,
                    vcpu_map=task.vcpu_map,
                    define=arguments.define,
                    order=StartOrder.of(task, name, self._host),
                    disks=arguments.disks,
                )
                if task.probe_with_ssh is not False:
                    context.progress("probe", vm_name=name)
                    await scope.sleep(self._runtime.options.start_seconds)
        return details

    async def stop(self, task: Stop, context: Context) -> Outcome:
        """Stop a domain, or each active domain whose name matches."""
        check_removal(task)
        if task.vm_name is not None:
            return await self._stop_one(check_name(task.vm_name), task, context)
        assert task.regex is not None
        active = [domain.name for domain in self.cluster.domains(self._host) if domain.active]
        names = await matching_in_thread(task.regex, active)
        if not names:
            return f"no active domain's name matches {task.regex[:100]!r}"
        context.save_state(names=names)
        ended = await asyncio.gather(
            *(self._stop_one(name, task, context) for name in names), return_exceptions=True
        )
        return [domain_result(name, end) for name, end in zip(names, ended, strict=True)]

    async def _stop_one(self, name: str, task: Stop, context: Context) -> str | None:
        with context.about(name), self._runtime.scope(context) as scope:
            async with self._runtime.call("stop", name, scope):
                self._runtime.check_active(name)
                if not task.force:
                    context.progress("stop", vm_name=name)
                    await scope.sleep(self._runtime.options.stop_seconds)
                return self.cluster.stop(
                    name,
                    self._host,
                    undefine=task.undefine or False,
                    remove_storage=task.remove_storage or False,
                )

    async def suspend(self, task: Suspend, context: Context) -> Outcome:
        """Pause a domain."""
        return await self._set_state("suspend", task.vm_name, "paused", context)

    async def resume(self, task: Resume, context: Context) -> Outcome:
        """Resume a paused domain."""
        return await self._set_state("resume", task.vm_name, "running", context)

    async def _set_state(self, call: str, vm_name: str, state: State, context: Context) -> Outcome:
        name = check_name(vm_name)
        with self._runtime.scope(context) as scope, context.measure(f"{call}-{name}"):
            async with self._runtime.call(call, name, scope):
                if not self.cluster.set_state(name, self._host, state):
                    return f"{name} was {state} already"
        return None

    async def repin(self, task: Repin, context: Context) -> Outcome:
        """Change the CPUs that a domain's vCPUs may use."""
        name = check_name(task.vm_name)
        with self._runtime.scope(context) as scope, context.measure("repin"):
            async with self._runtime.call("repin", name, scope):
                self.cluster.repin(name, self._host, task.vcpu_map)
        return None

    async def query(self, task: Query, context: Context) -> NodeReport:
        """Describe the host and its domains."""
        with self._runtime.scope(context) as scope:
            await self._runtime.apply_faults(Call(task="query", host=self._host), scope)
        host = self.cluster.host(self._host)
        described = self.cluster.description(self._host)
        free = max(0, host.free)
        nodes = hardware.numa_nodes(described, free)
        return NodeReport(
            host=self._host,
            hypervisor=self.name,
            cpus=host.cpus,
            memory=host.memory,
            free_memory=free,
            cpu_model=described.cpu_model,
            numa_nodes=nodes,
            huge_pages=huge_pages_of_host(nodes),
            storage_pools=hardware.storage_pools(described),
            domains=[
                DomainReport(
                    name=domain.name,
                    state=domain.state,
                    vcpus=domain.vcpus,
                    memory=domain.memory,
                    managed_save=domain.saved or None,
                )
                for domain in self.cluster.domains(self._host)
            ],
        )

    # Migration

    async def migrate(self, task: Migrate, context: Context) -> Outcome:
        """Move a domain to another host, and for a swap another one back."""
        parameter = task.parameter or MigrateParameter()
        destination = self._runtime.host_name(task.destination)
        spec = MigrationSpec.from_task(
            msgspec.structs.replace(task, destination=destination), self._host
        )
        check_order(spec)
        encrypted = encrypts(self._runtime, spec)
        with self._runtime.scope(context) as scope:
            await self._runtime.apply_faults(
                Call(task="migrate", host=self._host, vm_name=spec.name), scope
            )
            scope.check()
            if parameter.migration_type == "offline":
                await scope.sleep(self._runtime.options.call_seconds)
                await scope.begin()
                if self.cluster.domain(spec.name).disk:
                    raise HypervisorError(
                        f"{spec.destination} lacks the disk of {spec.name}; start the domain, and "
                        "migrate it live or warm with copy-storage: all"
                    )
                self.cluster.move(spec.name, spec.source, spec.destination)
            elif parameter.swap_with is None:
                check = partial(self._runtime.check_migration, spec)
                async with in_turn(self._runtime, (spec,), scope, context, check):
                    migration = self._runtime.begin_migration(spec)
                    await run_migration(
                        self._runtime, spec, migration, scope, context, context.measure
                    )
            else:
                specs = spec.swap_specs(task)
                check = partial(check_swap, self._runtime, *specs)
                async with in_turn(self._runtime, specs, scope, context, check):
                    await swap(self._runtime, *specs, context)
        return migration_result(task.vm_name, None, encrypted=encrypted)

    async def evacuate(self, task: Evacuate, context: Context) -> Outcome:
        """Move every active domain to the destinations, within the limits of migrations."""
        return await evacuate(self._runtime, task, context)

    async def recover(self, task: Task, context: Context) -> Outcome:
        """Return the result of a task that a crash of the daemon interrupted."""
        return await recover(self, self._runtime, task, context)
