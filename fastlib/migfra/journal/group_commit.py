"""Writing to SQLite from coroutines: what comes at the same time shares one transaction."""

import asyncio
import contextvars
import sqlite3
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from logging import getLogger
from typing import Any, Final, TypeVar

from fastlib.migfra.errors import JournalError
from fastlib.transport.backoff import Backoff

log = getLogger("fastlib.migfra.journal.journal")

T = TypeVar("T")
Operation = Callable[[sqlite3.Connection], Any]

LARGEST_BATCH: Final = 1000
PAUSES: Final = (0.05, 5.0)
"""Seconds between tries while the database cannot be written, from the first to the longest."""
_ITS_OWN: Final = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.InterfaceError,
    sqlite3.NotSupportedError,
    sqlite3.ProgrammingError,
)
"""What is wrong with one operation. Others are not held up by it, as another try would not help."""


class GroupCommit:
    """The one writer of a database. Operations are done in order, in a thread, many to a commit.

    While the database is locked or its disk full, operations wait and are tried again, so none is
    lost and none fails; `last_error` says why, and the log. An operation must bear being repeated.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        """The connection has `isolation_level=None`, and no other user."""
        self._connection = connection
        self._waiting: deque[tuple[Operation, asyncio.Future[Any]]] = deque()
        self._worker: asyncio.Task[None] | None = None
        self._giving_up = asyncio.Event()
        self.last_error: sqlite3.Error | None = None
        """Why nothing can be written at the moment, None if all is well."""

    def submit(self, operation: Callable[[sqlite3.Connection], T]) -> "asyncio.Future[T]":
        """Have an operation done; the future has its result once that is committed.

        Raises JournalError in the future if `close` has given up before.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        if self._giving_up.is_set():
            self._fail(future, "the journal is closed")
            return future
        self._waiting.append((operation, future))
        if self._worker is None or self._worker.done():
            # What it logs is not about the task that happened to be the first to write.
            self._worker = asyncio.create_task(self._run(), context=contextvars.Context())
        return future

    def __len__(self) -> int:
        return len(self._waiting)

    async def _run(self) -> None:
        while self._waiting and not self._giving_up.is_set():
            await asyncio.sleep(0)  # what follows from the last commit shall be in the next
            count = min(len(self._waiting), LARGEST_BATCH)
            batch = [self._waiting.popleft() for _ in range(count)]
            try:
                results = await self._insist([operation for operation, _ in batch])
            except BaseException:
                self._waiting.extendleft(reversed(batch))
                raise
            if results is None:
                self._waiting.extendleft(reversed(batch))
                return
            for (_, future), result in zip(batch, results, strict=True):
                if future.done():
                    continue
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)

    async def _insist(self, operations: list[Operation]) -> list[Any] | None:
        """The results of a transaction, tried until it succeeds; None after giving up."""
        backoff = Backoff(*PAUSES)
        while True:
            try:
                results = await asyncio.to_thread(self._commit, operations)
            except sqlite3.Error as error:
                self._say(error)
            else:
                self._say(None)
                return results
            try:
                async with asyncio.timeout(backoff.pause()):
                    await self._giving_up.wait()
                return None
            except TimeoutError:
                continue

    def _say(self, last_error: sqlite3.Error | None) -> None:
        before, self.last_error = self.last_error, last_error
        if last_error is None and before is not None:
            log.warning("the journal can be written again")
        elif last_error is not None and str(last_error) != str(before):
            log.error(
                "the journal cannot be written: %s; until it can, no task is acknowledged and no "
                "result sent",
                last_error,
            )

    def _commit(self, operations: list[Operation]) -> list[Any]:
        connection = self._connection
        if connection.in_transaction:  # not even that could be written the last time
            connection.execute("ROLLBACK")
        connection.execute("BEGIN IMMEDIATE")
        try:
            results: list[Any] = [self._one(operation) for operation in operations]
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                with suppress(sqlite3.Error):  # the first error says more
                    connection.execute("ROLLBACK")
            raise
        return results

    def _one(self, operation: Operation) -> Any:
        """An operation's result, or what it raised that another try would not change."""
        try:
            return operation(self._connection)
        except _ITS_OWN as error:
            return error
        except sqlite3.Error:
            raise
        except Exception as error:
            return error

    def give_up(self) -> None:
        """Write nothing more, whatever waits."""
        self._giving_up.set()

    async def close(self, timeout: float) -> None:
        """Commit what waits, for at most `timeout` seconds, and fail what is left."""
        if self._worker is not None and not self._worker.done():
            await asyncio.wait((self._worker,), timeout=timeout)
        self._giving_up.set()
        if self._worker is not None:
            await asyncio.wait((self._worker,))
        left, self._waiting = self._waiting, deque()
        for _, future in left:
            if not future.done():
                self._fail(future, f"the journal was closed: {self.last_error}")

    @staticmethod
    def _fail(future: "asyncio.Future[Any]", why: str) -> None:
        future.set_exception(JournalError(why))
        future.exception()  # who waits for it is told, and where nobody does, nobody need be
