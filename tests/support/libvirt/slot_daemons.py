"""Daemons of several hosts with limits of migrations. They share libvirt alone.

The hosts are fakes (see fake_libvirt.py). A migration takes ten seconds of virtual time.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastlib import Evacuate, EvacuateParameter, Migrate, MigrateParameter
from fastlib.migfra import (
    Context,
    DaemonServices,
    TaskCancelledError,
)
from fastlib.migfra.hypervisors.libvirt import LibvirtOptions
from fastlib.migfra.hypervisors.libvirt.runtime import LibvirtRuntime
from fastlib.migfra.hypervisors.libvirt.tasks.evacuation import evacuate
from fastlib.migfra.hypervisors.libvirt.tasks.migrate import migrate
from fastlib.migfra.plugin_api.cancellation import Cancellation
from fastlib.migfra.plugin_api.expiry import Expiry
from fastlib.migfra.plugin_api.hypervisor import NodeContext
from tests.support.clock import LoopClock
from tests.support.libvirt.fake_domain import FakeDomain, refusal
from tests.support.libvirt.fake_libvirt import FakeConnectionPool, FakeHost

HOSTS = ("a", "b", "c", "d")


class ArrivingDomain(FakeDomain):
    """A domain on the destination of its migration."""

    def jobInfo(self) -> list[int]:
        raise refusal("OPERATION_UNSUPPORTED", "only the source has figures")


class LeavingDomain(FakeDomain):
    """A domain that disappears when its job is queried."""

    def jobInfo(self) -> list[int]:
        raise refusal("NO_DOMAIN", "Domain not found: no domain with matching name")


class Order:
    """An order that was sent to a host."""

    def __init__(
        self, host: str, saved: Any = None, *, expires: float | None = None, begun: bool = False
    ) -> None:
        """`expires` is a time of the loop, `begun` an order that an earlier run has begun."""
        self.cancellation = Cancellation()
        self.progress: list[Any] = []
        self.context = Context(
            host,
            cancellation=self.cancellation,
            expiry=Expiry(expires, clock=LoopClock(), begun=begun),
            saved_state=saved,
            services=DaemonServices(report=self.progress.append),
        )

    @property
    def places(self) -> list[int | None]:
        """The places in the queue that were reported."""
        return [facts.position for facts in self.progress if facts.phase == "queued"]


class Daemons:
    """Four hosts with a daemon each, and the migrations between them."""

    def __init__(self, **options: Any) -> None:
        self.calls: list[str] = []
        self.hosts = {name: FakeHost(name, self.calls.append) for name in HOSTS}
        for number, host in enumerate(self.hosts.values()):
            host.set_host_uuid(f"0000000{number}-0000-4000-8000-00000000000{number}")
            host.free = 1 << 30
        self.options = options
        self.runtimes: dict[str, Any] = {}
        for name in HOSTS:
            self.start_daemon(name)
        self.moving: dict[str, tuple[str, str]] = {}
        """Source and destination of each domain that moves now."""
        self.begun: list[str] = []
        """The domains whose migrations began, in order."""
        self.most: dict[tuple[str, str], int] = {}
        """The most migrations at once, by host and direction."""

    def start_daemon(self, name: str) -> None:
        """Start the daemon of a host, also again after a crash."""
        options = LibvirtOptions(**{**self.options.get("all", {}), **self.options.get(name, {})})
        runtime: Any = LibvirtRuntime(options, NodeContext(name))
        connections = FakeConnectionPool(name, options, runtime.node.log)
        connections.hosts = self.hosts
        runtime.connections = connections
        self.runtimes[name] = runtime

    async def publish(self, name: str) -> None:
        """Publish the limits of a host, as its daemon does at its start."""
        await self.runtimes[name].notices.publish(await self.runtimes[name].local())

    def add(self, host: str, *names: str, memory: int = 1024) -> None:
        for name in names:
            domain: Any = self.hosts[host].add(FakeDomain(name))
            domain.memory = memory
            domain.uuid = f"6695eb01-f6a4-8304-79aa-{name.encode().hex():0>12}"

    async def run_migration(
        self, runtime: Any, spec: Any, arguments: Any, scope: Any, context: Any, *more: Any
    ) -> None:
        """Move a domain in ten seconds."""
        self.begun.append(spec.name)
        source, destination = self.hosts[spec.source], self.hosts[spec.destination]
        domain: Any = source.domains[spec.name]
        copy = destination.add(ArrivingDomain(spec.name, 3, 2))
        copy.uuid = domain.uuid
        domain.job = {}
        self.moving[spec.name] = (spec.source, spec.destination)
        for index, direction in enumerate(("outgoing", "incoming")):
            for host in HOSTS:
                now = sum(way[index] == host for way in self.moving.values())
                key = (host, direction)
                self.most[key] = max(now, self.most.get(key, 0))
        try:
            await scope.sleep(10.0)
        except TaskCancelledError:
            domain.job = None
            del destination.domains[spec.name]
            raise
        finally:
            del self.moving[spec.name]
        domain.job = None
        del source.domains[spec.name]
        del destination.domains[spec.name]
        destination.add(domain)

    def migrate(
        self, name: str, source: str, destination: str, order: Order | None = None, **parameter: Any
    ) -> "tuple[asyncio.Task[Any], Order]":
        """Order a migration; a task and its order."""
        order = order or Order(source)
        task = Migrate(
            vm_name=name,
            destination=destination,
            parameter=MigrateParameter(**{"migration_type": "live", **parameter}),
        )
        return asyncio.ensure_future(migrate(self.runtimes[source], task, order.context)), order

    @asynccontextmanager
    async def all_slots_taken(self) -> AsyncIterator[None]:
        """Let vm1 and vm2 migrate from a to b, where no third migration begins before they end.

        vm3 is on a, too.
        """
        self.add("a", "vm1", "vm2", "vm3")
        both = [self.migrate(name, "a", "b")[0] for name in ("vm1", "vm2")]
        yield
        await asyncio.gather(*both)

    async def evacuate(
        self, source: str, *destinations: str, order: Order | None = None, **parameter: Any
    ) -> dict[str | None, tuple[str, str | None]]:
        """Order an evacuation; status and details of each domain."""
        task = Evacuate(
            destinations=list(destinations),
            parameter=EvacuateParameter(**{"migration_type": "live", **parameter}),
        )
        order = order or Order(source)
        results: Any = await evacuate(self.runtimes[source], task, order.context)
        return {result.vm_name: (result.status, result.details) for result in results}

    @property
    def secrets(self) -> dict[str, list[str]]:
        """The usages of the secrets that hold or await a slot, by host."""
        return {
            name: usages
            for name, host in self.hosts.items()
            if (
                usages := sorted(
                    each.usageID() for each in host.secrets.values()
                    if each.usageID() != "migfra limits"
                )
            )
        }  # fmt: skip


def now() -> float:
    """Return the virtual time in seconds since the scenario began."""
    return asyncio.get_running_loop().time()
