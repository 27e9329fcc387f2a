"""Wait in tests for conditions that nothing announces."""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

WAIT_LIMIT = 30.0
"""Seconds until a wait fails, unless the caller gives another limit."""
_INTERVAL = 0.01
"""Seconds between two looks at a condition."""


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
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise error(_message(description, timeout))
        time.sleep(_INTERVAL)
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
        await asyncio.sleep(_INTERVAL)
    return value


def _message(description: str | Callable[[], str], timeout: float) -> str:
    text = description if isinstance(description, str) else description()
    return f"not within {timeout:g} s: {text}"
