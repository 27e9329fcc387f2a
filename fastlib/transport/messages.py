"""Inbound messages and their acknowledgement."""

import threading
from collections.abc import Callable
from typing import Final


class InboundMessage:
    """A message from the broker that a link gives to the communicator.

    `ack` acknowledges the message, so the broker may forget it. It is called once, from any thread.
    """

    __slots__ = (
        "ack",
        "connection",
        "duplicate",
        "packet_id",
        "payload",
        "qos",
        "retain",
        "session_start",
        "sha256",
        "size",
        "topic",
    )

    def __init__(
        self,
        topic: str,
        payload: bytes,
        qos: int,
        retain: bool,
        duplicate: bool,
        ack: Callable[[], None],
        packet_id: int | None = None,
        connection: int = 0,
        session_start: int = 0,
        size: int | None = None,
        sha256: str | None = None,
    ) -> None:
        self.topic: Final = topic
        self.payload: Final = payload
        self.qos: Final = qos
        self.retain: Final = retain
        self.duplicate: Final = duplicate
        self.ack: Final = ack
        self.packet_id: Final = packet_id
        self.connection: Final = connection
        self.session_start: Final = session_start
        self.size: Final = len(payload) if size is None else size
        self.sha256: Final = sha256


class SharedAck:
    """One acknowledgement for several subscriptions. The last of them sends it."""

    __slots__ = ("_ack", "_left", "_lock")

    def __init__(self, ack: Callable[[], None], count: int) -> None:
        self._ack = ack
        self._left = count
        self._lock = threading.Lock()

    def __call__(self) -> None:
        with self._lock:
            self._left -= 1
            last = self._left == 0
        if last:
            self._ack()


class ReceivedMessage:
    """A message of a subscription."""

    __slots__ = (
        "_ack",
        "_inbound",
        "connection",
        "duplicate",
        "packet_id",
        "payload",
        "qos",
        "retain",
        "session_start",
        "sha256",
        "size",
        "topic",
    )

    topic: str
    """The actual topic, without wildcards."""
    payload: bytes
    """Only the beginning if the message is larger than `max_payload` of the options."""
    size: int
    """Bytes of the whole payload."""
    sha256: str | None
    """The SHA-256 of the whole payload in hexadecimal digits, if only its beginning is kept.

    None otherwise, and if it is not known."""
    qos: int
    """The quality of service: the lower of the sender's and the subscription's."""
    retain: bool
    """True if the broker had retained it before the subscription."""
    duplicate: bool
    """True if the broker repeats the message because it does not know whether it arrived before."""
    packet_id: int | None
    """The broker's number of this message until it is acknowledged; None with QoS 0.

    A message that the broker repeats has the same number. After the acknowledgement, the broker
    uses the number again for other messages.
    """
    connection: int
    """The number of the connection that it came by, from 1 on for each communicator."""
    session_start: int
    """The number of the connection that began the broker's session; 0 if it is older.

    Messages with the same value belong to the same session, so their packet ids can be compared.
    """

    def __init__(self, message: InboundMessage, qos: int, ack: Callable[[], None] | None) -> None:
        self.topic = message.topic
        self.payload = message.payload
        self.size = message.size
        self.sha256 = message.sha256
        self.qos = qos
        self.retain = message.retain
        self.duplicate = message.duplicate
        self.packet_id = message.packet_id
        self.connection = message.connection
        self.session_start = message.session_start
        self._ack = ack
        self._inbound = message

    def is_same_as(self, other: "ReceivedMessage") -> bool:
        """Return True if both are one message that two overlapping subscriptions received."""
        return self._inbound is other._inbound

    def ack(self) -> None:
        """Acknowledge the message: it is stored, and the broker need not send it again.

        Only the first call has an effect, and only in a subscription with `manual_ack=True`. Any
        thread may call it. The broker repeats an unacknowledged message to a resumed session.
        """
        ack, self._ack = self._ack, None
        if ack is not None:
            ack()

    def __repr__(self) -> str:
        return f"<ReceivedMessage {self.topic!r}, {self.size} bytes, QoS {self.qos}>"
