"""Compare a domain at its destination with the maps of its order, and pin its vCPUs if needed."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any

import msgspec

from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.libvirt.connection.api import api
from fastlib.migfra.hypervisors.libvirt.domain import pinning
from fastlib.migfra.hypervisors.libvirt.domain.control import active_domain
from fastlib.migfra.hypervisors.libvirt.domain.tuning_xml import unbound_memory, unbound_vcpus
from fastlib.migfra.hypervisors.libvirt.domain.xml import parse
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.virt.migration_spec import MigrationSpec

from .destination_xml import rows_of
from .preparation import attempt
from .record import MigrationState


class _Differences(msgspec.Struct, frozen=True, kw_only=True):
    """The differences between a domain at its destination and the maps of its order, in words."""

    vcpus: tuple[str, ...] = ()
    memory: tuple[str, ...] = ()


async def finish_maps(
    spec: MigrationSpec,
    state: MigrationState,
    call_destination: Callable[..., Awaitable[Any]],
    measure: Callable[[str], AbstractContextManager[object]],
    context: Context,
    problems: list[str],
) -> None:
    """Compare the domain with the maps of the order. Pin its vCPUs if their CPUs differ.

    Adds the problems.
    """
    is_pinned = spec.vcpu_map is None
    if state.arrives_by_xml:
        found = _Differences()
        try:
            found = await call_destination(_read_differences, spec)
        except HypervisorError as error:
            problems.append(f"could not compare its CPUs and memory nodes: {error}")
        problems += found.memory
        is_pinned = not found.vcpus
        if not is_pinned:
            context.log.warning("%s is pinned again: %s", spec.name, "; ".join(found.vcpus))
    if not is_pinned:
        with measure("repin"):
            await attempt(problems, "repin", call_destination(pinning.pin, spec.vcpu_map))


def _read_differences(connection: Any, name: str, spec: MigrationSpec) -> _Differences:
    """Compare a running domain and its definition on the destination with the maps. Blocks."""
    libvirt = api()
    domain = active_domain(connection, name)
    live = str(domain.XMLDesc(0))
    texts: list[tuple[str, Callable[[str], str]]] = [(live, lambda words: words)]
    if domain.isPersistent():
        definition = str(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
        texts.append((definition, lambda words: f"in its definition {words}"))
    rows = rows_of(spec, live)
    vcpus, memory = list[str](), list[str]()
    for xml, phrase in texts:
        root = parse(xml)
        vcpus += map(phrase, unbound_vcpus(root, rows))
        if spec.memnode_map is not None and (words := unbound_memory(root, spec.memnode_map)):
            memory.append(phrase(words))
    return _Differences(vcpus=tuple(vcpus), memory=tuple(memory))
