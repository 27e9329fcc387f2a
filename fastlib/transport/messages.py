"""A message as it arrives, and how it is acknowledged."""

import threading
from collections.abc import Callable
from typing import Final


class InboundMessage:
    """What a link hands over: a message from the broker, once, whoever wants it here.

    `ack` tells the broker that it may forget the message; it is called once, from any thread.
    """

    __slots__ = ("ack", "duplicate", "payload", "qos", "retain", "topic")

    def __init__(
        self,
        topic: str,
        payload: bytes,
        qos: int,
        retain: bool,
        duplicate: bool,
        ack: Callable[[], None],
    ) -> None:
        self.topic: Final = topic
        self.payload: Final = payload
        self.qos: Final = qos
        self.retain: Final = retain
        self.duplicate: Final = duplicate
        self.ack: Final = ack


class SharedAck:
    """One acknowledgement for several subscriptions: sent when the last of them gave theirs."""

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

    __slots__ = ("_ack", "duplicate", "payload", "qos", "retain", "topic")

    topic: str
    """The actual topic, without wildcards."""
    payload: bytes
    qos: int
    """The quality of service it came with: the lower of the sender's and the subscription's."""
    retain: bool
    """True if the broker had kept it from before the subscription."""
    duplicate: bool
    """True if the broker sends it again and does not know whether it came the first time."""

    def __init__(self, arrival: InboundMessage, qos: int, ack: Callable[[], None] | None) -> None:
        self.topic = arrival.topic
        self.payload = arrival.payload
        self.qos = qos
        self.retain = arrival.retain
        self.duplicate = arrival.duplicate
        self._ack = ack

    def ack(self) -> None:
        """Acknowledge the message: it is stored, the broker need not send it again.

        Does anything only once, and only in a subscription made with `manual_ack=True`; from any
        thread. A message that nobody acknowledges is sent again when the session is resumed.
        """
        ack, self._ack = self._ack, None
        if ack is not None:
            ack()

    def __repr__(self) -> str:
        return f"<ReceivedMessage {self.topic!r}, {len(self.payload)} bytes, QoS {self.qos}>"
