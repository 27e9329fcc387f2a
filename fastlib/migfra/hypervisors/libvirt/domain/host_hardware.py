"""Read the CPU model, the NUMA nodes and the huge pages of a host. The functions block."""

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar
from xml.etree.ElementTree import Element

import msgspec

from fastlib.message.hardware import HugePagesReport, NumaNodeReport
from fastlib.migfra.hypervisors.libvirt.connection.api import api

from .xml import parse

T = TypeVar("T")
_KIB: Final = 1024


class Hardware(msgspec.Struct, frozen=True, kw_only=True):
    """The hardware of a host. An absent value is not known."""

    cpu_model: str | None = None
    cpu_vendor: str | None = None
    numa_nodes: tuple[NumaNodeReport, ...] | None = None
    problem: str | None = None
    """The first error of libvirt, if a value is not known for that reason."""


def read_hardware(connection: Any) -> Hardware:
    """Read the hardware of a host. A driver that does not report something leaves it out."""
    reader = _Reader()
    capabilities = reader.read(connection.getCapabilities)
    if capabilities is None:
        return Hardware(problem=reader.problem)
    hardware = described_hardware(capabilities)
    nodes = hardware.numa_nodes
    if nodes is not None:
        nodes = tuple(_with_free(connection, node, reader) for node in nodes)
    return msgspec.structs.replace(hardware, numa_nodes=nodes, problem=reader.problem)


class _Reader:
    """Calls libvirt, and keeps the first error. A driver need not have each call."""

    def __init__(self) -> None:
        self.problem: str | None = None

    def read(self, function: Callable[..., T], *arguments: Any) -> T | None:
        libvirt = api()
        try:
            return function(*arguments)
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
                self.problem = self.problem or str(error)
            return None


def described_hardware(capabilities: str) -> Hardware:
    """Return the hardware that the XML of a host's capabilities describes."""
    root = parse(capabilities)
    cells = root.find("host/topology/cells")
    return Hardware(
        cpu_model=root.findtext("host/cpu/model") or None,
        cpu_vendor=root.findtext("host/cpu/vendor") or None,
        numa_nodes=None
        if cells is None
        else tuple(sorted(map(_node, cells.iterfind("cell")), key=lambda node: node.id)),
    )


def _node(cell: Element) -> NumaNodeReport:
    memory = cell.find("memory")
    pages = sorted((int(each.get("size", "")), _total(each)) for each in cell.iterfind("pages"))
    return NumaNodeReport(
        id=int(cell.get("id", "")),
        cpus=sorted(int(cpu.get("id", "")) for cpu in cell.iterfind("cpus/cpu")),
        memory=None if memory is None or memory.text is None else int(memory.text),
        # libvirt lists normal pages, too. No huge page is smaller than them.
        huge_pages=[HugePagesReport(size=size, total=total) for size, total in pages[1:]]
        if pages
        else None,
    )


def _total(pages: Element) -> int | None:
    return None if pages.text is None else int(pages.text)


def _with_free(connection: Any, node: NumaNodeReport, reader: _Reader) -> NumaNodeReport:
    return msgspec.structs.replace(
        node,
        free_memory=_free_memory(connection, node.id, reader),
        huge_pages=_free_pages(connection, node.id, node.huge_pages, reader),
    )


def _free_memory(connection: Any, node: int, reader: _Reader) -> int | None:
    """Return the free memory of a node in KiB."""
    stats = reader.read(connection.getMemoryStats, node)
    if stats is not None:
        return int(stats["free"])
    free = reader.read(connection.getCellsFreeMemory, node, 1)
    return int(free[0]) // _KIB if free else None


def _free_pages(
    connection: Any, node: int, huge_pages: Sequence[HugePagesReport] | None, reader: _Reader
) -> Sequence[HugePagesReport] | None:
    if not huge_pages:
        return huge_pages
    sizes = [pages.size for pages in huge_pages]
    # libvirt's driver `test` returns an empty mapping.
    free = (reader.read(connection.getFreePages, sizes, node, 1) or {}).get(node, {})
    return [msgspec.structs.replace(pages, free=free.get(pages.size)) for pages in huge_pages]
