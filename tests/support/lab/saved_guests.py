"""Continue guests from the state after their boot, which one guest of each size and load saves.

An emulated guest needs several seconds of CPU time to boot, and less than one to be restored.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

from .booted_guests import BootedGuest, keep, locked_state
from .guest import Guest, GuestOptions
from .host import Host
from .laboratory import Lab
from .local_disks import LocalDisk
from .priority import prefer
from .shared_disks import SharedDisk

BOOT_PATIENCE = 600.0
"""Seconds. An emulated guest needs several seconds of CPU time to boot."""
_Kind = tuple[str, tuple[tuple[str, object], ...]]


@dataclass(frozen=True)
class _SavedGuest:
    guest: Guest
    definition: Path
    state: Path
    disk: SharedDisk | LocalDisk | None
    disk_content: bytes

    def prepare(self) -> None:
        """Let its files be those of its saved state."""
        self.guest.console.unlink(missing_ok=True)
        if self.disk is not None:
            self.disk.write(self.disk_content)


class SavedGuests:
    """The saved guests of one laboratory, by name, size and load."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._saved: dict[_Kind, _SavedGuest] = {}

    def restore(
        self,
        host: Host,
        names: Sequence[str],
        *,
        persistent: bool = True,
        **options: Unpack[GuestOptions],
    ) -> list[Guest]:
        """Let guests run on a host from where they were after their boot.

        The options are those of `Lab.define_guest`. Guests of one name have one UUID. A restored
        guest first measures a pause as long as it was saved. It goes before other programs, because
        QEMU before 9.0 may lose a write of an emulated CPU in a live migration if the kernel stops
        the CPU's thread at that moment.
        """
        saved = [self._saved_guest(host, name, options) for name in names]
        for each in saved:
            each.prepare()
        for each in saved:
            define = f"define {each.definition}; " if persistent else ""
            host.virsh(f"{define}restore {each.state}")
            prefer(host.qemu(each.guest.name))
        for each in saved:
            each.guest.wait_for_heartbeat()
        return [each.guest for each in saved]

    def describe(self, host: Host, name: str, **options: Unpack[GuestOptions]) -> Guest:
        """A guest as `restore` has it, with its disk, which does not run."""
        saved = self._saved_guest(host, name, options)
        saved.prepare()
        return saved.guest

    def _saved_guest(self, host: Host, name: str, options: GuestOptions) -> _SavedGuest:
        kind: _Kind = (name, tuple(sorted(options.items())))
        if kind not in self._saved:
            booted = self._booted(host, options)
            path = self._lab.layout.guests / f"saved-{len(self._saved)}"
            guest = self._lab.define_guest(name, **options)
            definition, state = path.with_suffix(".xml"), path.with_suffix(".state")
            definition.write_text(guest.xml)
            booted.write_state(guest, state)
            self._saved[kind] = _SavedGuest(
                guest, definition, state, options.get("disk"), booted.disk_content
            )
        return self._saved[kind]

    def _booted(self, host: Host, options: GuestOptions) -> BootedGuest:
        """Return the state of a guest of that size and load, which boots unless it is there."""
        disk = options.get("disk")
        shape = sorted({**options, "disk": disk is not None}.items())
        with locked_state(host, shape) as folder:
            if not folder.exists():
                if isinstance(disk, LocalDisk):
                    disk.write(b"")
                guest = self._lab.define_guest("booting", **options)
                host.virsh("create", self._lab.layout.guests / "booting.xml")
                guest.wait_for_heartbeat(patience=BOOT_PATIENCE)
                keep(folder, host, guest, disk)
        return BootedGuest(folder)
