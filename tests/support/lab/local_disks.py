"""Disks of one host: an image in a folder that each host has for itself.

A migration has to copy such a disk. The guest writes the begin of it, as it does to a shared disk.
The rest has random data, which must not change.
"""

from __future__ import annotations

import functools
import hashlib
import os
import random
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .host import Host
    from .laboratory import Lab

FOLDER = Path("/var/lib/fastlib-images")
"""Each host has its own /var/lib."""
_SCRATCH = FOLDER.parent
OWNER, GROUP, MODE = 1234, 4321, 0o640
"""Of the images. QEMU runs as root, and libvirt does not change them."""
SIZE = 16 << 20
_EXT4_SIZE = 128 << 20
WRITTEN = 64 * 512
"""Bytes at the begin of a disk that a guest writes: its counter, and the numbers before."""
_DATA_AT, _DATA_SIZE = 1 << 20, 8 << 20
PATTERN = "a text that only the disk has."
"""Each 4 KiB of the data begin with it. The guest never reads them, so its memory lacks it."""
_BLOCK = 4096
_IMAGE_TYPE = {"raw": "raw", "qcow2": "qcow2", "overlay": "qcow2"}


@dataclass(frozen=True)
class LocalDisk:
    """A disk of one host. An `overlay` is a qcow2 image that has its data in a backing file."""

    host: Host
    name: str
    kind: str = "qcow2"

    @property
    def path(self) -> Path:
        """The path of the image on each host."""
        return FOLDER / f"{self.name}.{self.kind}"

    @property
    def backing(self) -> Path:
        """The path of the backing file of an overlay."""
        return FOLDER / f"{self.name}.base"

    @property
    def format(self) -> str:
        """The format as libvirt calls it."""
        return _IMAGE_TYPE[self.kind]

    @property
    def xml(self) -> str:
        """The device, for a domain's XML."""
        return (
            "<disk type='file' device='disk'>"
            f"<driver name='qemu' type='{self.format}' cache='none'/><source file='{self.path}'/>"
            "<target dev='hda' bus='ide'/></disk>"
        )

    def on(self, host: Host) -> LocalDisk:
        """The disk of the same name on another host."""
        return LocalDisk(host, self.name, self.kind)

    @property
    def file(self) -> Path:
        """The image for a program on this machine, which sees the folders of all hosts."""
        return outside(self.host, self.path)

    def read(self) -> bytes:
        """The part that the guest writes. The counter is its begin. The guest must not run."""
        return self._content()[:WRITTEN]

    @property
    def count(self) -> int:
        """The number that the guest wrote last. The guest must not run."""
        return int.from_bytes(self.read()[:8], "little")

    @property
    def digest(self) -> str:
        """The digest of the part that the guest does not write."""
        return hashlib.sha256(self._content()[WRITTEN:]).hexdigest()

    @property
    def right_digest(self) -> str:
        """The digest that this part has if it is as `write` made it."""
        return _right_digest(self.name)

    def write(self, content: bytes) -> None:
        """Make the image anew, with this in the part that the guest writes."""
        make_folder(self.host)
        self.file.unlink(missing_ok=True)
        content = content or bytes(512)
        if self.kind == "overlay":
            self._make(self.backing, b"")
            command = ["create", "-q", "-f", "qcow2", "-b", self.backing, "-F", "qcow2", self.path]
            self.host.run(["qemu-img", *command])
            raw = _SCRATCH / f"{self.name}.new"
            outside(self.host, raw).write_bytes(content)
            self.host.run(["qemu-io", "-c", f"write -q -s {raw} 0 {len(content)}", self.path])
            outside(self.host, raw).unlink()
        else:
            self._make(self.path, content)
        os.chown(self.file, OWNER, GROUP)
        self.file.chmod(MODE)

    def copy_backing(self, host: Host) -> None:
        """Give another host the backing file."""
        make_folder(host)
        outside(host, self.backing).write_bytes(outside(self.host, self.backing).read_bytes())

    def _make(self, path: Path, content: bytes) -> None:
        raw = _SCRATCH / f"{self.name}.new"
        with outside(self.host, raw).open("wb") as file:
            file.write(content)
            file.seek(_DATA_AT)
            file.write(_data(self.name))
            file.truncate(SIZE)
        options = ["-f", "raw", "-O", "raw" if self.format == "raw" else "qcow2"]
        self.host.run(["qemu-img", "convert", *options, raw, path])
        outside(self.host, raw).unlink()

    def _content(self) -> bytes:
        raw = _SCRATCH / f"{self.name}.read"
        self.host.run(["qemu-img", "convert", "-U", "-f", self.format, "-O", "raw", self.path, raw])
        content = outside(self.host, raw).read_bytes()
        outside(self.host, raw).unlink()
        return content


def _data(name: str) -> bytes:
    """Random data of a disk, with the pattern at the begin of each block."""
    data, pattern = bytearray(random.Random(name).randbytes(_DATA_SIZE)), PATTERN.encode()
    for begin in range(0, _DATA_SIZE, _BLOCK):
        data[begin : begin + len(pattern)] = pattern
    return bytes(data)


@functools.cache
def _right_digest(name: str) -> str:
    content = bytes(_DATA_AT) + _data(name)
    return hashlib.sha256(content.ljust(SIZE, b"\0")[WRITTEN:]).hexdigest()


def outside(host: Host, path: Path) -> Path:
    """The path by which this process reaches a file of a host."""
    return Path(f"/proc/{host.init_process.pid}/root{path}")


def images_on(host: Host) -> list[str]:
    """The names of all files in the folder of a host."""
    folder = outside(host, FOLDER)
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def remove_images(host: Host) -> None:
    """Remove the folder of a host, with all images, and with a file system of its own."""
    host.run(["sh", "-c", f"if mountpoint -q {FOLDER}; then umount {FOLDER}; fi; rm -rf {FOLDER}"])


def make_folder(host: Host) -> None:
    """Make the folder of a host, without images."""
    outside(host, FOLDER).mkdir(exist_ok=True)


def make_folder_on_ext4(lab: Lab, host: Host) -> None:
    """Make the folder of a host, without images, on an ext4 of its own."""
    image = lab.layout.directory / f"images-{host.name}.ext4"
    with image.open("wb") as file:
        file.truncate(_EXT4_SIZE)
    host.run(["mkfs.ext4", "-q", "-F", image])
    make_folder(host)
    host.run(["mount", "-o", "loop", image, FOLDER])
