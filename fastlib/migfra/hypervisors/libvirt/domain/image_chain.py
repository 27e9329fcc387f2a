"""Find the files that a disk's image needs: backing files, and a file for its data.

The definition of a domain that is shut off usually names the uppermost image only.
"""

import os
import struct
from typing import Final

import msgspec

from .backing_names import backing_file, possible_files

_MAGIC: Final = b"QFI\xfb"
HEAD_BYTES: Final = 2 << 20
"""Bytes of the largest cluster that QEMU allows. The header, its extensions and the backing file's
name are in the first cluster."""
_OLD_HEADER_BYTES: Final = 72
"""Bytes of the header of each version of qcow2, at least."""
FIRST_BYTES: Final = 80
"""Bytes from which `count_snapshots` and `naming_bytes` read. Each qcow2 image has more."""
_HAS_DATA_FILE: Final = 1 << 2
"""The bit of the incompatible features that says that the data is in another file."""
_SNAPSHOTS_AT: Final = 60
_BACKING_FORMAT: Final = 0xE2792ACA
_DATA_FILE: Final = 0x44415441
_NAMING: Final = (_BACKING_FORMAT, _DATA_FILE)
LONGEST_CHAIN: Final = 200
"""libvirt's limit."""


class ImageChain(msgspec.Struct, frozen=True, kw_only=True):
    """The files behind an image."""

    backing: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    """Files that hold the data of an image. The domain writes them."""
    unknown: tuple[str, ...] = ()
    """The files that could not be followed, with the reason."""
    possible: tuple[str, ...] = ()
    """Files that one of `unknown` may be."""


class ImageHead(msgspec.Struct, frozen=True):
    """The files that a qcow2 image names."""

    backing: str | None
    format: str | None
    data: str | None


def read_chain(path: str, format: str | None) -> ImageChain:
    """Follow the images behind an image on this host. Blocks. Raises nothing.

    Only an image whose declared format is qcow2 is read: a guest may write anything into others.
    """
    backing: list[str] = []
    data: list[str] = []
    image = path
    while format == "qcow2":
        if len(backing) > LONGEST_CHAIN:
            return _chain(backing, data, f"the backing files of {path}: too many")
        try:
            with open(os.open(image, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
                head = parse_head(file.read(HEAD_BYTES))
        except OSError as error:
            return _chain(backing, data, f"the backing files of {image} ({error.strerror})")
        if head is None:
            break
        if head.data is not None and head.data.startswith("/"):
            data.append(head.data)
        if head.backing is None:
            break
        found = backing_file(head.backing, image, head.format)
        if found is None:
            return _chain(
                backing, data, f"the backing file {head.backing[:100]}",
                possible=possible_files(head.backing, image),
            )  # fmt: skip
        image, format = found
        backing.append(image)
    return _chain(backing, data)


def _chain(
    backing: list[str], data: list[str], *unknown: str, possible: tuple[str, ...] = ()
) -> ImageChain:
    return ImageChain(backing=tuple(backing), data=tuple(data), unknown=unknown, possible=possible)


def parse_head(head: bytes) -> ImageHead | None:
    """Parse the head of a qcow2 image. None if it is not a qcow2 image, or a broken one.

    An image that names a file twice counts as broken: programs would not all choose the same one.
    """
    if len(head) < _OLD_HEADER_BYTES or head[:4] != _MAGIC:
        return None
    version, offset, size = struct.unpack_from(">IQI", head, 4)
    if offset + size > len(head):
        return None
    backing = _text(head[offset : offset + size]) if offset else None
    (length,) = struct.unpack_from(">I", head, 100) if version >= 3 else (_OLD_HEADER_BYTES,)
    pairs = _extensions(head[length : offset or len(head)])
    extensions = dict(pairs)
    if any(kind in extensions for kind in _NAMING) and len(extensions) < len(pairs):
        return None
    return ImageHead(backing, extensions.get(_BACKING_FORMAT), extensions.get(_DATA_FILE))


def count_snapshots(head: bytes) -> int:
    """Return the number of internal snapshots in the head of a qcow2 image. 0 for other images."""
    if len(head) < _OLD_HEADER_BYTES or head[:4] != _MAGIC:
        return 0
    return int(struct.unpack_from(">I", head, _SNAPSHOTS_AT)[0])


def naming_bytes(head: bytes) -> int:
    """Return the bytes of the head in which a qcow2 image names the file of its data.

    0 if it has its data itself, and for other images.
    """
    if len(head) < FIRST_BYTES or head[:4] != _MAGIC:
        return 0
    version, features = struct.unpack_from(">I", head, 4)[0], struct.unpack_from(">Q", head, 72)[0]
    if version < 3 or not features & _HAS_DATA_FILE:
        return 0
    (bits,) = struct.unpack_from(">I", head, 20)
    return min(1 << min(int(bits), 32), HEAD_BYTES)


def _extensions(area: bytes) -> list[tuple[int, str]]:
    found = []
    begin = 0
    while begin + 8 <= len(area):
        kind, size = struct.unpack_from(">II", area, begin)
        if kind == 0:
            break
        found.append((kind, _text(area[begin + 8 : begin + 8 + size])))
        begin += 8 + (size + 7) // 8 * 8
    return found


def _text(name: bytes) -> str:
    return os.fsdecode(name)
