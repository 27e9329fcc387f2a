"""Find the message that a broker does not accept and for which it ends the connection. No I/O.

A broker of MQTT 3.1.1 cannot say that a packet is too large, or has a QoS that it does not support.
It ends the connection, and the message is sent again on the next one, for ever. So the ends of
connections are counted:

| event | consequence |
|---|---|
| the connection ended while messages were being sent | they are suspects |
| this happened twice in a row | messages are sent one at a time from now on |
| it ended three times while one message alone was being sent | this message is the likely cause |
| the same, and the broker has taken a message like it before | ten times are needed |
| a connection without the likely cause also ends (`control.py`) | the count of its ends restarts |
| the broker could not be reached after that | that end does not count: the broker was restarted |
| nothing was being sent, or the broker gave another reason | the end does not count |
| no suspect is left | messages are sent as usual again |

If that connection lasts, the message is the cause. `remedy` decides what to do: a message that is
not larger than others that the broker has accepted is sent without "retain" or with a lower QoS.
Any other message is not sent again.
"""

from collections.abc import Collection, Mapping
from typing import Final

import msgspec

ENDS_IN_A_ROW: Final = 2
"""The number of ends while messages were being sent, after which they are sent one at a time."""

ENDS_ALONE: Final = 3
"""The number of ends while only one message was being sent, after which it is the likely cause."""

ENDS_ALONE_OF_KNOWN: Final = 10
"""The same for a message like an accepted one: the network is the likelier cause."""

SMALL: Final = 4096
"""Bytes. Brokers accept packets of this size. If one ends the connection, its size is not the
cause."""

QUEUED_BEFORE_SUSPECT: Final = 100
"""The number of queued messages that are sent on a connection before a likely cause is retried."""


class Demand(msgspec.Struct, frozen=True):
    """The demands of a message on a broker."""

    size: int
    """Bytes of its packet."""
    qos: int
    retain: bool

    def is_at_least(self, other: "Demand") -> bool:
        """Return True if a broker that refuses `other` also refuses this one."""
        return self.size >= other.size and self.qos >= other.qos and self.retain >= other.retain

    def is_like_taken(self, taken: "Demand") -> bool:
        """Return True if a broker that has accepted `taken` is likely to accept this one."""
        fits = self.size <= max(SMALL, taken.size)
        return fits and self.qos <= taken.qos and self.retain <= taken.retain


class Remedy(msgspec.Struct, frozen=True):
    """The form in which to send the cause of the ends next time; without a `qos`, not at all."""

    qos: int | None = None
    retain: bool = False


def remedy(attempt: int, *, size: int, taken: int, qos: int, retain: bool) -> Remedy:
    """Decide what to do with a message after `attempt` ends with it alone, at least ENDS_ALONE.

    `attempt` does not count ends that prove nothing.

    `size` is that of its packet, `taken` the size of the largest packet that the broker has
    confirmed. `qos` (1 or 2) and `retain` are those with which it was to be sent at first.
    """
    if size > max(SMALL, taken):
        return Remedy()
    variants = [
        Remedy(lower, keep)
        for lower in range(qos, 0, -1)
        for keep in ((True, False) if retain else (False,))
    ][1:]
    at = attempt - ENDS_ALONE
    return variants[at] if at < len(variants) else Remedy()


class Suspects:
    """Counts the ends of connections for each message that was being sent, by packet id."""

    def __init__(self) -> None:
        self._in_a_row = 0
        self._alone: dict[int, int] = {}
        """The suspects, and how often a connection ended with each of them alone."""
        self._last_alone: int | None = None
        """The message whose count the last end of a connection has increased."""

    @property
    def one_at_a_time(self) -> bool:
        """True if messages must be sent one at a time."""
        return bool(self._alone) and self._in_a_row >= ENDS_IN_A_ROW

    def ends_alone(self, packet_id: int) -> int:
        """Return how often a connection ended while this message alone was being sent."""
        return self._alone.get(packet_id, 0)

    def connection_ended(
        self, sent: Collection[int], *, proof: bool = False, others: bool = False
    ) -> int | None:
        """Note an end of a connection without another reason. Return the cause if it is known.

        `sent` has the messages of which the broker may have read a part, and not confirmed them.
        `others` is True if something else was also being sent that may be the cause. `proof`
        is True if the broker has said that the size of one of all these is the reason.
        """
        self._last_alone = None
        if not sent:
            return None
        self._in_a_row += ENDS_IN_A_ROW if proof else 1
        for packet_id in sent:
            self._alone.setdefault(packet_id, 0)
        if len(sent) > 1 or others:
            return None
        (only,) = sent
        self._alone[only] = max(self._alone[only] + 1, ENDS_ALONE if proof else 0)
        self._last_alone = only
        return only if self._alone[only] >= ENDS_ALONE else None

    def acquit(self, packet_id: int, ends: int) -> None:
        """Restart the count of the ends with a message alone at `ends`: they had another cause."""
        if packet_id in self._alone:
            self._alone[packet_id] = ends

    def unreachable(self) -> None:
        """Note that the broker could not be reached. That explains the last end."""
        if self._last_alone in self._alone:
            self._alone[self._last_alone] = max(0, self._alone[self._last_alone] - 1)
        self._last_alone = None
        if self._in_a_row < ENDS_IN_A_ROW:
            self._in_a_row = 0

    def gone(self, packet_id: int) -> None:
        """Note that a message is confirmed or will not be sent again."""
        self._alone.pop(packet_id, None)
        if not self._alone:
            self._in_a_row = 0

    def next(self, held: Mapping[int, Demand], queued: Demand | None, sent: int) -> int | None:
        """Return the packet id of the message to send next, or None for the first of the queue.

        `held` has the messages to send again, `queued` is the first of the queue, and `sent` is how
        many of the queue were sent on this connection. Messages that demand less than each one that
        was alone at an end come first, smallest first. So all others continue.
        """
        if not held:
            return None
        failed = [demand for packet_id, demand in held.items() if self.ends_alone(packet_id)]

        def is_doubtful(demand: Demand) -> bool:
            return any(demand.is_at_least(other) for other in failed)

        fresh = [packet_id for packet_id, demand in held.items() if not is_doubtful(demand)]
        if fresh:
            return min(fresh, key=lambda packet_id: held[packet_id].size)
        if queued is not None and not is_doubtful(queued) and sent < QUEUED_BEFORE_SUSPECT:
            return None
        return min(held, key=lambda packet_id: (-self.ends_alone(packet_id), held[packet_id].size))
