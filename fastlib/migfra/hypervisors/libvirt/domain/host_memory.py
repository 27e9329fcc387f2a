"""Read the memory nodes of a host, and the needs of its domains, for checks. Blocks."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from fastlib.message.hardware import NumaNodeReport
from fastlib.migfra.hypervisors.libvirt.connection.api import api
from fastlib.migfra.virt.memory_needs import HostMemory, HostNode, Need, read_needs

from .host_hardware import read_hardware
from .state import read_xml
from .xml import parse


def read_host_memory(connection: Any) -> HostMemory:
    """Read the memory nodes of a host. They are empty if libvirt does not report them."""
    nodes = {node.id: _node(node) for node in read_hardware(connection).numa_nodes or ()}
    caches = _caches(connection)
    if caches is None:
        # Without the caches, the free memory that libvirt reports is too little.
        nodes = {number: msgspec.structs.replace(node, free=None) for number, node in nodes.items()}
    return HostMemory(nodes=nodes, caches=caches or 0)


def read_needs_of(connection: Any, names: Sequence[str]) -> dict[str, list[Need]]:
    """Read the parts of the memory of active domains. One that ends meanwhile is left out."""
    libvirt = api()
    found = {}
    for name in names:
        try:
            found[name] = read_needs(parse(read_xml(connection, name, active=True)))
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                raise
    return found


def _node(node: NumaNodeReport) -> HostNode:
    pages: Mapping[int, int] | None = None
    free_pages: Mapping[int, int] | None = None
    if node.huge_pages is not None:
        pages = {each.size: each.total for each in node.huge_pages if each.total is not None}
        free_pages = {each.size: each.free for each in node.huge_pages if each.free is not None}
        is_known = len(free_pages) == len(node.huge_pages)
        free_pages = free_pages if is_known else None
    return HostNode(total=node.memory, free=node.free_memory, pages=pages, free_pages=free_pages)


def _caches(connection: Any) -> int | None:
    """Return the memory of the kernel's caches in KiB. None if it is not known."""
    libvirt = api()
    try:
        found = connection.getMemoryStats(libvirt.VIR_NODE_MEMORY_STATS_ALL_CELLS)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
            raise
        return None
    return int(found.get("buffers", 0) + found.get("cached", 0))
