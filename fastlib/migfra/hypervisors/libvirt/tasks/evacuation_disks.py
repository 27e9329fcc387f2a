"""Read what the copies of disks of an evacuation may take, and the room of the destinations."""

import posixpath
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.libvirt.connection.api import api
from fastlib.migfra.hypervisors.libvirt.connection.connection import Connection
from fastlib.migfra.hypervisors.libvirt.domain.disks_xml import disks_of
from fastlib.migfra.hypervisors.libvirt.domain.volumes import read_room
from fastlib.migfra.plugin_api.context import Context


def read_disk_sizes(
    connection: Any, names: Sequence[str], targets: Collection[str] | None
) -> dict[str, dict[str, int]]:
    """Return the bytes of each domain's image files, by their folder. Blocks.

    `targets` are the disks to copy, None for all. A domain that cannot be read is left out.
    """
    libvirt = api()
    found: dict[str, dict[str, int]] = {}
    for name in names:
        sizes: dict[str, int] = {}
        try:
            domain = connection.lookupByName(name)
            for disk in disks_of(domain.XMLDesc(0)):
                if disk.kind != "file" or disk.is_shareable:
                    continue
                if targets is None or disk.target in targets:
                    folder = posixpath.dirname(disk.path)
                    sizes[folder] = sizes.get(folder, 0) + int(domain.blockInfo(disk.target)[0])
        except libvirt.libvirtError:
            continue  # it has ended, or a disk cannot be read; then its migration says so
        found[name] = sizes
    return found


async def read_disk_rooms(
    destination: Connection, sizes: Iterable[Mapping[str, int]], context: Context
) -> dict[str, int]:
    """Return the free bytes of the folders at a destination. One that it cannot use has none."""
    rooms = {}
    for folder in sorted({folder for each in sizes for folder in each}):
        try:
            rooms[folder] = (await destination.call(read_room, folder)).free
        except HypervisorError as error:
            context.log.info("%s has no room in %s: %s", destination.host, folder, error)
    return rooms
