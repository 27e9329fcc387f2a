"""Check before a start that its new disks can be created. Queries this host and changes nothing."""

import asyncio
import os
import posixpath
from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec

from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.libvirt.connection.connection import Connection
from fastlib.migfra.hypervisors.libvirt.domain.image_uses import uses_of
from fastlib.migfra.hypervisors.libvirt.domain.source_checks import check_files
from fastlib.migfra.hypervisors.libvirt.domain.volumes import Image, read_image, read_room
from fastlib.migfra.hypervisors.libvirt.domain.xml import parse
from fastlib.migfra.hypervisors.libvirt.errors import LostError
from fastlib.migfra.hypervisors.libvirt.runtime import LibvirtRuntime
from fastlib.migfra.virt.domain_xml_policy import NamedSource
from fastlib.migfra.virt.new_disks import MIB, DiskPlan, allowed_folders

_MODE: Final = 0o600
_DRIVERS: Final = ("qemu",)
"""The drivers of libvirt whose domains have disks in image files."""
_FORMATS: Final = ("raw", "qcow2")
_SECTOR_BYTES: Final = 512


class PlannedImage(msgspec.Struct, frozen=True, kw_only=True):
    """An image to create for a disk."""

    disk: DiskPlan
    image: Image


async def plan_images(
    runtime: LibvirtRuntime, driver: str | None, name: str, disks: Sequence[DiskPlan]
) -> tuple[PlannedImage, ...]:
    """Plan the images of a start. Raises HypervisorError with all problems."""
    if not disks:
        return ()
    if (driver or runtime.options.driver) not in _DRIVERS:
        raise HypervisorError(
            f"{name} has the driver {driver or runtime.options.driver}, and disks are created for "
            "the driver qemu only; leave out disks"
        )
    check = _NewDisksCheck(runtime, await runtime.local(driver), name)
    return await check.run(disks)


class _NewDisksCheck:
    def __init__(self, runtime: LibvirtRuntime, local: Connection, name: str) -> None:
        self._runtime = runtime
        self._local = local
        self._name = name
        self._problems: list[str] = []

    async def run(self, disks: Sequence[DiskPlan]) -> tuple[PlannedImage, ...]:
        owner, group = await self._local.call(read_owner)
        planned = []
        for disk in disks:
            image = await self._plan(disk, owner, group)
            if image is not None:
                planned.append(PlannedImage(disk=disk, image=image))
        await self._check_bases(disks)
        await self._check_places(planned)
        if self._problems:
            raise HypervisorError("; ".join(self._problems))
        return tuple(planned)

    async def _plan(self, disk: DiskPlan, owner: int, group: int) -> Image | None:
        base, size = None, disk.size
        if disk.base is not None:
            base = await self._read_base(disk)
            if base is None:
                return None
            if size is not None and size < base.capacity:
                self._problems.append(
                    f"disk {disk.target} of {self._name} has a size of {size // MIB} MiB, and its "
                    f"base {disk.base} has {base.capacity} bytes; make it at least "
                    f"{-(-base.capacity // MIB)} MiB, or leave out size"
                )
                return None
            if size is None and base.capacity == 0:
                self._problems.append(
                    f"the base {disk.base} of disk {disk.target} of {self._name} is empty; set size"
                )
                return None
            # A raw base may end within a sector. An overlay cannot.
            size = -(-base.capacity // _SECTOR_BYTES) * _SECTOR_BYTES if size is None else size
        assert size is not None  # a rule of the message
        return Image(
            path=disk.path,
            format=disk.format,
            capacity=size,
            owner=owner,
            group=group,
            mode=_MODE,
            backing=disk.base,
            backing_format=None if base is None else base.format,
        )

    async def _read_base(self, disk: DiskPlan) -> Image | None:
        """Read a base, and check that QEMU need not guess anything about it."""
        assert disk.base is not None
        words = f"the base {disk.base} of disk {disk.target} of {self._name}"
        try:
            async with self._runtime.storage:
                base = await self._local.call(read_image, disk.base)
            if base.format == "dir":
                raise HypervisorError("it is a folder; choose an image file")
            if base.format not in _FORMATS:
                raise HypervisorError(
                    f"it has the format {base.format}; convert it with qemu-img convert to qcow2"
                )
            if base.is_encrypted:
                raise HypervisorError("it is encrypted; choose one that is not")
            await asyncio.to_thread(self._check_place, disk.base, words, base.format)
        except LostError:
            raise
        except HypervisorError as error:
            self._problems.append(f"{words} cannot be used: {error}")
            return None
        return base

    def _check_place(self, path: str, words: str, format: str) -> None:
        """Check where a path leads, and the files behind an image. Blocks."""
        policy = self._runtime.options.domain_xml.policy
        folders = allowed_folders(policy, self._runtime.options.image_directory)
        policy = msgspec.structs.replace(policy, directories=folders)
        known: Literal["raw", "qcow2"] = "qcow2" if format == "qcow2" else "raw"
        check_files([NamedSource(path=path, where=words, format=known)], policy)

    async def _check_bases(self, disks: Sequence[DiskPlan]) -> None:
        """Check that no active domain writes a base. Its overlays would then be broken."""
        bases = [disk.base for disk in disks if disk.base is not None]
        if not bases or self._problems:
            return
        uses = await self._local.call(uses_of, bases, is_local=True)
        for path, found in uses.items():
            for use in found:
                if use.is_active and use.writes:
                    self._problems.append(
                        f"{path} {use.words}, which is active and may write it, so it cannot be a "
                        f"base; stop {use.name}, or use a copy"
                    )

    async def _check_places(self, planned: Sequence[PlannedImage]) -> None:
        """Check the folders of the new images: free names, and room for the whole disks."""
        folders = dict.fromkeys(posixpath.dirname(each.image.path) for each in planned)
        for folder in folders:
            images = [
                each.image for each in planned if posixpath.dirname(each.image.path) == folder
            ]
            targets = ", ".join(
                each.disk.target for each in planned if posixpath.dirname(each.image.path) == folder
            )
            paths = [image.path for image in images]
            try:
                words = f"disk {targets} of {self._name}"
                await asyncio.to_thread(self._check_place, f"{folder}/image", words, "raw")
            except HypervisorError as error:
                self._problems.append(str(error))
                continue
            try:
                async with self._runtime.storage:
                    room = await self._local.call(read_room, folder, paths)
            except LostError:
                raise
            except HypervisorError as error:
                self._problems.append(
                    f"{self._runtime.host} has no place for disk {targets} of {self._name}: "
                    f"libvirt cannot use the folder {folder} ({error}); make the folder, or choose "
                    "another path"
                )
                continue
            for path in paths:
                if path in room.rest or await asyncio.to_thread(os.path.lexists, path):
                    self._problems.append(
                        f"{self._runtime.host} has a file {path} already, where a disk of "
                        f"{self._name} belongs; if an earlier start of {self._name} has created "
                        "it, leave out disks; else remove it, or choose another path"
                    )
            size = sum(image.capacity for image in images)
            if room.free < size:
                self._problems.append(
                    f"{self._runtime.host} has {room.free // MIB} MiB free in {folder}, and disk "
                    f"{targets} of {self._name} may need {-(-size // MIB)} MiB; make room there, "
                    "or choose another path"
                )


def read_owner(connection: Any) -> tuple[int, int]:
    """Return the user and the group that QEMU has, by their numbers. Blocks.

    libvirt gives the images of a domain to them while it runs, unless `dynamic_ownership` is off.
    """
    for model in parse(connection.getCapabilities()).iterfind("host/secmodel"):
        if model.findtext("model") == "dac":
            for label in model.iterfind("baselabel"):
                user, _, group = (label.text or "").partition(":")
                try:
                    return int(user.removeprefix("+")), int(group.removeprefix("+"))
                except ValueError:
                    continue
    return 0, 0
