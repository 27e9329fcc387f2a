"""Repeat an operation that failed, with growing pauses, until it succeeds or the task ends."""

from collections.abc import Awaitable, Callable, Iterator
from typing import Final, TypeVar

from fastlib.migfra.errors import (
    FinalError,
    HypervisorError,
    TaskCancelledError,
    UnexpectedError,
    UnsupportedError,
)
from fastlib.transport.backoff import Backoff

T = TypeVar("T")

DEFAULT_PAUSES: Final = (1.0, 60.0)
"""Seconds: the first pause and the longest one."""
NEVER_RETRIED: Final = (TaskCancelledError, UnsupportedError, FinalError)
"""Errors after which another attempt would not help or would do harm."""


def pauses(first: float = DEFAULT_PAUSES[0], longest: float = DEFAULT_PAUSES[1]) -> Iterator[float]:
    """Yield seconds without end. They double up to `longest`, each a little shorter at random."""
    backoff = Backoff(first, longest)
    while True:
        yield backoff.pause()


async def retry(
    operation: Callable[[int], Awaitable[T]],
    *,
    retries: int,
    pauses: Iterator[float],
    sleep: Callable[[float], Awaitable[object]],
    cancelled: Callable[[], bool],
    before_retry: Callable[[Exception, int, float], object],
    against_retry: Callable[[float], str | None] = lambda pause: None,
    retry_on: tuple[type[Exception], ...] = (HypervisorError,),
) -> tuple[T, int]:
    """Await `operation(attempt)` until it succeeds; return its outcome and the number of retries.

    `attempt` is 0 for the first attempt. After an error of `retry_on` and before the next attempt,
    `before_retry(error, retry, pause)` is called and `sleep(pause)` is awaited; `sleep` raises
    TaskCancelledError when the task is cancelled meanwhile. `against_retry(pause)` returns the
    reason against an attempt after that pause, or None.

    Raises the last error after `retries` retries, or when the task is cancelled by then, and the
    errors of `NEVER_RETRIED` at once. Raises the last error with the reason if there is one
    against another attempt.
    """
    attempt = 0
    while True:
        try:
            return await operation(attempt), attempt
        except NEVER_RETRIED:
            raise
        except retry_on as error:
            if attempt >= retries or cancelled():
                raise
            attempt += 1
            pause = next(pauses)
            _check_retry(error, against_retry(pause))
            before_retry(error, attempt, pause)
            last = error
        try:
            await sleep(pause)
            _check_retry(last, against_retry(0.0))  # the clock may have been set
        finally:  # its traceback has this frame, so they would be a cycle of objects
            del last


def _check_retry(error: Exception, reason: str | None) -> None:
    """Raise the error of the last attempt, with the reason against another one if there is one."""
    if reason is None:
        return
    if isinstance(error, UnexpectedError):
        raise UnexpectedError(error.error, reason) from error
    raise HypervisorError(f"{error}; {reason}") from error
