"""The clocks that the daemon and the client decide by: one for times, one for durations."""

import time
from typing import Final


class Clock:
    """The system's clocks. A simulation hands in others."""

    def now(self) -> float:
        """Seconds since the beginning of 1970 (UTC). It can jump, and differs between hosts."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since some moment of this process's host. It never goes back."""
        return time.monotonic()


SYSTEM_CLOCK: Final = Clock()
