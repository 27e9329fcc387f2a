"""Waiting in threads, which ends when the task is cancelled."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from fastlib.migfra.errors import TaskCancelledError
from fastlib.migfra.plugin_api.context import Context

_FIRST: Final = 0.001
_LONGEST: Final = 0.1
"""Seconds between two looks at what the kernel tells nobody of."""


def until(condition: Callable[[], bool], seconds: float, context: Context) -> bool:
    """Whether a condition comes true in time. Raises TaskCancelledError."""
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


class Locks:
    """One task at a time for each domain."""

    def __init__(self) -> None:
        self._held: set[str] = set()
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, name: str, context: Context) -> Iterator[None]:
        """Have a domain alone. Raises TaskCancelledError if the task is to end before that."""
        forget = context.on_cancel(self._wake)
        try:
            with self._changed:
                while name in self._held:
                    context.check_cancelled()
                    self._changed.wait()
                context.check_cancelled()
                self._held.add(name)
        finally:
            forget()
        try:
            yield
        finally:
            with self._changed:
                self._held.remove(name)
                self._changed.notify_all()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()
