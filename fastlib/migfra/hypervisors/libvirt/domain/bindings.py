"""Compare the CPUs and memory nodes of a running domain with the maps of an order. Blocks."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from fastlib.migfra.hypervisors.libvirt.connection.api import api
from fastlib.migfra.virt.domain_vcpus import Pins

from .control import active_domain
from .tuning_xml import unbound_memory, unbound_vcpus
from .xml import parse


class BindingDifferences(msgspec.Struct, frozen=True, kw_only=True):
    """The differences between a domain and the maps of its order, in words."""

    vcpus: tuple[str, ...] = ()
    memory: tuple[str, ...] = ()


def read_differences(
    connection: Any,
    name: str,
    rows_of: Callable[[str], Pins],
    memnode_map: Sequence[Sequence[int]] | None,
) -> BindingDifferences:
    """Compare a running domain and its definition with the maps of an order.

    `rows_of` returns the CPUs of each vCPU that has a row, from the XML of the running domain.
    """
    libvirt = api()
    domain = active_domain(connection, name)
    live = str(domain.XMLDesc(0))
    texts: list[tuple[str, Callable[[str], str]]] = [(live, lambda words: words)]
    if domain.isPersistent():
        definition = str(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
        texts.append((definition, lambda words: f"in its definition {words}"))
    rows = rows_of(live)
    vcpus, memory = list[str](), list[str]()
    for xml, phrase in texts:
        root = parse(xml)
        vcpus += map(phrase, unbound_vcpus(root, rows))
        if memnode_map is not None and (words := unbound_memory(root, memnode_map)):
            memory.append(phrase(words))
    return BindingDifferences(vcpus=tuple(vcpus), memory=tuple(memory))
