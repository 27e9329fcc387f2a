"""States of booted guests in the user's cache, which all laboratories of this user share.

There is one for each size and load. A guest of any name continues from it, because a copy of the
state gets the name, the UUID and the files of that guest. libvirt refuses these changes in
`virsh restore --xml`, so they are made in the file: its header has the domain's XML, and QEMU's
stream follows, which has none of them.
"""

import fcntl
import hashlib
import os
import shutil
import struct
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .errors import LabError
from .guest import Guest
from .host import Host
from .image import cache, make_folder
from .local_disks import LocalDisk
from .shared_disks import SharedDisk

_HEADER = struct.Struct("=16s5I56x")
"""A magic text, version, length of XML and cookie, two flags, the cookie's place, nothing more."""
_MAGIC = b"LibvirtQemudSave"
_KEPT_SECONDS = 7 * 24 * 3600
"""How long a state is kept that nobody uses."""
_SOURCES = ("guest.py", "guest.c", "image.py", Path(__file__).name)


@dataclass(frozen=True)
class BootedGuest:
    """A state after boot, with the disk of the guest."""

    folder: Path

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def disk_content(self) -> bytes:
        """The part of its disk that it writes; nothing without a disk."""
        return (self.folder / "disk").read_bytes()

    def write_state(self, guest: Guest, path: Path) -> None:
        """Write a state from which this guest continues."""
        with self.state.open("rb") as source, path.open("wb") as target:
            magic, version, length, running, compression, cookie = _HEADER.unpack(
                source.read(_HEADER.size)
            )
            if magic != _MAGIC or compression:
                raise LabError(f"{self.state} is no uncompressed saved state of libvirt")
            xml, end, rest = source.read(length).partition(b"\0")
            changed = with_identity(xml.decode(), guest.xml).encode()
            grown = len(changed) - len(xml)
            header = (version, length + grown, running, compression, cookie and cookie + grown)
            target.write(_HEADER.pack(magic, *header) + changed + end + rest)
            shutil.copyfileobj(source, target, 1 << 20)


def with_identity(xml: str, of: str) -> str:
    """Return the XML of a domain with the name, the UUID and the files of another."""
    domain, other = ET.fromstring(xml), ET.fromstring(of)
    for name in ("name", "uuid"):
        _element(domain, name).text = _element(other, name).text
    console = _element(other, "devices/serial/source").attrib["path"]
    for kind in ("serial", "console"):
        for source in domain.findall(f"devices/{kind}/source"):
            source.set("path", console)
    if other.find("devices/disk/source") is not None:
        _replace_source(_element(domain, "devices/disk"), _element(other, "devices/disk"))
    return ET.tostring(domain, encoding="unicode")


def _replace_source(disk: ET.Element, other: ET.Element) -> None:
    """Give a disk the source of another one. QEMU's stream does not name it."""
    disk.set("type", other.attrib["type"])
    for tag in ("backingStore", "mirror", "source", "driver"):
        for element in disk.findall(tag):
            disk.remove(element)
    disk.insert(0, _element(other, "source"))
    disk.insert(0, _element(other, "driver"))


def _element(parent: ET.Element, path: str) -> ET.Element:
    found = parent.find(path)
    assert found is not None, path
    return found


@contextmanager
def locked_state(host: Host, shape: object) -> Iterator[Path]:
    """Return the folder of a shape's state, also if it is not made yet. Other users wait."""
    folder = cache() / f"booted-{_digest(host, shape)}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
        os.utime(folder)
        _remove_unused(folder.parent)


def keep(folder: Path, host: Host, guest: Guest, disk: SharedDisk | LocalDisk | None) -> None:
    """Save a running guest, which ends, into the folder of its shape."""

    def save(new: Path) -> None:
        host.virsh("save", guest.name, new / "state")
        (new / "disk").write_bytes(b"" if disk is None else disk.read())

    make_folder(folder, save)


def _digest(host: Host, shape: object) -> str:
    """Name a state after all that it was made of."""
    versions = [
        host.run([program, "--version"]).stdout for program in ("qemu-system-x86_64", "libvirtd")
    ]
    sources = [Path(__file__).with_name(name).read_text() for name in _SOURCES]
    kernel = (cache() / "kernel" / "vmlinuz").read_bytes()
    content = repr((shape, versions, sources)).encode() + kernel
    return hashlib.sha256(content).hexdigest()[:12]


def _remove_unused(folder: Path) -> None:
    for each in folder.glob("booted-*"):
        if each.is_dir() and time.time() - each.stat().st_mtime > _KEPT_SECONDS:
            shutil.rmtree(each, ignore_errors=True)
