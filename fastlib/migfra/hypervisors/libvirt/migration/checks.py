"""Check before a migration that it can succeed. Queries both hosts and changes nothing."""

import asyncio
from typing import Any

import msgspec

from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.libvirt.connection.api import api
from fastlib.migfra.hypervisors.libvirt.domain import host_info, saved_state
from fastlib.migfra.hypervisors.libvirt.domain.host_identity import (
    HostIdentity,
    check_two_hosts,
    read_identity,
)
from fastlib.migfra.hypervisors.libvirt.domain.host_room import HostCpus, check_cpus, read_cpus
from fastlib.migfra.hypervisors.libvirt.domain.saved_state import KeptData
from fastlib.migfra.hypervisors.libvirt.domain.state import DomainState, look_up
from fastlib.migfra.hypervisors.libvirt.domain.xml import parse, text
from fastlib.migfra.hypervisors.libvirt.errors import UnsupportedCallError
from fastlib.migfra.hypervisors.libvirt.runtime import LibvirtRuntime
from fastlib.migfra.hypervisors.libvirt.whereabouts import find_domain
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.virt.combination_checks import check_order
from fastlib.migfra.virt.domain_vcpus import check_vcpu_map
from fastlib.migfra.virt.host_names import check_host
from fastlib.migfra.virt.migration_spec import MigrationSpec

from . import kept_data
from .arrival_checks import check_arrival
from .destination_xml import read_arriving
from .emulated_cpus import warn_of_lost_writes
from .inactive_disks import check_inactive_disks
from .option_checks import check_options
from .room_checks import check_room


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of one of the two hosts."""

    identity: HostIdentity
    domain_state: DomainState
    kind: str
    """Type of the hypervisor, such as QEMU."""
    version: int
    cpus: HostCpus
    free_memory: int | None
    """KiB."""
    kept: KeptData = KeptData()
    """The data that libvirt keeps of the domain besides its definition."""


async def check(
    runtime: LibvirtRuntime, spec: MigrationSpec, context: Context
) -> tuple[Peer, Peer]:
    """Return source and destination. Raises HypervisorError if the domain cannot migrate."""
    check_host(spec.destination)
    own = runtime.connections.is_own
    if spec.source == spec.destination or (own(spec.source) and own(spec.destination)):
        raise HypervisorError(f"{spec.name} is on {spec.source}, which is also the destination")
    check_order(spec)
    source, destination = await asyncio.gather(
        _peer(runtime, spec, spec.source),
        _peer(runtime, spec, spec.destination),
        return_exceptions=True,
    )
    for peer in (destination, source):
        if isinstance(peer, BaseException):
            raise peer
    assert isinstance(source, Peer)
    assert isinstance(destination, Peer)
    check_two_hosts(source.identity, destination.identity)
    if not source.domain_state.active:
        await _refuse_domain_elsewhere(runtime, spec)
    _check_source(spec, source)
    _check_destination(spec, source, destination)
    arriving = None
    if spec.kind != "offline":
        here = await runtime.connections.get(spec.source, spec.driver, spec.transport)
        arriving = await here.call(read_arriving, spec.name, spec, source.kind)
        await check_room(runtime, spec, arriving, destination.free_memory)
    if (reason := kept_data.refusal(spec, source.kept, destination.kept)) is not None:
        raise HypervisorError(reason)
    if source.domain_state.paused and source.kind == "QEMU":
        here = await runtime.connections.get(spec.source, spec.driver, spec.transport)
        await check_inactive_disks(here, spec.name)
    if spec.kind == "live" and source.kind == "QEMU":
        here = await runtime.connections.get(spec.source, spec.driver, spec.transport)
        await warn_of_lost_writes(here, spec.name, source.version, context)
    await check_options(runtime, spec, context)
    await check_arrival(runtime, spec, source.domain_state.uuid, arriving)
    if spec.kind != "offline":
        await _check_cpu(runtime, spec, context)
    return source, destination


async def _peer(runtime: LibvirtRuntime, spec: MigrationSpec, host: str) -> Peer:
    connection = await runtime.connections.get(host, spec.driver, spec.transport)
    return await connection.call(_read_peer, spec.name, host)


def _read_peer(connection: Any, name: str, host: str) -> Peer:
    return Peer(
        identity=read_identity(connection, host),
        domain_state=look_up(connection, name),
        kind=connection.getType(),
        version=connection.getVersion(),
        cpus=read_cpus(connection),
        free_memory=host_info.free_memory(connection),
        kept=saved_state.read(connection, name),
    )


async def _refuse_domain_elsewhere(runtime: LibvirtRuntime, spec: MigrationSpec) -> None:
    """Raise HypervisorError if the domain is active on a host other than its source."""
    found = await find_domain(
        runtime, spec.name, spec.driver, [spec.destination, spec.source], transport=spec.transport
    )
    if found.elsewhere is not None:
        raise HypervisorError(f"{spec.name} is not active on {spec.source}: {found.elsewhere}")


def _check_source(spec: MigrationSpec, source: Peer) -> None:
    observed = source.domain_state
    if not observed.known:
        raise HypervisorError(
            f"there is no domain {spec.name} on {spec.source}; check its spelling, and where it is"
        )
    if spec.kind == "offline":
        if observed.active:
            raise HypervisorError(
                f"{spec.name} is active on {spec.source}, but only a domain that is shut off "
                "migrates offline; choose live or warm, or stop it first"
            )
        return
    if not observed.active:
        raise HypervisorError(
            f"{spec.name} is shut off on {spec.source}; start it first, or choose "
            "migration-type: offline"
        )
    if observed.left_behind:
        raise HypervisorError(
            f"{spec.name} is paused on {spec.source} after a migration or a restore that did not "
            "end, and may run on another host; if it does not, resume it with virsh resume, else "
            "destroy it here"
        )
    if not (observed.running or observed.paused):
        raise HypervisorError(
            f"{spec.name} {observed.phrase} on {spec.source}; only a domain that runs or is paused "
            "can migrate"
        )


def _check_destination(spec: MigrationSpec, source: Peer, destination: Peer) -> None:
    here, there = source.domain_state, destination.domain_state
    if there.active:
        raise HypervisorError(f"{spec.destination} has an active domain {spec.name} already")
    if there.known and there.uuid != here.uuid:
        raise HypervisorError(
            f"{spec.destination} has another domain with the name {spec.name} (UUID "
            f"{there.uuid}, not {here.uuid}); undefine it there first"
        )
    if source.kind != destination.kind:
        raise HypervisorError(
            f"{spec.source} has the hypervisor {source.kind}, {spec.destination} has "
            f"{destination.kind}"
        )
    if source.version // 1_000_000 != destination.version // 1_000_000:
        raise HypervisorError(
            f"{spec.source} has {source.kind} {host_info.version_text(source.version)}, "
            f"{spec.destination} has {host_info.version_text(destination.version)}; the major "
            "versions must be the same"
        )
    if spec.vcpu_map is not None:
        check_vcpu_map(spec.name, here.vcpus, spec.vcpu_map)
        check_cpus(spec.destination, destination.cpus, spec.vcpu_map)


class Cpu(msgspec.Struct, frozen=True, kw_only=True):
    """The CPU that a running domain requires."""

    xml: str
    of_host: bool
    """Whether it is the CPU of the host (host-passthrough). If not, it is a model."""
    architecture: str
    machine: str
    kind: str


async def _check_cpu(runtime: LibvirtRuntime, spec: MigrationSpec, context: Context) -> None:
    connect = runtime.connections.get
    source = await connect(spec.source, spec.driver, spec.transport)
    destination = await connect(spec.destination, spec.driver, spec.transport)
    wanted = await source.call(_required_cpu, spec.name)
    if wanted is None:
        return
    try:
        fits = await destination.call(_fits, wanted)
    except UnsupportedCallError as error:
        context.log.info("the CPUs cannot be compared: %s", error)
        return
    if not fits:
        raise HypervisorError(
            f"the CPU of {spec.destination} lacks features of the CPU of {spec.name}; give the "
            "domain a CPU model that both hosts have"
        )


def _required_cpu(connection: Any, name: str) -> Cpu | None:
    """Read the CPU that a domain requires. Returns None if it does not require one."""
    libvirt = api()
    flags = libvirt.VIR_DOMAIN_XML_MIGRATABLE
    return required_cpu(connection.lookupByName(name).XMLDesc(flags), connection.getCapabilities)


def required_cpu(xml: str, capabilities: Any) -> Cpu | None:
    """Read the required CPU from a domain's XML. `capabilities` returns its host's capabilities."""
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
