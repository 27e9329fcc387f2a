"""Wait in tests for conditions that nothing announces."""

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")

WAIT_LIMIT = 120.0
"""Seconds until a wait fails, unless the caller gives another limit."""
_SHORTEST_PAUSE = 0.01
"""Seconds between two looks at a condition, if a look takes no time."""
_LONGEST_PAUSE = 0.2
"""Seconds between two looks at a condition, at most."""


def wait_until(
    condition: Callable[[], T | None],
    description: str | Callable[[], str] = "the condition",
    timeout: float = WAIT_LIMIT,
    *,
    error: type[Exception] = AssertionError,
) -> T:
    """Return the first true value of the condition.

    Raises `error` with the description after `timeout` seconds. A description that costs time to
    make can be a function; it is called only on failure.
    """
    begin = time.monotonic()
    deadline = begin + timeout
    while not (value := condition()):
        end = time.monotonic()
        if end > deadline:
            raise error(_message(description, timeout))
        time.sleep(_pause_after(end - begin))
        begin = time.monotonic()
    return value


async def wait_until_async(
    condition: Callable[[], T | None],
    description: str | Callable[[], str] = "the condition",
    timeout: float = WAIT_LIMIT,
) -> T:
    """Return the first true value of the condition, while other tasks run.

    Raises AssertionError with the description after `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(_message(description, timeout))
        await asyncio.sleep(_SHORTEST_PAUSE)
    return value


def try_with_more_time(
    attempt: Callable[[float], T], seconds: Iterable[float] = (0.3, 3.0, 30.0)
) -> T:
    """Return the value of the first attempt that raises no AssertionError.

    An attempt gets the seconds of a timeout that must pass in it. Something must happen before it
    passes, and on a busy machine that may take longer than the first timeout. Raises the error of
    the last attempt.
    """
    *shorter, longest = seconds
    for timeout in shorter:
        with suppress(AssertionError):
            return attempt(timeout)
    return attempt(longest)


def _pause_after(seconds: float) -> float:
    """Return how long to wait after a look of that length: looking takes little of the time.

    Some conditions start programs, and would keep a core busy otherwise.
    """
    return min(_LONGEST_PAUSE, max(_SHORTEST_PAUSE, 4 * seconds))


def _message(description: str | Callable[[], str], timeout: float) -> str:
    text = description if isinstance(description, str) else description()
    return f"not within {timeout:g} s: {text}"
