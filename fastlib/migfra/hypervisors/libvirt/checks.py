"""Whether a migration can come to a good end: both hosts are asked, and nothing is changed."""

import asyncio
from typing import Any

import msgspec

from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.plugin_api.context import Context

from . import domains, job
from .api import api
from .description import check_map, parse, text
from .domains import Sighting
from .errors import UnsupportedCallError
from .migration_spec import Trip
from .site import Site
from .uris import check_host


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be known of one of the two hosts."""

    sighting: Sighting
    kind: str
    """Type of the hypervisor, such as QEMU."""
    version: int
    cpus: int
    free_memory: int | None
    """KiB."""


async def check(site: Site, trip: Trip, context: Context) -> tuple[Peer, Peer]:
    """Source and destination, if the domain can migrate. Raises HypervisorError."""
    check_host(trip.destination)
    if trip.source == trip.destination:
        raise HypervisorError(f"{trip.name} is on {trip.source}, and is to go there as well")
    job.check_parameter(trip)
    source, destination = await asyncio.gather(
        _peer(site, trip, trip.source), _peer(site, trip, trip.destination), return_exceptions=True
    )
    for peer in (destination, source):
        if isinstance(peer, BaseException):
            raise peer
    assert isinstance(source, Peer)
    assert isinstance(destination, Peer)
    _check_source(trip, source)
    _check_destination(site, trip, source, destination)
    if trip.kind != "offline":
        await _check_cpu(site, trip, context)
    return source, destination


async def _peer(site: Site, trip: Trip, host: str) -> Peer:
    connection = await site.connections.get(host, trip.driver, trip.transport)
    return await connection.call(_peer_of, trip.name)


def _peer_of(connection: Any, name: str) -> Peer:
    return Peer(
        sighting=domains.sight(connection, name),
        kind=connection.getType(),
        version=connection.getVersion(),
        cpus=domains.host_cpus(connection),
        free_memory=domains.free_memory(connection),
    )


def _check_source(trip: Trip, source: Peer) -> None:
    seen = source.sighting
    if not seen.known:
        raise HypervisorError(
            f"there is no domain {trip.name} on {trip.source}; look at its spelling, and where it "
            "is"
        )
    if trip.kind == "offline":
        if seen.active:
            raise HypervisorError(
                f"{trip.name} is active on {trip.source}, but only a domain that is shut off "
                "migrates offline; choose live or warm, or stop it first"
            )
        return
    if not seen.active:
        raise HypervisorError(
            f"{trip.name} is shut off on {trip.source}; start it first, or choose "
            "migration-type: offline"
        )
    if seen.left_behind:
        raise HypervisorError(
            f"{trip.name} stands still on {trip.source} since an earlier migration, and may run on "
            "its destination; look at both hosts, and destroy what is stale"
        )
    if not (seen.running or seen.paused):
        raise HypervisorError(
            f"{trip.name} {seen.words} on {trip.source}; only a domain that runs or is paused can "
            "migrate"
        )


def _check_destination(site: Site, trip: Trip, source: Peer, destination: Peer) -> None:
    here, there = source.sighting, destination.sighting
    if there.active:
        raise HypervisorError(f"{trip.destination} has an active domain {trip.name} already")
    if there.known and there.uuid != here.uuid:
        raise HypervisorError(
            f"{trip.destination} has another domain with the name {trip.name} (UUID "
            f"{there.uuid}, not {here.uuid}); undefine it there first"
        )
    if source.kind != destination.kind:
        raise HypervisorError(
            f"{trip.source} has the hypervisor {source.kind}, {trip.destination} has "
            f"{destination.kind}"
        )
    if source.version // 1_000_000 != destination.version // 1_000_000:
        raise HypervisorError(
            f"{trip.source} has {source.kind} {domains.version(source.version)}, "
            f"{trip.destination} has {domains.version(destination.version)}; the major versions "
            "must be the same"
        )
    if trip.kind != "offline" and trip.check_room and destination.free_memory is not None:
        free = max(0, destination.free_memory - site.options.reserved_memory)
        if here.memory > free:
            raise HypervisorError(
                f"{trip.destination} has {free} KiB of memory free, {trip.name} needs "
                f"{here.memory} KiB"
            )
    if trip.vcpu_map is not None:
        check_map(trip.name, here.vcpus, trip.vcpu_map)
        largest = max(map(max, trip.vcpu_map), default=0)
        if largest >= destination.cpus:
            raise HypervisorError(
                f"the vcpu-map has CPU {largest}, but {trip.destination} has the CPUs 0 to "
                f"{destination.cpus - 1}"
            )


class Cpu(msgspec.Struct, frozen=True, kw_only=True):
    """What a running domain asks of a host's CPU."""

    xml: str
    of_host: bool
    """Whether it is a whole host's CPU, as with host-passthrough, and not a model of one."""
    architecture: str
    machine: str
    kind: str


async def _check_cpu(site: Site, trip: Trip, context: Context) -> None:
    connect = site.connections.get
    source = await connect(trip.source, trip.driver, trip.transport)
    destination = await connect(trip.destination, trip.driver, trip.transport)
    wanted = await source.call(_cpu_of, trip.name)
    if wanted is None:
        return
    try:
        fits = await destination.call(_fits, wanted)
    except UnsupportedCallError as error:
        context.log.info("the CPUs cannot be compared: %s", error)
        return
    if not fits:
        raise HypervisorError(
            f"the CPU of {trip.destination} lacks what that of {trip.name} has; give the domain a "
            "CPU model that both hosts have"
        )


def _cpu_of(connection: Any, name: str) -> Cpu | None:
    """What a domain asks for; None if that is nothing."""
    libvirt = api()
    flags = libvirt.VIR_DOMAIN_XML_MIGRATABLE
    return cpu_of(connection.lookupByName(name).XMLDesc(flags), connection.getCapabilities)


def cpu_of(xml: str, capabilities: Any) -> Cpu | None:
    """The same by the XML of the domain; `capabilities` gives that of its host if it is needed."""
    root = parse(xml)
    cpu, kind = root.find("cpu"), root.find("os/type")
    if cpu is None or kind is None:
        return None
    of_host = cpu.get("mode") == "host-passthrough"
    if of_host:
        cpu = parse(capabilities()).find("host/cpu")
    if cpu is None or cpu.find("model") is None:
        return None
    return Cpu(
        xml=text(cpu),
        of_host=of_host,
        architecture=str(kind.get("arch", "")),
        machine=str(kind.get("machine", "")),
        kind=str(root.get("type", "")),
    )


def _fits(connection: Any, wanted: Cpu) -> bool:
    libvirt = api()
    if wanted.of_host:
        found = connection.compareCPU(wanted.xml, 0)
    else:
        found = connection.compareHypervisorCPU(
            None, wanted.architecture, wanted.machine, wanted.kind, wanted.xml, 0
        )
    return bool(found != libvirt.VIR_CPU_COMPARE_INCOMPATIBLE)
