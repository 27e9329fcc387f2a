"""The pauses between retries."""

import random
from typing import Final


class Backoff:
    """Pauses that double from `least` to `most` seconds, each shortened by up to a third at random.

    The random part spreads the clients of a restarted broker over time.
    """

    def __init__(self, least: float, most: float) -> None:
        self.most: Final = most
        self._least = least
        self._next = least

    def pause(self) -> float:
        """Return the next pause in seconds."""
        pause = self._next
        self._next = min(self.most, pause * 2)
        return pause * random.uniform(2 / 3, 1)  # noqa: S311  # no secret

    def use_longest(self) -> None:
        """Continue with the longest pause."""
        self._next = self.most

    def reset(self) -> None:
        """Start again with the shortest pause."""
        self._next = self._least
