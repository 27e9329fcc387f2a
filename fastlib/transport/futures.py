"""Waiting for a future, in a thread or in a coroutine, without taking anything from others."""

import asyncio
import threading
from concurrent.futures import CancelledError, Future
from typing import TypeVar

from .errors import ClosedError, WaitTimeoutError

T = TypeVar("T")


def _too_late(what: str, timeout: float | None) -> WaitTimeoutError:
    return WaitTimeoutError(f"{what} did not come within {timeout} s")


def bounded(timeout: float | None) -> float | None:
    """The timeout as the system takes it, which knows no negative and no endless one."""
    return None if timeout is None else min(max(timeout, 0.0), threading.TIMEOUT_MAX)


def wait(future: "Future[T]", timeout: float | None, what: str) -> T:
    """The future's result. Raises WaitTimeoutError; signals interrupt it."""
    try:
        return future.result(bounded(timeout))
    except TimeoutError:
        if future.done():  # its own error, or it came this very moment
            return future.result()
        raise _too_late(what, timeout) from None
    except CancelledError:
        raise ClosedError("closed meanwhile") from None


async def wait_async(future: "Future[T]", timeout: float | None, what: str) -> T:
    """The same in a coroutine. A timeout or a cancellation leaves the future as it is."""
    mirror = asyncio.wrap_future(future)
    mirror.add_done_callback(_see)
    done, _ = await asyncio.wait((mirror,), timeout=timeout)
    if not done:
        raise _too_late(what, timeout)
    if mirror.cancelled():
        raise ClosedError("closed meanwhile")
    return mirror.result()


def _see(mirror: "asyncio.Future[T]") -> None:
    """Look at an error that nobody waits for any more, so that asyncio does not complain of it."""
    if not mirror.cancelled():
        mirror.exception()
