"""The journal: the accepted, running, answered and confirmed orders.

A container is written here before it is acknowledged to the broker, a member before it is passed to
the hypervisor, an answer before it is sent. So after a kill at any time, the next run knows which
orders are unfinished and which answers are unsent::

    accepted ──► members: none, running, done ──► answered ──► confirmed ──► trimmed
"""

import asyncio
import hashlib
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from fastlib.clock import SYSTEM_CLOCK, Clock
from fastlib.migfra.errors import JournalError
from fastlib.migfra.failures import OnFailure, log_failure

from . import acceptance, history, schema
from .acceptance import Acceptance, Order, take_back_begins
from .arrivals import Arrivals
from .begins import Beginning, Turn, note_act, note_begin, take_back
from .group_commit import GroupCommit
from .journal_file import JournalFile
from .records import Record
from .repetition import REPETITION_SECONDS, UNKNOWN_ORIGIN, Arrival, Origin
from .rows_along import RowsAlong, write_confirmations, write_notes
from .schema import Unconfirmed, Unfinished
from .trimming import Trimming

_ANSWER: Final = (
    "UPDATE containers SET state = ?, answer = ?, answered = ?, outcome = coalesce(?, outcome)"
    " WHERE number = ?"
)
CONFIRMATION_SECONDS: Final = 0.1
"""Seconds that a confirmation may wait for another transaction."""
NOTE_SECONDS: Final = 1.0
"""Seconds that a note may wait for another transaction."""
FLUSH_SECONDS: Final = 2.0
"""Seconds that `history` waits for pending writes."""


class _Stored(msgspec.Struct, frozen=True):
    """The result of an operation, with a callback in the thread.

    The callback returns whether the caller may learn of the commit some milliseconds late.
    """

    callback: Callable[[], bool] | None


class Journal:
    """The journal of a daemon.

    Each method returns when its data is on the disk, unless its description says "returns at once".

    The notes about accepted orders go ahead of new orders. A new order that begins with its
    acceptance cannot overtake them.
    """

    def __init__(
        self,
        path: Path | str | None,
        *,
        max_age: float = 604_800.0,
        max_size: int = 64 << 20,
        repetition_window: float = REPETITION_SECONDS,
        host: str | None = None,
        clock: Clock = SYSTEM_CLOCK,
        on_failure: OnFailure = log_failure,
        digest_of: Callable[[bytes], bytes] = lambda payload: hashlib.sha256(payload).digest(),
    ) -> None:
        """Open the journal; with None as its path it is kept in memory.

        Containers whose answer the broker has are forgotten after `max_age` seconds of the
        journal's running time, or oldest first when the file has more than `max_size` bytes. The
        same bytes with the same id within `repetition_window` seconds are one order. `host` is the
        name of the host that orders come to. `on_failure` is called for a failure of the journal
        that no retry can correct. `digest_of` returns the same for payloads that order the same. It
        is called in the thread that writes, for orders that come again with other bytes.

        Raises JournalError.
        """
        self.path: Final = path
        self.host: Final = host
        self._host_key = schema.key(host)
        self._window = repetition_window
        self._clock = clock
        self._digest_of = digest_of
        self._file = JournalFile(path, host, clock)
        self._group_commit = GroupCommit(
            self._file.connection,
            on_failure,
            find_problem=self._file.find_problem,
            on_commit=self._committed,
        )
        self._trimming = Trimming(
            self._file, self._group_commit, clock, max_age=max_age, max_size=max_size
        )
        self._arrivals = Arrivals(
            self._file.run, repetition_window, self._trimming.opened, self._store_session
        )
        self._with_members: set[int] = set()
        """Numbers of unanswered orders that the table `members` may have."""
        self._notes = RowsAlong(self._group_commit, write_notes, NOTE_SECONDS)
        self._confirmations = RowsAlong(
            self._group_commit, write_confirmations, CONFIRMATION_SECONDS
        )
        self.is_older_copy: Final = self._file.is_older_copy
        """Whether the file was replaced by an older copy of itself: it misses newer orders."""

    @property
    def identity(self) -> str:
        """Random text that was made with the journal."""
        return self._file.run.identity

    @property
    def is_new(self) -> bool:
        """Whether the file was made in this run and has no earlier orders."""
        return self.path is not None and self._file.run.is_new

    @property
    def newest(self) -> float | None:
        """Time of acceptance of earlier runs' newest order, in seconds since 1970, if any."""
        return self._file.run.newest

    @property
    def earlier_host(self) -> str | None:
        """The name of the host in the run before, None if there was none."""
        return self._file.run.earlier_host

    @property
    def last_error(self) -> Exception | None:
        """The error that prevents writing at present, None without one.

        A JournalError means that the file is lost. It stays until the daemon is started again.
        """
        return self._group_commit.last_error

    def on_change(self, callback: Callable[[], object]) -> None:
        """Register `callback`. It is called in the loop after each change of `last_error`."""
        self._group_commit.on_change = callback

    @property
    def waiting(self) -> int:
        """Number of operations that wait to be written."""
        return len(self._group_commit)

    def size(self) -> int:
        """Bytes of the files; 0 in memory."""
        return self._file.size()

    async def accept(
        self,
        id: str | None,
        digest: bytes | None,
        payload: bytes,
        *,
        key: str | None = None,
        origin: Origin = UNKNOWN_ORIGIN,
        task: str = "",
        vm_names: Iterable[str] = (),
        any_domain: bool = False,
        expires: float | None = None,
        has_room: bool = True,
        turn: Turn | None = None,
    ) -> Acceptance:
        """Accept a container, unless it is known by its key or by the rules of `repetition.py`.

        `digest` identifies the content; None lets the journal call `digest_of` if it must compare
        it. `task` and `vm_names` are its title and domains. With
        `any_domain` it may also affect other domains. It does not begin after `expires` (seconds
        since 1970). Without `has_room`, it is only looked up. Calls take effect in their order.

        If it begins by its `turn`, and is new, the same commit notes that its only member is passed
        to the hypervisor, as `begin` does. If this call is cancelled meanwhile, the member is not
        passed on, and the note is removed.

        Raises JournalError if the journal accepts no more orders, and the errors of the database.
        """
        self._refuse_if_lost()
        clock, id_key = self._clock.monotonic(), schema.key(id)
        way = self._arrivals.note(origin, id_key, clock, has_key=key is not None)
        order = Order(
            arrival=Arrival(
                raw=hashlib.sha256(payload).digest(),
                content=digest or b"",
                duplicate=origin.duplicate,
                session=way.session,
            ),
            id=id_key,
            key=schema.key(key),
            task=schema.encoded(task),
            vm_names=[schema.encoded(name) for name in vm_names],
            any_domain=any_domain,
            expires=expires,
            host=self._host_key,
            payload=payload,
            packet=origin.packet_id,
            packet_is_known=way.packet_is_known,
            place=way.place,
            fresh=way.fresh,
            window=self._window,
            now=self._clock.now(),
            clock=clock,
            boot=self._file.boot,
            digest_of=self._digest_of,
            has_room=has_room,
            turn=turn,
        )
        self._trimming.grown += len(payload)

        written: list[Acceptance] = []

        def write(connection: sqlite3.Connection) -> Acceptance:
            # Without this, a later run could read in a file that was put back that it has begun.
            self._group_commit.check_file()
            self._refuse_if_lost()
            written[:] = [acceptance.accept(connection, order)]  # again after a rollback
            return written[0]

        try:
            accepted = await self._group_commit.submit(write, None if turn is None else turn.decide)
        except asyncio.CancelledError:
            self._group_commit.submit_later(
                lambda connection: take_back_begins(connection, written)
            )
            raise
        self._refuse_if_lost()  # a commit to a deleted file is worthless
        return accepted

    def _committed(self, results: list[Any]) -> int:
        """Note the position of the journal, and call the callbacks of stored results.

        Return how many of them let their callers wait. Called in the thread.
        """
        order = patient = 0
        for result in results:
            kind = type(result)
            if kind is Acceptance:
                order = max(order, result.number)
            elif kind is _Stored and result.callback is not None:
                patient += result.callback()
        if order > self._file.newest_order:
            self._file.note_order(order)
        return patient

    def settle(self) -> None:
        """Let the callers of the last commit learn of it now, if they may learn of it late."""
        self._group_commit.settle()

    def _refuse_if_lost(self) -> None:
        if self._group_commit.lost is not None:
            raise JournalError(str(self._group_commit.lost))

    def came_between(self, id: str | None) -> None:
        """Note that a message with an id came that is not stored; returns at once.

        The same bytes before and after it are two orders. It is written only if an order of this id
        came a short time ago.
        """
        known = schema.key(id)
        if self._arrivals.may_come_again(known, self._clock.monotonic()):
            self._group_commit.submit_later(
                lambda connection: acceptance.mark_followed(connection, known)
            )

    def session_began(self, session_start: int) -> None:
        """Note the MQTT session of this connection; returns at once.

        Call it after each connect, because sessions without orders count as well. See
        `ReceivedMessage.session_start`.
        """
        self._arrivals.session_of(session_start)

    def _store_session(self, session: int) -> None:
        self._group_commit.submit_later(
            lambda connection: schema.set_meta(connection, "session", session)
        )

    async def begin(self, number: int, position: int, *, waits: bool = False) -> None:
        """Note that a member is about to be passed to the hypervisor.

        One that first `waits` there has not begun yet: `begun` notes its begin.
        """
        now = self._clock.now()
        beginning: Beginning = "waits" if waits else "acts"
        self._notes.cut()
        if position:
            self._with_members.add(number)
        await self._group_commit.submit(
            lambda connection: note_begin(connection, number, position, now, beginning), ahead=True
        )

    async def not_begun(self, number: int, position: int) -> None:
        """Note that a member expired while its `begin` was written."""
        await self._group_commit.submit(
            lambda connection: take_back(connection, number, position), ahead=True
        )

    async def begun(self, number: int, position: int) -> None:
        """Note that a member that waited in the hypervisor is about to act on its domain."""
        now = self._clock.now()
        self._notes.cut()
        await self._group_commit.submit(
            lambda connection: note_act(connection, number, position, now), ahead=True
        )

    async def save_state(self, number: int, position: int, state: Mapping[str, Any]) -> None:
        """Store the state that the hypervisor saves.

        Raises TypeError for values that JSON cannot represent.
        """
        self._with_members.add(number)
        await self._do(
            "INSERT INTO members (container, position, notes) VALUES (?, ?, ?)"
            " ON CONFLICT DO UPDATE SET notes = excluded.notes",
            number,
            position,
            msgspec.json.encode(state),
        )

    @property
    def hypervisor_state(self) -> Mapping[str, Any]:
        """The state that the hypervisor had saved besides its tasks when the journal was opened."""
        stored = self._file.run.hypervisor_state
        return {} if stored is None else msgspec.json.decode(stored, type=dict[str, Any])

    async def save_hypervisor_state(self, state: Mapping[str, Any]) -> None:
        """Store the state that the hypervisor saves besides its tasks.

        Raises TypeError for values that JSON cannot represent.
        """
        await self._do(
            "INSERT OR REPLACE INTO meta VALUES (?, ?)",
            schema.HYPERVISOR_STATE,
            msgspec.json.encode(state),
        )

    async def done(self, number: int, position: int, results: bytes) -> None:
        """Note that a member has ended, with its results as JSON."""
        self._with_members.add(number)
        await self._do(
            "INSERT INTO members (container, position, results) VALUES (?, ?, ?)"
            " ON CONFLICT DO UPDATE SET results = excluded.results",
            number,
            position,
            results,
        )

    async def cancel(self, number: int) -> None:
        """Note that the remaining members of the container must not begin."""
        await self._do("UPDATE containers SET cancelled = 1 WHERE number = ?", number)

    async def answer(
        self,
        number: int,
        answer: bytes,
        on_stored: Callable[[], bool] | None = None,
        *,
        outcome: str | None = None,
    ) -> None:
        """Note that all members have ended, and store the `answer` to send.

        `on_stored` is called right after the commit, in the thread that writes. It must not raise.
        It returns whether this call may return some milliseconds late, or at the next `settle`.
        It is not called if the file is known to be lost. `outcome` says how the only member has
        ended just now, if `note` does not.
        """
        row = (schema.ANSWERED, answer, self._clock.now(), schema.key(outcome), number)
        self._trimming.grown += len(answer)
        has_members = number in self._with_members
        self._with_members.discard(number)

        def write(connection: sqlite3.Connection) -> _Stored:
            if has_members:
                connection.execute("DELETE FROM members WHERE container = ?", (number,))
            connection.execute(_ANSWER, row)
            return _Stored(on_stored)

        await self._group_commit.submit(write, ahead=True)

    def confirmed(self, number: int) -> None:
        """Note that the broker has confirmed the answer; returns at once.

        It is written with the next transaction, at the latest after `CONFIRMATION_SECONDS`. After a
        crash before that, the next run sends the answer again.
        """
        seconds = self._trimming.confirm()
        self._confirmations.add((schema.CONFIRMED, self._clock.now(), seconds, number))

    def trim_if_due(self) -> None:
        """Trim the journal if the last time is long ago.

        Call it often: a daemon without orders has no other occasion.
        """
        self._trimming.trim_if_due()

    def trim(self) -> None:
        """Forget confirmed orders that are too old or too many; returns at once."""
        self._trimming.trim()

    def note(
        self, number: int, position: int | None, kind: str, text: str = "",
        vm_name: str | None = None,
    ) -> None:  # fmt: skip
        """Store an event of a container or of one of its members; returns at once, never raises.

        It is written with the next transaction, at the latest after `NOTE_SECONDS`. `vm_name` is
        the domain if it is not the member's own. The order can be found by it then.
        """
        name = None if vm_name is None else schema.encoded(vm_name)
        row = (number, position, self._clock.now(), kind, schema.encoded(text), name)
        self._notes.add(row)
        self._trimming.grown += len(text)

    async def history(
        self,
        id: str | None = None,
        key: str | None = None,
        vm_name: str | None = None,
        limit: int = 100,
        *,
        under_way: bool = False,
    ) -> list[Record]:
        """Return the orders that fit everything given, the newest first.

        With `under_way` only those without an answer, the oldest first. There are `limit` + 1 of
        them if more fit. While the journal cannot be written, the result has only earlier writes.
        Raises JournalError if it cannot be read.
        """

        def read(connection: sqlite3.Connection) -> list[Record]:
            find = history.under_way if under_way else history.history
            return find(connection, id, key, vm_name, limit + 1)

        if self.path is None:
            return await self._group_commit.submit(read)
        if self._group_commit.last_error is None:
            flushed = self._group_commit.submit(lambda _: None)
            await asyncio.wait((flushed,), timeout=FLUSH_SECONDS)
        return await asyncio.to_thread(history.read_separately, self.path, read)

    @property
    def began(self) -> float:
        """Time since which the journal has all orders, in seconds since 1970."""
        return self._file.began

    async def payload(self, number: int) -> bytes | None:
        """Return the payload of a container as it came; None if it is forgotten."""

        def read(connection: sqlite3.Connection) -> bytes | None:
            query = "SELECT payload FROM containers WHERE number = ?"
            row: tuple[bytes | None] = connection.execute(query, (number,)).fetchone() or (None,)
            return row[0]

        payload = await self._group_commit.submit(read, ahead=True)
        if payload is None:
            self._refuse_if_lost()
        return payload

    async def unfinished(self) -> list[Unfinished]:
        """Return the containers without an answer, in order of arrival."""
        monotonic = self._clock.monotonic()
        found = await self._group_commit.submit(
            lambda connection: schema.unfinished(connection, self._file.boot, monotonic)
        )
        self._with_members.update(left.number for left in found if left.members)
        return found

    async def unconfirmed(self) -> list[Unconfirmed]:
        """Return the answers that the broker may not have."""
        return await self._group_commit.submit(schema.unconfirmed)

    def give_up(self) -> None:
        """Stop writing, as if the process had been killed."""
        self._group_commit.give_up()

    async def close(self, timeout: float = 10.0) -> None:
        """Write all pending data within `timeout` seconds, and close the journal."""
        seconds = self._trimming.seconds()
        self._group_commit.submit_along(
            lambda connection: schema.set_meta(connection, "seconds", seconds), timeout
        )
        try:
            await self._group_commit.close(timeout)
        finally:  # also when it is cancelled
            self.give_up()
            try:
                with suppress(sqlite3.Error):  # a full disk; the write-ahead log has the data
                    await asyncio.to_thread(self._file.connection.close)
            finally:
                self._file.close_others()

    async def _do(self, statement: str, *values: Any) -> None:
        def execute(connection: sqlite3.Connection) -> None:
            connection.execute(statement, values)

        await self._group_commit.submit(execute, ahead=True)

    async def check_file(self) -> None:
        """Check that the file still exists; `last_error` then has the damage."""
        await self._group_commit.submit(lambda _: self._group_commit.check_file())
