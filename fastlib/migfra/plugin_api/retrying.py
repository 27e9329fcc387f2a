"""Repeats an operation that failed, with growing pauses, until it succeeds or the task ends."""

from collections.abc import Awaitable, Callable, Iterator
from typing import Final, TypeVar

from fastlib.migfra.errors import (
    FinalError,
    HypervisorError,
    TaskCancelledError,
    UnsupportedError,
)
from fastlib.transport.backoff import Backoff

T = TypeVar("T")

DEFAULT_PAUSES: Final = (1.0, 60.0)
"""Seconds: the first pause and the longest one."""
NEVER_RETRIED: Final = (TaskCancelledError, UnsupportedError, FinalError)
"""Another attempt would not help after these errors, or would do harm."""


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
    retry_on: tuple[type[Exception], ...] = (HypervisorError,),
) -> tuple[T, int]:
    """Await `operation(attempt)` until it succeeds; return its outcome and the number of retries.

    `attempt` is 0 for the first attempt. After an error of `retry_on` and before the next attempt,
    `before_retry(error, retry, pause)` is called and `sleep(pause)` is awaited; `sleep` raises
    TaskCancelledError when the task is cancelled meanwhile.

    Raises the last error after `retries` retries, or when the task is cancelled by then, and the
    errors of `NEVER_RETRIED` at once.
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
            before_retry(error, attempt, pause)
        await sleep(pause)
