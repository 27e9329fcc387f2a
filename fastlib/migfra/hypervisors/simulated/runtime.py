"""The runtime of a simulated host that all tasks share: cluster, session, clock, faults."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.simulated.cluster.cluster import Cluster
from fastlib.migfra.hypervisors.simulated.cluster.location import describe_location
from fastlib.migfra.hypervisors.simulated.cluster.tables import Domain
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.plugin_api.locks import NamedLocks
from fastlib.migfra.virt.host_names import is_loopback, is_same_name
from fastlib.migfra.virt.migration_limits import POLL_SECONDS, MigrationLimits
from fastlib.migfra.virt.migration_queue import Direction, Slot
from fastlib.migfra.virt.migration_spec import MigrationSpec

from .clock import Clock
from .faults import Call, FaultPlan
from .options import SimulatedOptions
from .scope import ClockScope

_SHORTEST_TICK_SECONDS: Final = 0.02
"""Real seconds between two polls, at every speed of the cluster."""


class SimulatedRuntime:
    """One host of a simulated cluster: its cluster, options, session, clock and faults."""

    def __init__(
        self, host: str, cluster: Cluster, options: SimulatedOptions, session: int
    ) -> None:
        self.host: Final = host
        self.cluster: Final = cluster
        self.options: Final = options
        self.session: Final = session
        self.clock: Final = Clock(cluster.epoch, options.speed)
        self.faults: Final = FaultPlan(cluster, options.faults, host)
        self.slot_limits: Final[dict[Direction, int]] = {
            "outgoing": options.outgoing_migrations,
            "incoming": options.incoming_migrations,
        }
        self.limits: Final = MigrationLimits(
            {Slot(host, direction): limit for direction, limit in self.slot_limits.items()},
            poll_seconds=max(POLL_SECONDS / options.speed, _SHORTEST_TICK_SECONDS),
        )
        self.locks: Final = NamedLocks()
        self.tick: Final = max(options.tick, _SHORTEST_TICK_SECONDS * options.speed)

    def host_name(self, name: str) -> str:
        """Return the cluster's spelling of a host's name, or the name itself if it is unknown."""
        if is_loopback(name):
            return self.host
        hosts = [host.name for host in self.cluster.hosts()]
        if name in hosts:
            return name
        return next((host for host in hosts if is_same_name(host, name)), name)

    def reachable(self, host: str) -> bool:
        """Return whether other hosts can reach that host now."""
        return self.faults.reachable(host, self.clock.now())

    async def apply_faults(self, call: Call, scope: ClockScope) -> None:
        """Apply the faults that are due at the begin of a call. Raises HypervisorError."""
        self.faults.apply_saves(self.clock.now())
        for fault in self.faults.of_call(call, self.clock.now()):
            if fault.kind == "hang":
                await scope.hang(fault.seconds)
            else:
                raise HypervisorError(fault.text or f"{call.task} failed by a planned fault")

    def scope(self, context: Context) -> ClockScope:
        """Return the cancel scope of a task."""
        return ClockScope(self.clock, context)

    def find_here(self, name: str) -> Domain | None:
        """Find a domain on this host."""
        domain = self.cluster.find(name)
        return domain if domain is not None and domain.host == self.host else None

    def check_active(self, name: str) -> None:
        """Raise HypervisorError unless the domain is active on this host."""
        domain = self.cluster.domain(name)
        if domain.host != self.host or not domain.active:
            raise HypervisorError(
                f"{name} is not active on {self.host}: {describe_location(self.cluster, name)}"
            )

    async def wait_while_migrating(self, name: str, scope: ClockScope) -> None:
        """Wait while a domain of this host migrates."""
        while (domain := self.find_here(name)) is not None and domain.migrating:
            await scope.sleep(self.tick)

    @asynccontextmanager
    async def call(self, task: str, name: str, scope: ClockScope) -> AsyncIterator[None]:
        """Begin a call for a domain after its earlier calls and its migration have ended.

        Applies the faults that are due.
        """
        async with self.locks.hold(name, scope):
            await self.apply_faults(Call(task=task, host=self.host, vm_name=name), scope)
            await scope.sleep(self.options.call_seconds)
            await self.wait_while_migrating(name, scope)
            await scope.begin()
            yield

    def check_migration(self, spec: MigrationSpec) -> None:
        """Raise HypervisorError if a migration could not begin now."""
        self.cluster.check(spec.name, spec.source, spec.destination, spec.vcpu_map)

    def begin_migration(self, spec: MigrationSpec) -> int:
        """Begin a migration in the cluster. Returns its id. Raises HypervisorError."""
        return self.cluster.begin(
            self.session, spec.name, spec.source, spec.destination, spec.vcpu_map
        )
