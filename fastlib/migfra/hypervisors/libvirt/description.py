"""A domain's XML: what a start changes in it, and which devices it has."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Sequence
from typing import Final
from xml.etree.ElementTree import Element, SubElement

import msgspec

from fastlib.message import DeviceIvshmem, PciAddress, PciId
from fastlib.migfra.errors import HypervisorError

_MOST_CPUS: Final = 1 << 16


def parse(xml: str) -> Element:
    """The root of XML that libvirt wrote, or that `read_domain` has let pass."""
    # Neither has a document type declaration, so there is nothing to expand or to fetch.
    return ElementTree.fromstring(xml)  # noqa: S314


def text(element: Element) -> str:
    """The XML of an element."""
    return ElementTree.tostring(element, encoding="unicode")


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """What a start changes in a domain's description."""

    memory: int | None = None
    """KiB."""
    vcpus: int | None = None
    vcpu_map: Sequence[Sequence[int]] | None = None
    memnode_map: Sequence[Sequence[int]] | None = None

    def __bool__(self) -> bool:
        return any(getattr(self, field) is not None for field in self.__struct_fields__)


def changed(xml: str, changes: Changes) -> str:
    """A domain's description with the changes. Raises HypervisorError if they do not fit it."""
    if not changes:
        return xml
    root = parse(xml)
    if changes.memory is not None:
        if root.find("cpu/numa/cell") is not None:
            raise HypervisorError(
                "the domain has NUMA cells, whose sizes make its memory; change them in its XML, "
                "or leave out memory"
            )
        for tag in ("memory", "currentMemory"):
            element = _only(root, tag)
            element.attrib.clear()
            element.set("unit", "KiB")
            element.text = str(changes.memory)
    if changes.vcpus is not None:
        _set_vcpus(root, changes.vcpus)
    if changes.vcpu_map is not None:
        _pin_vcpus(root, changes.vcpu_map)
    if changes.memnode_map is not None:
        _pin_memory(root, changes.memnode_map)
    return text(root)


def _only(parent: Element, tag: str) -> Element:
    found = parent.find(tag)
    return SubElement(parent, tag) if found is None else found


def _drop(parent: Element, tag: str) -> None:
    for element in parent.findall(tag):
        parent.remove(element)


def vcpus_of(root: Element) -> int:
    """How many virtual CPUs a description has."""
    found = root.find("vcpu")
    return int(found.text) if found is not None and found.text else 1


def _set_vcpus(root: Element, vcpus: int) -> None:
    topology = root.find("cpu/topology")
    if topology is not None:
        product = 1
        for name in ("sockets", "dies", "clusters", "cores", "threads"):
            product *= int(topology.get(name, "1"))
        if product != vcpus:
            raise HypervisorError(
                f"the domain's <topology> is one of {product} CPUs, not of {vcpus}; change it "
                "there, or leave out vcpus"
            )
    element = _only(root, "vcpu")
    element.attrib.pop("current", None)
    element.text = str(vcpus)
    _drop(root, "vcpus")  # which of them are there at the start
    tune = root.find("cputune")
    if tune is not None:
        for pin in tune.findall("vcpupin"):
            if int(pin.get("vcpu", "0")) >= vcpus:
                tune.remove(pin)


def check_map(name: str, vcpus: int, vcpu_map: Sequence[Sequence[int]]) -> None:
    """Raises HypervisorError if a map does not fit that many vCPUs."""
    if len(vcpu_map) > vcpus:
        raise HypervisorError(
            f"the vcpu-map has {len(vcpu_map)} rows, but {name} has {vcpus} vCPUs"
        )
    for index, row in enumerate(vcpu_map):
        if not row:
            raise HypervisorError(f"the vcpu-map has no CPU for vCPU {index}; name at least one")
        if max(row) >= _MOST_CPUS:
            raise HypervisorError(f"the vcpu-map has CPU {max(row)}, which no host has")


def cpu_set(numbers: Iterable[int]) -> str:
    """Numbers as libvirt writes a set of them."""
    return ",".join(map(str, sorted(set(numbers))))


def _pin_vcpus(root: Element, vcpu_map: Sequence[Sequence[int]]) -> None:
    check_map("the domain", vcpus_of(root), vcpu_map)
    tune = _only(root, "cputune")
    _drop(tune, "vcpupin")
    for index, row in enumerate(vcpu_map):
        SubElement(tune, "vcpupin", vcpu=str(index), cpuset=cpu_set(row))


def _pin_memory(root: Element, memnode_map: Sequence[Sequence[int]]) -> None:
    """One row is for the whole memory, several are for the domain's NUMA cells."""
    if not memnode_map or not all(memnode_map):
        raise HypervisorError("the memnode-map has no memory node in a row; name at least one")
    cells = len(root.findall("cpu/numa/cell"))
    _drop(root, "numatune")
    tune = SubElement(root, "numatune")
    if len(memnode_map) == 1:
        SubElement(tune, "memory", mode="strict", nodeset=cpu_set(memnode_map[0]))
        return
    if len(memnode_map) != cells:
        raise HypervisorError(
            f"the memnode-map has {len(memnode_map)} rows, but the domain has {cells} NUMA cells; "
            "give one row for all of its memory, or one for each cell"
        )
    for index, row in enumerate(memnode_map):
        SubElement(tune, "memnode", cellid=str(index), mode="strict", nodeset=cpu_set(row))


def with_uuid(xml: str, uuid: str) -> str:
    """A description that has a UUID, this one if there was none."""
    root = parse(xml)
    if root.find("uuid") is None:
        SubElement(root, "uuid").text = uuid
        return text(root)
    return xml


# Devices


def pci_xml(address: PciAddress) -> str:
    """A PCI device of the host, for the domain."""
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


_SIZE_UNITS: Final = {"": "b", "b": "b", "k": "KiB", "m": "MiB", "g": "GiB"}


def ivshmem_xml(device: DeviceIvshmem) -> str:
    """Memory that the host shares with the domain. Raises HypervisorError for a wrong size."""
    digits = device.size.rstrip("BbKkMmGgi")
    unit = _SIZE_UNITS.get(device.size[len(digits) :].lower().replace("ib", "").rstrip("b"))
    if not (digits.isascii() and digits.isdigit()) or unit is None:
        raise HypervisorError(
            f"the size {device.size[:40]!r} of the ivshmem device {device.id[:40]!r} is no size "
            "such as 64M"
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


class Attached(msgspec.Struct, frozen=True, kw_only=True):
    """A device of a domain that cannot migrate with it."""

    kind: str
    """`pci` or `ivshmem`."""
    xml: str
    address: str | None = None
    """Of a PCI device, on its host."""
    vendor: int | None = None
    device: int | None = None


def passthrough(xml: str) -> list[Attached]:
    """The PCI devices and the shared memory in a running domain's XML."""
    found = []
    devices = parse(xml).find("devices")
    for element in () if devices is None else devices:
        if _is_pci(element):
            address = element.find("source/address")
            if address is not None:
                where = str(pci_address(address))
                found.append(Attached(kind="pci", xml=text(element), address=where))
        elif element.tag == "shmem":
            found.append(Attached(kind="ivshmem", xml=text(element)))
    return found


def _is_pci(element: Element) -> bool:
    """Whether it is a PCI device of the host; that of a network card has two forms."""
    if element.tag == "hostdev":
        return element.get("type") == "pci"
    return element.tag == "interface" and element.get("type") == "hostdev"


def same_device(one: Attached, other: Attached) -> bool:
    """Whether two descriptions in one domain are of the same device."""
    if one.kind != other.kind:
        return False
    if one.kind == "pci":
        return one.address == other.address
    return parse(one.xml).get("name") == parse(other.xml).get("name")


def without_places(xml: str) -> str:
    """A device's XML without what its domain has given it: alias and place in the guest."""
    return text(_without_places(xml))


def with_address(xml: str, address: PciAddress) -> str:
    """The XML of a PCI device of another host, as one of this host that is like it."""
    element = _without_places(xml)
    source = element.find("source/address")
    assert source is not None
    source.attrib.update(_address_attributes(address))
    return text(element)


def _without_places(xml: str) -> Element:
    element = parse(xml)
    for tag in ("alias", "address"):
        _drop(element, tag)
    return element


def pci_address(element: Element) -> PciAddress:
    """The address in an element `<address domain= bus= slot= function=>`."""
    return PciAddress(
        domain=int(element.get("domain", "0"), 0),
        bus=int(element.get("bus", "0"), 0),
        device=int(element.get("slot", "0"), 0),
        function=int(element.get("function", "0"), 0),
    )


class HostPci(msgspec.Struct, frozen=True, kw_only=True):
    """A PCI device of a host."""

    address: PciAddress
    kind: PciId


def host_pci(xml: str) -> HostPci | None:
    """What a node device's XML says; None if it is no PCI device with a vendor and a model."""
    capability = parse(xml).find("capability[@type='pci']")
    if capability is None:
        return None
    vendor, product = capability.find("vendor"), capability.find("product")
    if vendor is None or product is None or not vendor.get("id") or not product.get("id"):
        return None
    numbers = {
        key: int(capability.findtext(tag, "0"), 0)
        for key, tag in (
            ("domain", "domain"), ("bus", "bus"), ("device", "slot"), ("function", "function"),
        )
    }  # fmt: skip
    return HostPci(
        address=PciAddress(**numbers),
        kind=PciId(vendor=int(vendor.get("id", ""), 0), device=int(product.get("id", ""), 0)),
    )
