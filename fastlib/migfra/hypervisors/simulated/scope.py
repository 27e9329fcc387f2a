"""A cancel scope whose time is that of a simulated cluster."""

import asyncio

from fastlib.migfra.plugin_api.cancel_scope import CancelScope
from fastlib.migfra.plugin_api.context import Context

from .clock import Clock


class ClockScope(CancelScope):
    """A cancel scope that sleeps in the cluster's time."""

    def __init__(self, clock: Clock, context: Context | None = None) -> None:
        super().__init__(context)
        self.clock = clock

    async def sleep(self, seconds: float) -> None:
        """Sleep in the cluster's time. Raises TaskCancelledError as soon as the work must end."""
        await super().sleep(seconds / self.clock.speed)

    async def hang(self, seconds: float | None) -> None:
        """Hang for some seconds, or forever with None. Cancelling the task does not end it."""
        if seconds is None:
            await asyncio.Event().wait()
        else:
            await self.clock.sleep(seconds)
