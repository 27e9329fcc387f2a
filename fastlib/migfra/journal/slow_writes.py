"""Log that the disk of the journal is slow, because each order waits for several writes to it."""

from collections.abc import Callable
from logging import getLogger
from time import monotonic
from typing import Final

from fastlib.transport.log_rate import LogRate

log = getLogger("fastlib.migfra")

SLOW_SECONDS: Final = 2.0
"""Seconds of a transaction from which it is logged. On a sound disk it takes milliseconds."""
PERIOD_SECONDS: Final = 60.0
"""Seconds in which only one slow transaction is logged."""


class SlowWrites:
    """Logs the duration of slow transactions, at most once in a period."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._rate = LogRate(1, PERIOD_SECONDS, clock)

    def took(self, seconds: float) -> None:
        """Note the duration of a transaction."""
        if seconds >= SLOW_SECONDS and (left_out := self._rate.take()) is not None:
            log.warning(
                "the disk of the journal is slow: a write took %.1f s%s; each order waits for "
                "several writes; use a faster disk, or find out what else writes to it",
                seconds,
                f", after {left_out} more slow ones" if left_out else "",
            )
