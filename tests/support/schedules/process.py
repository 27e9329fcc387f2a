"""A process of the simulation: its tasks, its clock, and its end at any moment."""

import asyncio
from collections.abc import Callable
from contextvars import Context, ContextVar, copy_context
from typing import Any, Final

from fastlib.clock import Clock

EPOCH: Final = 1_800_000_000.0
"""Seconds since 1970 at which each schedule begins, by a right clock."""

PROCESS: Final[ContextVar["Process"]] = ContextVar("process")
"""The process that a task or a callback belongs to."""

COUNTING: Final[set["Process"]] = set()
"""The processes with a crash that is planned for a turn of the loop."""


class Process:
    """All tasks that were made in one context, and the resources that end with them.

    After `crash`, its tasks are cancelled, and nothing that they still do leaves the process: its
    links are closed, and its calls for threads do not run. `crash_at` plans a crash for one of the
    moments that the process passes (`goes_on`).
    """

    def __init__(self, name: str, clock_error: float = 0.0) -> None:
        """`clock_error` is the number of seconds that its wall clock is ahead."""
        self.name: Final = name
        self.clock_error = clock_error
        self.write_seconds = 0.0
        """How long each call for a thread takes."""
        self.before_write: Callable[[], object] = _nothing
        """Called before each call for a thread."""
        self.disk_is_full = False
        """Whether each transaction fails before its end."""
        self.dead = False
        self.context: Final[Context] = copy_context()
        self.context.run(PROCESS.set, self)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._at_end: list[Callable[[], object]] = []
        self._planned: dict[str, int] = {}

    def now(self) -> float:
        """Return the seconds since 1970 by the process's own clock."""
        return EPOCH + self.monotonic() + self.clock_error

    def monotonic(self) -> float:
        """Return the seconds of the loop."""
        return asyncio.get_running_loop().time()

    def start(self, coroutine: Any, loop: asyncio.AbstractEventLoop) -> "asyncio.Task[Any]":
        """Run a coroutine as the main task of the process."""
        return loop.create_task(coroutine, context=self.context.copy())

    def add(self, task: "asyncio.Task[Any]") -> None:
        """Let a task end with the process."""
        self._tasks.add(task)
        if self.dead:
            _leave_behind(task)
        task.add_done_callback(self._tasks.discard)

    def at_end(self, callback: Callable[[], object]) -> None:
        """Have `callback` called when the process crashes."""
        self._at_end.append(callback)

    def crash_at(self, moment: str, count: int) -> None:
        """Crash when the process passes a moment for the `count`th time from now on."""
        self._planned[moment] = count
        if moment == "turn":
            COUNTING.add(self)

    def keep_alive(self) -> None:
        """Take back all planned crashes."""
        self._planned.clear()
        COUNTING.discard(self)

    def goes_on(self, moment: str) -> bool:
        """Pass a moment. Return False if the process is dead, or dies here."""
        left = self._planned.get(moment)
        if left is not None:
            if left > 1:
                self._planned[moment] = left - 1
            else:
                self.crash()
        return not self.dead

    def crash(self) -> None:
        """End at once, without a word."""
        if self.dead:
            return
        self.dead = True
        self.keep_alive()
        for callback in self._at_end:
            callback()
        for task in tuple(self._tasks):
            _leave_behind(task)
            task.cancel()


def _leave_behind(task: Any) -> None:
    """Let a task of a dead process vanish. A task of a living one that vanishes is an error."""
    task._log_destroy_pending = False


class ProcessClock(Clock):
    """The clock of the process that asks."""

    def now(self) -> float:
        """See `Clock`."""
        return PROCESS.get().now()

    def monotonic(self) -> float:
        """See `Clock`."""
        return asyncio.get_running_loop().time()


CLOCK: Final = ProcessClock()


def _nothing() -> None:
    """Do nothing."""
