"""The journal's record of a migration, for a later run of the daemon."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Final

import msgspec

from fastlib.migfra.hypervisors.libvirt.domain.device_xml import AttachedDevice
from fastlib.migfra.hypervisors.libvirt.domain.host_identity import HostIdentity
from fastlib.migfra.hypervisors.libvirt.domain.snapshots import SnapshotRecord
from fastlib.migfra.hypervisors.libvirt.domain.volumes import Image
from fastlib.migfra.plugin_api.context import Context

_KEY: Final = "migrations"


class DiskCopy(msgspec.Struct, frozen=True, kw_only=True):
    """A copy of a disk that a migration makes at the destination."""

    target: str
    image: Image
    created: bool = False
    """Whether the migration has created the image. If not, it was about to."""
    data_file: str | None = None
    """The file on the source in which the copied image has its data."""


class MigrationState(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a migration that a later run of the daemon needs."""

    phase: str = "prepare"
    """`prepare`, `move`, `finish`; on storage `saving`, `saved`, `restoring`."""
    source: str = ""
    destination: str = ""
    uuid: str = ""
    """UUID of the domain. It distinguishes it from another domain with the same name."""
    was_running: bool = True
    autostart: bool = False
    """Whether the domain had autostart. libvirt loses that during a migration."""
    destination_identity: HostIdentity | None = None
    """The host to which the destination's name led when the migration began."""
    known_on_destination: bool = False
    """Whether the destination had a definition of the domain before."""
    arrives_paused: bool = False
    """Whether the daemon resumes it at the destination, once it is certain that it has arrived."""
    encrypted: bool | None = None
    """Whether the memory is sent encrypted. None if nothing is to be encrypted."""
    server_name: str | None = None
    """The name in the destination's certificate. None without encryption."""
    is_persistent: bool = True
    """Whether the domain is defined on its source."""
    arrives_by_xml: bool = False
    """Whether the destination's XML has the CPUs and memory nodes of the order."""
    pscom: int = 0
    """The number of suspended pscom processes."""
    detached: Sequence[AttachedDevice] = ()
    disks: Sequence[DiskCopy] = ()
    """The copies of its disks at the destination."""
    snapshots: Sequence[SnapshotRecord] = ()
    """The records of its snapshots that were removed on the source."""
    path: str | None = None
    """The file that the domain was saved to."""
    xml: str | None = None
    """Its definition, for the other host. None for a transient domain."""


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
