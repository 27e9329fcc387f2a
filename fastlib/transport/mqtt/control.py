"""Test whether connections last without the message that seems to end them. No I/O.

A network that breaks connections every few seconds ends most of them while the slowest message is
being sent. A broker that does not take a message ends them only because of it. So a likely cause
is held back on a connection, as a control, for several times as long as it was being sent:

| event | consequence |
|---|---|
| this connection also ends | the network is the cause, and the count of ends restarts |
| something else was being sent that may be the cause | the control is repeated |
| the connection has lasted, and the broker answers | the message is the cause |
"""

from collections.abc import Callable
from typing import Final

LEAST_SECONDS: Final = 5.0
"""The minimum duration of a control in seconds."""

TIMES_SENDING: Final = 5
"""The duration of a control as a multiple of the longest sending time of the message."""


class Control:
    """Measures how long messages are being sent, and the connection without a likely cause."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._sending: tuple[int, float] | None = None
        self._longest: dict[int, float] = {}
        """Seconds from the sending of a message to the end of the connection, by packet id."""
        self._since: float | None = None
        self.cause: int | None = None
        """The message that is held back on this connection."""
        self.asked = False
        """True once a PINGREQ was sent at the end of the control."""

    def sending(self, packet_id: int) -> None:
        """Note that a message alone is being sent from now on."""
        self._sending = packet_id, self._clock()

    def begin(self, cause: int) -> None:
        """Hold `cause` back on this connection, unless it already is."""
        if self.cause != cause:
            self.cause, self._since, self.asked = cause, self._clock(), False

    def seconds_left(self) -> float:
        """Return how long the connection must still last; 0 if it has lasted long enough."""
        if self.cause is None or self._since is None:
            return 0.0
        seconds = max(LEAST_SECONDS, TIMES_SENDING * self._longest.get(self.cause, 0.0))
        return max(0.0, self._since + seconds - self._clock())

    def connection_ended(self) -> int | None:
        """Note the end of the connection. Return the message that was held back."""
        if self._sending is not None:
            packet_id, at = self._sending
            seconds = self._clock() - at
            self._longest[packet_id] = max(seconds, self._longest.get(packet_id, 0.0))
        cause = self.cause
        self.reset()
        return cause

    def reset(self) -> None:
        """Note that a connection begins."""
        self.cause = self._sending = self._since = None

    def gone(self, packet_id: int) -> None:
        """Note that a message is confirmed or will not be sent again."""
        self._longest.pop(packet_id, None)
        if self._sending is not None and self._sending[0] == packet_id:
            self._sending = None
        if self.cause == packet_id:
            self.cause = self._since = None
