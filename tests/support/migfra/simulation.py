"""A simulated cluster in virtual time, for tests."""

import asyncio

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
from fastlib.migfra.plugin_api.hypervisor import NodeContext

GIB = 1 << 20
"""KiB in a GiB."""


def cluster_of(*domains, hosts="abc", cpus=8, memory=16 * GIB, **more):
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

    def __init__(self, description, **options):
        self.description = description
        self.options = options
        self.hypervisors = {}

    async def __aenter__(self):
        Cluster.forget("test")
        for host in self.description.hosts:
            await self.open(host.name)
        return self

    async def __aexit__(self, *_):
        for hypervisor in self.hypervisors.values():
            await hypervisor.close()

    async def open(self, host):
        """Begin (or begin again) the hypervisor of a host."""
        options = SimulatedOptions(cluster="test", create=self.description, **self.options)
        self.hypervisors[host] = SimulatedHypervisor(options, NodeContext(host))
        await self.hypervisors[host].open()

    def __getitem__(self, host):
        return self.hypervisors[host]

    @property
    def cluster(self):
        return Cluster.named("test")

    def where(self, name):
        """Host and state of a domain; nothing that must not be may be."""
        assert self.cluster.problems() == []
        domain = self.cluster.domain(name)
        return domain.host, domain.state


def simulated(description, play, **options):
    """Run `play(simulation)` in virtual time; gives what it returns."""

    async def run():
        async with Simulation(description, **options) as simulation:
            return await play(simulation)

    return run_virtual(run())


def now():
    return asyncio.get_running_loop().time()


class Progress(list):
    """Keeps what a task tells of its progress."""

    def context(self, host="a", **more):
        return Context(host, services=DaemonServices(report=self.append), **more)

    @property
    def phases(self):
        return list(dict.fromkeys(facts.phase for facts in self))
