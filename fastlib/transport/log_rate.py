"""A bound for how often something is logged. Pure."""

import time
from collections.abc import Callable
from typing import Final


class LogRate:
    """Allows some lines at once, and then one more each time a period has passed.

    It counts the lines that it leaves out, so the next one can tell their number.
    """

    def __init__(
        self, lines: int, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Allow `lines` at once, and one more each `seconds`."""
        self._most: Final = lines
        self._seconds: Final = seconds
        self._clock = clock
        self._room = float(lines)
        self._since = clock()
        self._left_out = 0

    def take(self) -> int | None:
        """Return how many lines were left out since the last one, or None to leave this one out."""
        now = self._clock()
        self._room = min(self._most, self._room + (now - self._since) / self._seconds)
        self._since = now
        if self._room < 1:
            self._left_out += 1
            return None
        self._room -= 1
        left_out, self._left_out = self._left_out, 0
        return left_out
