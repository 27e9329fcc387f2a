"""A clock that tests set."""

from fastlib.clock import Clock


class SetClock(Clock):
    """Both clocks stand still until a test moves them."""

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
