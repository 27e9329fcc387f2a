"""Check before a migration that each disk to copy finds its place at the destination."""

import asyncio
import posixpath
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.libvirt.connection.connection import Connection
from fastlib.migfra.hypervisors.libvirt.domain.backing_names import backing_file, local_path
from fastlib.migfra.hypervisors.libvirt.domain.disks_xml import Disk
from fastlib.migfra.hypervisors.libvirt.domain.file_probe import (
    FileFacts,
    Prober,
    probe_files,
    read_head,
    read_samples,
)
from fastlib.migfra.hypervisors.libvirt.domain.files_xml import DomainFile
from fastlib.migfra.hypervisors.libvirt.domain.image_chain import (
    FIRST_BYTES,
    count_snapshots,
    naming_bytes,
    parse_head,
)
from fastlib.migfra.hypervisors.libvirt.domain.volumes import Image, read_image, read_room
from fastlib.migfra.hypervisors.libvirt.errors import LibvirtError, LostError
from fastlib.migfra.virt.migration_spec import MigrationSpec

_SPARE_BYTES: Final = 1 << 20
"""Bytes that an image needs for its own tables."""
MIB: Final = 1 << 20
_SECTOR_BYTES: Final = 512
_BLOCK_BYTES: Final = 4096
"""Bytes of the blocks of usual file systems, in which QEMU writes without a cache."""


def needed_bytes(image: Image) -> int:
    """Return the bytes that an image takes when it is full."""
    return image.capacity + _SPARE_BYTES


class PlannedCopy(msgspec.Struct, frozen=True, kw_only=True):
    """A disk that the migration copies."""

    target: str
    image: Image
    """The image to create at the destination."""
    data_file: str | None = None
    """The file on the source in which the image has its data. The copy has it itself."""


class CopyPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The disks that a migration copies, and those that the hosts share."""

    copies: Sequence[PlannedCopy] = ()
    is_incremental: bool = False
    shows_shared: bool = False
    """Whether all other disks that the domain writes are shown to be safe on shared storage.

    libvirt decides that by the type of the file system alone.
    """
    has_unlocked: bool = False
    """Whether the domain writes a disk that QEMU does not lock against QEMU on other hosts."""

    @property
    def targets(self) -> list[str]:
        """The names of the disks to copy."""
        return [copy.target for copy in self.copies]


async def plan_copies(
    spec: MigrationSpec,
    disks: Sequence[Disk],
    files: Sequence[DomainFile],
    prober: Prober,
    connect: Callable[[str], Any],
) -> Sequence[PlannedCopy]:
    """Plan the images at the destination. Raises HypervisorError with all problems.

    `files` are all files of the domain. `connect` returns the connection to a host.
    """
    source, destination = await connect(spec.source), await connect(spec.destination)
    return await _PlaceCheck(spec, files, prober, source, destination).run(disks)


class _PlaceCheck:
    def __init__(
        self,
        spec: MigrationSpec,
        files: Sequence[DomainFile],
        prober: Prober,
        source: Connection,
        destination: Connection,
    ) -> None:
        self._spec = spec
        self._files = files
        self._prober = prober
        self._source = source
        self._destination = destination
        self._problems: list[str] = []

    async def run(self, disks: Sequence[Disk]) -> Sequence[PlannedCopy]:
        copies = [copy for disk in disks if (copy := await self._plan(disk)) is not None]
        if self._spec.parameter.copy_storage == "incremental":
            await self._check_backing(copies)
        await self._check_room(copies)
        if self._problems:
            raise HypervisorError("; ".join(self._problems))
        return copies

    async def _plan(self, disk: Disk) -> PlannedCopy | None:
        spec = self._spec
        try:
            image = await self._source.call(read_image, disk.path)
            head = await self._read_head(image) if disk.format == "qcow2" else b""
            data_file = await self._data_file(image, head)
        except LostError:
            raise
        except HypervisorError as error:
            self._problems.append(
                f"{disk.words} of {spec.name} cannot be read through libvirt's storage driver on "
                f"{spec.source}: {error}"
            )
            return None
        if image.format != disk.format and disk.format != "raw":
            self._problems.append(
                f"{disk.words} of {spec.name} is declared as {disk.format}, but the file is "
                f"{image.format}; correct the definition"
            )
            return None
        if snapshots := count_snapshots(head):
            are = "1 internal snapshot" if snapshots == 1 else f"{snapshots} internal snapshots"
            self._problems.append(
                f"{disk.words} of {spec.name} has {are}, and its copy would have none; delete with "
                f"virsh snapshot-delete {spec.name}, or with qemu-img snapshot -d while it is shut "
                "off; or copy the image then with virsh vol-download and vol-upload"
            )
            return None
        if disk.format == "raw":
            # The guest may have written something like an image or an encrypted volume into its
            # disk. libvirt's storage driver would tell the size of that.
            size = await self._source.call(_virtual_size, spec.name, disk.target)
            if image.format == "raw" and image.capacity % _SECTOR_BYTES and disk.is_uncached:
                whole = -(-image.capacity // _BLOCK_BYTES) * _BLOCK_BYTES
                self._problems.append(
                    f"{disk.words} of {spec.name} has {image.capacity} bytes and "
                    f"cache='{disk.cache}', and QEMU copies such a disk only if its size is a "
                    f"multiple of {_SECTOR_BYTES} bytes; enlarge it with virsh blockresize "
                    f"{spec.name} {disk.target} {whole}B, or set "
                    "cache='writeback' and start the domain again"
                )
                return None
            image = Image(
                path=image.path, format="raw", capacity=size, owner=image.owner,
                group=image.group, mode=image.mode,
            )  # fmt: skip
        if spec.parameter.copy_storage == "all":
            image = msgspec.structs.replace(image, backing=None, backing_format=None)
        elif image.backing is not None:
            # libvirt creates an overlay only of a path.
            found = backing_file(image.backing, image.path, image.backing_format)
            if found is None:
                self._problems.append(
                    f"{disk.words} of {spec.name} has the backing file {image.backing[:200]!r}; "
                    "libvirt creates copies on top of files only, so order copy-storage: all, "
                    "or write a path into the image with qemu-img rebase -u while the domain is "
                    "shut off"
                )
                return None
            image = msgspec.structs.replace(image, backing=found.path, backing_format=found.format)
        return PlannedCopy(target=disk.target, image=image, data_file=data_file)

    async def _read_head(self, image: Image) -> bytes:
        """Read the begin of a qcow2 image. Returns nothing of other images."""
        if image.format != "qcow2":
            return b""
        return bytes(await self._source.call(read_head, self._prober, image.path, FIRST_BYTES))

    async def _data_file(self, image: Image, head: bytes) -> str | None:
        """Return the file in which a qcow2 image has its data. None if that is the image."""
        count = naming_bytes(head)
        if not count:
            return None
        whole = await self._source.call(read_head, self._prober, image.path, count)
        names = parse_head(whole)
        if names is None or names.data is None:
            return None
        return local_path(names.data, image.path) or names.data

    async def _check_backing(self, copies: Sequence[PlannedCopy]) -> None:
        """Check that the destination has the backing files, with the same content."""
        spec = self._spec
        backing = {
            path: copy for copy in copies for path in self._chain_of(copy) if path.startswith("/")
        }
        paths = list(backing)
        if not paths:
            return
        here, there = await asyncio.gather(
            self._source.call(probe_files, self._prober, paths),
            self._destination.call(probe_files, self._prober, paths),
        )
        same = await self._compare(here, there)
        for path in paths:
            copy = backing[path]
            words = f"{path}, the backing file of disk {copy.target} of {spec.name}"
            if there[path].presence == "absent":
                self._problems.append(
                    f"{spec.destination} lacks {words}; copy it there first, or order "
                    "copy-storage: all"
                )
            elif not same.get(path, False):
                self._problems.append(
                    f"{words}, is not the same file on {spec.destination} as on {spec.source}; "
                    "copy it there, or order copy-storage: all"
                )

    def _chain_of(self, copy: PlannedCopy) -> Sequence[str]:
        """Return the files behind an image: its backing file, the backing file of that, and on."""
        chain = [file.path for file in self._files if file.is_behind and file.disk == copy.target]
        return chain if copy.image.backing is None else [copy.image.backing, *chain]

    async def _compare(
        self, here: Mapping[str, FileFacts], there: Mapping[str, FileFacts]
    ) -> dict[str, bool]:
        sizes = {
            path: facts.size
            for path, facts in here.items()
            if facts.size is not None and facts.size == there[path].size
        }
        if not sizes:
            return {}
        ours, theirs = await asyncio.gather(
            self._source.call(read_samples, self._prober, sizes),
            self._destination.call(read_samples, self._prober, sizes),
        )
        return {path: ours[path] is not None and ours[path] == theirs[path] for path in sizes}

    async def _check_room(self, copies: Sequence[PlannedCopy]) -> None:
        """Check that the destination can have the images, also when they are full."""
        spec = self._spec
        needed: dict[str, int] = {}
        for copy in copies:
            folder = posixpath.dirname(copy.image.path)
            needed[folder] = needed.get(folder, 0) + needed_bytes(copy.image)
        for folder, size in needed.items():
            targets = ", ".join(
                copy.target for copy in copies if posixpath.dirname(copy.image.path) == folder
            )
            try:
                room = await self._destination.call(read_room, folder)
            except LostError:
                raise
            except LibvirtError as error:
                self._problems.append(
                    f"{spec.destination} has no place for disk {targets} of {spec.name}: libvirt "
                    f"cannot use the folder {folder} there ({error}); make the folder if it is "
                    f"missing, with the owner and the mode that it has on {spec.source}"
                )
                continue
            except HypervisorError as error:
                self._problems.append(
                    f"{spec.destination} has no place for disk {targets} of {spec.name}: {error}"
                )
                continue
            if room.free < size:
                self._problems.append(
                    f"{spec.destination} has {room.free // MIB} MiB free in {folder}, and disk "
                    f"{targets} of {spec.name} may need {-(-size // MIB)} MiB; make room there"
                )


def _virtual_size(connection: Any, name: str, target: str) -> int:
    return int(connection.lookupByName(name).blockInfo(target)[0])
