"""The state of a message that was accepted for sending."""

from collections.abc import Generator
from concurrent.futures import Future
from typing import Any, Final

from .errors import Undelivered
from .futures import wait, wait_async


class Delivery:
    """A sent message. Optionally `wait` for it in a thread, or `await` it in a coroutine.

    A message with QoS 1 or 2 is delivered when the broker has confirmed it. A message with QoS 0
    is delivered when the operating system has taken it.
    """

    __slots__ = ("future", "payload", "qos", "retain", "topic")

    def __init__(self, topic: str, payload: bytes, qos: int, retain: bool) -> None:
        self.topic: Final = topic
        self.payload: Final = payload
        self.qos: Final = qos
        self.retain: Final = retain
        self.future: Final[Future[None]] = Future()

    @property
    def done(self) -> bool:
        """True if it was delivered or has failed."""
        return self.future.done()

    def wait(self, timeout: float | None = None) -> None:
        """Wait until it is delivered, at most `timeout` seconds; None waits until `close`.

        Raises WaitTimeoutError (the message stays in flight), UndeliveredError if `close` could
        not deliver it, and RefusedError if the broker refuses it (MQTT 5 only).
        """
        wait(self.future, timeout, f"the confirmation of a message to {self.topic}")

    def __await__(self) -> Generator[Any, None, None]:
        return wait_async(self.future, None, self.topic).__await__()

    def undelivered(self, sent: bool) -> Undelivered:
        """Return the facts for an UndeliveredError."""
        return Undelivered(self.topic, self.qos, len(self.payload), sent)
