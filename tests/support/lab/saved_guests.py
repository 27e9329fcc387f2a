"""Boot each kind of guest once, and continue it from its saved state for every further test.

An emulated guest needs several seconds of CPU time to boot, and less than one to be restored.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

from .guest import Guest, GuestOptions
from .host import Host
from .laboratory import Lab

_Kind = tuple[str, tuple[tuple[str, object], ...]]


@dataclass(frozen=True)
class _SavedGuest:
    guest: Guest
    definition: Path
    state: Path


class SavedGuests:
    """The saved guests of one laboratory, by name, size and load."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._saved: dict[_Kind, _SavedGuest] = {}

    def restore(
        self, host: Host, names: Sequence[str], **options: Unpack[GuestOptions]
    ) -> list[Guest]:
        """Let guests run on a host, persistent, from where they were after their boot.

        The options are those of `Lab.define_guest`. Guests of one name have one UUID. A restored
        guest first measures a pause as long as it was saved.
        """
        saved = self._of_kind(host, names, options)
        for each in saved:
            each.guest.console.unlink(missing_ok=True)
        for each in saved:
            host.virsh(f"define {each.definition}; restore {each.state}")
        for each in saved:
            each.guest.wait_for_heartbeat()
        return [each.guest for each in saved]

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
            booting[name, shape] = _SavedGuest(guest, definition, folder / f"saved-{number}.state")
        if booting:
            guests = booting.values()
            for each in guests:
                host.virsh("create", each.definition)
            for each in guests:
                each.guest.wait_for_heartbeat()
            for each in guests:
                host.virsh("save", each.guest.name, each.state)
            self._saved |= booting
        return [self._saved[kind] for kind in kinds]
