"""The limits of a host's migrations, for coroutines that wait for their turn.

A hypervisor makes one `MigrationLimits` for its host, and holds a turn around each migration::

    limits = MigrationLimits({Slot("node01", "outgoing"): 2, Slot("node01", "incoming"): 2}, keeper)

    async with limits.enqueued(name, slots_between("node01", destination), memory) as turn:
        await turn.wait(scope, context)
        ...  # the migration

`migration_queue.py` has the rules. The limits of this host are counted here. A `SlotKeeper` counts
those of other hosts. Only the hypervisor can provide it, because the daemons of other hosts must
get the same answer.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import count
from logging import getLogger
from typing import Final, Literal, Protocol

from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.plugin_api.cancel_scope import CancelScope
from fastlib.migfra.plugin_api.context import Context

from .migration_queue import MigrationQueue, Slot

log = getLogger("fastlib.migfra")

DEFAULT_MIGRATIONS: Final = 2
"""Default of the options `outgoing-migrations` and `incoming-migrations`."""
OUTGOING_MEANING: Final = "Number of domains that may migrate from this host at once; others wait."
INCOMING_MEANING: Final = "Number of domains that may migrate to this host at once; others wait."
"""The descriptions of the options, for hypervisors that declare them."""
QUEUED: Final = "queued"
"""Key of the saved state of a task that had to wait. Until it moves a domain it can be repeated."""
POLL_SECONDS: Final = 1.0
"""Seconds after which another host that had no slot is queried again."""
_LONGEST_WAIT_SECONDS: Final = 3600.0


class SlotKeeper(Protocol):
    """Takes the slots of a migration. The daemons of all hosts see them."""

    async def take(self) -> bool:
        """Take all slots or none, without waiting for one. Returns False if one is not free.

        Raises HypervisorError if a host cannot be queried.
        """

    async def give_back(self) -> None:
        """Release the slots. Must not raise HypervisorError, and must end soon."""


class LocalSlots:
    """Slots that no other daemon takes. The queue counts the limits of this host."""

    async def take(self) -> bool:
        """Return True: there is no other host to query."""
        return True

    async def give_back(self) -> None:
        """Do nothing: no other host counts the slots."""


class MigrationLimits:
    """The waiting and the running migrations of this host."""

    def __init__(self, limits: Mapping[Slot, int], *, poll_seconds: float = POLL_SECONDS) -> None:
        """Take the number of each slot of this host.

        Another host that has no free slot is queried again after at most `poll_seconds`.
        """
        self._queue = MigrationQueue(limits)
        self._poll_seconds = poll_seconds
        self._keys = count()
        self._turns: dict[int, Turn] = {}
        self._positions: dict[int, int] = {}
        self._timer: asyncio.TimerHandle | None = None
        """The timer that ends the pause before other hosts are queried again."""
        self._releasing: set[asyncio.Task[None]] = set()

    @property
    def running(self) -> int:
        """The number of migrations that run or are about to run."""
        return self._queue.running

    @property
    def queued(self) -> int:
        """The number of migrations that wait for their turn."""
        return self._queue.waiting

    @asynccontextmanager
    async def enqueued(
        self,
        name: str,
        slots: frozenset[Slot],
        memory: int,
        keeper: SlotKeeper | None = None,
        *,
        runs_already: bool = False,
    ) -> AsyncIterator["Turn"]:
        """Put a migration at the end of the queue, and remove it at the end of the block.

        `name` is the name of its domain, `memory` that of the domain, or of the larger of two, in
        KiB. With `runs_already` it counts from now on, whether or not a slot is free.
        """
        key = next(self._keys)
        turn = self._turns[key] = Turn(self, key, name, keeper or LocalSlots(), begun=runs_already)
        if runs_already:
            self._queue.add_running(key, slots, memory)
        else:
            self._queue.add(key, slots, memory)
        try:
            self._offer()
            yield turn
        finally:
            await self._end(key)

    # For turns

    def has_turn(self, key: int) -> bool:
        """Return whether a migration may try to begin now."""
        return self._queue.is_trying(key)

    def is_next_to_ask(self, key: int) -> bool:
        """Return whether a migration may try as soon as others have their answers."""
        return self._queue.is_next_to_ask(key)

    def begin(self, key: int) -> None:
        """Note that a migration has its slots and runs."""
        self._queue.begin(key)
        self._offer()

    def block(self, key: int) -> None:
        """Let a migration continue to wait, and try again after the pause."""
        self._queue.block(key)
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._poll_seconds, self._unblock)
        self._offer()

    def position(self, key: int) -> int | None:
        """Return the place of a migration in the queue. None if it does not wait."""
        return self._positions.get(key)

    def give_back_later(self, taking: "asyncio.Task[bool]", keeper: SlotKeeper) -> None:
        """Release the taken slots when the taking has ended."""

        async def give_back() -> None:
            await asyncio.wait({taking})
            error = taking.exception()
            # No caller waits any more for the answer of a host that cannot be queried.
            if error is not None and not isinstance(error, HypervisorError):
                log.error("the slots of a cancelled migration: %s", error, exc_info=error)
            await keeper.give_back()

        releasing = asyncio.ensure_future(give_back())
        self._releasing.add(releasing)
        releasing.add_done_callback(self._releasing.discard)

    def _unblock(self) -> None:
        self._timer = None
        self._queue.unblock()
        self._offer()

    async def _end(self, key: int) -> None:
        turn = self._turns.pop(key)
        try:
            await turn.give_back()
        finally:
            self._queue.remove(key)
            self._queue.unblock()  # the slot at the other host is also free
            self._offer()

    def _offer(self) -> None:
        """Give out turns, and wake all waiting ones: they may begin, or have another place."""
        while (key := self._queue.next_turn()) is not None:
            self._turns[key].changed.set()
        self._positions = self._queue.positions()
        for key in self._positions:
            self._turns[key].changed.set()


class Turn:
    """The turn of one migration."""

    def __init__(
        self, limits: MigrationLimits, key: int, name: str, keeper: SlotKeeper, *, begun: bool
    ) -> None:
        self._limits = limits
        self._key = key
        self._name = name
        self._keeper = keeper
        self._taking: asyncio.Task[bool] | None = None
        self._begun = begun
        self._reported: int | None = None
        self.changed: Final = asyncio.Event()
        """An event that is set when it may try to begin, or when its place has changed."""

    async def try_to_begin(self, scope: CancelScope) -> bool:
        """Begin if all slots are free now, and return whether they were.

        Raises TaskCancelledError, and HypervisorError if a host cannot be queried.
        """
        scope.check()
        while self._limits.is_next_to_ask(self._key):
            await self._wait_for_change(scope)
        if not self._limits.has_turn(self._key):
            return False
        self._taking = taking = asyncio.ensure_future(self._keeper.take())
        while not taking.done():
            await scope.wait_any(_LONGEST_WAIT_SECONDS, taking)
            scope.check()
        if taking.result():
            self._begun = True
            self._limits.begin(self._key)
            return True
        self._limits.block(self._key)
        return False

    async def wait(self, scope: CancelScope, context: Context) -> Literal[True]:
        """Wait until all slots are free, and begin. Reports the phase `queued` and the position.

        Raises TaskCancelledError as soon as the task is cancelled, and HypervisorError if a host
        cannot be queried.
        """
        while not await self.try_to_begin(scope):
            self._report(context)
            await self._wait_for_change(scope)
        return True

    async def _wait_for_change(self, scope: CancelScope) -> None:
        await scope.wait_any(_LONGEST_WAIT_SECONDS, self.changed.wait())
        self.changed.clear()
        scope.check()

    def _report(self, context: Context) -> None:
        position = self._limits.position(self._key)
        if position is not None and position != self._reported:
            self._reported = position
            context.progress("queued", vm_name=self._name, position=position)

    async def give_back(self) -> None:
        """Release the slots. Does so in the background if the migration did not begin."""
        if self._begun:
            await self._keeper.give_back()
        elif self._taking is not None:
            self._limits.give_back_later(self._taking, self._keeper)
