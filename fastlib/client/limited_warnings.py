"""Warn of messages that cannot be read, without a line for each of very many."""

import threading
from collections.abc import Callable
from logging import getLogger
from typing import Final

from fastlib.transport.log_rate import LogRate

log = getLogger("fastlib.client")

LINES: Final = 20
"""The number of warnings that a client logs at once."""
SECONDS: Final = 30.0
"""Seconds until one more warning is logged."""


class LimitedWarnings:
    """Logs the warnings of one client, from any thread."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` returns seconds."""
        self._rate = LogRate(LINES, SECONDS, clock)
        self._lock = threading.Lock()

    def unreadable(self, kind: str, topic: str, error: object) -> None:
        """Warn of a message that cannot be read."""
        self.warn("%s: the %s cannot be read: %s", topic, kind, error)

    def warn(self, text: str, *values: object) -> None:
        """Log a warning as `logging` does, with the number of those left out, or leave it out."""
        with self._lock:
            left_out = self._rate.take()
        if left_out is None:
            return
        if left_out:
            text += " (%d warnings before this one were left out)"
            values = (*values, left_out)
        log.warning(text, *values)
