"""Attach and detach devices that cannot migrate: PCI devices of the host, shared memory.

The functions block. Call them with `Connection.call`.
"""

import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from fastlib.message import PciAddress, PciId
from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.libvirt.connection.api import api

from .device_xml import (
    AttachedDevice,
    HostPci,
    attached_devices,
    pci_xml,
    read_host_pci,
    same_device,
    with_host_address,
    without_guest_addresses,
)
from .state import read_xml

_DETACH_SECONDS: Final = 20.0
"""The limit in seconds for a guest to release a device. libvirt does not wait for that."""
_POLL_SECONDS: Final = 0.1


def attached(connection: Any, name: str) -> list[AttachedDevice]:
    """List the devices that cannot migrate, with vendor and model of PCI devices."""
    devices = attached_devices(read_xml(connection, name, active=True))
    if not any(device.kind == "pci" for device in devices):
        return devices  # a host may have many devices, so they are listed only if needed
    known = {str(pci.address): pci for pci in _host_devices(connection) or ()}
    found = []
    for device in devices:
        pci = known.get(device.address or "")
        if pci is not None:
            device = AttachedDevice(
                kind=device.kind,
                xml=device.xml,
                address=device.address,
                vendor=pci.kind.vendor,
                device=pci.kind.device,
            )
        found.append(device)
    return found


def detach(connection: Any, name: str, xml: str) -> None:
    """Detach a device from a running domain, and wait until the guest has released it."""
    libvirt = api()
    domain = connection.lookupByName(name)
    before = len(attached_devices(domain.XMLDesc(0)))
    domain.detachDeviceFlags(xml, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    deadline = time.monotonic() + _DETACH_SECONDS
    while len(attached_devices(domain.XMLDesc(0))) >= before:
        if time.monotonic() >= deadline:
            raise HypervisorError(
                f"{name} has not released a device within {_DETACH_SECONDS:g} s; its operating "
                "system must support hot unplugging and have booted"
            )
        time.sleep(_POLL_SECONDS)  # an event could get lost with the connection


def attach(connection: Any, name: str, xml: str) -> None:
    """Attach a device to a running domain."""
    connection.lookupByName(name).attachDeviceFlags(xml, api().VIR_DOMAIN_AFFECT_LIVE)


def check_movable(name: str, found: Sequence[AttachedDevice]) -> None:
    """Raise HypervisorError for a device that could not be replaced on another host."""
    for device in found:
        if device.kind == "pci" and (device.vendor is None or device.device is None):
            raise HypervisorError(
                f"libvirt does not know the kind of the PCI device {device.address} of {name}, so "
                "it cannot be replaced at the destination; install libvirt's driver for devices, "
                "such as libvirt-daemon-driver-nodedev, or detach the device first"
            )


def pci_kinds(found: Sequence[AttachedDevice]) -> list[PciId]:
    """Return the kinds of PCI devices that must be replaced on another host."""
    return [
        PciId(vendor=device.vendor, device=device.device)
        for device in found
        if device.kind == "pci" and device.vendor is not None and device.device is not None
    ]


def check_replacements(connection: Any, kinds: Sequence[PciId], leaving: str | None) -> None:
    """Raise HypervisorError if a host lacks a free PCI device of each kind.

    `leaving` is a domain that leaves the host at the same time. Its devices count as free.
    """
    spared: list[str] = []
    for kind in kinds:
        spared.append(str(_free_of_kind(connection, kind, None, spared, leaving)[0]))


def reattach(
    connection: Any,
    name: str,
    device: AttachedDevice,
    at_home: bool,
    spared: Collection[str | None] = (),
) -> None:
    """Reattach a device: the same one on its own host (`at_home`), one of its kind on another host.

    Devices at the addresses in `spared` are kept for others. Raises HypervisorError if the host
    has no free device of that kind.
    """
    if at_home:
        # The guest may not have released it when the detach timed out.
        xml = connection.lookupByName(name).XMLDesc(0)
        if any(same_device(device, there) for there in attached_devices(xml)):
            return
    if device.kind == "pci":
        assert device.vendor is not None
        assert device.device is not None
        kind = PciId(vendor=device.vendor, device=device.device)
        attach_kind(connection, name, kind, device, spared)
    else:
        attach(connection, name, without_guest_addresses(device.xml))


def check_available(
    connection: Any,
    xml: str,
    addresses: Sequence[PciAddress],
    kinds: Sequence[PciId],
    allowed: Sequence[PciId] | None = None,
) -> None:
    """Raise HypervisorError if the host lacks a free PCI device that a start requests.

    `xml` is the domain's description. The devices in it do not count as free. `allowed` has the
    kinds that tasks may attach. None allows all.
    """
    wanted = [str(address) for address in addresses]
    for kind in kinds:
        _check_allowed(_shown(kind), kind, allowed)
    if twice := sorted({address for address in wanted if wanted.count(address) > 1}):
        raise HypervisorError(f"the PCI device {twice[0]} is requested twice; remove one")
    taken = _taken(connection)
    devices = _host_devices(connection) if wanted else None
    known = None if devices is None else {str(pci.address): pci.kind for pci in devices}
    for address in wanted:
        _check_free(address, taken)
        if known is not None and address not in known:
            raise HypervisorError(
                f"{connection.getHostname()} has no PCI device {address}; see lspci -D"
            )
        _check_allowed(address, None if known is None else known[address], allowed)
    own = {device.address for device in attached_devices(xml) if device.address}
    if both := sorted(own.intersection(wanted)):
        raise HypervisorError(f"the domain's XML has the PCI device {both[0]} already")
    spared = [*wanted, *own]
    for kind in kinds:
        # Two requests of one kind need two devices.
        spared.append(str(_free_of_kind(connection, kind, None, spared)[0]))


def _check_allowed(device: str, kind: PciId | None, allowed: Sequence[PciId] | None) -> None:
    if allowed is None or kind in allowed:
        return
    raise HypervisorError(
        f"the PCI device {device} is not of a kind that tasks may attach; leave it out, or let the "
        "operator add its kind to pci-ids in the section hypervisor"
    )


def _check_free(address: str, taken: Mapping[str, str]) -> None:
    user = taken.get(address)
    if user is not None:
        raise HypervisorError(f"the PCI device {address} is in use by {user}; choose another")


def attach_address(connection: Any, name: str, address: PciAddress) -> None:
    """Attach the PCI device at an address. Raises HypervisorError if another domain has it."""
    _check_free(str(address), _taken(connection))
    attach(connection, name, pci_xml(address))


def attach_kind(
    connection: Any,
    name: str,
    kind: PciId,
    before: AttachedDevice | None = None,
    spared: Collection[str | None] = (),
) -> PciAddress:
    """Attach a free PCI device of a kind. Prefer the one that the domain had before.

    Raises HypervisorError if there is none.
    """
    free = _free_of_kind(connection, kind, before, spared)
    return _first_that_works(connection, name, free, _shown(kind), before)


def _shown(kind: PciId) -> str:
    return f"{kind.vendor:#06x}:{kind.device:#06x}"


def _free_of_kind(
    connection: Any,
    kind: PciId,
    before: AttachedDevice | None,
    spared: Collection[str | None],
    leaving: str | None = None,
) -> list[PciAddress]:
    """Return the free PCI devices of a kind. Raises HypervisorError if there is none."""
    shown = _shown(kind)
    host = connection.getHostname()
    devices = _host_devices(connection)
    if devices is None:
        raise HypervisorError(
            f"libvirt on {host} cannot list PCI devices, so no {shown} can be found; install its "
            "driver for devices, such as libvirt-daemon-driver-nodedev"
        )
    of_kind = [pci.address for pci in devices if pci.kind == kind]
    taken = {address: user for address, user in _taken(connection).items() if user != leaving}
    usable = [address for address in of_kind if str(address) not in spared]
    free = [address for address in usable if str(address) not in taken]
    if before is not None:
        free.sort(key=lambda address: str(address) != before.address)
    if not free:
        users = sorted({taken[str(address)] for address in usable})
        why = "it has none at all"
        if users:
            why = f"they are in use by {', '.join(users)}"
        elif of_kind:
            why = f"all of its {len(of_kind)} are requested already"
        raise HypervisorError(f"{host} has no free PCI device {shown}: {why}")
    return free


def _first_that_works(
    connection: Any,
    name: str,
    free: Sequence[PciAddress],
    shown: str,
    before: AttachedDevice | None,
) -> PciAddress:
    libvirt = api()
    refusals = []
    for address in free:
        xml = pci_xml(address) if before is None else with_host_address(before.xml, address)
        try:
            attach(connection, name, xml)
        except libvirt.libvirtError as error:
            refusals.append(f"{address}: {error}")  # another domain may have got it just now
        else:
            return address
    raise HypervisorError(f"no PCI device {shown} can be attached to {name}: {'; '.join(refusals)}")


def _host_devices(connection: Any) -> list[HostPci] | None:
    """Return the host's PCI devices in order. None if its libvirt has no driver for them."""
    libvirt = api()
    try:
        nodes = connection.listAllDevices(libvirt.VIR_CONNECT_LIST_NODE_DEVICES_CAP_PCI_DEV)
        found = [read_host_pci(node.XMLDesc(0)) for node in nodes]
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
            raise
        return None
    return sorted((pci for pci in found if pci is not None), key=lambda pci: str(pci.address))


def _taken(connection: Any) -> dict[str, str]:
    """Return the addresses of active domains' PCI devices, with the domains' names."""
    libvirt = api()
    taken = {}
    for domain in connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
        try:
            xml = domain.XMLDesc(0)
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                continue  # it has ended, so its devices are free
            raise
        for device in attached_devices(xml):
            if device.address is not None:
                taken[device.address] = domain.name()
    return taken
