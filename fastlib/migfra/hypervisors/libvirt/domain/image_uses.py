"""List the domains of a host that use images, also behind other ones. The functions block.

Unlike `image_users`, which refuses the removal of an image that anything needs, the caller decides
which use counts: that of an active domain, of a writer, or of another domain than its own.

libvirt names the backing files of an active domain's disks. Those of other domains are in the heads
of the images, which are read only if the libvirt is that of this host.
"""

import os
from collections.abc import Iterator, Sequence
from typing import Any
from xml.etree.ElementTree import Element

import msgspec

from fastlib.migfra.errors import HypervisorError

from .image_chain import read_chain
from .image_sources import definitions, normalized, path_of


class ImageUse(msgspec.Struct, frozen=True, kw_only=True):
    """One use of an image by a domain."""

    name: str
    """The domain."""
    uuid: str
    target: str
    """Its disk."""
    is_active: bool
    writes: bool
    """Whether the domain may write the image: it is the uppermost one of a writable disk."""
    is_backing: bool
    """Whether it is behind another image."""

    @property
    def words(self) -> str:
        """The use as the rest of a sentence about the image."""
        if self.is_backing:
            return f"is a backing file of disk {self.target} of {self.name}"
        return f"is disk {self.target} of {self.name}"


def uses_of(connection: Any, paths: Sequence[str], *, is_local: bool) -> dict[str, list[ImageUse]]:
    """Return the uses of each image. `is_local` says that this process sees the host's files."""
    wanted = {_real(path, is_local): path for path in paths}
    found: dict[str, list[ImageUse]] = {path: [] for path in paths}
    for use_path, use in _all_uses(connection, is_local):
        path = wanted.get(_real(use_path, is_local))
        if path is not None and use not in found[path]:
            found[path].append(use)
    return found


def check_free(connection: Any, path: str) -> None:
    """Raise HypervisorError if a domain of this host uses an image."""
    for use in uses_of(connection, [path], is_local=True)[path]:
        raise HypervisorError(f"it {use.words}")


def _all_uses(connection: Any, is_local: bool) -> Iterator[tuple[str, ImageUse]]:
    for name, uuid, is_active, root in definitions(connection):
        for disk in root.iterfind("devices/disk"):
            target = disk.find("target")
            for path, is_backing in _images(connection, disk, is_local):
                use = ImageUse(
                    name=name,
                    uuid=uuid,
                    target="" if target is None else target.get("dev", ""),
                    is_active=is_active,
                    writes=not is_backing and disk.find("readonly") is None,
                    is_backing=is_backing,
                )
                yield path, use


def _images(connection: Any, disk: Element, is_local: bool) -> Iterator[tuple[str, bool]]:
    """Yield the images of a disk, and whether each is behind another one."""
    source, driver = disk.find("source"), disk.find("driver")
    head = None if source is None else path_of(connection, source)
    if head is not None:
        yield head, False
    for mirror in disk.iterfind("mirror/source"):
        path = path_of(connection, mirror)
        if path is not None:
            yield path, False
    layers = disk.findall(".//backingStore/source")
    for layer in layers:
        path = path_of(connection, layer)
        if path is not None:
            yield path, True
    if is_local and not layers and head is not None and driver is not None:
        chain = read_chain(head, driver.get("type"))
        for path in (*chain.backing, *chain.possible):
            yield path, True


def _real(path: str, is_local: bool) -> str:
    return os.path.realpath(path) if is_local else normalized(path)
