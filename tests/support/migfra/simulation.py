"""A simulated cluster in virtual time, for tests."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Self, TypeVar

from fastlib import Migrate, MigrateParameter
from fastlib.migfra import Context, DaemonServices
from fastlib.migfra.hypervisors.simulated import (
    Cluster,
    ClusterDescription,
    DomainDescription,
    HostDescription,
    SimulatedHypervisor,
    SimulatedOptions,
    run_virtual,
)
from fastlib.migfra.plugin_api.context import ProgressFacts
from fastlib.migfra.plugin_api.hypervisor import NodeContext

T = TypeVar("T")
GIB = 1 << 20
"""KiB in a GiB."""
BUSY = {"dirty_rate": 1000}
"""A domain that writes faster than a slow link carries."""


def live(**more: Any) -> MigrateParameter:
    """Return the options of a live migration."""
    return MigrateParameter(migration_type="live", **more)


LIVE = live()


def cluster_of(
    *domains: tuple[Any, ...],
    hosts: Iterable[str] = "abc",
    cpus: int = 8,
    memory: int = 16 * GIB,
    **more: Any,
) -> ClusterDescription:
    """A description: hosts of one letter, and domains `(name, host)` or with more fields."""
    return ClusterDescription(
        hosts=[HostDescription(name=name, cpus=cpus, memory=memory) for name in hosts],
        domains=[
            DomainDescription(name=name, host=host, **(fields[0] if fields else {}))
            for name, host, *fields in domains
        ],
        **more,
    )


class Simulation:
    """Hypervisors of a cluster, without daemons around them."""

    def __init__(self, description: ClusterDescription, **options: Any) -> None:
        self.description = description
        self.options = options
        self.hypervisors: dict[str, SimulatedHypervisor] = {}

    async def __aenter__(self) -> Self:
        Cluster.forget("test")
        for host in self.description.hosts:
            await self.open(host.name)
        return self

    async def __aexit__(self, *_: object) -> None:
        for hypervisor in self.hypervisors.values():
            await hypervisor.close()

    async def open(self, host: str) -> None:
        """Begin (or begin again) the hypervisor of a host."""
        options = SimulatedOptions(cluster="test", create=self.description, **self.options)
        self.hypervisors[host] = SimulatedHypervisor(options, NodeContext(host))
        await self.hypervisors[host].open()

    def __getitem__(self, host: str) -> SimulatedHypervisor:
        return self.hypervisors[host]

    @property
    def cluster(self) -> Cluster:
        return Cluster.named("test")

    def where(self, name: str) -> tuple[str, str]:
        """Host and state of a domain; nothing that must not be may be."""
        assert self.cluster.problems() == []
        domain = self.cluster.domain(name)
        return domain.host, domain.state


def simulated(
    description: ClusterDescription,
    play: Callable[[Simulation], Awaitable[T]],
    **options: Any,
) -> T:
    """Run `play(simulation)` in virtual time. Return its result."""

    async def run() -> T:
        async with Simulation(description, **options) as simulation:
            return await play(simulation)

    return run_virtual(run())


def now() -> float:
    return asyncio.get_running_loop().time()


class Progress(list[ProgressFacts]):
    """Keeps the progress of a task."""

    def context(self, host: str = "a", **more: Any) -> Context:
        return Context(host, services=DaemonServices(report=self.append), **more)

    @property
    def phases(self) -> list[str]:
        return list(dict.fromkeys(facts.phase for facts in self))


def migrated(
    domain: Mapping[str, Any],
    parameter: MigrateParameter | None,
    source: str = "a",
    **description: Any,
) -> tuple[float, Progress]:
    """Migrate vm1 from a to b. Returns the seconds that it took, and the progress."""

    async def scenario(simulation: Simulation) -> tuple[float, Progress]:
        progress = Progress()
        task = Migrate(vm_name="vm1", destination="b", parameter=parameter)
        await simulation["a"].migrate(task, progress.context())
        assert simulation.where("vm1") == ("b", domain.get("state", "running"))
        return now(), progress

    return simulated(cluster_of(("vm1", source, domain), **description), scenario, call_seconds=0)
