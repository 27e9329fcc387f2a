"""Limit how often a line is logged. No I/O."""

import time
from collections.abc import Callable
from typing import Final


class LogRate:
    """Allows some lines at once, and then one more line after each period.

    It counts the lines that it leaves out, so the next line can report their number.
    """

    def __init__(
        self, lines: int, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Allow `lines` at once, and one more every `seconds`."""
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
