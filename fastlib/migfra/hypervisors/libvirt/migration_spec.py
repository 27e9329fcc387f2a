"""Who migrates where, and what a later run of the daemon has to know of it."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Final

import msgspec

from fastlib.message.numbers import CpuMap
from fastlib.message.tasks import MigrationOptions
from fastlib.migfra.plugin_api.context import Context

from .description import Attached

_KEY: Final = "trips"


class Trip(msgspec.Struct, frozen=True, kw_only=True):
    """Who migrates where, and how."""

    name: str
    source: str
    destination: str
    parameter: MigrationOptions
    driver: str | None = None
    vcpu_map: CpuMap | None = None
    pscom_hook_procs: str | None = None
    timer: str = "migrate"
    """Name of the timer of the whole."""
    check_room: bool = True
    """Whether the destination's memory is looked at; not where that was done for all together."""

    @property
    def kind(self) -> str:
        """live, warm or offline."""
        return self.parameter.migration_type or "warm"

    @property
    def transport(self) -> str | None:
        """How the other host's libvirt is reached."""
        return self.parameter.transport


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What has been done to a domain for its migration, as far as it must not be forgotten."""

    phase: str = "prepare"
    """`prepare`, `move`, `finish`; on storage `saving`, `saved`, `restoring`."""
    source: str = ""
    destination: str = ""
    uuid: str = ""
    """Tells it from another domain of its name."""
    was_running: bool = True
    autostart: bool = False
    """Whether it started with its host, which libvirt forgets on the way."""
    known_there: bool = False
    """Whether the destination had a definition of it before."""
    pscom: int = 0
    """How many processes have been suspended."""
    detached: Sequence[Attached] = ()
    path: str | None = None
    """Where the domain was saved to."""
    xml: str | None = None
    """Its definition, for it has none on the other host; None for a transient one."""


class Record:
    """What is kept of one trip, in the journal."""

    def __init__(self, context: Context, name: str, kept: Kept) -> None:
        self._context = context
        self._name = name
        self.kept = kept

    def keep(self, **changes: Any) -> "Future[None]":
        """Change some of it; the future is done when it is stored."""
        self.kept = msgspec.structs.replace(self.kept, **changes)
        trips = {**self._context.saved_state.get(_KEY, {})}
        trips[self._name] = msgspec.to_builtins(self.kept)
        return self._context.save_state(**{_KEY: trips})


def kept_of(notes: Mapping[str, Any]) -> dict[str, Kept]:
    """What was kept of each trip, by the domain's name."""
    return msgspec.convert(notes.get(_KEY, {}), dict[str, Kept])
