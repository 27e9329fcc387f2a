"""An event loop with virtual time for whole processes: daemons, schedulers and a broker.

It is the virtual loop of the simulated cluster, stricter and faster: nothing from outside can wake
a task, calls for a thread run in a later turn, and a process can end at any turn.
"""

import asyncio
import selectors
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from contextvars import Context, copy_context
from functools import partial
from heapq import heappop, heappush
from itertools import count
from typing import Any, TypeVar

from fastlib.migfra.hypervisors.simulated.clock import VirtualLoop

from .process import COUNTING, PROCESS, Process

T = TypeVar("T")


class Deadlock(AssertionError):
    """Every task waits, and no timer is left that could wake one."""


class ScheduleLoop(VirtualLoop):
    """A virtual loop that knows which process each callback belongs to.

    A call for a thread runs after a delay that its process chooses. Other tasks may run before it,
    as with a real thread, but never beside it. Timers of one moment run in the order in which they
    were set.

    Its parts for each callback replace those of asyncio, which do more than a simulation needs.
    """

    def __init__(self) -> None:
        super().__init__()
        self._selector: Any
        self._selector.close()
        self._selector = _NoFiles()
        self._ready: deque[_Handle] = deque()
        self._timers: list[tuple[float, int, _Timer]] = []
        self._timer_numbers = count()
        self._stopping: bool
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
        if context is None:
            context = copy_context()
        if COUNTING:
            process = context.get(PROCESS)
            if process in COUNTING:
                callback = partial(_turn, process, callback)
        handle = _Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """See the loops of asyncio."""
        return self.call_at(self._virtual + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """See the loops of asyncio."""
        timer = _Timer(when, callback, args, self, context or copy_context())
        heappush(self._timers, (when, next(self._timer_numbers), timer))
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Do nothing: it is dropped when it is due."""

    def _run_once(self) -> None:
        """Run all that is ready. If nothing is, let time pass until the next timer is due."""
        ready, timers = self._ready, self._timers
        while timers and timers[0][2]._cancelled:
            heappop(timers)
        if not ready and not self._stopping:
            if not timers:
                raise Deadlock("every task waits, and there is no timer that could wake one")
            self._virtual = max(self._virtual, timers[0][0])
        now = self._virtual
        while timers and timers[0][0] <= now:
            timer = heappop(timers)[2]
            if not timer._cancelled:
                ready.append(timer)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle._cancelled:
                handle._run()

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
            except asyncio.CancelledError:
                return  # it has sent something, and its process has died before or after that
            except Exception as error:
                future.set_exception(error)
            else:
                if not future.cancelled():  # as above
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
    """Make a task that belongs to the process of its maker, also with another context."""
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


class _Handle(asyncio.Handle):
    """A callback, without asyncio's data for its debug mode."""

    __slots__ = ()

    def __init__(
        self,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        loop: asyncio.AbstractEventLoop,
        context: Context,
    ) -> None:
        self._callback = callback
        self._args = args
        self._loop = loop
        self._context = context
        self._cancelled = False
        self._repr = None
        self._source_traceback = None


class _Timer(_Handle, asyncio.TimerHandle):
    """A callback for later."""

    __slots__ = ()

    def __init__(
        self,
        when: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        loop: asyncio.AbstractEventLoop,
        context: Context,
    ) -> None:
        _Handle.__init__(self, callback, args, loop, context)
        self._when = when
        self._scheduled = True


class _NoFiles(selectors.BaseSelector):
    """Replaces the files for which the loops of asyncio wait. A schedule has none."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        raise NotImplementedError("a schedule has no sockets")

    def register(self, *_: object) -> selectors.SelectorKey:
        raise NotImplementedError("a schedule has no sockets")

    def unregister(self, *_: object) -> selectors.SelectorKey:
        raise NotImplementedError("a schedule has no sockets")

    def get_map(self) -> dict[Any, selectors.SelectorKey]:
        return {}

    def close(self) -> None:
        """Nothing is open."""


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` in a new loop, and cancel all remaining tasks."""
    with asyncio.Runner(loop_factory=ScheduleLoop) as runner:
        return runner.run(main)
