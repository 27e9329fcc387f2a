"""Check before a migration what libvirt would notice only after the domain has arrived.

That is its identity, the address that memory is sent to, the CPUs that it is pinned to, and
replacements for the devices that it must leave.
"""

from fastlib.migfra.hypervisors.libvirt.connection.uris import migration_uri
from fastlib.migfra.hypervisors.libvirt.domain import devices
from fastlib.migfra.hypervisors.libvirt.domain.host_room import check_pins, read_cpus
from fastlib.migfra.hypervisors.libvirt.domain.identity import check_identity, read_namesakes
from fastlib.migfra.hypervisors.libvirt.runtime import LibvirtRuntime
from fastlib.migfra.virt.migration_spec import MigrationSpec


async def check_arrival(
    runtime: LibvirtRuntime, spec: MigrationSpec, uuid: str, arriving: str | None
) -> None:
    """Raise HypervisorError if the domain could not run on the destination. Changes nothing.

    `arriving` is its XML when it arrives, None if it is shut off.
    """
    destination = await runtime.connections.get(spec.destination, spec.driver, spec.transport)
    namesakes = await destination.call(read_namesakes, spec.name, uuid)
    check_identity(spec.name, uuid, spec.destination, namesakes)
    if arriving is None:
        return
    # This raises an error for an invalid address.
    migration_uri(runtime.options, spec.destination, bool(spec.parameter.rdma_migration))
    source = await runtime.connections.get(spec.source, spec.driver, spec.transport)
    cpus = await destination.call(read_cpus)
    check_pins(spec.name, spec.destination, cpus, arriving)
    attached = await source.call(devices.attached, spec.name)
    devices.check_movable(spec.name, attached)
    kinds = devices.pci_kinds(attached)
    if kinds:
        await destination.call(devices.check_replacements, kinds, spec.partner)
