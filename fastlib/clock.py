"""The clocks that the daemon and the client decide by: one for times, one for durations."""

import time
from functools import partial
from typing import Final

_WITH_SUSPENSION: Final[int | None] = getattr(time, "CLOCK_BOOTTIME", None)
"""The monotonic clock of Linux that goes on while the host is suspended."""


class Clock:
    """The system's clocks. A simulation hands in others."""

    def now(self) -> float:
        """Seconds since the beginning of 1970 (UTC). It can jump, and differs between hosts."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since the boot of this host, or since another moment. It never goes back.

        On Linux it goes on while the host is suspended.
        """
        if _WITH_SUSPENSION is None:
            return time.monotonic()
        return time.clock_gettime(_WITH_SUSPENSION)


class _SystemClock(Clock):
    """The same without calls of Python functions: the daemon reads it often for each task."""

    now = staticmethod(time.time)
    if _WITH_SUSPENSION is not None:
        monotonic = staticmethod(partial(time.clock_gettime, _WITH_SUSPENSION))
    else:
        monotonic = staticmethod(time.monotonic)


SYSTEM_CLOCK: Final = _SystemClock()


def duration_words(seconds: float) -> str:
    """Return a duration for people in at most two units: `2.4 s`, `5 min 3 s`, `1 h` or `3 days`.

    Whole units are rounded down.
    """
    if seconds < 100:
        return f"{seconds:.1f} s"
    for size, unit, below, smaller in (
        (86400, "days", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if seconds >= size:
            number, rest = divmod(int(seconds), size)
            word = "day" if (number, unit) == (1, "days") else unit
            return f"{number} {word}" + (f" {rest // below} {smaller}" if rest >= below else "")
    raise AssertionError(seconds)
