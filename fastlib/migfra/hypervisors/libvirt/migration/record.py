"""The journal's record of a migration: what a later run of the daemon must know."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Final

import msgspec

from fastlib.migfra.hypervisors.libvirt.domain.device_xml import AttachedDevice
from fastlib.migfra.hypervisors.libvirt.domain.host_identity import HostIdentity
from fastlib.migfra.plugin_api.context import Context

_KEY: Final = "migrations"


class MigrationState(msgspec.Struct, frozen=True, kw_only=True):
    """What a migration did to its domain, as far as a later run of the daemon must know it."""

    phase: str = "prepare"
    """`prepare`, `move`, `finish`; on storage `saving`, `saved`, `restoring`."""
    source: str = ""
    destination: str = ""
    uuid: str = ""
    """Distinguishes it from another domain of its name."""
    was_running: bool = True
    autostart: bool = False
    """Whether the domain started with its host. libvirt forgets that during a migration."""
    destination_identity: HostIdentity | None = None
    """Which host the destination's name led to when the migration began."""
    known_on_destination: bool = False
    """Whether the destination had a definition of the domain before."""
    pscom: int = 0
    """How many pscom processes are suspended."""
    detached: Sequence[AttachedDevice] = ()
    path: str | None = None
    """The file that the domain was saved to."""
    xml: str | None = None
    """Its definition, which the other host lacks. None for a transient domain."""


class MigrationRecord:
    """The record of one migration in the journal."""

    def __init__(self, context: Context, name: str, state: MigrationState) -> None:
        self._context = context
        self._name = name
        self.state = state

    def save(self, **changes: Any) -> "Future[None]":
        """Change some fields. The future is done when the journal has stored them."""
        self.state = msgspec.structs.replace(self.state, **changes)
        migrations = {**self._context.saved_state.get(_KEY, {})}
        migrations[self._name] = msgspec.to_builtins(self.state)
        return self._context.save_state(**{_KEY: migrations})


def saved_states(notes: Mapping[str, Any]) -> dict[str, MigrationState]:
    """Return the saved state of each migration, by the name of its domain."""
    return msgspec.convert(notes.get(_KEY, {}), dict[str, MigrationState])
