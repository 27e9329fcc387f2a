"""The virtual loop of the simulated cluster, stricter: for daemons and clients in one thread."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from fastlib.migfra.hypervisors.simulated.clock import VirtualLoop

T = TypeVar("T")


class Deadlock(AssertionError):
    """Every task waits, and no timer is left that could wake one."""


class ScheduleLoop(VirtualLoop):
    """A virtual loop in which calls for a thread run in a later turn, and a deadlock is an error.

    Other tasks may run before such a call, as with a real thread, but never beside it. Nothing
    from outside (sockets, threads) can wake a task: a schedule has none.
    """

    def __init__(self) -> None:
        super().__init__()
        selector: Any = self._selector  # type: ignore[attr-defined]
        select = selector.select

        def select_or_fail(timeout: float | None = None) -> Any:
            if timeout is not None:
                return select(timeout)
            ready = select(0)
            if not ready:
                raise Deadlock("every task waits, and there is no timer that could wake one")
            return ready

        selector.select = select_or_fail

    def run_in_executor(  # type: ignore[override]
        self, executor: object, func: Callable[..., T], *args: Any
    ) -> "asyncio.Future[T]":
        future: asyncio.Future[T] = self.create_future()

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
    """Run `main` in a new loop of its own, and cancel what it leaves behind."""
    with asyncio.Runner(loop_factory=ScheduleLoop) as runner:
        return runner.run(main)
