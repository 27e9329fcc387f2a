"""Decide again about a migration whose order was answered while a host was silent.

libvirt on the destination may execute its last call long after the source has given up. So once
both hosts answer, the domain is left running on one host, and the remains are removed. A copy that
may have run is paused, never destroyed.
"""

import asyncio
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import AsyncExitStack
from typing import Any, Final

import msgspec

from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.libvirt.domain.state import DomainState
from fastlib.migfra.hypervisors.libvirt.errors import ArrivedError
from fastlib.migfra.hypervisors.libvirt.runtime import LibvirtRuntime
from fastlib.migfra.plugin_api.cancel_scope import CancelScope
from fastlib.migfra.plugin_api.context import Context, DaemonServices

from .migration import Migration
from .reconcile import ask
from .record import saved_states
from .unsettled import UnsettledMigration, describe

_PATIENCE_SECONDS: Final = 10.0
"""Seconds within which libvirt must end its own clean-up, once both hosts answer."""
_LOCK_SECONDS: Final = 1.0
"""Seconds that a try waits for another task of the domain."""
_FIRST_PAUSE_SECONDS: Final = 1.0
_LONGEST_PAUSE_SECONDS: Final = 30.0
_GROWTH: Final = 1.5
"""Factor between two pauses."""


async def settle(runtime: LibvirtRuntime, entry: UnsettledMigration) -> bool:
    """Decide about a migration, if the hosts answer. The caller holds the lock of the domain.

    Returns whether it is settled. Raises HypervisorError.
    """
    there = await ask(runtime, entry.spec, entry.state, entry.spec.destination)
    if there is None:
        return False
    migration = _migration(runtime, entry)
    if entry.end == "arrived":
        end = await _complete(migration, there)
    elif await ask(runtime, entry.spec, entry.state, entry.spec.source) is None:
        return False
    else:
        end = await _decide_again(migration, entry)
    if end is None:
        return False
    await runtime.unsettled.remove(*entry.key)
    runtime.node.log.warning("%s is settled: %s", describe(entry), end)
    return True


async def _complete(migration: Migration, there: DomainState) -> str | None:
    """Do the last steps of a migration that has arrived. Returns the end, None to try again."""
    spec, state = migration.spec, migration.record.state
    words = f"{spec.name} {there.phrase} on {spec.destination}"
    if not there.active:
        return words
    if there.paused and not await migration.never_ran():
        # A user has paused it since.
        migration.record.state = msgspec.structs.replace(state, was_running=False)
    try:
        details = await migration.finish()
    except ArrivedError as error:
        return None if migration.is_unsettled else str(error)
    return await migration.describe_on_destination() + ("" if details is None else f"; {details}")


async def _decide_again(migration: Migration, entry: UnsettledMigration) -> str | None:
    """Decide with the answers of both hosts. Returns the end, None to try again."""
    found = await migration.reconcile(patience=_PATIENCE_SECONDS, stayed=entry.end == "stayed")
    if found.silent or found.place in ("unknown", "both", "divided"):
        return None
    problems: list[str] = []
    if found.place == "destination" and entry.end == "unknown":
        try:
            details = await migration.finish()
        except ArrivedError as error:
            return None if migration.is_unsettled else str(error)
        problems += [] if details is None else [details]
    elif found.place in ("destination", "lost") or found.note is not None:
        pass  # a copy at the destination may be of use, with its definition and its images
    elif found.place == "nowhere" and entry.end == "unknown":
        problems = await migration.remove_disks_that_never_ran()
    else:
        if entry.end == "stayed":
            await migration.remains.clear(problems, late=True)
        else:
            problems = await migration.undo(late=True)
        if not migration.remains.are_cleared:
            return None
    return "; ".join([found.whole, *problems])


def _migration(runtime: LibvirtRuntime, entry: UnsettledMigration) -> Migration:
    context = _context(runtime, entry)
    migration = Migration(runtime, entry.spec, CancelScope(), context, context.measurement)
    migration.record.state = entry.state
    return migration


def _context(runtime: LibvirtRuntime, entry: UnsettledMigration) -> Context:
    """Return a context that stores the changes of the record with the unsettled migration."""

    def store(values: Mapping[str, Any]) -> "Future[None]":
        state = saved_states(values)[entry.spec.name]
        return runtime.unsettled.update(msgspec.structs.replace(entry, state=state))

    services = DaemonServices(store_state=store)
    return Context(runtime.host, log=runtime.node.log, services=services)


async def settle_first(runtime: LibvirtRuntime, *names: str) -> None:
    """Settle the migrations of domains before another order. The caller holds their locks.

    Those with a host that is still silent stay unsettled.
    """
    for entry in [entry for name in names for entry in runtime.unsettled.of(name)]:
        try:
            await settle(runtime, entry)
        except HypervisorError as error:
            runtime.node.log.warning("%s: %s", describe(entry), error)


class Settler:
    """Settles the unsettled migrations of a daemon in the background."""

    def __init__(self, runtime: LibvirtRuntime) -> None:
        self._runtime = runtime
        self._tries: dict[tuple[str, str, float], _Tries] = {}
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Read the migrations of an earlier run, and begin to settle them."""
        self._runtime.unsettled.load()
        for entry in self._runtime.unsettled.entries:
            self._runtime.node.log.info("%s: waits until both hosts answer", describe(entry))
        self._task = asyncio.create_task(self._run())

    async def end(self) -> None:
        """Stop. The journal has the migrations that are not settled."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        unsettled, loop = self._runtime.unsettled, asyncio.get_running_loop()
        while True:
            unsettled.added.clear()
            now = loop.time()
            entries = {(*entry.key, entry.since): entry for entry in unsettled.entries}
            self._tries = {key: self._tries.get(key) or _Tries(now) for key in entries}
            await asyncio.gather(
                *(
                    self._try(entry, self._tries[key])
                    for key, entry in entries.items()
                    if self._tries[key].next <= now
                )
            )
            next_try = min((tries.next for tries in self._tries.values()), default=None)
            try:
                async with asyncio.timeout_at(next_try):
                    await unsettled.added.wait()
            except TimeoutError:
                continue

    async def _try(self, entry: UnsettledMigration, tries: "_Tries") -> None:
        """Try once to settle a migration."""
        runtime, name = self._runtime, entry.spec.name
        try:
            async with AsyncExitStack() as stack:
                async with asyncio.timeout(_LOCK_SECONDS):
                    await stack.enter_async_context(runtime.locks.hold(name, CancelScope()))
                if (latest := runtime.unsettled.get(entry.key)) is not None:
                    await settle(runtime, latest)
        except TimeoutError:
            runtime.node.log.debug("%s: waits for another task", describe(entry))
        except HypervisorError as error:
            runtime.node.log.warning("%s: %s", describe(entry), error)
        except Exception:  # the others must be settled, too
            runtime.node.log.exception("%s", describe(entry))
        tries.count(asyncio.get_running_loop().time())


class _Tries:
    """The time of the next try to settle a migration."""

    def __init__(self, now: float) -> None:
        self.next = now
        """By the loop's clock."""
        self._pause = _FIRST_PAUSE_SECONDS

    def count(self, now: float) -> None:
        """Note that a try has ended now."""
        self.next = now + self._pause
        self._pause = min(_LONGEST_PAUSE_SECONDS, self._pause * _GROWTH)
