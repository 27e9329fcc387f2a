"""The cluster's time: real, faster, or virtual.

A `Clock` counts the seconds of the cluster's time, and lets a coroutine sleep for some of them. A
`VirtualLoop` is an event loop whose time passes only when no coroutine can run, and then at once.
So hours take milliseconds, and the order of events is always the same.
"""

import asyncio
import selectors
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, Final, TypeVar

T = TypeVar("T")


def wall_time() -> float:
    """Return the seconds since the epoch, in a virtual loop those of the loop."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return time.time()
    return loop.time() if isinstance(loop, VirtualLoop) else time.time()


class Clock:
    """A cluster's time, in seconds since the cluster was made."""

    def __init__(self, epoch: float, speed: float = 1.0) -> None:
        """Take the `world_time` at 0, and the number of the cluster's seconds in a real one."""
        self._epoch: Final = epoch
        self.speed: Final = speed

    def now(self) -> float:
        return (wall_time() - self._epoch) * self.speed

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self.speed)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time begins at 0 and leaps to the next due event.

    A function for its executor runs at once in the loop's own thread. So the order of events is
    always the same. The loop does not wait for threads that other code begins.
    """

    def __init__(self) -> None:
        self._virtual = 0.0
        super().__init__(_AdvancingSelector(self._advance))

    def time(self) -> float:
        return self._virtual

    def _advance(self, seconds: float) -> None:
        self._virtual += seconds

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> "asyncio.Future[T]":
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future


class _AdvancingSelector(selectors.DefaultSelector):
    """Reports the ready files, and lets virtual time pass instead of waiting."""

    def __init__(self, advance: Callable[[float], None]) -> None:
        super().__init__()
        self._advance = advance

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            return super().select()  # no timer is due, so only an event from outside can come
        ready = super().select(0)
        if not ready and timeout > 0:
            self._advance(timeout)
        return ready


def run_virtual(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine like `asyncio.run`, but in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(coroutine)
