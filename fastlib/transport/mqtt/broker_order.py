"""The order in which several brokers are tried. Pure."""

from collections.abc import Sequence
from typing import Final

LEAST_SECONDS: Final = 0.5
"""The minimum time in seconds for one try, even if the time for opening is shorter."""


class BrokerOrder:
    """Decides which broker to try next, and when each one was tried once without success.

    The broker that was used last is tried first, because it has the session. The client does not
    return to an earlier broker of the list as long as the current one works.
    """

    def __init__(self, brokers: Sequence[tuple[str, int]]) -> None:
        """`brokers` are host and port of each, the preferred one first."""
        self._brokers: Final = tuple(brokers)
        self._place = 0
        self._failures = 0

    def __len__(self) -> int:
        return len(self._brokers)

    @property
    def current(self) -> tuple[str, int]:
        """Host and port of the broker to try now."""
        return self._brokers[self._place]

    @property
    def left(self) -> int:
        """The number of brokers that were not tried in this round, at least 1."""
        return len(self._brokers) - self._failures

    def failed(self) -> bool:
        """Note that the current broker does not accept. Return True at the end of a round.

        The next broker is then tried after a pause, otherwise at once.
        """
        self._place = (self._place + 1) % len(self._brokers)
        self._failures += 1
        if self._failures < len(self._brokers):
            return False
        self._failures = 0
        return True

    def lost(self, *, worked: bool) -> None:
        """Note that the current broker has ended an accepted connection.

        It is tried first again, unless nothing was exchanged (`worked` is False). Otherwise a
        broker that accepts connections and ends them at once would keep the client from the others.
        """
        self._failures = 0
        if not worked:
            self._place = (self._place + 1) % len(self._brokers)


def try_seconds(most: float, opening: float | None, left: int) -> float:
    """Return the seconds for one try of a broker.

    `most` is the bound. `opening` is the number of seconds until opening fails, None if it is done.
    `left` is the number of brokers to try in this time. Each one gets an equal share, the last one
    the remaining time.
    """
    if opening is None or left < 2:
        return most
    return min(most, max(LEAST_SECONDS, opening / left))
