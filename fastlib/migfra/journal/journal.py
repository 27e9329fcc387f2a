"""The journal: what was accepted, what ran, what was answered, and what the broker has of it.

A container is written here before it is acknowledged to the broker, a member before it is handed to
the hypervisor, an answer before it is sent. So whenever the daemon is killed, the next one knows
what is owed to whom::

    accepted ──► members: none, running, done ──► answered ──► confirmed ──► trimmed
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from fastlib.migfra.errors import JournalError
from fastlib.migfra.failures import OnFailure, log_failure

from . import schema
from .group_commit import GroupCommit
from .schema import Unfinished

TRIM_EVERY: Final = 1000
"""Confirmed containers after which the journal is trimmed."""


class Acceptance(msgspec.Struct, frozen=True):
    """What the journal says of a container that came."""

    kind: Literal["new", "under way", "answered", "other"]
    """`other`: the id was used for a container that says something else."""
    number: int
    answer: bytes | None = None


class Journal:
    """See the module. Every method returns once it is on the disk, but for those that say so."""

    def __init__(
        self,
        path: Path | str | None,
        *,
        max_age: float = 604_800.0,
        max_size: int = 64 << 20,
        on_failure: OnFailure = log_failure,
    ) -> None:
        """Open the journal; None as its path keeps it in memory.

        Containers whose answer the broker has are forgotten after `max_age` seconds, or oldest
        first when the file has more than `max_size` bytes. `on_failure` is called when the journal
        fails in a way that no retry can mend.

        Raises JournalError.
        """
        self.path: Final = path
        self._max_age = max_age
        self._max_size = max_size
        self._confirmed = 0
        try:
            self._connection, self._unacknowledged = schema.open_journal(path)
        except (sqlite3.Error, OSError) as error:
            raise JournalError(f"the journal {path} cannot be opened: {error}") from error
        self._group_commit = GroupCommit(self._connection, on_failure)

    @property
    def last_error(self) -> Exception | None:
        """Why nothing can be written at the moment, None if all is well."""
        return self._group_commit.last_error

    @property
    def waiting(self) -> int:
        """Operations that wait to be written."""
        return len(self._group_commit)

    def size(self) -> int:
        """Bytes of the files; 0 in memory."""
        if self.path is None:
            return 0
        files = (Path(f"{self.path}{suffix}") for suffix in ("", "-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    async def accept(
        self, id: str | None, digest: bytes, payload: bytes, *, redelivered: bool
    ) -> Acceptance:
        """Take a container on, unless it is known. `digest` tells contents apart.

        One without id is known only if the broker delivers it again, to the next run of a daemon
        that was killed between writing it down and acknowledging it.
        """
        key, now = schema.key(id), time.time()
        if key is None and redelivered and (numbers := self._unacknowledged.get(digest)):
            number = numbers.popleft()
            if not numbers:
                del self._unacknowledged[digest]
            return Acceptance("under way", number)

        def accept(connection: sqlite3.Connection) -> Acceptance:
            row = None
            if key is not None:
                row = connection.execute(
                    "SELECT number, digest, state, answer FROM containers WHERE id = ?", (key,)
                ).fetchone()
            if row is None:
                cursor = connection.execute(
                    "INSERT INTO containers (id, digest, accepted, state, payload)"
                    " VALUES (?, ?, ?, ?, ?)",
                    (key, digest, now, schema.ACCEPTED, payload),
                )
                assert cursor.lastrowid is not None
                return Acceptance("new", cursor.lastrowid)
            number, known, state, answer = row
            if known != digest:
                return Acceptance("other", number)
            if state == schema.ACCEPTED:
                return Acceptance("under way", number)
            return Acceptance("answered", number, answer)

        return await self._group_commit.submit(accept)

    def acknowledged(self, number: int) -> None:
        """The broker was told that it may forget the container; returns at once."""
        self._later("UPDATE containers SET acknowledged = 1 WHERE number = ?", number)

    async def begin(self, number: int, position: int) -> None:
        """A member is about to be handed to the hypervisor."""
        await self._do("INSERT INTO members (container, position) VALUES (?, ?)", number, position)

    async def save_state(self, number: int, position: int, state: Mapping[str, Any]) -> None:
        """Store what the hypervisor saves. Raises TypeError for what JSON cannot represent."""
        await self._do(
            "UPDATE members SET notes = ? WHERE container = ? AND position = ?",
            msgspec.json.encode(state),
            number,
            position,
        )

    async def done(self, number: int, position: int, results: bytes) -> None:
        """A member has ended, with these results as JSON."""
        await self._do(
            "INSERT INTO members (container, position, results) VALUES (?, ?, ?)"
            " ON CONFLICT DO UPDATE SET results = excluded.results",
            number,
            position,
            results,
        )

    async def cancel(self, number: int) -> None:
        """Members of the container that have not begun shall not."""
        await self._do("UPDATE containers SET cancelled = 1 WHERE number = ?", number)

    async def answer(self, number: int, answer: bytes) -> None:
        """All members have ended; `answer` is what is to be sent."""

        def write(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM members WHERE container = ?", (number,))
            connection.execute(
                "UPDATE containers SET state = ?, answer = ?, payload = NULL WHERE number = ?",
                (schema.ANSWERED, answer, number),
            )

        await self._group_commit.submit(write)

    def confirmed(self, number: int) -> None:
        """The broker has the answer; returns at once."""
        self._later(
            "UPDATE containers SET state = ?, confirmed = ? WHERE number = ?",
            schema.CONFIRMED,
            time.time(),
            number,
        )
        self._confirmed += 1
        if self._confirmed % TRIM_EVERY == 0:
            self.trim()

    def trim(self) -> None:
        """Forget what is old, or too much, of what the broker has; returns at once."""
        oldest = time.time() - self._max_age
        self._group_commit.submit_later(
            lambda connection: schema.trim(connection, oldest, self._max_size)
        )

    async def payload(self, number: int) -> bytes | None:
        """What a container came as; None if it is answered."""

        def read(connection: sqlite3.Connection) -> bytes | None:
            query = "SELECT payload FROM containers WHERE number = ?"
            row: tuple[bytes | None] = connection.execute(query, (number,)).fetchone() or (None,)
            return row[0]

        return await self._group_commit.submit(read)

    async def unfinished(self) -> list[Unfinished]:
        """The containers that are not answered, in the order in which they came."""
        return await self._group_commit.submit(schema.unfinished)

    async def unconfirmed(self) -> list[tuple[int, str | None, bytes]]:
        """Numbers, ids and answers of the containers whose answer the broker may not have."""
        return await self._group_commit.submit(schema.unconfirmed)

    def give_up(self) -> None:
        """Write nothing more, as after the process was killed."""
        self._group_commit.give_up()

    async def close(self, timeout: float = 10.0) -> None:
        """Write what is to be written, for at most `timeout` seconds."""
        try:
            await self._group_commit.close(timeout)
        finally:  # also when it is cancelled
            self.give_up()
            with suppress(sqlite3.Error):  # a full disk; all that counts is in the write-ahead log
                await asyncio.to_thread(self._connection.close)

    async def _do(self, statement: str, *values: Any) -> None:
        await self._group_commit.submit(_statement(statement, values))

    def _later(self, statement: str, *values: Any) -> None:
        self._group_commit.submit_later(_statement(statement, values))


def _statement(statement: str, values: tuple[Any, ...]) -> Callable[[sqlite3.Connection], None]:
    def execute(connection: sqlite3.Connection) -> None:
        connection.execute(statement, values)

    return execute
