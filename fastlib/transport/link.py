"""What a way of travelling has to offer; everything else is the same for all of them."""

from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol

from .delivery import Delivery
from .errors import TransportError, Undelivered
from .messages import InboundMessage


class Link(Protocol):
    """A connection to a broker that is kept up until `close`.

    No method blocks: what takes time is a future. Every method may be called from any thread.
    """

    @property
    def name(self) -> str:
        """Who is connected to what, for logs."""

    @property
    def resumes(self) -> bool:
        """True if a session may hold messages for subscriptions of an earlier program."""

    @property
    def is_connected(self) -> bool:
        """True if the broker has accepted the connection and it was not lost since."""

    @property
    def last_error(self) -> TransportError | None:
        """Why there is no connection, or none that lasts; None if all is well."""

    def open(
        self,
        arrived: Callable[[InboundMessage], None],
        ended: Callable[[TransportError], None],
        reconnected: Callable[[], None],
        timeout: float,
    ) -> "Future[None]":
        """Connect, trying again until `timeout` seconds have passed.

        `arrived` is called in order for each message, `reconnected` after each connect but the
        first, `ended` once when all is over. They only enqueue.
        """

    def send(self, delivery: Delivery) -> None:
        """Accept a message. Raises QueueFullError or ClosedError."""

    def room(self) -> "Future[None]":
        """Done when `send` is worth another try, which is also the case if the connection broke."""

    def subscribe(self, pattern: str, qos: int) -> "Future[None]":
        """Ask for a filter, now and on each connect; done when the broker has confirmed it."""

    def unsubscribe(self, pattern: str) -> None:
        """No longer ask for it."""

    def close(self, timeout: float) -> "Future[tuple[Undelivered, ...]]":
        """Deliver what was accepted for at most `timeout` seconds, then end for good.

        The result is what was not confirmed.
        """
