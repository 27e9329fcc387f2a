"""The state of received QoS 1 and 2 messages that are not complete yet, by packet id."""

from collections.abc import Callable
from enum import Enum, auto
from hashlib import blake2b
from typing import Final

from .released import ReleasedMessages

MESSAGE_SIZE: Final = 1024
"""Bytes of memory of an unacknowledged message besides its topic and payload."""


class InboundState(Enum):
    """The next step of a message that is not complete."""

    DELIVERED = auto()
    """The consumer has the message and has not acknowledged it."""
    CONFIRMED = auto()
    """QoS 2: PUBREC is sent, PUBREL has not arrived. QoS 1: PUBACK is to be sent again."""


class InboundPublish:
    """One PUBLISH packet that is not complete."""

    __slots__ = ("connection", "content", "packet_id", "qos", "size", "state")

    def __init__(
        self, packet_id: int, qos: int, content: bytes, size: int, connection: int
    ) -> None:
        self.packet_id: Final = packet_id
        self.qos: Final = qos
        self.content: Final = content
        """The digest of the topic and the payload. A broker may keep many messages incomplete."""
        self.size: Final = size
        """Bytes of memory that it uses until its consumer has acknowledged it."""
        self.connection = connection
        """The connection on which the broker has sent it last."""
        self.state = InboundState.DELIVERED


class InboundTracker:
    """Separates new messages from repeated ones, so QoS 2 arrives once across connections.

    It also bounds the messages that wait for the consumer, because not every broker respects a
    window. Messages that were delivered before the broker lost a session also count until they are
    acknowledged. A message beyond the bound is not taken, and neither are later ones of this
    connection, because they would overtake it. The broker repeats them on the next connection.
    """

    def __init__(
        self, confirm: Callable[[int, int], None], max_unacknowledged: int | None = None
    ) -> None:
        """`confirm(packet_id, qos)` sends the PUBACK or PUBREC.

        `max_unacknowledged` bounds the bytes of memory of delivered messages without an
        acknowledgement. None: no bound.
        """
        self._confirm = confirm
        self._bound = max_unacknowledged
        self._incomplete: dict[int, InboundPublish] = {}
        self._released = ReleasedMessages()
        self._connection = 0
        self.unacknowledged = 0
        """Bytes of memory of the messages that the consumer has and has not acknowledged."""
        self.leaves = False
        """True once a message of this connection was not taken."""

    def received(
        self, packet_id: int, qos: int, topic: str, payload: bytes, duplicate: bool
    ) -> InboundPublish | None:
        """Return the record of a new message.

        Return None for one that was delivered before, or that is not taken.
        """
        known = self._incomplete.get(packet_id)
        content = _digest(topic, payload)
        # A broker that has restored an older state may use a packet id for another message.
        if known and duplicate and known.content == content:
            known.connection = self._connection
            if known.state is InboundState.CONFIRMED:
                self._send(known)
            return None
        if qos == 2 and duplicate and not known and self._released.is_repeated(packet_id, content):
            known = InboundPublish(packet_id, qos, content, 0, self._connection)
            known.state = InboundState.CONFIRMED
            self._incomplete[packet_id] = known
            self._send(known)
            return None
        size = MESSAGE_SIZE + len(topic.encode()) + len(payload)
        waiting = self.unacknowledged
        if self._bound is not None and waiting and waiting + size > self._bound:
            self.leaves = True
        if self.leaves:
            return None
        self.unacknowledged += size
        publish = InboundPublish(packet_id, qos, content, size, self._connection)
        self._incomplete[packet_id] = publish
        self._released.add_new(packet_id, len(self._incomplete))
        return publish

    def acknowledge(self, publish: InboundPublish, connected: bool) -> None:
        """Confirm a message to the broker after its consumer has acknowledged it.

        Without a connection, or if the broker has not sent it on this connection, the confirmation
        follows when the broker repeats the message. Two confirmations for one PUBLISH could confirm
        another message: some brokers use a packet id again at once.
        """
        if publish.state is InboundState.DELIVERED:
            self.unacknowledged -= publish.size
        publish.state = InboundState.CONFIRMED
        if self._incomplete.get(publish.packet_id) is not publish:
            return  # it belongs to a session that was lost
        if connected and publish.connection == self._connection:
            self._send(publish)

    @property
    def has_room_again(self) -> bool:
        """True if a message was not taken, and half of the bound is free again."""
        bound = self._bound or 0
        return self.leaves and (not self.unacknowledged or 2 * self.unacknowledged <= bound)

    def connected(self) -> None:
        """Note that a connection begins, on which the broker repeats what was left to it."""
        self.leaves = False
        self._connection += 1
        self._released.connected()

    def broker_away(self) -> None:
        """Note that the broker could not be reached: it may restart with an older state."""
        self._released.clear()

    def _send(self, publish: InboundPublish) -> None:
        if publish.qos == 2:
            self._released.confirming(publish.packet_id)
        self._confirm(publish.packet_id, publish.qos)
        if publish.qos == 1:
            del self._incomplete[publish.packet_id]

    def release(self, packet_id: int) -> None:
        """Forget a message after its PUBREL: the broker must not repeat it (3.1.1, 4.3.3).

        A later PUBLISH with this packet id is a new message, even with DUP and the same content:
        the broker may have sent it before on a connection that was lost. `released.py` knows the
        only exception.
        """
        publish = self._incomplete.pop(packet_id, None)
        self._released.released(packet_id, None if publish is None else publish.content)

    def clear(self) -> None:
        """Forget all messages: the broker has lost the session."""
        self._incomplete.clear()
        self._released.clear()


def _digest(topic: str, payload: bytes) -> bytes:
    found = blake2b(topic.encode(), digest_size=16)
    found.update(b"\0")
    found.update(payload)
    return found.digest()
