"""Sleeping in the cluster's time, until the task is cancelled."""

import asyncio
from types import TracebackType
from typing import Self

from fastlib.migfra.errors import TaskCancelledError
from fastlib.migfra.plugin_api.context import Context

from .clock import Clock


class Pace:
    """The time of one task, a context manager; sleeping ends at once when the task is to end."""

    def __init__(self, clock: Clock, context: Context | None = None) -> None:
        """Without a context, only `stop` ends it."""
        self.clock = clock
        self._context = context
        self._stopped = asyncio.Event()
        self._reason = "cancelled"

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._forget = (
            self._context.on_cancel(lambda: loop.call_soon_threadsafe(self._stopped.set))
            if self._context is not None
            else lambda: None
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._forget()

    def stop(self, reason: str) -> None:
        """End the sleep from elsewhere; the error says `reason`."""
        if not self._stopped.is_set():
            self._reason = reason
            self._stopped.set()

    def check(self) -> None:
        """Raises TaskCancelledError if the task is to end."""
        if self._stopped.is_set() or (self._context is not None and self._context.cancelled):
            raise TaskCancelledError(self._reason)

    async def sleep(self, seconds: float) -> None:
        """Raises TaskCancelledError as soon as the task is to end."""
        self.check()
        try:
            async with asyncio.timeout(seconds / self.clock.speed):
                await self._stopped.wait()
        except TimeoutError:
            return
        self.check()

    async def sleep_deaf(self, seconds: float | None) -> None:
        """As something that hangs and hears nothing; None is for ever."""
        if seconds is None:
            await asyncio.Event().wait()
        else:
            await self.clock.sleep(seconds)
