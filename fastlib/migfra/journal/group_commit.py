"""Group commit: operations on SQLite that are submitted at the same time share one transaction."""

import asyncio
import math
import sqlite3
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from logging import getLogger
from typing import Any, Final, TypeVar

from fastlib.migfra.errors import JournalError
from fastlib.migfra.failures import OnFailure, describe, log_failure
from fastlib.migfra.telemetry.logs import context_without_task
from fastlib.transport.backoff import Backoff

from .commit_thread import CommitThread

log = getLogger("fastlib.migfra.journal.journal")

T = TypeVar("T")
Operation = Callable[[sqlite3.Connection], Any]
Prepare = Callable[[bool], bool]
"""Prepares an operation; see `GroupCommit.submit`."""
Entry = tuple[Operation, "asyncio.Future[Any] | None", Prepare | None]
"""The future is None if nobody awaits the operation."""

LARGEST_BATCH: Final = 1000
"""Operations in one transaction, at most."""
TURNS_TO_COLLECT: Final = 2
"""Turns of the loop after a commit, to collect what it has set in motion for the next one. In the
first one orders begin, in the second one those end that need not wait for anything."""
PAUSES: Final = (0.05, 5.0)
"""Seconds between attempts while the database cannot be written: the first and the longest."""
_NOT_RETRIED: Final = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.InterfaceError,
    sqlite3.NotSupportedError,
    sqlite3.ProgrammingError,
)
"""Errors of SQLite that another attempt would not change."""


def _is_temporary(error: sqlite3.Error) -> bool:
    """Return whether another attempt may succeed, such as for a lock or a full disk."""
    wrong_statement = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR
    return not wrong_statement and not isinstance(error, _NOT_RETRIED)


class _OperationError(Exception):
    """An operation raised an error of its own, so that the transaction needs to go without it."""

    def __init__(self, position: int, error: Exception) -> None:
        self.position: Final = position
        self.error: Final = error


class GroupCommit:
    """The one writer of a database. It executes operations in order, in a thread, many to a commit.

    While the database is locked or the disk is full, operations wait and are tried again, so none
    is lost and none fails. `last_error` and the log say why. An operation may be executed again
    after a rollback. An operation that raises an error of its own fails alone, and nothing of it is
    committed.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        on_failure: OnFailure = log_failure,
        *,
        find_problem: Callable[[], str | None] = lambda: None,
        on_commit: Callable[[list[Any]], object] = lambda results: None,
    ) -> None:
        """The connection has `isolation_level=None` and no other user.

        `on_failure` is called for an error that neither the database nor an operation explains.
        `find_problem` is called around each transaction. It returns what has happened to the file,
        so that a commit does not count any more; see `lost`. `on_commit` is called after each
        commit with the results of its operations, in the thread.
        """
        self._connection = connection
        self._on_failure = on_failure
        self._find_problem = find_problem
        self._on_commit = on_commit
        self._waiting: deque[Entry] = deque()
        self._ahead: deque[Entry] = deque()
        """What goes before all that waits."""
        self._batch: list[Entry] = []
        """What is being committed."""
        self._thread = CommitThread("fastlib journal")
        self._worker: asyncio.Task[None] | None = None
        self._is_urgent = False
        """Whether something waits that is not only to be written along."""
        self._due = math.inf
        """When what may wait must be written, by the clock of the loop."""
        self._timer: asyncio.TimerHandle | None = None
        self._closing = asyncio.Event()
        self.last_error: Exception | None = None
        """Why nothing can be written at the moment, None if all is well."""
        self.on_change: Callable[[], object] = _ignore
        """Called in the loop after each change of `last_error`."""
        self.lost: JournalError | None = None
        """Why the file is lost for good. Operations that can no longer be written are dropped."""

    def submit(
        self,
        operation: Callable[[sqlite3.Connection], T],
        prepare: Prepare | None = None,
        *,
        ahead: bool = False,
    ) -> "asyncio.Future[T]":
        """Execute an operation; the future has its result once that is committed.

        `prepare` is called in the loop, right before the first attempt. It sees what all earlier
        transactions have set in motion. It is called with True if an operation before this one was
        prepared for the same transaction. It may return False then: this operation and those
        behind it go into the next transaction, for which it is called again with False.

        With `ahead` it goes before all that waits without. Its future is done before theirs.

        The future raises JournalError if the group commit is closed, and what the operation raises.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        if self._closing.is_set():
            self._fail(future, "the journal is closed")
            return future
        (self._ahead if ahead else self._waiting).append((operation, future, prepare))
        self._is_urgent = True
        if not self._works:
            self._start()
        return future

    @property
    def _works(self) -> bool:
        return self._worker is not None and not self._worker.done()

    def _start(self) -> None:
        # The worker's log lines must not name the task that happened to write first.
        self._worker = asyncio.create_task(self._run(), context=context_without_task())

    def submit_along(self, operation: Operation, seconds: float) -> None:
        """Execute an operation with the next transaction, at the latest after `seconds`.

        It causes no transaction before that. It goes ahead, in the order of submission with those
        of `submit` that do: a report of an order must not be written after a begin that follows it.
        """
        if self._closing.is_set():
            return
        self._ahead.append((operation, None, None))
        self._due = min(self._due, asyncio.get_running_loop().time() + seconds)
        if not self._works:
            self._set_timer()

    def _set_timer(self) -> None:
        """Write what may wait when it is due. A timer for something earlier looks again then."""
        if self._timer is None or self._timer.when() > self._due:
            self._stop_timer()
            self._timer = asyncio.get_running_loop().call_at(self._due, self._write_due)

    def _write_due(self) -> None:
        self._timer = None
        if self._works or not (self._ahead or self._waiting) or self._closing.is_set():
            return
        if asyncio.get_running_loop().time() < self._due:
            self._set_timer()
        else:
            self._write_now()

    def _write_now(self) -> None:
        self._is_urgent = True
        if not self._works:
            self._start()

    def submit_later(self, operation: Operation) -> None:
        """Execute an operation whose end nobody awaits. Log its error."""
        if not self._closing.is_set():
            self._waiting.append((operation, None, None))
            self._write_now()

    def __len__(self) -> int:
        """Return how many operations are not written yet."""
        return len(self._ahead) + len(self._waiting) + len(self._batch)

    def _fill_batch(self) -> None:
        batch = self._batch = []
        while self._ahead and len(batch) < LARGEST_BATCH:
            batch.append(self._ahead.popleft())
        is_first = True
        while self._waiting and len(batch) < LARGEST_BATCH:
            entry = self._waiting.popleft()
            batch.append(entry)
            prepare = entry[2]
            if prepare is not None:
                if not prepare(not is_first):
                    self._waiting.appendleft(batch.pop())
                    break
                is_first = False

    async def _run(self) -> None:
        while self._is_urgent and not self._closing.is_set():
            try:
                self._fill_batch()
                batch = self._batch
                self._is_urgent = bool(self._ahead or self._waiting)
                if not self._is_urgent:
                    self._due = math.inf
                committed = await self._commit_until_written(batch)
            except Exception as error:
                self._change(error)
                for _, future, _ in self._batch:
                    self._fail(future, f"the journal failed: {describe(error)}")
                self._on_failure("the journal", error)
                continue
            except BaseException:
                self._waiting.extendleft(reversed(self._batch))
                self._is_urgent = True
                raise
            finally:
                self._batch = []
            if not committed:  # closed
                self._waiting.extendleft(reversed(batch))
                return
            for _ in range(TURNS_TO_COLLECT):
                await asyncio.sleep(0)
        if (self._ahead or self._waiting) and not self._closing.is_set():
            self._set_timer()

    async def _commit_until_written(self, batch: list[Entry]) -> bool:
        """Commit a batch, again and again until it succeeds; False when it is closed before.

        An operation that fails alone is removed from the batch.
        """
        loop = asyncio.get_running_loop()
        backoff = Backoff(*PAUSES)
        while batch:
            operations = [entry[0] for entry in batch]
            try:
                try:
                    results = await loop.run_in_executor(self._thread, self._commit, operations)
                finally:
                    if self.lost is not None and self.last_error is not self.lost:
                        log.error("%s", self.lost)
                        self._change(self.lost)
            except _OperationError as failed:
                _, future, _ = batch.pop(failed.position)
                _set_exception(future, failed.error)
                continue
            except sqlite3.Error as error:
                if self.lost is not None:  # what runs ends and is answered all the same
                    _set_results(batch, [None] * len(batch))
                    return True
                if not _is_temporary(error):
                    raise
                self._set_last_error(error)
            else:
                if self.lost is None:
                    self._set_last_error(None)
                _set_results(batch, results)
                return True
            with suppress(TimeoutError):
                async with asyncio.timeout(backoff.pause()):
                    await self._closing.wait()
                return False
        return True

    def _change(self, error: Exception | None) -> None:
        before, self.last_error = self.last_error, error
        if str(error) != str(before):
            self.on_change()

    def _set_last_error(self, error: sqlite3.Error | None) -> None:
        before = self.last_error
        self._change(error)
        if error is None and before is not None:
            log.warning("the journal can be written again")
        elif error is not None and str(error) != str(before):
            log.error(
                "the journal cannot be written: %s; until it can, no task is acknowledged and no "
                "result sent",
                error,
            )

    def _commit(self, operations: list[Operation]) -> list[Any]:
        """Execute operations in a transaction. Raises sqlite3.Error and _OperationError."""
        self._look()
        try:
            results = self._execute_all(operations)
        finally:
            self._look()  # a commit into a file that is gone is worth nothing
        if self.lost is None:
            self._on_commit(results)
        return results

    def _look(self) -> None:
        if self.lost is None and (problem := self._find_problem()) is not None:
            self.lost = JournalError(problem)

    def _execute_all(self, operations: list[Operation]) -> list[Any]:
        connection = self._connection
        if connection.in_transaction:  # the last rollback could not be written either
            connection.execute("ROLLBACK")
        connection.execute("BEGIN IMMEDIATE")
        try:
            results = [
                self._execute(operation, position) for position, operation in enumerate(operations)
            ]
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                with suppress(sqlite3.Error):  # the first error says more
                    connection.execute("ROLLBACK")
            raise
        return results

    def _execute(self, operation: Operation, position: int) -> Any:
        try:
            return operation(self._connection)
        except Exception as error:
            if isinstance(error, sqlite3.Error) and _is_temporary(error):
                raise
            raise _OperationError(position, error) from error

    def give_up(self) -> None:
        """Write nothing more, whatever waits."""
        self._closing.set()
        self._stop_timer()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def close(self, timeout: float) -> None:
        """Commit what waits, for at most `timeout` seconds, and fail the rest."""
        if (self._ahead or self._waiting) and not self._closing.is_set():
            self._write_now()
        if self._worker is not None and self._works:
            await asyncio.wait((self._worker,), timeout=timeout)
        self._closing.set()
        if self._worker is not None:
            await asyncio.wait((self._worker,))
        self._thread.shutdown()
        left = [*self._ahead, *self._waiting]
        self._ahead.clear()
        self._waiting.clear()
        for _, future, _ in left:
            self._fail(future, f"the journal was closed: {self.last_error}")

    @staticmethod
    def _fail(future: "asyncio.Future[Any] | None", reason: str) -> None:
        if future is None:
            return
        _set_exception(future, JournalError(reason))
        if not future.cancelled():
            future.exception()  # whoever awaits the future gets it; without a waiter it is no error


def _ignore() -> None:
    """Do nothing: nobody wants to know."""


def _set_results(batch: Iterable[Entry], results: Iterable[Any]) -> None:
    for (_, future, _), result in zip(batch, results, strict=True):
        if future is not None and not future.done():
            future.set_result(result)


def _set_exception(future: "asyncio.Future[Any] | None", error: Exception) -> None:
    if future is None:
        log.error("an entry of the journal was not written", exc_info=error)
    elif not future.done():
        future.set_exception(error)
