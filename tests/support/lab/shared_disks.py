"""Disks that all hosts of a laboratory share, each with the counter of a guest.

One server has them, and a guest reaches its disk there from whichever host it runs on. libvirt
migrates such guests: what one host has written, the other one reads.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import quoteattr

from tests.support.waiting import wait_until

from .errors import LabError

if TYPE_CHECKING:
    from .laboratory import Lab

_WRITTEN = 64 * 512
"""Bytes at the begin of a disk that a guest writes: its counter, and the numbers before."""
_SIZE = 1 << 20


@dataclass(frozen=True)
class SharedDisk:
    """A disk, by its name on the server."""

    name: str
    socket: Path
    image: Path

    @property
    def xml(self) -> str:
        """The device, for a domain's XML."""
        return (
            "<disk type='network' device='disk'><driver name='qemu' type='raw' cache='none'/>"
            f"<source protocol='nbd' name={quoteattr(self.name)}>"
            f"<host transport='unix' socket={quoteattr(str(self.socket))}/></source>"
            "<target dev='hda' bus='ide'/></disk>"
        )

    @property
    def count(self) -> int:
        """The number that the guest wrote last."""
        return int.from_bytes(self.read()[:8], "little")

    def read(self) -> bytes:
        """The part that the guest writes. The counter is its begin."""
        with self.image.open("rb") as file:
            return file.read(_WRITTEN)

    def write(self, content: bytes) -> None:
        """Replace that part. The guest must not run."""
        with self.image.open("r+b") as file:
            file.write(content)


class SharedDisks:
    """The server; a context manager. It ends with the laboratory at the latest."""

    def __init__(self, lab: Lab, names: Sequence[str]) -> None:
        folder = lab.layout.directory / "disks"
        self._lab = lab
        self._folder = folder
        self._process: subprocess.Popen[Any] | None = None
        self.disks = [SharedDisk(name, folder / "socket", folder / f"{name}.raw") for name in names]

    def __enter__(self) -> list[SharedDisk]:
        self._folder.mkdir(exist_ok=True)
        argv: list[object] = ["qemu-storage-daemon"]
        socket = self._folder / "socket"
        exports: list[object] = []
        for disk in self.disks:
            with disk.image.open("wb") as file:
                file.truncate(_SIZE)
            argv += ["--blockdev", f"driver=file,filename={disk.image},node-name={disk.name}"]
            exports += [
                "--export",
                f"type=nbd,id={disk.name},node-name={disk.name},name={disk.name},writable=on",
            ]
        argv += ["--nbd-server", f"addr.type=unix,addr.path={socket}", *exports]
        self._process = self._lab.broker.popen(argv, stdin=subprocess.DEVNULL)
        wait_until(socket.exists, "the server of the disks", error=LabError)
        return self.disks

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()
