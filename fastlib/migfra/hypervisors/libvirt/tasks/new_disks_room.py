"""Check that the images of all starts have room together, also when they are full.

An image that a start creates is nearly empty, so the free room does not show what it may take. The
definitions of the domains name these images, and the runtime those of the starts in progress. The
images of domains that are arriving are not full either.
"""

import asyncio
import os
import posixpath
from collections.abc import Iterable, Mapping, Sequence

from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.libvirt.connection.connection import Connection
from fastlib.migfra.hypervisors.libvirt.domain.promised_images import read_promised_images
from fastlib.migfra.hypervisors.libvirt.domain.volumes import Room, read_room
from fastlib.migfra.hypervisors.libvirt.errors import LostError
from fastlib.migfra.hypervisors.libvirt.runtime import LibvirtRuntime
from fastlib.migfra.virt.new_disks import MIB

from .new_disks_check import PlannedImage


async def check_room_of_all(
    runtime: LibvirtRuntime, driver: str | None, name: str, planned: Sequence[PlannedImage]
) -> None:
    """Raise HypervisorError if new images and those of other starts may be larger than the room."""
    local = await runtime.local(driver)
    found = await local.call(read_promised_images)
    others = dict.fromkeys([*found.recorded, *found.arriving, *runtime.new_images])
    new_folders = _by_folder([each.image.path for each in planned])
    folders = _by_folder(others)
    devices = await asyncio.to_thread(_devices, {*new_folders, *folders})
    for device in {devices[folder] for folder in new_folders if folder in devices}:
        here = [each for each in planned if devices.get(_folder(each.image.path)) == device]
        free = promised = 0
        for folder in dict.fromkeys([*new_folders, *folders]):
            if devices.get(folder) == device:
                paths = folders.get(folder, [])
                try:
                    room = await _read(runtime, local, folder, paths)
                except LostError:
                    raise
                except HypervisorError as error:
                    if folder in new_folders:
                        raise
                    runtime.node.log.warning("the images in %s cannot be read: %s", folder, error)
                    continue
                free = room.free
                promised += _promised(paths, room.rest, runtime.new_images)
        size = sum(each.image.capacity for each in here)
        if size > free - promised:
            targets = ", ".join(each.disk.target for each in here)
            raise HypervisorError(
                f"{runtime.host} has {free // MIB} MiB free in {_folder(here[0].image.path)}; the "
                f"disks of other starts and of arriving domains may take {-(-promised // MIB)} MiB "
                f"of it, and disk {targets} of {name} may need {-(-size // MIB)} MiB; make room "
                "there, choose another path, or set overcommit-disks: true in the configuration"
            )


async def _read(
    runtime: LibvirtRuntime, local: Connection, folder: str, paths: Sequence[str]
) -> Room:
    async with runtime.storage:
        return await local.call(read_room, folder, paths)


def _promised(
    paths: Iterable[str], present: Mapping[str, int], in_progress: Mapping[str, int]
) -> int:
    """Return the bytes that images may still take. One that is missing and not planned takes none.

    The image of a start in progress may not be there yet.
    """
    return sum(present.get(path, in_progress.get(path, 0)) for path in paths)


def _by_folder(paths: Iterable[str]) -> dict[str, list[str]]:
    folders: dict[str, list[str]] = {}
    for path in paths:
        folders.setdefault(_folder(path), []).append(path)
    return folders


def _folder(path: str) -> str:
    return posixpath.dirname(path)


def _devices(folders: Iterable[str]) -> dict[str, int]:
    """Return the file system of each folder, by the number of its device. Blocks.

    A folder that is gone has no images.
    """
    found = {}
    for folder in folders:
        try:
            found[folder] = os.stat(folder).st_dev
        except OSError:
            continue
    return found
