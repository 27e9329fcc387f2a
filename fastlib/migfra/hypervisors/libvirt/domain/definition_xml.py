"""Change a domain's definition: memory, vCPUs, pinning, memory nodes."""

from collections.abc import Iterable, Sequence
from typing import Final
from xml.etree.ElementTree import Element, SubElement

import msgspec

from fastlib.migfra.errors import HypervisorError

from .xml import drop_children, only_child, parse, text

_MOST_CPUS: Final = 1 << 16


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """The changes of a start task to a domain's definition."""

    memory: int | None = None
    """KiB."""
    vcpus: int | None = None
    vcpu_map: Sequence[Sequence[int]] | None = None
    memnode_map: Sequence[Sequence[int]] | None = None

    def __bool__(self) -> bool:
        return any(getattr(self, field) is not None for field in self.__struct_fields__)


def with_changes(xml: str, changes: Changes) -> str:
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
            element = only_child(root, tag)
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


def vcpu_count(root: Element) -> int:
    """Count the vCPUs of a definition."""
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
    element = only_child(root, "vcpu")
    element.attrib.pop("current", None)
    element.text = str(vcpus)
    drop_children(root, "vcpus")  # which of them are there at the start
    tune = root.find("cputune")
    if tune is not None:
        for pin in tune.findall("vcpupin"):
            if int(pin.get("vcpu", "0")) >= vcpus:
                tune.remove(pin)


def check_vcpu_map(name: str, vcpus: int, vcpu_map: Sequence[Sequence[int]]) -> None:
    """Raise HypervisorError if a map does not fit that many vCPUs."""
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
    check_vcpu_map("the domain", vcpu_count(root), vcpu_map)
    tune = only_child(root, "cputune")
    drop_children(tune, "vcpupin")
    for index, row in enumerate(vcpu_map):
        SubElement(tune, "vcpupin", vcpu=str(index), cpuset=cpu_set(row))


def _pin_memory(root: Element, memnode_map: Sequence[Sequence[int]]) -> None:
    """One row is for the whole memory, several are for the domain's NUMA cells."""
    if not memnode_map or not all(memnode_map):
        raise HypervisorError("the memnode-map has no memory node in a row; name at least one")
    cells = len(root.findall("cpu/numa/cell"))
    drop_children(root, "numatune")
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
