"""The thread that writes a journal."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Final

IDLE_SECONDS: Final = 10.0
"""Seconds without work after which the thread ends. The next call starts another one."""

Call = tuple["asyncio.Future[Any]", Callable[[], Any]]


class CommitThread(Executor):
    """An executor for `loop.run_in_executor`, with one thread and fewer steps than others.

    A call takes one wake-up of the thread and one of the loop. `submit` is called in a loop, and
    returns a future of this loop, which asyncio passes on unchanged.
    """

    def __init__(self, name: str) -> None:
        """`name` is that of the thread."""
        self._name: Final = name
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

    @staticmethod
    def _execute(future: "asyncio.Future[Any]", function: Callable[[], Any]) -> None:
        try:
            result = function()
        except BaseException as error:  # the future gets every error
            _settle(future, future.set_exception, error)
        else:
            _settle(future, future.set_result, result)

    def _next(self) -> Call | None:
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


def _settle(future: "asyncio.Future[Any]", setter: Callable[[Any], None], outcome: object) -> None:
    def settle() -> None:
        if not future.done():
            setter(outcome)

    with suppress(RuntimeError):  # the loop is closed, so no caller waits
        future.get_loop().call_soon_threadsafe(settle)
