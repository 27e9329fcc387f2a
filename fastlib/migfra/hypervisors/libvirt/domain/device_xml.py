"""The XML of devices that cannot migrate with a domain, and of the PCI devices of a host."""

import re
from typing import Final
from xml.etree.ElementTree import Element, SubElement

import msgspec

from fastlib.message import DeviceIvshmem, PciAddress, PciId
from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.virt.xml_numbers import read_number_with_base

from .xml import drop_children, parse, text


def pci_xml(address: PciAddress) -> str:
    """Return the XML that gives a PCI device of the host to a domain."""
    device = Element("hostdev", mode="subsystem", type="pci", managed="yes")
    source = SubElement(device, "source")
    SubElement(source, "address", _address_attributes(address))
    return text(device)


def _address_attributes(address: PciAddress) -> dict[str, str]:
    return {
        "domain": f"0x{address.domain:04x}",
        "bus": f"0x{address.bus:02x}",
        "slot": f"0x{address.device:02x}",
        "function": f"0x{address.function:x}",
    }


_SHARED_MEMORY_NAME: Final = re.compile(r"[A-Za-z0-9_:+-][A-Za-z0-9_.:+-]{0,199}")
"""The id is the name of a file in /dev/shm."""
_SIZE_UNITS: Final = {"": "b", "b": "b", "k": "KiB", "m": "MiB", "g": "GiB"}
_BYTES: Final = {"b": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_LEAST_SHARED_MEMORY: Final = 1 << 20
"""Bytes."""


def ivshmem_xml(device: DeviceIvshmem) -> str:
    """Return the XML of memory that the host shares with a domain.

    Raises HypervisorError for values that QEMU would refuse.
    """
    if not _SHARED_MEMORY_NAME.fullmatch(device.id):
        raise HypervisorError(
            "the id of an ivshmem device must consist of letters, digits and "
            f"'_', '-', '.', ':', '+', not {device.id[:40]!r}"
        )
    digits = device.size.rstrip("BbKkMmGgi")
    unit = _SIZE_UNITS.get(device.size[len(digits) :].lower().replace("ib", "").rstrip("b"))
    if not (digits.isascii() and digits.isdigit()) or unit is None:
        raise HypervisorError(
            f"the size of the ivshmem device {device.id[:40]!r} must be a size such as 64M, not "
            f"{device.size[:40]!r}"
        )
    size = int(digits) * _BYTES[unit] if len(digits) <= 20 else 0
    if size < _LEAST_SHARED_MEMORY or size & (size - 1):
        raise HypervisorError(
            f"the size {device.size[:40]!r} of the ivshmem device {device.id[:40]!r} must be a "
            "power of two and at least 1M"
        )
    if device.path is not None:
        raise HypervisorError(
            f"the ivshmem device {device.id[:40]!r} has a path, but libvirt names the file of "
            "shared memory by the device's id; leave out the path"
        )
    shmem = Element("shmem", name=device.id)
    SubElement(shmem, "model", type="ivshmem-plain")
    SubElement(shmem, "size", unit=unit).text = digits
    return text(shmem)


def check_shared_memory(xml: str, shared_memory: str) -> None:
    """Raise HypervisorError if a domain has shared memory with that name already."""
    name = parse(shared_memory).get("name")
    devices = parse(xml).find("devices")
    if devices is not None and any(each.get("name") == name for each in devices.findall("shmem")):
        raise HypervisorError(
            f"the domain's XML has shared memory {name!r} already; leave ivshmem out, or give it "
            "another id"
        )


class AttachedDevice(msgspec.Struct, frozen=True, kw_only=True):
    """A device of a domain that cannot migrate with it."""

    kind: str
    """`pci` or `ivshmem`."""
    xml: str
    address: str | None = None
    """The address of a PCI device on its host."""
    vendor: int | None = None
    device: int | None = None


def attached_devices(xml: str) -> list[AttachedDevice]:
    """Return the PCI devices and the shared memory in a running domain's XML."""
    found = []
    devices = parse(xml).find("devices")
    for element in () if devices is None else devices:
        if _is_pci(element):
            address = element.find("source/address")
            if address is not None:
                where = str(pci_address(address))
                found.append(AttachedDevice(kind="pci", xml=text(element), address=where))
        elif element.tag == "shmem":
            found.append(AttachedDevice(kind="ivshmem", xml=text(element)))
    return found


def _is_pci(element: Element) -> bool:
    """Return whether it is a PCI device of the host. A network card can have two forms."""
    if element.tag == "hostdev":
        return element.get("type") == "pci"
    return element.tag == "interface" and element.get("type") == "hostdev"


def same_device(one: AttachedDevice, other: AttachedDevice) -> bool:
    """Return whether two descriptions in one domain are of the same device."""
    if one.kind != other.kind:
        return False
    if one.kind == "pci":
        return one.address == other.address
    return parse(one.xml).get("name") == parse(other.xml).get("name")


def without_guest_addresses(xml: str) -> str:
    """Return a device's XML without its alias and its address in the guest."""
    return text(_without_guest_addresses(xml))


def with_host_address(xml: str, address: PciAddress) -> str:
    """Return the XML of another host's PCI device with the address of a device of this host."""
    element = _without_guest_addresses(xml)
    source = element.find("source/address")
    assert source is not None
    source.attrib.update(_address_attributes(address))
    return text(element)


def _without_guest_addresses(xml: str) -> Element:
    element = parse(xml)
    for tag in ("alias", "address"):
        drop_children(element, tag)
    return element


def pci_address(element: Element) -> PciAddress:
    """Return the address in an element `<address domain= bus= slot= function=>`.

    Raises HypervisorError if a part is not a number.
    """
    domain, bus, slot, function = (
        read_number_with_base(element.get(key, "0"), f"<address {key}>", largest)
        for key, largest in (("domain", 0xFFFF), ("bus", 0xFF), ("slot", 0x1F), ("function", 7))
    )
    return PciAddress(domain=domain, bus=bus, device=slot, function=function)


class HostPci(msgspec.Struct, frozen=True, kw_only=True):
    """A PCI device of a host."""

    address: PciAddress
    kind: PciId


def read_host_pci(xml: str) -> HostPci | None:
    """Read a node device's XML. Returns None without the vendor and model of a PCI device."""
    capability = parse(xml).find("capability[@type='pci']")
    if capability is None:
        return None
    vendor, product = capability.find("vendor"), capability.find("product")
    if vendor is None or product is None or not vendor.get("id") or not product.get("id"):
        return None
    numbers = {
        key: read_number_with_base(capability.findtext(tag, "0"), f"<capability> <{tag}>")
        for key, tag in (
            ("domain", "domain"), ("bus", "bus"), ("device", "slot"), ("function", "function"),
        )
    }  # fmt: skip
    return HostPci(
        address=PciAddress(**numbers),
        kind=PciId(
            vendor=read_number_with_base(vendor.get("id"), "<vendor id>", 0xFFFF),
            device=read_number_with_base(product.get("id"), "<product id>", 0xFFFF),
        ),
    )
