"""Bring the domains of a scenario into their prior states, by libvirt alone."""

from collections.abc import Mapping
from typing import Any

from tests.support.lab.fleet import Fleet
from tests.support.lab.guest import Guest, GuestOptions
from tests.support.lab.libvirt_access import libvirt_of

from .guest_disks import Disk
from .scenario import PriorDomain, Scenario, new_names


def prepare(fleet: Fleet, scenario: Scenario, disks: Mapping[str, Disk]) -> dict[str, Guest]:
    """Make all domains. Returns the guests of the scenario, and those that orders describe."""
    guests = {domain.name: _make(fleet, domain, disks) for domain in scenario.domains}
    for name in new_names(scenario):
        guests[name] = fleet.lab.define_guest(name, bios=True, memory=32)
    return guests


def _make(fleet: Fleet, domain: PriorDomain, disks: Mapping[str, Disk]) -> Guest:
    import libvirt

    host = fleet.lab.host(domain.host)
    with libvirt_of(host) as connection:
        if domain.linux:
            guest = _make_linux(fleet, domain, disks[domain.name])
        else:
            guest = _make_bios(fleet, domain, connection)
        handle = connection.lookupByName(domain.name)
        if domain.pins is not None:
            _pin(handle, domain.pins, connection.getInfo()[2])
        if domain.autostart:
            handle.setAutostart(1)
        if domain.also_defined_on is not None:
            secure = libvirt.VIR_DOMAIN_XML_SECURE
            definition = handle.XMLDesc(secure | libvirt.VIR_DOMAIN_XML_INACTIVE)
            with libvirt_of(fleet.lab.host(domain.also_defined_on)) as other:
                other.defineXML(definition)
        if domain.state == "paused":
            handle.suspend()
        elif domain.state == "saved":
            handle.managedSave(libvirt.VIR_DOMAIN_SAVE_RUNNING)
    return guest


def _make_linux(fleet: Fleet, domain: PriorDomain, disk: Disk) -> Guest:
    host = fleet.lab.host(domain.host)
    options: GuestOptions = {
        "vcpus": domain.vcpus,
        "absent_vcpus": domain.absent_vcpus,
        "disk": disk,
        "dirty": 16,
        "rate": 32,
    }
    if domain.state == "defined":
        guest = fleet.saved_guests.describe(host, domain.name, **options)
        with libvirt_of(host) as connection:
            connection.defineXML(guest.xml)
        return guest
    (guest,) = fleet.saved_guests.restore(
        host, [domain.name], persistent=not domain.transient, **options
    )
    return guest


def _make_bios(fleet: Fleet, domain: PriorDomain, connection: Any) -> Guest:
    guest = fleet.lab.define_guest(
        domain.name,
        bios=True,
        memory=domain.memory,
        vcpus=domain.vcpus,
        absent_vcpus=domain.absent_vcpus,
    )
    if domain.transient:
        connection.createXML(guest.xml)
    else:
        handle = connection.defineXML(guest.xml)
        if domain.state != "defined":
            handle.create()
    return guest


def _pin(handle: Any, pins: tuple[tuple[int, ...], ...], cpus: int) -> None:
    import libvirt

    flags = libvirt.VIR_DOMAIN_AFFECT_CONFIG if handle.isPersistent() else 0
    if handle.isActive():
        flags |= libvirt.VIR_DOMAIN_AFFECT_LIVE
    for vcpu, row in enumerate(pins):
        handle.pinVcpuFlags(vcpu, tuple(cpu in row for cpu in range(cpus)), flags)
