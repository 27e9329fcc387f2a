"""Read libvirt's records of a domain's snapshots, remove them, and make them again. All block.

libvirt migrates no domain of which it has such records. An internal snapshot itself is in the image
of a disk, and a record is only its description. So the records can be removed on the source and
made again at the destination, if both hosts share the disks.
"""

from collections.abc import Sequence
from typing import Any
from xml.etree.ElementTree import Element

import msgspec

from fastlib.migfra.hypervisors.libvirt.connection.api import api

from .xml import parse


class SnapshotRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot as libvirt describes it."""

    name: str
    xml: str
    is_current: bool = False
    """Whether the domain continues from it."""
    is_internal: bool = True
    """Whether all of it is in the images of the disks."""


def read_records(domain: Any) -> tuple[SnapshotRecord, ...]:
    """Read the records of a `virDomain`, each after that of its parent."""
    libvirt = api()
    found = domain.listAllSnapshots(libvirt.VIR_DOMAIN_SNAPSHOT_LIST_TOPOLOGICAL)
    return tuple(_record(snapshot) for snapshot in found)


def _record(snapshot: Any) -> SnapshotRecord:
    xml = snapshot.getXMLDesc(api().VIR_DOMAIN_SNAPSHOT_XML_SECURE)
    return SnapshotRecord(
        name=snapshot.getName(),
        xml=xml,
        is_current=bool(snapshot.isCurrent()),
        is_internal=is_internal(parse(xml)),
    )


def is_internal(root: Element) -> bool:
    """Return whether no part of a snapshot is in a file of its own."""
    parts = [*root.findall("memory"), *root.findall("disks/disk")]
    return not any(part.get("snapshot") == "external" for part in parts)


def forget_records(connection: Any, name: str) -> None:
    """Remove all records of a domain. The snapshots stay in the images."""
    libvirt = api()
    domain = connection.lookupByName(name)
    for snapshot in domain.listAllSnapshots(0):
        snapshot.delete(libvirt.VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY)


def restore_records(connection: Any, name: str, records: Sequence[SnapshotRecord]) -> None:
    """Make the records that a domain lacks."""
    libvirt = api()
    domain = connection.lookupByName(name)
    present = {snapshot.getName() for snapshot in domain.listAllSnapshots(0)}
    for record in records:
        if record.name in present and not record.is_current:
            continue
        flags = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE
        if record.is_current:
            flags |= libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_CURRENT
        domain.snapshotCreateXML(record.xml, flags)
