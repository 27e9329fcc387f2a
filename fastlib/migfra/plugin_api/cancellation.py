"""The cancellation of a task, for threads and coroutines."""

import asyncio
import threading
from collections.abc import Callable
from logging import getLogger

from fastlib.migfra.errors import TaskCancelledError

log = getLogger("fastlib.migfra")


class Cancellation:
    """An event that any thread sets once. Setting it wakes all waiters and calls all callbacks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cancelled = False
        self._callbacks: list[Callable[[], object]] = []

    @property
    def cancelled(self) -> bool:
        """True as soon as the task must end."""
        return self._cancelled

    def check(self) -> None:
        """Raise TaskCancelledError if the task must end."""
        if self._cancelled:
            raise TaskCancelledError

    def cancel(self) -> None:
        """Request the end of the task.

        Callbacks run in the caller's thread; their errors are logged.
        """
        with self._lock:
            self._cancelled = True
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            self._call(callback)

    def on_cancel(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Register `callback`. It is called once, at once if the task is already cancelled.

        Returns a function that removes the callback.
        """
        with self._lock:
            cancelled = self._cancelled
            if not cancelled:
                self._callbacks.append(callback)
        if cancelled:
            self._call(callback)

        def forget() -> None:
            with self._lock:
                if callback in self._callbacks:
                    self._callbacks.remove(callback)

        return forget

    @staticmethod
    def _call(callback: Callable[[], object]) -> None:
        try:
            callback()
        except Exception:
            log.exception("the callback %r of a cancelled task failed", callback)

    async def wait(self) -> None:
        """Wait until the task must end."""
        loop = asyncio.get_running_loop()
        event = asyncio.Event()
        forget = self.on_cancel(lambda: loop.call_soon_threadsafe(event.set))
        try:
            await event.wait()
        finally:
            forget()

    async def sleep(self, seconds: float) -> None:
        """Sleep for `seconds`. Raises TaskCancelledError as soon as the task is cancelled."""
        self.check()
        try:
            async with asyncio.timeout(seconds):
                await self.wait()
        except TimeoutError:
            return
        raise TaskCancelledError
