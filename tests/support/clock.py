"""Clocks that a test sets."""

import asyncio

from fastlib.clock import SYSTEM_CLOCK, Clock


class SettableClock(Clock):
    """A clock that is ahead of the clock of the machine by a number of seconds."""

    def __init__(self, ahead: float = 0.0) -> None:
        self.ahead = ahead
        self.passed = 0.0
        """Seconds by which both clocks have gone on beside."""

    def now(self) -> float:
        return SYSTEM_CLOCK.now() + self.ahead + self.passed

    def monotonic(self) -> float:
        return SYSTEM_CLOCK.monotonic() + self.passed


class StoppedClock(Clock):
    """A clock that stops until a test sets it."""

    def __init__(self, time: float = 1000.0) -> None:
        self.time = time

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


class LoopClock(Clock):
    """The time of the running event loop, such as a virtual one."""

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def monotonic(self) -> float:
        return self.now()


class SetClock(Clock):
    """Two clocks that stop until a test moves them. The wall clock can jump alone."""

    def __init__(self) -> None:
        self._now = 1_800_000_000.0
        self._monotonic = 1000.0

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self._now += seconds
        self._monotonic += seconds

    def jump(self, seconds: float) -> None:
        """Set the wall clock, and only it."""
        self._now += seconds
