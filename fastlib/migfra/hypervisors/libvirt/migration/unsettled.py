"""The migrations that ended while a host was silent, in the journal until that host answers.

The order is answered then, and the journal forgets its record. The remains of the migration on the
silent host must still be removed, and a copy of the domain there must not run.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future
from logging import Logger, LoggerAdapter
from typing import Any, Final, Literal

import msgspec

from fastlib.message.node import UnsettledReport
from fastlib.migfra.plugin_api.context import done
from fastlib.migfra.plugin_api.hypervisor import NodeContext
from fastlib.migfra.virt.migration_spec import MigrationSpec

from .record import MigrationState

_KEY: Final = "unsettled"
MOST_ENTRIES: Final = 256
"""Migrations that the journal keeps at most. The oldest ones are forgotten first."""


End = Literal["stayed", "arrived", "unknown"]
"""The answer to the order: the domain is on its source, on its destination, or it is not known."""


class UnsettledMigration(msgspec.Struct, frozen=True, kw_only=True):
    """A migration whose end is not certain, because a host was silent."""

    spec: MigrationSpec
    """With the options alone that its end needs."""
    state: MigrationState
    end: End
    since: float
    """Seconds since the beginning of 1970 (UTC)."""

    @property
    def remark(self) -> str:
        """A sentence for the result of an order about the domain."""
        spec = self.spec
        if self.end != "stayed":
            return (
                f"its migration from {spec.source} to {spec.destination} is unsettled; the daemon "
                "decides again once both hosts answer"
            )
        copy = "a paused copy of it" if self.state.arrives_paused else "a copy of it"
        what = "removes it" if self.state.arrives_paused else "pauses it"
        return (
            f"{copy} may be on {spec.destination}, which cannot be queried; once "
            f"{spec.destination} answers, the daemon {what}"
        )

    @property
    def report(self) -> UnsettledReport:
        """The report for `query node`."""
        spec = self.spec
        return UnsettledReport(
            vm_name=spec.name,
            source=spec.source,
            destination=spec.destination,
            since=self.since,
        )

    @property
    def key(self) -> tuple[str, str]:
        """UUID of the domain, and the destination."""
        return self.state.uuid, self.spec.destination


class UnsettledMigrations:
    """All unsettled migrations of a daemon."""

    def __init__(self, node: NodeContext) -> None:
        self._node = node
        self._log: Logger | LoggerAdapter[Logger] = node.log
        self._entries: dict[tuple[str, str], UnsettledMigration] = {}
        self.added: Final = asyncio.Event()
        """Set when a migration is added."""

    def load(self) -> None:
        """Read those of an earlier run of the daemon from the journal."""
        stored = self._node.saved_state.get(_KEY, ())
        try:
            entries = msgspec.convert(stored, tuple[UnsettledMigration, ...])
        except msgspec.ValidationError as error:
            self._log.error("the unsettled migrations in the journal cannot be read: %s", error)
            return
        self._entries = {entry.key: entry for entry in entries}

    @property
    def entries(self) -> Sequence[UnsettledMigration]:
        """All, the oldest first."""
        return tuple(self._entries.values())

    def of(self, name: str) -> Sequence[UnsettledMigration]:
        """Return those of a domain."""
        return tuple(entry for entry in self._entries.values() if entry.spec.name == name)

    def get(self, key: tuple[str, str]) -> UnsettledMigration | None:
        """Return the one with a key, None if there is none."""
        return self._entries.get(key)

    async def put(self, entry: UnsettledMigration) -> None:
        """Add one, or replace the one of the same domain and destination.

        Returns when the journal has stored it.
        """
        # So it is the same before and after a restart.
        entry = msgspec.convert(msgspec.to_builtins(entry), UnsettledMigration)
        self._entries[entry.key] = entry
        while len(self._entries) > MOST_ENTRIES:
            oldest = next(iter(self._entries.values()))
            self._log.warning("%s is forgotten: too many hosts are silent", describe(oldest))
            del self._entries[oldest.key]
        await asyncio.wrap_future(self._store())
        self.added.set()

    def update(self, entry: UnsettledMigration) -> "Future[None]":
        """Replace one that is still there. The future is done when the journal has stored it."""
        if entry.key not in self._entries:
            return done()
        self._entries[entry.key] = entry
        return self._store()

    async def remove(self, uuid: str, destination: str) -> None:
        """Forget the one of a domain and destination, if there is one."""
        if self._entries.pop((uuid, destination), None) is not None:
            await asyncio.wrap_future(self._store())

    def _store(self) -> "Future[None]":
        stored: list[Any] = [msgspec.to_builtins(entry) for entry in self._entries.values()]
        return self._node.save_state(**{_KEY: stored})


def describe(entry: UnsettledMigration) -> str:
    """Return words for a migration, for the log."""
    spec = entry.spec
    return f"the unsettled migration of {spec.name} from {spec.source} to {spec.destination}"
