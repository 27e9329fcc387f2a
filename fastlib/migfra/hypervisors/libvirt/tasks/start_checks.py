"""Check before a start that it can succeed. Queries the hosts and changes nothing."""

from typing import Any

import msgspec

from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.libvirt.domain import devices, host_room
from fastlib.migfra.hypervisors.libvirt.domain.creation import Values, values_of
from fastlib.migfra.hypervisors.libvirt.domain.definition_xml import with_changes
from fastlib.migfra.hypervisors.libvirt.domain.device_xml import check_shared_memory
from fastlib.migfra.hypervisors.libvirt.domain.host_memory import read_host_memory
from fastlib.migfra.hypervisors.libvirt.domain.identity import (
    Namesakes,
    check_identity,
    common_uuid,
    read_namesakes,
)
from fastlib.migfra.hypervisors.libvirt.domain.new_disks_xml import (
    has_record,
    recorded_images,
    with_disks,
)
from fastlib.migfra.hypervisors.libvirt.domain.source_checks import check_sources
from fastlib.migfra.hypervisors.libvirt.domain.state import find, read_xml
from fastlib.migfra.hypervisors.libvirt.domain.xml import parse
from fastlib.migfra.hypervisors.libvirt.options import LibvirtOptions
from fastlib.migfra.hypervisors.libvirt.runtime import LibvirtRuntime
from fastlib.migfra.hypervisors.libvirt.whereabouts import ask_hosts
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.virt.memory_needs import is_particular, problem_of_memory, read_needs

from .new_disks_check import PlannedImage, plan_images
from .start_spec import StartSpec


class StartPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The plan of a start that has passed all checks."""

    uuid: str | None
    """The domain's UUID. None lets libvirt choose one."""
    before: str | None
    """The domain's definition on this host. None without one."""
    xml: str | None
    """The XML to define or create. None starts the defined domain."""
    meant: Values | None
    """The values that the created domain must have."""
    images: tuple[PlannedImage, ...] = ()
    """The images to create for new disks."""
    note: str | None = None
    """The hosts that could not be queried, in words."""


async def check_start(
    runtime: LibvirtRuntime, driver: str | None, spec: StartSpec, context: Context
) -> StartPlan:
    """Return the plan. Raises HypervisorError if the start cannot be done as requested."""
    local = await runtime.local(driver)
    await check_sources(local, spec.sources, runtime.options.domain_xml.policy)
    uuid, note = await _check_identity(runtime, driver, spec, context)
    before = await local.call(_definition, spec.name)
    if spec.xml is None:
        if before is None:
            # This reports the missing domain with the same error as every other call.
            before = await local.call(read_xml, spec.name)
        xml = with_changes(before, spec.changes)
        changed = xml if spec.changes or spec.disks else None
    else:
        if spec.transient and before is not None:
            raise HypervisorError(
                f"{spec.name} is defined on {runtime.host}, so it cannot be transient; undefine it "
                "first, or leave out transient"
            )
        missing = None if spec.uuid is not None else uuid
        xml = changed = with_changes(spec.xml, spec.changes, missing)
    # A task's own record could name the images of another domain, so it does not count.
    recorded = {} if before is None else recorded_images(before)
    if spec.disks or (spec.xml is not None and (recorded or has_record(xml))):
        xml = changed = with_disks(xml, spec.disks, recorded)
    meant = None if changed is None else values_of(xml, persistent=not spec.transient)
    if meant is not None and spec.changes.vcpu_map is None:
        meant = msgspec.structs.replace(meant, pins={})  # libvirt may ignore the pins in the XML
    if meant is not None:
        paths = {disk.target: disk.path for disk in spec.disks}
        meant = msgspec.structs.replace(meant, images=paths)
    await local.call(_check_room, runtime.host, runtime.options, spec, xml, meant)
    images = await plan_images(runtime, driver, spec.name, spec.disks)
    return StartPlan(uuid=uuid, before=before, xml=changed, meant=meant, images=images, note=note)


def _definition(connection: Any, name: str) -> str | None:
    return None if find(connection, name) is None else read_xml(connection, name)


async def _check_identity(
    runtime: LibvirtRuntime, driver: str | None, spec: StartSpec, context: Context
) -> tuple[str | None, str | None]:
    """Refuse a domain that may run already, and another one with its name or UUID.

    Returns its UUID, if that is known, and the hosts that could not be queried, in words.
    """
    name, host = spec.name, runtime.host
    local = await runtime.local(driver)
    here = await local.call(read_namesakes, name, spec.uuid)
    if here.by_name.left_behind:
        raise HypervisorError(
            f"{name} is paused on {host} after a migration or a restore that did not end; check "
            "whether it runs on another host: if not, resume it with virsh resume, else destroy "
            "it here"
        )
    if here.by_name.active:
        raise HypervisorError(
            f"{name} {here.by_name.phrase} on {host} already; stop it first"
            + (", or resume it" if here.by_name.paused else "")
        )
    check_identity(name, spec.uuid, host, here)
    known = here.by_name.uuid if here.by_name.known else None
    uuid = spec.uuid or known
    found, unreachable = await _ask_nodes(runtime, driver, name, uuid, context)
    for node, each in found.items():
        if each.by_name.active:
            raise HypervisorError(f"{name} is active on {node} already; stop it there first")
        check_identity(name, uuid, node, each)
    if uuid is None:
        uuid = common_uuid(name, found)
        if uuid is not None:
            # Its UUID is from a definition on another host, so look it up on all hosts.
            check_identity(name, uuid, host, await local.call(read_namesakes, name, uuid))
            again, _ = await _ask_nodes(runtime, driver, name, uuid, context)
            for node, each in again.items():
                check_identity(name, uuid, node, each)
    if not unreachable:
        return uuid, None
    return uuid, f"{', '.join(unreachable)} could not be queried for {name}"


async def _ask_nodes(
    runtime: LibvirtRuntime, driver: str | None, name: str, uuid: str | None, context: Context
) -> tuple[dict[str, Namesakes], list[str]]:
    """Query the other nodes for the domain. Returns also the nodes that could not be queried."""
    found, unreachable = {}, []
    nodes = sorted(set(runtime.options.nodes))
    for answer in await ask_hosts(runtime, name, nodes, driver, uuid=uuid):
        node, error = answer.host, answer.error
        if answer.state is not None:
            found[node] = Namesakes(by_name=answer.state, name_of_uuid=answer.name_of_uuid)
        elif not runtime.options.ignore_unreachable_nodes:
            raise HypervisorError(
                f"{name} may run on {node} already, which cannot be queried: {error}; or set "
                "ignore-unreachable-nodes in the configuration"
            )
        else:
            context.log.warning("%s is started without an answer of %s: %s", name, node, error)
            unreachable.append(node)
    return found, unreachable


async def check_runs_nowhere_else(
    runtime: LibvirtRuntime, driver: str | None, spec: StartSpec, context: Context
) -> None:
    """Query the nodes again when the domain exists here, but does not run yet.

    If two hosts start a domain at the same time, both first find it shut off. Here the later one
    finds the other one's domain. Raises HypervisorError.
    """
    found, _ = await _ask_nodes(runtime, driver, spec.name, None, context)
    for node, each in found.items():
        if each.by_name.active:
            raise HypervisorError(
                f"{spec.name} was started on {node} at the same time, so it must not run on "
                f"{runtime.host}; check where it runs, and start it on one host at a time"
            )


def _check_room(
    connection: Any,
    host: str,
    options: LibvirtOptions,
    spec: StartSpec,
    xml: str,
    meant: Values | None,
) -> None:
    """Raise HypervisorError if the host lacks memory, CPUs or devices of the task. Blocks."""
    if spec.changes.vcpu_map is not None:
        host_room.check_cpus(host, host_room.read_cpus(connection), spec.changes.vcpu_map)
    if spec.changes.memnode_map is not None:
        nodes = host_room.read_memory_nodes(connection)
        host_room.check_memory_nodes(host, nodes, spec.changes.memnode_map)
    if meant is not None and meant.memory is not None:
        total = host_room.total_memory(connection) - options.reserved_memory
        if meant.memory > total:
            raise HypervisorError(
                f"{spec.name} needs {meant.memory} KiB of memory, but {host} has {total} KiB in "
                "total; give it less"
            )
    needs = read_needs(parse(xml))
    if is_particular(needs):
        memory = read_host_memory(connection)
        # A domain gets normal memory bit by bit, but libvirt reserves all huge pages at the start.
        problem = problem_of_memory(spec.name, host, needs, memory, nodes="total")
        if problem is not None:
            raise HypervisorError(problem)
    if spec.ivshmem is not None:
        check_shared_memory(xml, spec.ivshmem)
    if spec.pci_ids or spec.pci_addresses:
        devices.check_available(connection, xml, spec.pci_addresses, spec.pci_ids, options.pci_ids)
