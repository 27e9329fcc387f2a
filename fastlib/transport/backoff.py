"""How long to wait before the next try."""

import random
from typing import Final


class Backoff:
    """Pauses that double from `least` to `most` seconds, each shortened by up to a third at random.

    At random, so that the clients of a broker that was restarted do not all come back at once.
    """

    def __init__(self, least: float, most: float) -> None:
        self.most: Final = most
        self._least = least
        self._next = least

    def pause(self) -> float:
        """The next pause, in seconds."""
        pause = self._next
        self._next = min(self.most, pause * 2)
        return pause * random.uniform(2 / 3, 1)  # noqa: S311  # no secret

    def slowest(self) -> None:
        """From now on wait as long as it gets."""
        self._next = self.most

    def reset(self) -> None:
        """The connection has proved itself."""
        self._next = self._least
