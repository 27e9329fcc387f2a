"""The pauses between retries."""

import random
from typing import Final

RANDOM: Final = random.Random()  # noqa: S311  # no secret
"""Its own generator: a program may seed the shared one, or expect no other user of it."""

QUICK_RESETS: Final = 10
"""The number of connections in a row that may end early and are followed by the shortest pause."""

UNSTEADY_FACTOR: Final = 8
"""After more than these, one connection begins in this number of shortest pauses, at most."""


class Backoff:
    """Pauses from `least` to `most` seconds, each shortened by up to a third at random.

    The random part spreads the clients of a restarted broker over time.
    """

    def __init__(self, least: float, most: float, *, short_pauses: int = 1) -> None:
        """The first `short_pauses` pauses are the shortest ones. Then the pauses double."""
        self.most: Final = most
        self._least = least
        self._next = least
        self._most_short_pauses = short_pauses
        self._early_ends = 0
        self._short_pauses = 0

    def pause(self) -> float:
        """Return the next pause in seconds."""
        pause = self._next
        self._short_pauses += 1
        if self._short_pauses >= self._most_short_pauses:
            self._next = min(self.most, pause * 2)
        return pause * RANDOM.uniform(2 / 3, 1)

    def use_longest(self) -> None:
        """Continue with the longest pause."""
        self._next = self.most

    def reset(self) -> None:
        """Start again with the shortest pause."""
        self._next = self._least
        self._early_ends = self._short_pauses = 0

    def reset_after_early_end(self, lifetime: float) -> None:
        """Start again with a short pause, after a connection that worked and soon ended.

        It is the shortest one at first. If the broker ends one connection after the other, the
        pauses grow. `lifetime` is how long the connection lasted, in seconds.
        """
        self._early_ends += 1
        if self._early_ends <= QUICK_RESETS:
            self._next, self._short_pauses = self._least, 0
        else:
            self.limit_rate(lifetime)

    def limit_rate(self, lifetime: float) -> None:
        """Let one connection begin in UNSTEADY_FACTOR times the shortest pause, at most.

        A connection that lasted longer, in seconds, is followed by the shortest pause.
        """
        rest = self._least * UNSTEADY_FACTOR - lifetime
        self._next = min(self.most, max(self._least, rest))
        self._short_pauses = self._most_short_pauses
