"""The interface between a communicator and a broker: one `Link` for each kind of broker."""

from collections.abc import Callable
from concurrent.futures import Future
from typing import Final, Protocol

from .delivery import Delivery
from .errors import ClosedError, RefusedError, TransportError, Undelivered
from .messages import InboundMessage

CLOSE_SECONDS: Final = 30.0
"""Seconds for which a closing communicator waits for the broker by default."""


class Link(Protocol):
    """A connection to a broker. It is renewed until `close`.

    No method blocks: slow results are futures. Every method may be called from any thread.
    """

    @property
    def name(self) -> str:
        """The client and the broker, for logs."""

    @property
    def resumes(self) -> bool:
        """True if the broker may keep messages for subscriptions of an earlier program."""

    @property
    def session_start(self) -> int:
        """The number of the connection that began the broker's session; 0 if it is older."""

    @property
    def is_connected(self) -> bool:
        """True while the broker has accepted the connection."""

    @property
    def last_error(self) -> TransportError | None:
        """The last failure; None while the connection is stable."""

    def open(
        self,
        on_message: Callable[[InboundMessage], None],
        on_end: Callable[[ClosedError], None],
        on_reconnect: Callable[[], None],
        timeout: float,
    ) -> "Future[None]":
        """Connect, with retries for `timeout` seconds.

        The link calls `on_message` for each message in order, `on_reconnect` after each connect
        but the first and before the messages of that connection, and `on_end` once after the end of
        the last connection, with the reason. They only enqueue.
        """

    def send(self, delivery: Delivery) -> None:
        """Accept a message. Raises QueueFullError or ClosedError."""

    def room(self) -> "Future[None]":
        """Return a future that is done when there is room to send, or the connection is lost."""

    def subscribe(self, pattern: str, qos: int, retained: bool = True) -> "Future[None]":
        """Request a filter, now and after each connect; done when the broker has confirmed it.

        The broker gets it before all messages that are accepted later. Without `retained`, the
        program does not need the retained messages if another filter covers this one.
        """

    def listen_for_refusals(self, on_refused: Callable[[str, RefusedError], None]) -> None:
        """Call `on_refused` for each filter of `subscribe` that the broker does not renew.

        This happens after a reconnect, for a filter that the broker confirmed before. Only called
        before `open`. `on_refused` only enqueues.
        """

    def call_each_second(self, tick: Callable[[], None]) -> None:
        """Call `tick` about every second while connected. Only called before `open`.

        A link whose broker does not wait for acknowledgements need not call it.
        """

    def unsubscribe(self, pattern: str) -> None:
        """Withdraw a filter."""

    def forget(self, pattern: str) -> None:
        """Withdraw a filter that an earlier program may have left in the broker's session."""

    def close(
        self, timeout: float | None, publish_will: bool = False
    ) -> "Future[tuple[Undelivered, ...]]":
        """Deliver the accepted messages for at most `timeout` seconds, then end permanently.

        None waits only while delivery is possible: until a try to reach the broker fails, or it
        is silent for some seconds, and at most for `CLOSE_SECONDS`.

        With `publish_will` the link sends no DISCONNECT, so the broker publishes the last will.

        The result is the list of messages that were not confirmed.
        """
