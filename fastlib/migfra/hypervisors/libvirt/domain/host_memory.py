"""Read the memory nodes of a host, and their huge pages. The functions block."""

from typing import Any, Final
from xml.etree.ElementTree import Element

from fastlib.migfra.hypervisors.libvirt.connection.api import api
from fastlib.migfra.virt.memory_needs import HostMemory, HostNode
from fastlib.migfra.virt.xml_numbers import read_number

from .xml import parse

_NOT_KNOWN: Final = ("VIR_ERR_NO_SUPPORT", "VIR_ERR_OPERATION_FAILED", "VIR_ERR_INVALID_ARG")
"""The errors of a driver or a kernel that does not count something."""


def read_host_memory(connection: Any) -> HostMemory:
    """Read the memory nodes of a host. They are empty if libvirt does not report them."""
    cells = parse(connection.getCapabilities()).findall("host/topology/cells/cell")
    nodes = {}
    for cell in cells:
        number = read_number(cell.get("id"), "<cell id>")
        nodes[number] = _read_node(connection, number, cell)
    if not nodes:
        return HostMemory()
    whole = _statistics(connection, api().VIR_NODE_MEMORY_STATS_ALL_CELLS)
    return HostMemory(nodes=nodes, caches=whole.get("buffers", 0) + whole.get("cached", 0))


def _read_node(connection: Any, number: int, cell: Element) -> HostNode:
    pages = {
        read_number(element.get("size"), "<pages size>"): read_number(element.text, "<pages>")
        for element in cell.findall("pages")
    }
    knows_pages = bool(pages)
    if knows_pages:
        del pages[min(pages)]  # the normal pages
    total = read_number(cell.findtext("memory", "0"), "<cell> <memory>")
    return HostNode(
        total=total,
        free=_statistics(connection, number).get("free"),
        pages=pages if knows_pages else None,
        free_pages=_free_pages(connection, number, list(pages)) if knows_pages else None,
    )


def _statistics(connection: Any, cell: int) -> dict[str, int]:
    """Return the statistics of a node, or of the host, in KiB. They are empty if not known."""
    try:
        return dict(connection.getMemoryStats(cell))
    except api().libvirtError as error:
        if not _is_unknown(error):
            raise
        return {}


def _free_pages(connection: Any, number: int, sizes: list[int]) -> dict[int, int] | None:
    """Return the number of free huge pages of a node, by their sizes. None if not known."""
    if not sizes:
        return {}
    try:
        found = connection.getFreePages(sizes, number, 1)
    except api().libvirtError as error:
        if not _is_unknown(error):
            raise
        return None
    counts = found.get(number)
    return None if counts is None else {int(size): int(count) for size, count in counts.items()}


def _is_unknown(error: Any) -> bool:
    return error.get_error_code() in [getattr(api(), name) for name in _NOT_KNOWN]
