"""Let the copies of disks begin once the destination has room for all copies together.

A copy in progress is not full yet, so the free room does not show what it may still take. libvirt
of the destination has the domains that are arriving from any host, with their images. The runtime
has the copies that this daemon is about to begin, and the notices of slots those of other daemons.

Two daemons may compare the room at the same time. So each first creates its empty images and shows
them in its notice, and then looks again. The one that looks last sees the images of both.
"""

import asyncio
import posixpath
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.libvirt.connection.connection import Connection
from fastlib.migfra.hypervisors.libvirt.domain.promised_images import read_promised_images
from fastlib.migfra.hypervisors.libvirt.domain.volumes import Room, read_room
from fastlib.migfra.hypervisors.libvirt.errors import LostError
from fastlib.migfra.hypervisors.libvirt.runtime import LibvirtRuntime
from fastlib.migfra.hypervisors.libvirt.slots.notices import images_of_others, read_notices
from fastlib.migfra.plugin_api.cancel_scope import CancelScope
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.virt.migration_spec import MigrationSpec

from .disks_check import MIB, PlannedCopy, needed_bytes

_ANNOUNCED_SECONDS: Final = 20.0
"""Seconds in which another daemon begins to copy to images that it has created."""
_POLL_SECONDS: Final = 1.0
"""Seconds between two comparisons of the room while a migration waits for it."""
_DRIFT_BYTES: Final = 256 << 20
"""Bytes that other programs may write or remove between two readings of one file system."""
_DRIFT_PART: Final = 64
"""The same, at most as this part of the file system."""


class Shortage(msgspec.Struct, frozen=True, kw_only=True):
    """A file system without room for all images."""

    folder: str
    free: int
    """Bytes."""
    promised: int
    """Bytes that other images may still take."""
    needed: int
    """Bytes."""
    passes: bool
    """Whether there may be room once the copies in progress have ended."""


@asynccontextmanager
async def reserved_room(
    runtime: LibvirtRuntime,
    spec: MigrationSpec,
    copies: Sequence[PlannedCopy],
    scope: CancelScope,
    context: Context,
) -> AsyncIterator[None]:
    """Reserve the room for copies of disks. Waits while other copies in progress may take it.

    Raises HypervisorError if there is none, and TaskCancelledError.
    """
    if not copies:
        yield
        return
    images = {copy.image.path: needed_bytes(copy.image) for copy in copies}
    is_waiting = False
    end = asyncio.get_running_loop().time() + _ANNOUNCED_SECONDS
    while True:
        async with runtime.copies.locks.hold(spec.destination, scope):
            shortage = None
            if not runtime.options.overcommit_disks:
                may_wait = asyncio.get_running_loop().time() < end
                shortage = await _read_shortage(runtime, spec, images, waits_for_begin=may_wait)
            if shortage is None:
                runtime.copies.add(spec.destination, images)
                break
        words = _words(spec, shortage, copies)
        if not shortage.passes:
            raise HypervisorError(
                f"{words}; make room there, or set overcommit-disks: true in the configuration"
            )
        if not is_waiting:
            context.log.info("waits for the end of other copies: %s", words)
            context.progress("wait for room", vm_name=spec.name)
            is_waiting = True
        await scope.sleep(_POLL_SECONDS)
    with runtime.copies.released(spec.destination, images):
        yield


async def confirm_room(
    runtime: LibvirtRuntime, spec: MigrationSpec, copies: Sequence[PlannedCopy]
) -> None:
    """Show the images that were created, and check that no other daemon has taken their room.

    Raises HypervisorError if one did at the same time.
    """
    if not copies or runtime.options.overcommit_disks:
        return
    images = {copy.image.path: needed_bytes(copy.image) for copy in copies}
    await runtime.notices.announce_images(spec.destination, spec.name, list(images))
    there = await runtime.connections.get(spec.destination, spec.driver, spec.transport)
    if not images_of_others(await there.call(read_notices), runtime.host):
        return
    shortage = await _read_shortage(runtime, spec, images)
    if shortage is not None:
        raise HypervisorError(
            f"{_words(spec, shortage, copies)}; another host began to copy there at the same time; "
            "order it again"
        )


async def _read_shortage(
    runtime: LibvirtRuntime,
    spec: MigrationSpec,
    images: Mapping[str, int],
    *,
    waits_for_begin: bool = False,
) -> Shortage | None:
    """Compare the room. `waits_for_begin`: copies of other daemons that begin may end soon."""
    there = await runtime.connections.get(spec.destination, spec.driver, spec.transport)
    found = await there.call(read_promised_images)
    claims = runtime.copies.at(spec.destination)
    copied = dict.fromkeys([*found.arriving, *claims])
    announced = images_of_others(await there.call(read_notices), runtime.host)
    own_folders = set(map(posixpath.dirname, images))
    # Others may be in many folders, each of which needs some calls.
    recorded = [path for path in found.recorded if posixpath.dirname(path) in own_folders]
    if waits_for_begin:
        copied.update(dict.fromkeys(announced))
    else:
        # A daemon that was killed may have left them.
        recorded += announced
    if not copied and not recorded and len(own_folders) == 1:
        return None  # the plan of the copies was compared with the room
    rooms = await _read_rooms(runtime, there, own_folders, {*images, *copied, *recorded})
    rest = {path: size for room in rooms.values() for path, size in room.rest.items()}
    return find_shortage(
        images,
        {path: rest.get(path, claims.get(path, 0)) for path in copied if path not in images},
        {path: rest.get(path, 0) for path in recorded if path not in images and path not in copied},
        rooms,
    )


async def _read_rooms(
    runtime: LibvirtRuntime, there: Connection, own_folders: set[str], paths: Iterable[str]
) -> dict[str, Room]:
    folders: dict[str, list[str]] = {}
    for path in paths:
        folders.setdefault(posixpath.dirname(path), []).append(path)
    rooms = {}
    for folder, its_paths in folders.items():
        try:
            rooms[folder] = await there.call(read_room, folder, its_paths)
        except LostError:
            raise
        except HypervisorError as error:
            if folder in own_folders:
                raise
            runtime.node.log.warning("the images in %s cannot be read: %s", folder, error)
    return rooms


def find_shortage(
    needed: Mapping[str, int],
    copied: Mapping[str, int],
    recorded: Mapping[str, int],
    rooms: Mapping[str, Room],
) -> Shortage | None:
    """Return the first file system without room for all images. None if there is none.

    `needed`, `copied` and `recorded` have the bytes that images may still take, by their paths: of
    this migration, of other copies, and of images that starts have created. `rooms` has the rooms
    of their folders. Pure.
    """
    for folder in dict.fromkeys(map(posixpath.dirname, needed)):
        together = [each for each in rooms if is_same_file_system(rooms[each], rooms[folder])]
        size, of_copies, of_starts = (
            sum(rest for path, rest in images.items() if posixpath.dirname(path) in together)
            for images in (needed, copied, recorded)
        )
        free = min(rooms[each].free for each in together)
        if size + of_copies + of_starts > free:
            return Shortage(
                folder=folder,
                free=free,
                promised=of_copies + of_starts,
                needed=size,
                passes=of_copies > 0 and size + of_starts <= free,
            )
    return None


def is_same_file_system(one: Room, other: Room) -> bool:
    """Return whether two folders are probably of one file system. libvirt does not report that."""
    drift = min(_DRIFT_BYTES, one.total // _DRIFT_PART)
    return one.total == other.total and abs(one.free - other.free) <= drift


def _words(spec: MigrationSpec, shortage: Shortage, copies: Sequence[PlannedCopy]) -> str:
    targets = ", ".join(copy.target for copy in copies)
    return (
        f"{spec.destination} has {shortage.free // MIB} MiB free in {shortage.folder}; other "
        f"copies and disks of starts may take {-(-shortage.promised // MIB)} MiB of it, and disk "
        f"{targets} of {spec.name} may need {-(-shortage.needed // MIB)} MiB"
    )
