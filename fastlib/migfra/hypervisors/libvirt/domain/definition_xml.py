"""Change a domain's definition: memory, vCPUs, pinning, memory nodes."""

from collections.abc import Sequence
from xml.etree.ElementTree import Element, SubElement

import msgspec

from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.virt.domain_vcpus import (
    cpu_set,
    read_topology,
    read_vcpus,
    rows_for_start,
)
from fastlib.migfra.virt.domain_xml import plain_text
from fastlib.migfra.virt.xml_numbers import read_number

from .tuning_xml import bind_memory
from .xml import drop_children, only_child, parse, text


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """The changes of a start task to a domain's definition."""

    memory: int | None = None
    """KiB."""
    vcpus: int | None = None
    vcpu_map: Sequence[Sequence[int]] | None = None
    memnode_map: Sequence[Sequence[int]] | None = None

    @property
    def has_map(self) -> bool:
        """Whether they bind vCPUs or memory."""
        return self.vcpu_map is not None or self.memnode_map is not None

    def __bool__(self) -> bool:
        return any(getattr(self, field) is not None for field in self.__struct_fields__)


def with_changes(xml: str, changes: Changes, uuid: str | None = None) -> str:
    """Return a domain's description with the changes, and with the UUID if it has none.

    Raises HypervisorError if the changes do not fit the description.
    """
    plain = plain_text(xml)
    if not changes and uuid is None:
        return plain
    root = parse(plain)
    if uuid is not None:
        _set_uuid(root, uuid)
    if changes.memory is not None:
        _set_memory(root, changes.memory)
    if changes.vcpus is not None:
        _set_vcpus(root, changes.vcpus)
    if changes.vcpu_map is not None:
        _pin_vcpus(root, changes.vcpu_map)
    if changes.memnode_map is not None:
        bind_memory("the domain", root, changes.memnode_map)
    return text(root)


def _set_uuid(root: Element, uuid: str) -> None:
    element = root.find("uuid")
    if element is None:
        element = Element("uuid")
        root.insert(0, element)
    element.text = uuid


def _set_memory(root: Element, memory: int) -> None:
    if root.find("cpu/numa/cell") is not None:
        raise HypervisorError(
            "the sizes of the domain's NUMA cells set its memory; change them in its XML, or "
            "leave out memory"
        )
    for tag in ("memory", "currentMemory"):
        element = only_child(root, tag)
        element.set("unit", "KiB")
        element.text = str(memory)


def _set_vcpus(root: Element, vcpus: int) -> None:
    product = read_topology(root)
    if product not in (None, vcpus):
        raise HypervisorError(
            f"the domain's <topology> is one of {product} CPUs, not of {vcpus}; change it "
            "there, or leave out vcpus"
        )
    element = only_child(root, "vcpu")
    element.attrib.pop("current", None)
    element.text = str(vcpus)
    drop_children(root, "vcpus")  # the vCPUs that are online at the start
    tune = root.find("cputune")
    if tune is not None:
        for pin in tune.findall("vcpupin"):
            if read_number(pin.get("vcpu"), "<vcpupin vcpu>") >= vcpus:
                tune.remove(pin)


def _pin_vcpus(root: Element, vcpu_map: Sequence[Sequence[int]]) -> None:
    """Pin the vCPUs that have a row. Let all others use any CPU."""
    pins = rows_for_start("the domain", read_vcpus(root), vcpu_map)
    tune = only_child(root, "cputune")
    drop_children(tune, "vcpupin")
    for vcpu, cpus in sorted(pins.items()):
        SubElement(tune, "vcpupin", vcpu=str(vcpu), cpuset=cpu_set(cpus))
