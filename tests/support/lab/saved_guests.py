"""Boot each kind of guest once, and continue it from its saved state for every further test.

An emulated guest needs several seconds of CPU time to boot, and less than one to be restored.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Unpack

from .guest import Guest, GuestOptions
from .host import Host
from .laboratory import Lab
from .shared_disks import SharedDisk

_Kind = tuple[str, tuple[tuple[str, object], ...]]


@dataclass(frozen=True)
class _SavedGuest:
    guest: Guest
    definition: Path
    state: Path
    disk: SharedDisk | None
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
        guest first measures a pause as long as it was saved.
        """
        saved = self._of_kind(host, names, options)
        for each in saved:
            each.prepare()
        for each in saved:
            define = f"define {each.definition}; " if persistent else ""
            host.virsh(f"{define}restore {each.state}")
        for each in saved:
            each.guest.wait_for_heartbeat()
        return [each.guest for each in saved]

    def describe(self, host: Host, name: str, **options: Unpack[GuestOptions]) -> Guest:
        """A guest as `restore` has it, with its disk, which does not run."""
        (saved,) = self._of_kind(host, [name], options)
        saved.prepare()
        return saved.guest

    def _of_kind(
        self, host: Host, names: Sequence[str], options: GuestOptions
    ) -> list[_SavedGuest]:
        kinds: list[_Kind] = [(name, tuple(sorted(options.items()))) for name in names]
        missing = [kind for kind in kinds if kind not in self._saved]
        folder = self._lab.layout.guests
        booting: dict[_Kind, _SavedGuest] = {}
        for name, shape in missing:
            number = len(self._saved) + len(booting)
            guest = self._lab.define_guest(name, **options)
            definition = folder / f"saved-{number}.xml"
            definition.write_text(guest.xml)
            state = folder / f"saved-{number}.state"
            booting[name, shape] = _SavedGuest(guest, definition, state, options.get("disk"), b"")
        if booting:
            guests = booting.values()
            for each in guests:
                host.virsh("create", each.definition)
            for each in guests:
                each.guest.wait_for_heartbeat()
            for each in guests:
                host.virsh("save", each.guest.name, each.state)
            self._saved |= {kind: _with_disk_content(each) for kind, each in booting.items()}
        return [self._saved[kind] for kind in kinds]


def _with_disk_content(saved: _SavedGuest) -> _SavedGuest:
    return saved if saved.disk is None else replace(saved, disk_content=saved.disk.read())
