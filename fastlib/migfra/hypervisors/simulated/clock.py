"""The cluster's time: real, faster, or virtual.

A `Clock` says how many seconds of the cluster's time have passed, and lets a coroutine sleep for
some of them. A `VirtualLoop` is an event loop in which time passes only when nobody has anything
else to do, and then at once: hours take milliseconds, and the order of events is always the same.
"""

import asyncio
import selectors
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, Final, TypeVar

T = TypeVar("T")


def wall_time() -> float:
    """Seconds since the epoch; those of the running loop where it is a virtual one."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return time.time()
    return loop.time() if isinstance(loop, VirtualLoop) else time.time()


class Clock:
    """A cluster's time, in seconds since the cluster was made."""

    def __init__(self, epoch: float, speed: float = 1.0) -> None:
        """`epoch` is the `world_time` at 0, `speed` how many seconds pass in one."""
        self._epoch: Final = epoch
        self.speed: Final = speed

    def now(self) -> float:
        return (wall_time() - self._epoch) * self.speed

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self.speed)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time begins at 0 and leaps to whatever is due next.

    What is to run in a thread of its executor runs at once and in the loop's own, so that the
    order of events is always the same. Threads that others begin are not waited for.
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
    """Looks for what is there, and lets virtual time pass instead of waiting."""

    def __init__(self, advance: Callable[[float], None]) -> None:
        super().__init__()
        self._advance = advance

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            return super().select()  # nothing is due, so only something from outside can come
        ready = super().select(0)
        if not ready and timeout > 0:
            self._advance(timeout)
        return ready


def run_virtual(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine as `asyncio.run` does, in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(coroutine)
