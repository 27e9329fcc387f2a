"""Group commit: operations on SQLite that are submitted at the same time share one transaction."""

import asyncio
import math
import sqlite3
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from contextvars import Context
from logging import getLogger
from time import monotonic
from typing import Any, Final, TypeVar

from fastlib.migfra.errors import JournalError
from fastlib.migfra.failures import OnFailure, describe, log_failure
from fastlib.migfra.telemetry.logs import context_without_task
from fastlib.transport.backoff import Backoff

from .commit_thread import CommitThread
from .slow_writes import SlowWrites
from .transaction import Operation, OperationError, execute_all, is_temporary

log = getLogger("fastlib.migfra.journal.journal")

T = TypeVar("T")
Prepare = Callable[[bool], bool]
"""Prepares an operation; see `GroupCommit.submit`."""
Entry = tuple[Operation, "asyncio.Future[Any] | None", Prepare | None]
"""An operation that was submitted. The future is None if no caller awaits it."""

LARGEST_BATCH: Final = 1000
"""Maximum number of operations in one transaction."""
TURNS_TO_COLLECT: Final = 2
"""Turns of the loop after a commit, to collect its effects for the next commit.

Orders begin in the first turn, and orders without a wait end in the second one.
"""
PAUSES: Final = (0.05, 5.0)
"""Seconds between attempts while the database cannot be written: the first and the longest."""


class GroupCommit:
    """The only writer of a database.

    It executes operations in order, in a thread, many in one commit.

    While the database is locked or the disk is full, operations wait and are tried again. None is
    lost, and none fails. `last_error` and the log have the reason. An operation may be executed
    again after a rollback. An operation that raises an error of its own fails alone, and its
    changes are not committed.

    The loop need not be woken for a commit whose results no caller needs at once: `settle` handles
    it, or the next submission does, or it comes some milliseconds late. A loop that runs would
    compete for the interpreter with the thread that sends an answer.

    Its steps are callbacks of the loop. No cancellation can come between a commit and the futures
    of its operations. The steps are: `_write` takes a batch, `_attempt` gives it to the thread,
    `_attempted` handles the outcome, and `_collect` calls `_write` again.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        on_failure: OnFailure = log_failure,
        *,
        find_problem: Callable[[], str | None] = lambda: None,
        on_commit: Callable[[list[Any]], int] = lambda results: 0,
    ) -> None:
        """The connection has `isolation_level=None` and no other user.

        `on_failure` is called for an error that neither the database nor an operation explains.
        `find_problem` is called once in a transaction, see `check_file`, and after one that has
        failed. It returns the damage to the file that makes commits worthless, or None; see `lost`.
        `on_commit` is called after each commit with the results of its operations, in the thread.
        It returns how many of their callers may learn of the commit some milliseconds late.
        """
        self._connection = connection
        self._on_failure = on_failure
        self._find_problem = find_problem
        self._on_commit = on_commit
        self._waiting: deque[Entry] = deque()
        self._ahead: deque[Entry] = deque()
        """Operations that go before all waiting ones."""
        self._batch: list[Entry] = []
        """Operations that are being committed. They stay here until then, so no other operation can
        overtake them.
        """
        self._thread = CommitThread("fastlib journal", self._must_settle)
        self._patient = 0
        """Number of operations in the last commit whose callers may learn of it late."""
        self._context: Context | None = None
        """That of the steps. Their log lines must not name the task that wrote first."""
        self._is_at_work = False
        """Whether a step runs or is scheduled."""
        self._idle = asyncio.Event()
        """Set when no step is."""
        self._slow_writes = SlowWrites()
        self._backoff = Backoff(*PAUSES)
        self._pause: asyncio.TimerHandle | None = None
        """Until the next attempt."""
        self._is_urgent = False
        """Whether an operation waits that needs a transaction."""
        self._due = math.inf
        """Latest time for the operations that may wait, by the clock of the loop."""
        self._timer: asyncio.TimerHandle | None = None
        self._is_closing = False
        """Whether all operations must be written now."""
        self._is_closed = False
        self._late_error: Exception | None = None
        """The error right after a commit."""
        self.last_error: Exception | None = None
        """The error that prevents writing at present, None without one."""
        self.on_change: Callable[[], object] = _ignore
        """Called in the loop after each change of `last_error`."""
        self._is_checked = False
        """Whether `check_file` was called in this transaction."""
        self.lost: JournalError | None = None
        """The reason why the file is lost until the next start.

        Operations that cannot be written are dropped.
        """

    def submit(
        self,
        operation: Callable[[sqlite3.Connection], T],
        prepare: Prepare | None = None,
        *,
        ahead: bool = False,
    ) -> "asyncio.Future[T]":
        """Execute an operation; the future has its result when that is committed.

        `prepare` is called in the loop, right before the first attempt. It sees the effects of all
        earlier transactions. It is called with True if an operation before this one was prepared
        for the same transaction. It may return False then: this operation and those behind it go
        into the next transaction, for which it is called again with False. If it raises an error,
        the operation fails alone.

        With `ahead` it goes before all waiting operations without. Its future is done before
        theirs.

        The future raises JournalError if the group commit is closed, and the errors of the
        operation.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        if self._is_closed:
            _fail(future, "the journal is closed")
            return future
        (self._ahead if ahead else self._waiting).append((operation, future, prepare))
        self._write_now()
        return future

    def submit_later(self, operation: Operation) -> None:
        """Execute an operation that no caller awaits. Log its error."""
        if not self._is_closed:
            self._waiting.append((operation, None, None))
            self._write_now()

    def submit_along(
        self, operation: Operation, seconds: float, prepare: Prepare | None = None
    ) -> None:
        """Execute an operation with the next transaction, at the latest after `seconds`.

        It causes no transaction before that. It goes ahead, in the order of submission with those
        of `submit` that do: a report of an order must not be written after a begin that follows it.
        `prepare` is called right before its transaction. Its answer does not matter.
        """
        if self._is_closed:
            return
        self._ahead.append((operation, None, prepare))
        if self._is_closing:
            self._write_now()
            return
        self._due = min(self._due, asyncio.get_running_loop().time() + seconds)
        if not self._is_at_work:
            self._set_timer()

    def __len__(self) -> int:
        """Return the number of operations that are not written yet."""
        return len(self._ahead) + len(self._waiting) + len(self._batch)

    # --- when it writes --------------------------------------------------------------------------

    def _write_now(self) -> None:
        self._is_urgent = True
        if not self._is_at_work:
            self._is_at_work = True
            self._idle.clear()
            if self._context is None:
                self._context = context_without_task()
            self._soon(self._write)
        else:
            self._thread.take()

    def _soon(self, step: Callable[..., None], *arguments: Any) -> None:
        asyncio.get_running_loop().call_soon(step, *arguments, context=self._context)

    def _set_timer(self) -> None:
        """Write the operations that may wait when they are due.

        A timer that fires too early starts again.
        """
        if self._timer is None or self._timer.when() > self._due:
            self._stop_timer()
            self._timer = asyncio.get_running_loop().call_at(self._due, self._write_due)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _write_due(self) -> None:
        self._timer = None
        if asyncio.get_running_loop().time() >= self._due:
            self._write_now()
        elif self._due < math.inf:  # else all was written along
            self._set_timer()

    def _rest(self) -> None:
        """Make no step until an operation is urgent or due."""
        self._is_at_work = False
        self._idle.set()
        if self._due < math.inf and not self._is_closed:
            self._set_timer()

    # --- its steps -------------------------------------------------------------------------------

    def _write(self) -> None:
        if self._is_closed or not self._is_urgent:
            self._rest()
            return
        self._fill_batch()
        self._is_urgent = bool(self._ahead or self._waiting)
        if not self._is_urgent:
            self._due = math.inf
        self._attempt()

    def _fill_batch(self) -> None:
        """Take the operations of the next transaction."""
        batch = self._batch
        while self._ahead and len(batch) < LARGEST_BATCH:
            entry = self._ahead.popleft()
            if entry[2] is None or self._prepare(entry, False) is not None:
                batch.append(entry)
        is_first = True
        while self._waiting and len(batch) < LARGEST_BATCH:
            entry = self._waiting.popleft()
            is_prepared = self._prepare(entry, not is_first)
            if is_prepared is False:
                self._waiting.appendleft(entry)
                break
            if is_prepared:
                batch.append(entry)
                is_first = is_first and entry[2] is None

    def _prepare(self, entry: Entry, may_wait: bool) -> bool | None:
        """Return whether an operation goes into this transaction, None if it has failed."""
        _, future, prepare = entry
        if prepare is None:
            return True
        try:
            return prepare(may_wait) or not may_wait
        except Exception as error:
            _fail(future, f"the journal failed: {describe(error)}")
            self._on_failure("the journal", error)
            return None

    def _attempt(self) -> None:
        """Give the batch to the thread."""
        self._pause = None
        if not self._batch:
            self._write()
            return
        operations = [entry[0] for entry in self._batch]
        try:
            loop = asyncio.get_running_loop()
            outcome = loop.run_in_executor(self._thread, self._commit, operations)
            outcome.add_done_callback(self._attempted)
        except Exception as error:  # no thread can be started
            self._drop_batch(error)

    def _attempted(self, outcome: "asyncio.Future[list[Any]]") -> None:
        """Handle the outcome of an attempt."""
        if outcome.cancelled():  # the process ends
            self._is_closed = True
            self._rest()
            return
        error = outcome.exception()
        if self.lost is not None and self.last_error is not self.lost:
            log.error("%s", self.lost)
            self._change(self.lost)
        if error is None:
            if self.lost is None:
                self._set_last_error(None)
            self._settle(outcome.result())
            self._report_late_error()
        elif isinstance(error, OperationError):
            _, future, _ = self._batch.pop(error.position)
            _set_exception(future, error.error)
            self._attempt()
        elif not isinstance(error, sqlite3.Error):
            self._drop_batch(error)
        elif self.lost is not None:  # running tasks end and are still answered
            self._settle([None] * len(self._batch))
        elif is_temporary(error):
            self._set_last_error(error)
            self._try_again()
        else:
            self._drop_batch(error)

    def _settle(self, results: list[Any]) -> None:
        """Wake all waiters of the batch: it is written, or will never be."""
        batch, self._batch = self._batch, []
        self._backoff.reset()
        _set_results(batch, results)
        self._collect(TURNS_TO_COLLECT)

    def _report_late_error(self) -> None:
        error, self._late_error = self._late_error, None
        if error is not None:
            self._on_failure("the journal", error)

    def _try_again(self) -> None:
        if self._is_closed:
            self._rest()
            return
        pause = self._backoff.pause()
        self._pause = asyncio.get_running_loop().call_later(pause, self._attempt)

    def _drop_batch(self, error: BaseException) -> None:
        """Fail the batch with an unexpected error."""
        batch, self._batch = self._batch, []
        self._change(error if isinstance(error, Exception) else JournalError(describe(error)))
        for _, future, _ in batch:
            _fail(future, f"the journal failed: {describe(error)}")
        self._on_failure("the journal", error)
        self._write()

    def _collect(self, turns: int) -> None:
        """Continue to write after some turns of the loop."""
        if turns:
            self._soon(self._collect, turns - 1)
        else:
            self._write()

    def _change(self, error: Exception | None) -> None:
        before, self.last_error = self.last_error, error
        if str(error) != str(before):
            try:
                self.on_change()
            except Exception as failure:  # the waiters must not wait for it
                self._on_failure("the journal", failure)

    def _set_last_error(self, error: sqlite3.Error | None) -> None:
        before = self.last_error
        self._change(error)
        if error is None and before is not None:
            log.warning("the journal can be written again")
        elif error is not None and str(error) != str(before):
            log.error(
                "the journal cannot be written: %s; until it can, the daemon acknowledges no task "
                "and sends no result",
                error,
            )

    def _commit(self, operations: list[Operation]) -> list[Any]:
        """Execute operations in a transaction. Raises sqlite3.Error and OperationError."""
        self._patient = 0
        self._is_checked = False
        try:
            began = monotonic()
            results = execute_all(self._connection, operations)
            self._slow_writes.took(monotonic() - began)
        except BaseException:
            self._look()  # the damage may be the reason of the error
            raise
        try:
            if self.lost is None:
                self._patient = self._on_commit(results)
            if not self._patient:  # else this thread leaves the interpreter to another one
                self.check_file()
        except Exception as error:  # the operations are committed in any case
            self._late_error = error
        return results

    def check_file(self) -> None:
        """Set `lost` if the file has a problem. It checks once in a transaction.

        Operations that must not be written to a lost file call it, and then look at `lost`. The end
        of a transaction calls it, unless a caller may learn of the commit late.
        """
        if not self._is_checked:
            self._is_checked = True
            self._look()

    def _look(self) -> None:
        if self.lost is None and (problem := self._find_problem()) is not None:
            self.lost = JournalError(problem)

    def _must_settle(self) -> bool:
        """Return whether a caller must learn at once that the last attempt has ended.

        Called in the thread.
        """
        if not self._patient or self._is_urgent or self._is_closing:
            return True
        return self._patient < sum(entry[1] is not None for entry in self._batch)

    def settle(self) -> None:
        """Let the callers of the last commit learn of it now, if that was not urgent."""
        self._thread.take()

    # --- its end ---------------------------------------------------------------------------------

    def give_up(self) -> None:
        """Stop writing; waiting operations are dropped."""
        self._is_closed = True
        self._stop_timer()
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
            self._rest()

    async def close(self, timeout: float) -> None:
        """Commit the waiting operations within `timeout` seconds, and fail the rest."""
        self._is_closing = True
        if len(self) and not self._is_closed:
            self._write_now()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._wait_until_idle()
        self.give_up()
        await self._wait_until_idle()  # an attempt may be in the thread
        self._thread.shutdown()
        left = [*self._batch, *self._ahead, *self._waiting]
        for entries in (self._batch, self._ahead, self._waiting):
            entries.clear()
        for _, future, _ in left:
            _fail(future, f"the journal was closed: {self.last_error}")

    async def _wait_until_idle(self) -> None:
        while self._is_at_work:
            await self._idle.wait()


def _ignore() -> None:
    """Do nothing; the default callback."""


def _fail(future: "asyncio.Future[Any] | None", reason: str) -> None:
    """Let a future raise a JournalError. Without a waiter, it is not reported."""
    if future is not None and not future.done():
        future.set_exception(JournalError(reason))
        future.exception()  # without this, asyncio would log it


def _set_results(batch: Iterable[Entry], results: Iterable[Any]) -> None:
    for (_, future, _), result in zip(batch, results, strict=True):
        if future is not None and not future.done():
            future.set_result(result)


def _set_exception(future: "asyncio.Future[Any] | None", error: Exception) -> None:
    if future is None:
        log.error("an entry of the journal was not written", exc_info=error)
    elif not future.done():
        future.set_exception(error)
