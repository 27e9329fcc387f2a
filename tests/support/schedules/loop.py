"""An event loop with virtual time, in which threads run at once."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Deadlock(AssertionError):
    """Every task waits, and no timer is left that could wake one."""


class _NoWaiting(selectors.DefaultSelector):
    """A selector that moves the clock of its loop where another one would wait."""

    loop: "VirtualLoop"

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready:
            return ready
        if timeout is None:
            raise Deadlock("every task waits, and there is no timer that could wake one")
        self.loop.advance(timeout)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time passes only while every task waits, and then at once up to the next timer.

    So a run of hours takes milliseconds, and the same program always runs in the same order.
    `run_in_executor` (so `asyncio.to_thread` too) calls its function in a later turn of the
    loop, in the thread of the loop: other tasks may run before it, but never beside it.
    """

    def __init__(self) -> None:
        selector = _NoWaiting()
        selector.loop = self
        self._now = 0.0
        super().__init__(selector)

    def time(self) -> float:
        """The seconds since the loop was made."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass."""
        self._now += max(seconds, 0.0)

    def run_in_executor(  # type: ignore[override]
        self, executor: object, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self.create_future()

        def call() -> None:
            if future.cancelled():
                return
            try:
                result = func(*args)
            except Exception as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        self.call_soon(call)
        return future


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` in a new virtual loop, and cancel what it leaves behind."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
