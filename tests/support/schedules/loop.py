"""An event loop with virtual time for whole processes: daemons, schedulers and a broker.

It is the virtual loop of the simulated cluster, stricter and faster: nothing from outside can wake
a task, calls for a thread run in a later turn, and a process can end at any turn.
"""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from contextvars import Context
from functools import partial
from typing import Any, TypeVar

from fastlib.migfra.hypervisors.simulated.clock import VirtualLoop

from .process import PROCESS, Process

T = TypeVar("T")


class Deadlock(AssertionError):
    """Every task waits, and no timer is left that could wake one."""


class ScheduleLoop(VirtualLoop):
    """A virtual loop that knows which process each callback belongs to.

    A call for a thread runs after a delay that its process chooses. Other tasks may run before it,
    as with a real thread, but never beside it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._selector: Any
        self._selector.close()
        self._selector = _Timer(self._advance)
        make_task: Any = _make_task
        self.set_task_factory(make_task)

    # Nothing outside of the loop's thread wakes it, so it needs no socket for that.

    def _make_self_pipe(self) -> None:
        """Do without."""

    def _close_self_pipe(self) -> None:
        """Do without."""

    def _write_to_self(self) -> None:
        """Do without."""

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Do the same as `call_soon`: there is one thread."""
        return self.call_soon(callback, *args, context=context)

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Count the callback as a turn of its process, which may end there."""
        process = PROCESS.get(None) if context is None else context.get(PROCESS)
        if process is not None and process.counts_turns:
            callback = partial(_turn, process, callback)
        return super().call_soon(callback, *args, context=context)

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> "asyncio.Future[T]":
        """Run `func` in a later turn. That of a dead process never runs."""
        future: asyncio.Future[T] = self.create_future()
        process = PROCESS.get(None)

        def call() -> None:
            if future.cancelled():
                return
            if process is not None and not process.goes_on("before write"):
                future.cancel()
                return
            if process is not None:
                process.before_write()
            try:
                result = func(*args)
            except Exception as error:
                future.set_exception(error)
            else:
                future.set_result(result)
            if process is not None:
                process.goes_on("after write")

        delay = 0.0 if process is None else process.write_seconds
        if delay:
            self.call_later(delay, call)
        else:
            self.call_soon(call)
        return future


def _make_task(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T], **options: Any
) -> "asyncio.Task[T]":
    """Make a task that belongs to the process of its maker, also with a context of its own."""
    process = PROCESS.get(None)
    context: Context | None = options.get("context")
    if process is not None and context is not None and PROCESS not in context:
        context.run(PROCESS.set, process)
    elif context is not None:
        process = context.get(PROCESS, process)
    task = asyncio.Task(coroutine, loop=loop, **options)
    if process is not None:
        process.add(task)
    return task


def _turn(process: Process, callback: Callable[..., object], *args: Any) -> None:
    process.goes_on("turn")
    callback(*args)


class _Timer(selectors.BaseSelector):
    """Waits by letting virtual time pass. It has no files."""

    def __init__(self, advance: Callable[[float], None]) -> None:
        self._advance = advance

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Deadlock("every task waits, and there is no timer that could wake one")
        if timeout > 0:
            self._advance(timeout)
        return []

    def register(self, *_: object) -> selectors.SelectorKey:
        raise NotImplementedError("a schedule has no sockets")

    def unregister(self, *_: object) -> selectors.SelectorKey:
        raise NotImplementedError("a schedule has no sockets")

    def get_map(self) -> dict[Any, selectors.SelectorKey]:
        return {}

    def close(self) -> None:
        """Nothing is open."""


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` in a new loop of its own, and cancel what it leaves behind."""
    with asyncio.Runner(loop_factory=ScheduleLoop) as runner:
        return runner.run(main)
