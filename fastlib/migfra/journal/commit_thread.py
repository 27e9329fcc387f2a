"""The thread that writes a journal."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from contextvars import copy_context
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Final

IDLE_SECONDS: Final = 10.0
"""Seconds without work after which the thread ends. The next call starts another one."""
LONGEST_SECONDS: Final = 0.005
"""Seconds that the outcome of a call waits in the thread, if the loop need not have it at once."""

Call = tuple["asyncio.Future[Any]", Callable[[], Any]]
Outcome = tuple["asyncio.Future[Any]", Callable[[Any], None], object]
"""A future, the method that sets its result or its error, and the value."""


class CommitThread(Executor):
    """An executor for `loop.run_in_executor`, with one thread and fewer steps than others.

    A call takes one wake-up of the thread and one of the loop. `submit` is called in a loop, and
    returns a future of this loop, which asyncio passes on unchanged.
    """

    def __init__(self, name: str, is_urgent: Callable[[], bool] = lambda: True) -> None:
        """`name` is that of the thread.

        `is_urgent` is called in the thread after each call. It returns whether the loop must be
        woken for the outcome. If not, the outcome waits for `take`, at most `LONGEST_SECONDS`.
        """
        self._name: Final = name
        self._is_urgent: Final = is_urgent
        self._outcomes: deque[Outcome] = deque()
        """The outcomes that the loop does not have yet."""
        self._calls: SimpleQueue[Call | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._runs = False

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Any:
        """Run a function in the thread; return the future of its result."""
        future = asyncio.get_running_loop().create_future()
        with self._lock:
            self._calls.put((future, partial(function, *arguments, **named)))
            if not self._runs:
                self._runs = True
                # Log lines of the thread have the host of the daemon that started it.
                run = partial(copy_context().run, self._run)
                threading.Thread(target=run, name=self._name, daemon=True).start()
        return future

    def _run(self) -> None:
        while call := self._next():
            self._execute(*call)
            del call  # without this, the result would live until the next call
        self._report()

    def _execute(self, future: "asyncio.Future[Any]", function: Callable[[], Any]) -> None:
        try:
            outcome: Outcome = (future, future.set_result, function())
        except BaseException as error:  # the future gets every error
            outcome = (future, future.set_exception, error)
        # First: the loop may call `take` for the work that makes it urgent.
        self._outcomes.append(outcome)
        if self._is_urgent():
            self._report()

    def _report(self) -> None:
        """Let the loop take the outcomes."""
        try:
            self._outcomes[0][0].get_loop().call_soon_threadsafe(self.take)
        except IndexError:  # the loop has just taken them
            return
        except RuntimeError:  # the loop is closed, so no caller waits
            self._outcomes.clear()

    def take(self) -> None:
        """Settle the futures of the calls that have ended. Called in the loop."""
        while self._outcomes:
            future, setter, value = self._outcomes.popleft()
            if not future.done():
                setter(value)

    def _next(self) -> Call | None:
        if self._outcomes:  # they are not urgent, or the loop is about to take them
            try:
                return self._calls.get(timeout=LONGEST_SECONDS)
            except Empty:
                self._report()
        try:
            return self._calls.get(timeout=IDLE_SECONDS)
        except Empty:
            with self._lock:
                self._runs = not self._calls.empty()
                return self._calls.get() if self._runs else None

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the thread when it is idle. Does not wait for it."""
        with self._lock:
            if self._runs:
                self._runs = False
                self._calls.put(None)
