"""The state of a message that was accepted for sending."""

import time
from collections.abc import Generator
from concurrent.futures import Future
from typing import Any, Final

from .errors import ExpiredError, Undelivered
from .futures import wait, wait_async


class Delivery:
    """A sent message. Optionally `wait` for it in a thread, or `await` it in a coroutine.

    A message with QoS 1 or 2 is delivered when the broker has confirmed it. A message with QoS 0
    is delivered when the operating system has taken it.
    """

    __slots__ = ("expiry", "future", "latest", "payload", "qos", "retain", "sent_qos", "topic")

    def __init__(
        self, topic: str, payload: bytes, qos: int, retain: bool, expiry: float | None = None
    ) -> None:
        """`expiry` is in seconds from now."""
        self.topic: Final = topic
        self.payload: Final = payload
        self.qos: Final = qos
        self.sent_qos = qos
        """The quality of service of its packet: lower if the broker does not support `qos`."""
        self.retain: Final = retain
        self.expiry: Final = expiry
        self.latest: Final = None if expiry is None else time.monotonic() + expiry
        """The monotonic time at which it expires; None is never."""
        self.future: Final[Future[None]] = Future()

    @property
    def done(self) -> bool:
        """True if it was delivered or has failed."""
        return self.future.done()

    def wait(self, timeout: float | None = None) -> None:
        """Wait until it is delivered, at most `timeout` seconds; None waits until `close`.

        Raises WaitTimeoutError (the message stays in flight), ExpiredError if it expired before it
        could be sent, MessageTooLargeError if it is larger than the broker takes, UndeliveredError
        if `close` could not deliver it, and RefusedError if the broker refuses it.
        """
        wait(self.future, timeout, f"the confirmation of a message to {self.topic}")

    def __await__(self) -> Generator[Any, None, None]:
        return wait_async(self.future, None, self.topic).__await__()

    def seconds_left(self) -> float | None:
        """Return the seconds until it expires, less than 0 if it has, or None for never."""
        return None if self.latest is None else self.latest - time.monotonic()

    def expire(self, *, sent: bool, last_error: object = None) -> None:
        """Fail it with an ExpiredError that names the last error of the connection."""
        assert self.expiry is not None
        error = ExpiredError(self.undelivered(sent), self.expiry, last_error)
        self.future.set_exception(error)

    def undelivered(self, sent: bool) -> Undelivered:
        """Return the facts for an UndeliveredError."""
        return Undelivered(self.topic, self.qos, len(self.payload), sent)
