"""Warn when the clock of a daemon's host and this host's clock differ."""

from logging import getLogger
from typing import Final

from fastlib.clock import Clock, duration_words
from fastlib.message.node import Presence

log = getLogger("fastlib.client")

WARNING_SECONDS: Final = 2.0
"""The difference of two clocks above which the client warns."""

BACKLOG_SECONDS: Final = 5.0
"""Seconds after a connect in which the broker may deliver messages that it has kept for the
session."""


def clock_difference(time: float, now: float, *, may_be_old: bool) -> float | None:
    """Return by how many seconds a clock that showed `time` is ahead, if that is too much.

    A message that may be old shows only a clock that is ahead.
    """
    ahead = time - now
    too_much = ahead > WARNING_SECONDS or (ahead < -WARNING_SECONDS and not may_be_old)
    return ahead if too_much else None


class ClockWarnings:
    """Warns once for each host.

    A late presence looks like a clock that is behind. So the client warns about such a clock only
    after two presences in a row. A delay never looks like a clock that is ahead.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._behind: dict[str, float] = {}
        """Seconds by which the last presence of a host was behind, if that was too much."""
        self._warned: set[str] = set()
        self._connected = clock.monotonic()

    def reconnected(self) -> None:
        """Note that the broker may now deliver messages that it has kept."""
        self._connected = self._clock.monotonic()

    def check(
        self, host: str, presence: Presence, *, retained: bool, kept: bool, returned: bool
    ) -> None:
        """Log a warning if the daemon's clock differs from this host's.

        The record has the host as `clock_of`.

        `kept` is True if the broker may have kept the message for this client's session, and
        `returned` if the daemon may have kept it while it had no connection.
        """
        if presence.time is None or host in self._warned:
            return
        begins = self._clock.monotonic() < self._connected + BACKLOG_SECONDS
        # The last will and the `offline` of an end were written before they are published.
        may_be_old = retained or returned or (kept and begins) or presence.status != "online"
        now = self._clock.now()
        time = presence.time.timestamp()
        ahead = clock_difference(time, now, may_be_old=may_be_old)
        if ahead is None:
            if time >= now - WARNING_SECONDS:  # otherwise it may be old and proves nothing
                self._behind.pop(host, None)
            return
        if ahead < 0:
            before = self._behind.get(host)
            self._behind[host] = ahead
            if before is None:
                return
            ahead = max(ahead, before)  # a delay only adds to the difference
        self._warned.add(host)
        log.warning(
            "%s: its clock is %s %s this host's; orders expire by the daemon's clock, so "
            "synchronize both clocks, for example by NTP",
            host,
            duration_words(abs(ahead)),
            "ahead of" if ahead > 0 else "behind",
            extra={"clock_of": host},
        )
