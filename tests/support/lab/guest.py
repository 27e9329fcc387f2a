"""Guests: their XML, and the reports on their console."""

import hashlib
import re
import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass, fields
from os import SEEK_END
from pathlib import Path
from typing import TypedDict
from xml.sax.saxutils import escape

from tests.support.waiting import WAIT_LIMIT, wait_until

from .errors import LabError
from .local_disks import LocalDisk
from .shared_disks import SharedDisk

_LINUX = """\
<domain type='qemu'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <memory unit='MiB'>{memory}</memory>
  {vcpus}
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>{kernel}</kernel>
    <initrd>{initrd}</initrd>
    <cmdline>{cmdline}</cmdline>
  </os>
  <features><acpi/></features>
  <clock offset='utc'/>
  <on_reboot>destroy</on_reboot>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <controller type='usb' model='none'/>
    <serial type='file'><source path='{console}' append='on'/><target port='0'/></serial>
    {disk}
    <memballoon model='virtio'><stats period='1'/></memballoon>
  </devices>
</domain>
"""
_BIOS = """\
<domain type='qemu'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <memory unit='MiB'>{memory}</memory>
  {vcpus}
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
  </devices>
</domain>
"""
_COMMAND_LINE = (
    "console=ttyS0 quiet panic=1 nokaslr mitigations=off cryptomgr.notests clocksource=acpi_pm "
    "no_timer_check 8250.nr_uarts=1 "
    "dirty={dirty} rate={rate}"
)
"""Without `no_timer_check`, a kernel on slow emulated CPUs may find that its timer is broken."""


class GuestOptions(TypedDict, total=False):
    """The size and the load of a guest with Linux; see `Lab.define_guest`."""

    memory: int
    vcpus: int
    dirty: int
    rate: int
    absent_vcpus: tuple[int, ...]
    disk: SharedDisk | LocalDisk | None


@dataclass(frozen=True)
class Heartbeat:
    """A line of a guest's console; a guest writes four a second. Times are in seconds.

    A guest notices that it was stopped by its hardware's clock, which goes on meanwhile and which
    it compares with its own about once a second.
    """

    count: int
    uptime: float
    """By the guest's own clock."""
    measured: float
    """The uptime when it last compared the clocks."""
    pause: float
    """How long it did not run between its last two comparisons; less than 0.02 is none."""
    longest: float
    """The longest pause since it booted."""
    passes: int
    """How often all memory under test was compared with what should be there."""
    faults: int
    """Pages in which something else was found."""
    memory: int
    """KiB that the guest's kernel has."""
    cpus: int
    disk: int
    """The counter that it has written to its disk; it goes on in the next run. 0 without a disk."""
    stale: int
    """How often the counter on its disk was not the one in its memory."""


_LINE = re.compile(
    r"^beat " + " ".join(rf"{field.name}=([\d.]+)" for field in fields(Heartbeat)) + "$",
    re.MULTILINE,
)
_TAIL = 16384
"""Bytes of a console in which the last beat stands, if there is one, and a crash after it."""
_CRASH = re.compile(
    r"^\[ *[\d.]+\] ((?:BUG|kernel BUG|Oops|general protection fault|Kernel panic)\b.*)$",
    re.MULTILINE,
)
"""What Linux writes first when it crashes."""


@dataclass(frozen=True)
class Guest:
    """A guest by its XML, and the file to which its console writes on whichever host it is."""

    name: str
    xml: str
    console: Path

    @property
    def heartbeats(self) -> list[Heartbeat]:
        """All that it wrote; a guest that only has a BIOS writes nothing."""
        return _beats(self._text(0))

    @property
    def crash(self) -> str | None:
        """The first line of its kernel's report that it crashed, None if it has not."""
        return _crash_in(self._text(_TAIL))

    def wait_for_heartbeat(
        self, after: Heartbeat | None = None, patience: float = 2 * WAIT_LIMIT
    ) -> Heartbeat:
        """The last beat, once there is one after `after`.

        Raises LabError if none comes, at once if its kernel has crashed.
        """
        return self._await(lambda beat: after is None or beat.count > after.count, patience)

    def longest_pause(self, since: Heartbeat) -> float:
        """The longest pause (s) since that beat, as the guest measured it.

        Waits until the guest has measured what was until now, and raises LabError if it does not.
        """
        now = self.wait_for_heartbeat(since)
        last = self._await(lambda beat: beat.measured > now.uptime, 2 * WAIT_LIMIT)
        return max(
            beat.pause
            for beat in self.heartbeats
            if beat.measured > since.uptime and beat.count <= last.count
        )

    def _await(self, condition: Callable[[Heartbeat], bool], patience: float) -> Heartbeat:
        def last() -> Heartbeat | None:
            text = self._text(_TAIL)
            if crash := _crash_in(text):
                raise LabError(f"the kernel of guest {self.name} has crashed: {crash}")
            found = _last_line(text)
            beat = found and _beat(*found.groups())
            return beat if beat and condition(beat) else None

        return wait_until(
            last, f"a beat of guest {self.name} in {self.console}", patience, error=LabError
        )

    def _text(self, tail: int) -> str:
        """The last `tail` bytes of the console; all for 0."""
        try:
            with self.console.open("rb") as file:
                size = file.seek(0, SEEK_END)
                file.seek(max(0, size - tail) if tail else 0)
                return file.read().decode(errors="replace").replace("\r", "")
        except FileNotFoundError:
            return ""


def _last_line(text: str) -> re.Match[str] | None:
    """Return the last beat. Tests wait for it often, so this reads no other."""
    end = len(text)
    while (start := text.rfind("beat ", 0, end)) >= 0:
        if found := _LINE.match(text, start):
            return found
        end = start
    return None


def _crash_in(text: str) -> str | None:
    last = _last_line(text)
    found = _CRASH.search(text, last.end() if last else 0)
    return None if found is None else found[1]


def _beats(text: str) -> list[Heartbeat]:
    return [_beat(*found.groups()) for found in _LINE.finditer(text)]


def _beat(*values: str) -> Heartbeat:
    count, *times, passes, faults, memory, cpus, disk, stale = values
    uptime, measured, pause, longest = map(float, times)
    return Heartbeat(
        *(int(count), uptime, measured, pause, longest),
        *(int(passes), int(faults), int(memory), int(cpus), int(disk), int(stale)),
    )


_LEAST = 80


_PLAIN_NAME = re.compile(r"\w[\w.-]{0,60}", re.ASCII)


def file_name(name: str) -> str:
    """The name of a guest's files: its own name, or a short one for a name with odd characters."""
    if _PLAIN_NAME.fullmatch(name):
        return name
    return f"guest-{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def check(name: str, memory: int, dirty: int, rate: int, bios: bool) -> None:
    """Raises LabError if there can be no such guest."""
    if not name.strip() or not name.isprintable() or "/" in name:
        raise LabError(f"{name!r} is no name for a guest: printable characters without a slash")
    if not bios and memory < _LEAST:
        raise LabError(f"a guest with Linux needs at least {_LEAST} MiB of memory, not {memory}")
    most = memory - 64 - memory // 12  # found by trying; the rest is the kernel's
    if not bios and not 0 <= dirty <= most:
        raise LabError(f"of {memory} MiB, 0 to {most} can be rewritten, not {dirty}")
    if rate < 1:
        raise LabError(f"a guest rewrites at least 1 MiB a second, not {rate}")


def linux(
    name: str,
    folder: Path,
    image: tuple[Path, Path],
    *,
    memory: int,
    vcpus: int,
    dirty: int,
    rate: int,
    absent_vcpus: Collection[int],
    disk: SharedDisk | LocalDisk | None,
) -> Guest:
    """A guest with Linux; see `Lab.define_guest` for the parameters."""
    console = folder / f"{file_name(name)}.log"
    console.unlink(missing_ok=True)  # of an earlier guest of this name
    xml = _LINUX.format(
        name=escape(name),
        uuid=uuid.uuid4(),
        memory=memory,
        vcpus=_vcpus(vcpus, absent_vcpus),
        disk="" if disk is None else disk.xml,
        kernel=image[0],
        initrd=image[1],
        cmdline=_COMMAND_LINE.format(dirty=dirty, rate=rate),
        console=console,
    )
    return Guest(name, xml, console)


def bios(
    name: str, folder: Path, *, memory: int, vcpus: int, absent_vcpus: Collection[int]
) -> Guest:
    """A guest that finds nothing to boot: it starts in a third of a second, and does nothing."""
    xml = _BIOS.format(
        name=escape(name), uuid=uuid.uuid4(), memory=memory, vcpus=_vcpus(vcpus, absent_vcpus)
    )
    return Guest(name, xml, folder / f"{file_name(name)}.log")


def _vcpus(count: int, absent: Collection[int]) -> str:
    """The vCPUs of a guest, some of which are not there when it starts."""
    if not absent:
        return f"<vcpu placement='static'>{count}</vcpu>"
    rows = "".join(
        f"<vcpu id='{number}' enabled='{'no' if number in absent else 'yes'}' "
        f"hotpluggable='{'yes' if number else 'no'}'/>"
        for number in range(count)
    )
    present = count - len(absent)
    return f"<vcpu placement='static' current='{present}'>{count}</vcpu><vcpus>{rows}</vcpus>"
