"""Wait for a future in a thread or in a coroutine."""

import asyncio
import threading
from concurrent.futures import CancelledError, Future
from typing import TypeVar

from .errors import ClosedError, WaitTimeoutError

T = TypeVar("T")


def _timeout_error(what: str, timeout: float | None) -> WaitTimeoutError:
    return WaitTimeoutError(f"{what} did not come within {timeout} s")


def bounded(timeout: float | None) -> float | None:
    """Return the timeout within the bounds of the system: neither negative nor infinite."""
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
    mirror = asyncio.wrap_future(future)
    mirror.add_done_callback(_retrieve_error)
    done, _ = await asyncio.wait((mirror,), timeout=timeout)
    if not done:
        raise _timeout_error(what, timeout)
    if mirror.cancelled():
        raise ClosedError("closed meanwhile")
    return mirror.result()


def _retrieve_error(mirror: "asyncio.Future[T]") -> None:
    """Retrieve the error, or asyncio logs it if nobody waits any more."""
    if not mirror.cancelled():
        mirror.exception()
