"""Make the XML of a domain for its destination.

QEMU domains arrive with the CPUs and memory nodes of the order's maps. So they need no pause. Their
definition gets the same ones. Other hypervisors of libvirt have no such call. Their domains arrive
paused, get their CPUs, and are resumed.
"""

from typing import Any

import msgspec

from fastlib.migfra.hypervisors.libvirt.connection.api import api
from fastlib.migfra.hypervisors.libvirt.domain.control import active_domain
from fastlib.migfra.hypervisors.libvirt.domain.state import read_xml
from fastlib.migfra.hypervisors.libvirt.domain.tuning_xml import (
    bind_memory,
    bind_vcpus,
    check_new_memnodes,
)
from fastlib.migfra.hypervisors.libvirt.domain.xml import parse, text
from fastlib.migfra.virt.domain_vcpus import Pins, read_vcpus, rows_for_online
from fastlib.migfra.virt.migration_spec import MigrationSpec


class DestinationXml(msgspec.Struct, frozen=True, kw_only=True):
    """The XML of a domain for its destination. It has passwords, so it must not be logged."""

    live: str
    definition: str | None = None
    """None for a transient domain."""


def arrives_by_xml(spec: MigrationSpec, kind: str) -> bool:
    """Return whether the destination's XML has the maps. `kind` is the type of the hypervisor."""
    return spec.has_map and spec.kind != "offline" and kind == "QEMU"


def read_arriving(connection: Any, name: str, spec: MigrationSpec, kind: str) -> str:
    """Read the XML that a running domain will have at its destination, for checks. Blocks.

    Raises HypervisorError if a map does not fit the domain.
    """
    live = read_xml(connection, name, active=True)
    return live_with_maps(spec, live) if arrives_by_xml(spec, kind) else live


def read_destination_xml(connection: Any, name: str, spec: MigrationSpec) -> DestinationXml:
    """Read the XML of a running domain on its source, with the maps of the order. Blocks.

    Raises HypervisorError if a map does not fit the domain.
    """
    libvirt = api()
    flags = libvirt.VIR_DOMAIN_XML_MIGRATABLE | libvirt.VIR_DOMAIN_XML_SECURE
    domain = active_domain(connection, name)
    live = str(domain.XMLDesc(flags))
    definition = None
    if domain.isPersistent():
        definition = str(domain.XMLDesc(flags | libvirt.VIR_DOMAIN_XML_INACTIVE))
    return with_maps(spec, live, definition)


def with_maps(spec: MigrationSpec, live: str, definition: str | None) -> DestinationXml:
    """Return the XML of a running domain and its definition with the maps of an order.

    Row i of the `vcpu-map` is for the i-th vCPU that is online. The definition may have fewer
    vCPUs. Raises HypervisorError if a map does not fit the domain.
    """
    rows = rows_of(spec, live)
    if spec.memnode_map is not None:
        check_new_memnodes(spec.name, parse(live), spec.memnode_map)
    return DestinationXml(
        live=_bound(spec, live, rows),
        definition=None if definition is None else _bound(spec, definition, rows),
    )


def live_with_maps(spec: MigrationSpec, live: str) -> str:
    """Return the XML of a running or saved domain with the maps of an order."""
    return with_maps(spec, live, None).live


def rows_of(spec: MigrationSpec, live: str) -> Pins:
    """Return the CPUs of each vCPU that has a row. `live` is the XML of the running domain."""
    if spec.vcpu_map is None:
        return {}
    return rows_for_online(spec.name, read_vcpus(parse(live)), spec.vcpu_map)


def _bound(spec: MigrationSpec, xml: str, rows: Pins) -> str:
    root = parse(xml)
    if rows:
        bind_vcpus(root, rows)
    if spec.memnode_map is not None:
        bind_memory(spec.name, root, spec.memnode_map)
    return text(root)
