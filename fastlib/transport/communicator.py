"""The communicator for threads."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from logging import getLogger
from types import TracebackType
from typing import Self

from .callbacks import Callbacks
from .core import CLOSE_SECONDS, CONFIRM_SECONDS, CONNECT_SECONDS, ROOM_SECONDS, Core
from .delivery import Delivery
from .errors import QueueFullError, SubscriptionError, TransportError, UndeliveredError
from .futures import wait
from .inbox import Inbox
from .link import Link
from .messages import ReceivedMessage

log = getLogger("fastlib.transport")

GRACE_SECONDS = 10.0
"""How much longer than its timeout a link may take to end; it is a bound for what cannot be."""


class Communicator(AbstractContextManager["Communicator"]):
    """Sends and receives messages: payloads of bytes on topics. `connect` makes one.

    Every method may be called from any thread. Every wait ends: at its timeout, with `close`, or
    by Ctrl-C.
    """

    def __init__(
        self,
        link: Link,
        *,
        publish_topic: str | None = None,
        subscribe_topic: str | None = None,
        timeout: float = CONNECT_SECONDS,
    ) -> None:
        """Connect over `link`. Users call `connect`, which knows the links."""
        self._core = Core(link, publish_topic, subscribe_topic)
        self._callbacks = Callbacks(f"fastlib callbacks {link.name}")
        try:
            core = self._core
            opened = link.open(core.arrived, core.ended, core.reconnected, timeout)
            wait(opened, timeout + GRACE_SECONDS, f"the connection of {link.name}")
            if subscribe_topic is not None:
                self.subscribe(subscribe_topic)
        except BaseException:
            self._core.stop_arrivals()
            link.close(0)
            raise

    @property
    def is_connected(self) -> bool:
        """True while there is a connection that the broker has accepted.

        A connection that breaks is made again by itself, with growing pauses.
        """
        return self._core.link.is_connected

    @property
    def last_error(self) -> TransportError | None:
        """Why there is no connection, or none that lasts; None if all is well."""
        return self._core.link.last_error

    def send(
        self,
        payload: bytes,
        topic: str | None = None,
        qos: int = 1,
        retain: bool = False,
        *,
        timeout: float = ROOM_SECONDS,
    ) -> Delivery:
        """Accept a message for sending; `topic` defaults to the options' `publish_topic`.

        While there is no connection, messages are kept, up to the options' `max_pending`. When
        as many wait, this waits for room at most `timeout` seconds, and without a connection not
        at all. Returns without waiting for the broker: see `Delivery`.

        Raises QueueFullError if there is no room, TopicError, OptionsError or ClosedError; the
        message was not accepted then.
        """
        delivery = self._core.delivery(payload, topic, qos, retain)
        deadline = time.monotonic() + timeout
        while True:
            try:
                self._core.link.send(delivery)
            except QueueFullError:
                rest = deadline - time.monotonic()
                if rest <= 0 or not self.is_connected:
                    raise
                try:
                    wait(self._core.link.room(), rest, "room")
                except TimeoutError:
                    continue  # for a last try
            else:
                return delivery

    def subscribe(
        self,
        topic: str,
        callback: Callable[[ReceivedMessage], None] | None = None,
        qos: int = 2,
        *,
        manual_ack: bool = False,
        timeout: float = CONFIRM_SECONDS,
    ) -> None:
        """Subscribe to a topic or a filter with `+` and `#`, now and after each reconnect.

        With a callback, a thread of the communicator calls it for one message after the other; an
        exception of it is logged. Without one, `receive` has the messages. With `manual_ack` the
        broker keeps each message until `ReceivedMessage.ack` is called and sends it again to a
        session that is resumed; otherwise it is acknowledged when it arrives.

        Returns when the broker has confirmed it. Raises WaitTimeoutError after `timeout` seconds,
        RefusedError, SubscriptionError if `topic` is subscribed to already, TopicError or
        ClosedError; there is no subscription then.
        """
        sink = None if callback is None else self._callbacks.sink(callback)
        confirmed = self._core.subscribe(topic, qos, sink, manual_ack)
        try:
            wait(confirmed, timeout, f"the confirmation of the subscription to {topic!r}")
        except BaseException:
            with suppress(SubscriptionError):
                self._core.unsubscribe(topic)
            raise

    def unsubscribe(self, topic: str) -> None:
        """End the subscription to `topic`, the very text that was subscribed to.

        Raises SubscriptionError if there is none.
        """
        self._core.unsubscribe(topic)

    def on_reconnect(self, callback: Callable[[], None]) -> None:
        """Have `callback` called whenever a connection that was lost has been made again.

        By then the subscriptions are on their way to the broker. It is called in the thread of the
        other callbacks, in order with them; an exception of it is logged.
        """
        self._core.on_reconnect(self._callbacks.sink(callback))

    def on_close(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have `callback` called once when this is closed or has broken down, at once if it is.

        It is called in whatever thread ends the connection and must not wait; an exception of it
        is logged. Returns a function that takes it back.
        """
        return self._core.on_close(callback)

    def receive(self, topic: str | None = None, timeout: float | None = None) -> ReceivedMessage:
        """The next message of a subscription that has no callback.

        `topic` is the text that was subscribed to; None is the options' `subscribe_topic`, or
        else the only such subscription. Waits at most `timeout` seconds; None waits until there
        is a message, `close` is called or Ctrl-C is pressed.

        Raises WaitTimeoutError, SubscriptionError or ClosedError.
        """
        return self._receive(self._core.inbox(topic), timeout)

    def _receive(self, inbox: Inbox, timeout: float | None) -> ReceivedMessage:
        if (message := inbox.poll()) is not None:
            return message
        future = inbox.take()
        try:
            return wait(future, timeout, f"a message to {inbox.pattern!r}")
        except BaseException:
            inbox.give_up(future)
            raise

    def close(self, timeout: float = CLOSE_SECONDS) -> None:
        """Let callbacks finish, deliver what was accepted, then disconnect; once is enough.

        Raises UndeliveredError if messages are not confirmed after `timeout` seconds. The
        communicator is closed all the same.
        """
        if not self._core.stop_arrivals():
            return
        deadline = time.monotonic() + timeout
        self._callbacks.finish(timeout)
        closed = self._core.link.close(max(0.0, deadline - time.monotonic()))
        undelivered = wait(closed, timeout + GRACE_SECONDS, "the end of the connection")
        if undelivered:
            raise UndeliveredError(undelivered, f"closed after {timeout:g} s")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except UndeliveredError as undelivered:
            if error is None:
                raise
            log.error("%s", undelivered)  # the error on its way says more

    def __repr__(self) -> str:
        return f"<Communicator {self._core.link.name}>"
