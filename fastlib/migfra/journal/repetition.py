"""Decide whether an order that comes repeats an earlier one. Pure functions.

An order with an idempotency key is recognised by the key. One without a key is recognised in two
cases only:

- The broker repeats a packet: the DUP flag is set, and the newest order that came with this packet
  id in this MQTT session has the same bytes. The flag alone proves nothing, because the first copy
  may never have arrived.
- The sender repeats it: an order with the same bytes came a short time ago, and no other message of
  this id that may affect the same domains has come since. A client that loses its connection sends
  all messages in flight again, so orders for other domains may be between.

All other orders are new.
"""

from typing import Final

import msgspec

REPETITION_SECONDS: Final = 5.0
"""Default time in which the same bytes count as a repetition."""

Place = tuple[int, int]
"""A run of the daemon, and a connection to the broker in it. Later places are larger."""


class Origin(msgspec.Struct, frozen=True):
    """The facts about the arrival of a message from the broker."""

    packet_id: int | None = None
    """None if the message has none, as with QoS 0."""
    duplicate: bool = False
    """The DUP flag."""
    connection: int = 0
    """The number of the connection in this run."""
    session_start: int = 0
    """The connection that began the MQTT session; 0 if it is older than this run."""


UNKNOWN_ORIGIN: Final = Origin()
"""The origin of a message from a broker without packet ids."""


class Arrival(msgspec.Struct, frozen=True):
    """The facts about an order without a key that the decision needs."""

    raw: bytes
    """A digest of its bytes."""
    content: bytes
    """A digest of its content, the same for all spellings. Empty if it was not computed."""
    duplicate: bool
    """The DUP flag."""
    session: int
    """The number of the MQTT session, counted over all runs."""


class KnownPacket(msgspec.Struct, frozen=True):
    """The newest order that came with a packet id."""

    raw: bytes | None
    """As in `Arrival`; None for an order with a key."""
    session: int
    """As in `Arrival`."""
    place: Place
    """The place at which the packet came last."""


class KnownOrder(msgspec.Struct, frozen=True):
    """The newest order with these bytes."""

    raw: bytes | None
    """As in `Arrival`; None for an order with a key or from an older fastlib."""
    elapsed: float
    """Seconds since it was accepted, or a lower bound if that is not known."""
    followed: bool
    """Whether another message of this id came after it that may affect the same domains.

    An order without domains may affect any, and so may a query and an unreadable message.
    """


def is_packet_again(arrival: Arrival, known: KnownPacket | None, fresh: Place) -> bool:
    """Return whether the broker repeats the packet `known`.

    `fresh` is the newest place that has brought a message without DUP. After a reconnect a broker
    first repeats unacknowledged messages. So a message without DUP on a later connection shows that
    all messages of earlier connections are settled, and that their packet ids are used for others.
    """
    return (
        known is not None
        and arrival.duplicate
        and known.raw == arrival.raw
        and known.session == arrival.session
        and known.place >= fresh
    )


def is_packet_of_version_1(arrival: Arrival, content: bytes | None, fresh: Place) -> bool:
    """Return whether the broker repeats an order that an older fastlib has accepted.

    Version 1 of the tables has no packet ids. `content` is that of the oldest such order that the
    broker may repeat.
    """
    return arrival.duplicate and content == arrival.content and fresh == (0, 0)


def is_sent_again(arrival: Arrival, known: KnownOrder | None, window: float) -> bool:
    """Return whether the sender repeats `known` within `window` seconds."""
    return (
        known is not None
        and known.raw == arrival.raw
        and not known.followed
        and known.elapsed < window
    )


def elapsed(then: float, now: float, *, same_boot: bool) -> float:
    """Return the seconds between two readings of the monotonic clock.

    After a reboot the clock begins again. Then at least the time since the boot has passed.
    """
    return now - then if same_boot else now
