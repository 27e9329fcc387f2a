"""Bind the vCPUs and the memory of a running domain in its XML, and read what they are bound to."""

from collections.abc import Sequence
from typing import Final
from xml.etree.ElementTree import Element, SubElement

from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.virt.domain_vcpus import (
    Pins,
    cpu_set,
    default_pin,
    parse_cpu_set,
    read_pins,
    read_vcpus,
)
from fastlib.migfra.virt.xml_numbers import read_number

from .emulator import emulator_of_root, machine_version
from .xml import drop_children, only_child

_LAST_WITH_ONE_BLOCK: Final = (5, 0)
"""The last version of QEMU whose machine types may have all memory of NUMA cells in one block."""
_DIVIDES_MEMORY: Final = (
    "numatune/memnode",
    "memoryBacking/hugepages",
    "memoryBacking/source",
    "memoryBacking/access",
)
"""Elements with which libvirt gives each NUMA cell a block of its own."""


def bind_vcpus(root: Element, rows: Pins) -> None:
    """Let the vCPUs that have a row use its CPUs only. All others stay as they are.

    A vCPU that the XML does not have is left out.
    """
    maximum = read_vcpus(root).maximum
    tune = only_child(root, "cputune")
    for element in tune.findall("vcpupin"):
        if read_number(element.get("vcpu"), "<vcpupin vcpu>") in rows:
            tune.remove(element)
    for vcpu, cpus in sorted(rows.items()):
        if vcpu < maximum:
            SubElement(tune, "vcpupin", vcpu=str(vcpu), cpuset=cpu_set(cpus))


def bind_memory(name: str, root: Element, memnode_map: Sequence[Sequence[int]]) -> None:
    """Bind the memory: one row for the whole memory, or one for each of the domain's NUMA cells.

    If each cell has a binding of its own, it keeps one, because QEMU may divide the memory of a
    running domain by it. Raises HypervisorError if the map does not fit the domain.
    """
    check_memnode_map(name, root, memnode_map)
    rows = memnode_map
    if len(rows) == 1 and root.find("numatune/memnode") is not None:
        rows = [*rows] * len(root.findall("cpu/numa/cell"))
    drop_children(root, "numatune")
    tune = SubElement(root, "numatune")
    if len(rows) == 1:
        SubElement(tune, "memory", mode="strict", nodeset=cpu_set(rows[0]))
        return
    for index, row in enumerate(rows):
        SubElement(tune, "memnode", cellid=str(index), mode="strict", nodeset=cpu_set(row))


def check_memnode_map(name: str, root: Element, memnode_map: Sequence[Sequence[int]]) -> None:
    """Raise HypervisorError if a map does not fit the NUMA cells of a domain."""
    cells = len(root.findall("cpu/numa/cell"))
    if not memnode_map or not all(memnode_map):
        raise HypervisorError("the memnode-map has no memory node in a row; name at least one")
    if len(memnode_map) not in (1, cells):
        has = f"{cells} NUMA {'cell' if cells == 1 else 'cells'}" if cells else "no NUMA cells"
        raise HypervisorError(
            f"the memnode-map has {len(memnode_map)} rows, but {name} has {has}; give one row for "
            "all of its memory" + (", or one for each cell" if cells > 1 else "")
        )


def check_new_memnodes(name: str, live: Element, memnode_map: Sequence[Sequence[int]]) -> None:
    """Raise HypervisorError if a running domain cannot get a binding for each of its NUMA cells.

    Up to machine types of QEMU 5.0, all of the memory is one block unless something else divides
    it. A QEMU with a block for each cell refuses it.
    """
    machine = emulator_of_root(live).machine
    version = machine_version(machine)
    if len(memnode_map) == 1 or version is None or version > _LAST_WITH_ONE_BLOCK:
        return
    if any(live.find(path) is not None for path in _DIVIDES_MEMORY):
        return
    if any(cell.get("memAccess") for cell in live.iterfind("cpu/numa/cell")):
        return
    raise HypervisorError(
        f"the memnode-map has {len(memnode_map)} rows, but {name} runs with the machine type "
        f"{machine} and all of its memory in one block; give one row for all of its memory, or "
        "start it with a <memnode> for each cell"
    )


def read_memory_nodes(root: Element) -> list[frozenset[int]]:
    """Read the strict bindings of the memory, as a memnode-map makes them."""
    cells = root.findall("numatune/memnode")
    whole = root.find("numatune/memory")
    elements = cells or ([] if whole is None else [whole])
    if any(element.get("mode", "strict") != "strict" for element in elements):
        return []
    elements.sort(key=lambda element: read_number(element.get("cellid", "0"), "<memnode cellid>"))
    return [parse_cpu_set(each.get("nodeset"), f"<{each.tag} nodeset>") for each in elements]


def unbound_vcpus(root: Element, rows: Pins) -> list[str]:
    """Return the vCPUs of the XML that may use other CPUs than those of their rows, in words."""
    pins, default = read_pins(root), default_pin(root)
    maximum = read_vcpus(root).maximum
    found = []
    for vcpu, cpus in sorted(rows.items()):
        got = pins.get(vcpu, default)
        if vcpu < maximum and got != cpus:
            words = "all" if got is None else cpu_set(got)
            found.append(f"vCPU {vcpu} may use the CPUs {words} instead of {cpu_set(cpus)}")
    return found


def unbound_memory(root: Element, memnode_map: Sequence[Sequence[int]]) -> str | None:
    """Return how the binding of the memory differs from a map, in words. None if it does not."""
    wanted = [frozenset(row) for row in memnode_map]
    got = read_memory_nodes(root)
    if got == wanted or (len(wanted) == 1 and set(got) == set(wanted)):
        return None
    return f"its memory is bound to {_nodes(got)} instead of {_nodes(wanted)}"


def _nodes(rows: Sequence[frozenset[int]]) -> str:
    if not rows:
        return "no memory nodes"
    return "the memory nodes " + " and ".join(cpu_set(row) for row in rows)
