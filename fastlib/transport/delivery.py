"""What becomes of a message that was sent."""

from collections.abc import Generator
from concurrent.futures import Future
from typing import Any, Final

from .errors import Undelivered
from .futures import wait, wait_async


class Delivery:
    """A message on its way. `wait` for it in a thread, `await` it in a coroutine, or do neither.

    A message with QoS 1 or 2 is delivered when the broker has confirmed it, one with QoS 0 when
    the operating system has taken it.
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
        """True if it is delivered, or if it is certain that it will not be."""
        return self.future.done()

    def wait(self, timeout: float | None = None) -> None:
        """Wait until it is delivered, at most `timeout` seconds; None waits until `close`.

        Raises WaitTimeoutError, which leaves the message on its way; UndeliveredError if it was
        given up; RefusedError if the broker (MQTT 5 only) does not take it.
        """
        wait(self.future, timeout, f"the confirmation of a message to {self.topic}")

    def __await__(self) -> Generator[Any, None, None]:
        return wait_async(self.future, None, self.topic).__await__()

    def undelivered(self, sent: bool) -> Undelivered:
        """The facts for an UndeliveredError."""
        return Undelivered(self.topic, self.qos, len(self.payload), sent)
