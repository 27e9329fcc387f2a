"""Wait for a future in a thread or in a coroutine."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import TypeVar

from fastlib.argument_checks import check_seconds

from .errors import ClosedError, WaitTimeoutError

T = TypeVar("T")


def call_when_done(future: "Future[T]", callback: Callable[["Future[T]"], object]) -> None:
    """Call `callback` with a future when that is done, and do not refer to it from then on.

    A future keeps its callbacks after it is done. One that refers to the owner of the future would
    make a cycle, which Python frees only when it looks for cycles.
    """
    callbacks = [callback]
    future.add_done_callback(lambda done: callbacks.pop()(done))


def _timeout_error(what: str, timeout: float | None) -> WaitTimeoutError:
    assert timeout is not None  # only the end of a timeout ends a wait
    return WaitTimeoutError(f"{what} did not come within {timeout:g} s")


def bounded(timeout: float | None) -> float | None:
    """Return the timeout within the bounds of the system: neither negative nor infinite.

    Raises TypeError, and ValueError for NaN.
    """
    check_seconds("timeout", timeout)
    return None if timeout is None else min(max(timeout, 0.0), threading.TIMEOUT_MAX)


def wait(future: "Future[T]", timeout: float | None, what: str) -> T:
    """Return the future's result. Raises WaitTimeoutError. A signal interrupts it."""
    try:
        return future.result(bounded(timeout))
    except TimeoutError:
        if future.done():  # a TimeoutError of the future itself, or done at the last moment
            return future.result()
        raise _timeout_error(what, timeout) from None
    except CancelledError:
        raise ClosedError("closed meanwhile") from None


async def wait_async(future: "Future[T]", timeout: float | None, what: str) -> T:
    """Return the future's result. A timeout or a cancellation does not change the future."""
    if not future.done():
        await _done(future, timeout)
        if not future.done():
            raise _timeout_error(what, timeout)
    try:
        return future.result()
    except CancelledError:
        raise ClosedError("closed meanwhile") from None


async def _done(future: "Future[T]", timeout: float | None) -> None:
    """Wait until a future is done, at most `timeout` seconds. Raises TypeError and ValueError."""
    check_seconds("timeout", timeout)
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()

    def wake(_: object) -> None:
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(_wake, waiter)

    future.add_done_callback(wake)
    if timeout is None:
        await waiter
        return
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout):
            await waiter


def _wake(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)
