"""Wait in a thread until a condition holds or the task is cancelled."""

import threading
import time
from collections.abc import Callable
from typing import Final

from fastlib.migfra.errors import TaskCancelledError
from fastlib.migfra.plugin_api.context import Context

_FIRST: Final = 0.001
_LONGEST: Final = 0.1
"""Seconds between two polls of a state for which the kernel has no events."""


def wait_until(condition: Callable[[], bool], seconds: float, context: Context) -> bool:
    """Wait for a condition. Returns whether it became true in time. Raises TaskCancelledError."""
    cancelled = threading.Event()
    forget = context.on_cancel(cancelled.set)
    deadline = time.monotonic() + seconds
    pause = _FIRST
    try:
        while not condition():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            if cancelled.wait(min(pause, left)):
                raise TaskCancelledError
            pause = min(2 * pause, _LONGEST)
    finally:
        forget()
    return True
