"""Compare the memory that a domain needs with the memory nodes and the huge pages of a host. Pure.

A refusal is certain, an approval is not: the kernel can free memory of its caches, and libvirt does
not report on which nodes these are. So all of them count as free on each node.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, Literal
from xml.etree.ElementTree import Element

import msgspec

from .domain_vcpus import cpu_set, parse_cpu_set
from .domain_xml import read_memory, read_size
from .xml_numbers import read_number

Nodes = frozenset[int]
Amount = Literal["free", "total"]
"""Whether to compare with the free memory of the host, or with all that it has."""

_BINDING_MODES: Final = frozenset({"strict", "restrictive"})
"""The modes of `<numatune>` that give a domain no memory of other nodes."""
_MODULES: Final = {"dimm": "target/size", "virtio-mem": "target/requested"}
"""The models of memory modules in the host's memory, and the elements with their sizes."""
_SMALL_PAGES: Final = frozenset({4, 16, 64})
"""Sizes of normal pages in KiB, by architecture. A host's smallest page is the normal one."""


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """The memory of a part of a domain."""

    part: str
    """The part in words, such as `NUMA cell 1`."""
    size: int
    """KiB."""
    nodes: Nodes | None = None
    """The host's nodes that all of it must be on. None if these are not prescribed."""
    is_huge: bool = False
    page: int | None = None
    """Size of its huge pages in KiB. None means the host's default."""


class HostNode(msgspec.Struct, frozen=True, kw_only=True):
    """A memory node of a host."""

    total: int | None = None
    """KiB. None if it is not known."""
    free: int | None = None
    """KiB, without the kernel's caches. None if it is not known."""
    pages: Mapping[int, int] | None = None
    """The number of all huge pages, by their size in KiB. None if it is not known."""
    free_pages: Mapping[int, int] | None = None
    """The number of free huge pages, by their size in KiB. None if it is not known."""


class HostMemory(msgspec.Struct, frozen=True, kw_only=True):
    """The memory nodes of a host."""

    nodes: Mapping[int, HostNode] = {}
    """The nodes by their numbers. Empty if libvirt does not report them."""
    caches: int = 0
    """Memory in KiB that the kernel can free on some of the nodes."""

    @property
    def page_sizes(self) -> list[int] | None:
        """The sizes of huge pages in KiB that the host has. None if they are not known."""
        each = [node.pages for node in self.nodes.values() if node.pages is not None]
        return sorted(frozenset().union(*each)) if each else None


# Needs of a domain


def read_needs(root: Element) -> list[Need]:
    """Read what a domain's XML needs. Raises HypervisorError for an invalid number."""
    pages = _read_pages(root)
    whole, each = _read_bindings(root)

    def need(part: str, size: int, cell: int) -> Need:
        is_huge, page = pages(cell)
        return Need(part=part, size=size, nodes=each.get(cell, whole), is_huge=is_huge, page=page)

    found = []
    for index, cell in enumerate(root.findall("cpu/numa/cell")):
        number = index if cell.get("id") is None else read_number(cell.get("id"), "<cell id>")
        size = read_size(cell.get("memory"), cell.get("unit"), "<cell memory>")
        found.append(need(f"NUMA cell {number}", size, number))
    if not found:
        found.append(need("its memory", read_memory(root) or 0, 0))
    for index, module in enumerate(root.findall("devices/memory")):
        path = _MODULES.get(module.get("model", ""))
        element = None if path is None else module.find(path)
        if element is None:
            continue
        size = read_size(element.text, element.get("unit"), "<memory> <target>")
        node = module.findtext("target/node")
        plain = need(
            f"memory module {index}", size, 0 if node is None else read_number(node, "<node>")
        )
        found.append(_with_source(plain, module))
    return found


def _with_source(need: Need, module: Element) -> Need:
    """Return the need of a memory module that may have its own pages and nodes."""
    page, nodes = module.find("source/pagesize"), module.findtext("source/nodemask")
    if page is not None:
        size = read_size(page.text, page.get("unit"), "<pagesize>")
        need = msgspec.structs.replace(need, is_huge=size not in _SMALL_PAGES, page=size)
    if nodes is not None:
        bound = parse_cpu_set(nodes, "<nodemask>")
        need = msgspec.structs.replace(need, nodes=bound)
    return need


def _read_pages(root: Element) -> Callable[[int], tuple[bool, int | None]]:
    """Return a function from the number of a NUMA cell to its pages: whether huge, and their size.

    As libvirt does, take the first `<page>` that names the cell, else the first that names none.
    """
    backing = root.find("memoryBacking/hugepages")
    named: dict[int, int] = {}
    general: int | None = None
    has_default = backing is not None and backing.find("page") is None
    for page in [] if backing is None else backing.findall("page"):
        size = read_size(page.get("size"), page.get("unit"), "<page size>")
        nodeset = page.get("nodeset")
        if nodeset is None:
            general = size if general is None else general
            continue
        for cell in parse_cpu_set(nodeset, "<page nodeset>"):
            named.setdefault(cell, size)

    def pages(cell: int) -> tuple[bool, int | None]:
        if has_default:
            return True, None
        size = named.get(cell, general)
        if size is None or size in _SMALL_PAGES:
            return False, None
        return True, size

    return pages


def _read_bindings(root: Element) -> tuple[Nodes | None, Mapping[int, Nodes]]:
    """Return the nodes that the whole memory is bound to, and those of each NUMA cell."""
    element = root.find("numatune/memory")
    whole = None if element is None else _bound(element)
    each = {}
    for cell in root.findall("numatune/memnode"):
        nodes = _bound(cell)
        if nodes is not None:
            each[read_number(cell.get("cellid"), "<memnode cellid>")] = nodes
    return whole, each


def _bound(element: Element) -> Nodes | None:
    if element.get("mode", "strict") not in _BINDING_MODES or element.get("nodeset") is None:
        return None
    return parse_cpu_set(element.get("nodeset"), f"<{element.tag} nodeset>")


def normal_memory(needs: Iterable[Need]) -> int:
    """Return the memory in KiB that is not in huge pages."""
    return sum(need.size for need in needs if not need.is_huge)


def bound_nodes(needs: Iterable[Need]) -> Nodes:
    """Return the nodes that parts of a domain are bound to."""
    return frozenset().union(*(need.nodes for need in needs if need.nodes is not None))


def is_particular(needs: Iterable[Need]) -> bool:
    """Return whether a domain needs huge pages, or memory of certain nodes."""
    return any(need.is_huge or need.nodes is not None for need in needs)


# Comparison


def with_released(memory: HostMemory, needs: Iterable[Need]) -> HostMemory:
    """Return a host's memory after a domain has left it, at most.

    A domain may have been on any of the nodes that it is not bound to. So each of them gets all.
    """
    nodes = dict(memory.nodes)
    for need in needs:
        for number in need.nodes or frozenset(nodes):
            if number in nodes:
                nodes[number] = _with_one_released(nodes[number], need)
    return msgspec.structs.replace(memory, nodes=nodes)


def _with_one_released(node: HostNode, need: Need) -> HostNode:
    if not need.is_huge:
        free = node.free
        return node if free is None else msgspec.structs.replace(node, free=free + need.size)
    if node.free_pages is None:
        return node
    # The default size is not known, so it may have been any.
    pages = {
        size: count + (-(-need.size // size) if need.page in (None, size) else 0)
        for size, count in node.free_pages.items()
    }
    return msgspec.structs.replace(node, free_pages=pages)


def problem_of_memory(
    name: str,
    host: str,
    needs: Sequence[Need],
    memory: HostMemory,
    *,
    nodes: Amount = "free",
    pages: Amount = "free",
) -> str | None:
    """Return why a host lacks memory for a domain. None if no reason is known.

    `nodes` and `pages` say what to compare the needs of normal memory and of huge pages with.
    """
    if not memory.nodes:
        return None
    missing = bound_nodes(needs) - memory.nodes.keys()
    if missing:
        has = cpu_set(memory.nodes)
        return (
            f"the memory of {name} is bound to memory node {min(missing)}, but {host} has {has}; "
            "give a memnode-map with nodes that it has, or choose another host"
        )
    return _problem_of_nodes(name, host, needs, memory, nodes) or _problem_of_pages(
        name, host, needs, memory, pages
    )


def _problem_of_nodes(
    name: str, host: str, needs: Sequence[Need], memory: HostMemory, amount: Amount
) -> str | None:
    normal = [need for need in needs if not need.is_huge and need.nodes is not None]
    for nodes, size in _by_nodes(normal, memory):
        known = [_sum(memory.nodes[node].total for node in nodes)]
        free = _sum(memory.nodes[node].free for node in nodes)
        if amount == "free" and free is not None:
            known.append(free + memory.caches)
        available = min((each for each in known if each is not None), default=None)
        if available is not None and size > available:
            of = "of memory free" if amount == "free" else "of memory in total"
            return (
                f"{host} has {available} KiB {of} on {_words(nodes)}, but {name} needs {size} KiB "
                "there; choose other nodes in memnode-map, or another host"
            )
    return None


def _problem_of_pages(
    name: str, host: str, needs: Sequence[Need], memory: HostMemory, amount: Amount
) -> str | None:
    huge = [need for need in needs if need.is_huge]
    if not huge:
        return None
    sizes = memory.page_sizes
    if sizes is None:
        return None
    if not sizes:
        return f"{name} needs huge pages, but {host} has none; choose another host"
    if all(need.page is not None for need in huge):
        return _problem_of_sizes(name, host, huge, memory, amount, sizes)
    # libvirt does not report which size is the default.
    problems = []
    for size in sizes:
        resolved = [
            msgspec.structs.replace(need, page=size) if need.page is None else need for need in huge
        ]
        problem = _problem_of_sizes(name, host, resolved, memory, amount, sizes)
        if problem is None:
            return None
        problems.append(problem)
    return problems[0]


def _problem_of_sizes(
    name: str,
    host: str,
    huge: Sequence[Need],
    memory: HostMemory,
    amount: Amount,
    sizes: Sequence[int],
) -> str | None:
    for page in sorted({need.page for need in huge if need.page is not None}):
        if page not in sizes:
            known = ", ".join(map(str, sizes))
            return (
                f"{name} needs huge pages of {page} KiB, but {host} has sizes of {known} KiB only; "
                "change the page size in the domain's memoryBacking, or choose another host"
            )
        of_size = [need for need in huge if need.page == page]
        for nodes, size in _by_nodes(of_size, memory):
            has = _sum(_pages(memory.nodes[node], page, amount) for node in nodes)
            wanted = -(-size // page)
            if has is not None and wanted > has:
                which = "free" if amount == "free" else "in total"
                return (
                    f"{host} has {has} huge pages of {page} KiB {which} on {_words(nodes)}, but "
                    f"{name} needs {wanted} there; reserve more on {host} in "
                    f"/sys/devices/system/node/node{min(nodes)}/hugepages/hugepages-{page}kB/"
                    "nr_hugepages, or choose another host"
                )
    return None


def _pages(node: HostNode, page: int, amount: Amount) -> int | None:
    if amount == "total":
        return None if node.pages is None else node.pages.get(page, 0)
    return None if node.free_pages is None else node.free_pages.get(page, 0)


def _by_nodes(needs: Sequence[Need], memory: HostMemory) -> Iterator[tuple[Nodes, int]]:
    """Yield sets of nodes, and the memory that must be within each set, in KiB."""
    everywhere = frozenset(memory.nodes)
    sets = dict.fromkeys(need.nodes or everywhere for need in needs)
    if needs:
        sets[everywhere] = None
    for nodes in sorted(sets, key=lambda each: (len(each), sorted(each))):
        yield nodes, sum(need.size for need in needs if (need.nodes or everywhere) <= nodes)


def _sum(numbers: Iterable[int | None]) -> int | None:
    """Return the sum. None if one of the numbers is not known."""
    total = 0
    for number in numbers:
        if number is None:
            return None
        total += number
    return total


def _words(nodes: Nodes) -> str:
    return f"its memory node{'' if len(nodes) == 1 else 's'} {cpu_set(nodes)}"
