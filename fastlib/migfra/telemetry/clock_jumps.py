"""Log that the clock of the host was set while the daemon runs, because orders expire by it."""

from logging import getLogger
from typing import Final

from fastlib.clock import Clock, duration_words

log = getLogger("fastlib.migfra")

JUMP_SECONDS: Final = 2.0
"""Seconds by which the clock may change between two checks without a warning."""


class ClockJumps:
    """Compares the clock that can be set with the one that cannot."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset = self._difference()

    def check(self) -> None:
        """Log a warning if the clock was set since the last check.

        A clock that is corrected slowly changes less than that between two checks.
        """
        offset = self._difference()
        jump, self._offset = offset - self._offset, offset
        if abs(jump) > JUMP_SECONDS:
            log.warning(
                "the clock of this host was set %s by %s; orders expire by this clock: %s",
                "forward" if jump > 0 else "back",
                duration_words(abs(jump)),
                "those whose time has passed are not begun"
                if jump > 0
                else "new ones may begin after their scheduler has stopped waiting, if this clock "
                "is slow now",
            )

    def _difference(self) -> float:
        return self._clock.now() - self._clock.monotonic()
