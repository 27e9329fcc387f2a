"""Threads for blocking methods, up to a bound.

They are daemon threads: a hypervisor that hangs in one must not keep the process from ending.
"""

import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class ThreadPool:
    """Runs functions in threads. Calls beyond the bound wait in order."""

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._count = 0
        self._idle = 0
        self._closed = False

    def run(self, function: Callable[..., T], *arguments: Any) -> "Future[T]":
        """Call a function in a thread, in the caller's context; return a future of its result."""
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()  # a running thread cannot be cancelled
        call = partial(_call, future, contextvars.copy_context(), function, arguments)
        with self._lock:
            if self._closed:
                raise RuntimeError("the threads are closed")
            if self._idle > 0:
                self._idle -= 1
            elif self._count < self._most:
                self._count += 1
                threading.Thread(
                    target=self._run, name=f"{self._name}-{self._count}", daemon=True
                ).start()
            self._queue.put(call)
        return future

    def _run(self) -> None:
        while call := self._queue.get():
            call()
            del call  # else it would live until the next one
            with self._lock:
                self._idle += 1

    def close(self) -> None:
        """End the threads when they are idle. Does not wait for them."""
        with self._lock:
            self._closed = True
            count = self._count
        for _ in range(count):
            self._queue.put(None)


def _call(
    future: "Future[T]",
    context: contextvars.Context,
    function: Callable[..., T],
    arguments: tuple[Any, ...],
) -> None:
    """Call a function in a context, and give the outcome to the future."""
    try:
        result = context.run(function, *arguments)
    except StopIteration as error:  # a future of asyncio cannot hold it
        wrapped = RuntimeError(f"StopIteration: {error}")
        wrapped.__cause__ = error
        future.set_exception(wrapped)
    except BaseException as error:  # the future gets every error
        future.set_exception(error)
    else:
        future.set_result(result)
    finally:  # the traceback of its error has this frame, so they would be a cycle of objects
        del future
