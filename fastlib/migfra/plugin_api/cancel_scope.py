"""A cancel scope: work that ends early when its task is cancelled, or when `cancel` is called.

It also ends when the order expires before the task has begun.
"""

import asyncio
from collections.abc import Awaitable
from types import TracebackType
from typing import Any, Self

from fastlib.migfra.errors import TaskCancelledError

from .context import Context


class CancelScope:
    """Reports to a piece of work whether it must end. Use it as a context manager in coroutines."""

    def __init__(self, context: Context | None = None) -> None:
        """The cancellation of the context's task cancels the scope.

        Without a context, only `cancel` does.
        """
        self._context = context
        self._event = asyncio.Event()
        """Set when the scope is cancelled, or when the order has expired."""
        self._cancelled = False
        self._timer: asyncio.TimerHandle | None = None
        self.reason = "cancelled"
        """The reason why the work must end."""

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._forget = (
            self._context.on_cancel(lambda: loop.call_soon_threadsafe(self._event.set))
            if self._context is not None
            else lambda: None
        )
        self._watch_expiry()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._forget()
        if self._timer is not None:
            self._timer.cancel()

    def _watch_expiry(self) -> None:
        """Wake all waiters of the scope when the order has expired before its begin."""
        if self._context is None:
            return
        expiry = self._context.expiry
        if expiry.expired:
            self._event.set()
        elif (seconds := expiry.timer_seconds()) is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(seconds, self._watch_expiry)

    async def begin(self) -> None:
        """Note that the task acts from now on, and wait until the journal has stored that.

        Raises TaskExpiredError if the order has expired, and JournalError.
        """
        if self._context is not None:
            beginning = self._context.begin()
            if not beginning.done():
                await asyncio.wrap_future(beginning)
            beginning.result()

    def log_wait(self, text: str) -> None:
        """Log the reason of a wait."""
        if self._context is not None:
            self._context.log.info(text)

    def cancel(self, reason: str) -> None:
        """Cancel the work for another reason than the cancellation of its task."""
        if not self.cancelled:
            self.reason = reason
            self._cancelled = True
            self._event.set()

    @property
    def cancelled(self) -> bool:
        """Whether the work must end."""
        return self._cancelled or (self._context is not None and self._context.cancelled)

    def check(self) -> None:
        """Raise TaskCancelledError if the work must end, TaskExpiredError if it must not begin."""
        if self.cancelled:
            raise TaskCancelledError(self.reason)
        if self._context is not None:
            self._context.expiry.check()

    async def sleep(self, seconds: float) -> None:
        """Sleep. Raises TaskCancelledError and TaskExpiredError as soon as `check` does."""
        self.check()
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            return
        self.check()

    async def wait_any(self, seconds: float, *others: Awaitable[Any]) -> None:
        """Wait until `check` would raise, the time is up, or one of the others is done.

        Raises nothing. Futures among the others continue; coroutines are cancelled at the end.
        """
        own = [asyncio.ensure_future(self._event.wait())]
        futures = [asyncio.ensure_future(other) for other in others]
        own += [new for new, old in zip(futures, others, strict=True) if new is not old]
        try:
            await asyncio.wait({*own, *futures}, timeout=seconds, return_when="FIRST_COMPLETED")
        finally:
            for future in own:
                future.cancel()
            await asyncio.gather(*own, return_exceptions=True)
