"""Write a small qcow2 image with a backing file, as `qemu-img create -b` does."""

import struct
from pathlib import Path

_CLUSTER = 1 << 16
_HEADER = 104
_BACKING_FORMAT = 0xE2792ACA
_DATA_FILE = 0x44415441


def qcow2_head(
    backing: str | None, format: str | None, *, size: int, data: str | None = None, version: int = 3
) -> bytes:
    """The first cluster: header, extensions and the name of the backing file."""
    extensions = b""
    for kind, text in ((_BACKING_FORMAT, format), (_DATA_FILE, data)):
        if text is not None:
            name = text.encode()
            padding = bytes(-len(name) % 8)
            extensions += struct.pack(">II", kind, len(name)) + name + padding
    extensions += bytes(8)
    length = _HEADER if version >= 3 else 72
    name = b"" if backing is None else backing.encode()
    head = struct.pack(
        ">4sIQIIQIIQQIIQ",
        b"QFI\xfb",
        version,
        length + len(extensions) if name else 0,
        len(name),
        16,  # bits of a cluster
        size,
        0,  # not encrypted
        1,  # entries of the table of level 1
        3 * _CLUSTER,
        _CLUSTER,  # the table of reference counts
        1,
        0,
        0,
    )
    if version >= 3:
        head += struct.pack(">QQQII", 0 if data is None else 4, 0, 0, 4, _HEADER)
    return (head + extensions + name).ljust(_CLUSTER, b"\0")


def write_qcow2(path: Path, backing: Path | str, format: str, size: int = 1 << 20) -> None:
    """Write an image that reads as its backing file."""
    counts = struct.pack(">4H", 1, 1, 1, 1)
    path.write_bytes(
        qcow2_head(str(backing), format, size=size)
        + struct.pack(">Q", 2 * _CLUSTER).ljust(_CLUSTER, b"\0")
        + counts.ljust(_CLUSTER, b"\0")
        + bytes(_CLUSTER)
    )
