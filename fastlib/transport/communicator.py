"""The communicator for threads."""

import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager, suppress
from logging import getLogger
from types import TracebackType
from typing import Self

from fastlib.argument_checks import check_callable, check_seconds

from .callbacks import CallbackThread
from .core import (
    CONFIRM_SECONDS,
    CONNECT_SECONDS,
    ROOM_SECONDS,
    CommunicatorBase,
    CommunicatorCore,
)
from .delivery import Delivery
from .errors import (
    ClosedError,
    QueueFullError,
    RefusedError,
    SubscriptionError,
    UndeliveredError,
    WaitTimeoutError,
)
from .futures import wait
from .inbox import Inbox
from .link import CLOSE_SECONDS, Link
from .messages import ReceivedMessage

log = getLogger("fastlib.transport")

GRACE_SECONDS = 10.0
"""Seconds after its timeout within which a link must end. It limits the effect of a bug in the
link."""


class Communicator(CommunicatorBase, AbstractContextManager["Communicator"]):
    """Sends and receives messages: payloads of bytes on topics. `connect` makes one.

    Every method may be called from any thread. A timeout, `close` and Ctrl-C end every wait.
    """

    def __init__(
        self,
        link: Link,
        *,
        publish_topic: str | None = None,
        subscribe_topic: str | None = None,
        max_queued: int | None = None,
        timeout: float = CONNECT_SECONDS,
    ) -> None:
        """Connect over `link`. Users call `connect`, which makes the link."""
        self._core = CommunicatorCore(link, publish_topic, subscribe_topic, max_queued)
        self._callbacks = CallbackThread(f"fastlib callbacks {link.name}")
        try:
            core = self._core
            opened = link.open(core.on_message, core.on_end, core.on_reconnect, timeout)
            wait(opened, timeout + GRACE_SECONDS, f"the connection of {link.name}")
            if subscribe_topic is not None:
                self.subscribe(subscribe_topic)
        except BaseException:
            self._core.stop_arrivals()
            link.close(0)
            raise

    def send(
        self,
        payload: bytes,
        topic: str | None = None,
        qos: int = 1,
        retain: bool = False,
        *,
        expiry: float | None = None,
        timeout: float = ROOM_SECONDS,
    ) -> Delivery:
        """Accept a message for sending; `topic` defaults to the options' `publish_topic`.

        Without a connection, up to `max_pending` messages (see the options) are queued. If the
        queue is full, this waits for room for at most `timeout` seconds; without a connection it
        raises QueueFullError at once. It does not wait for the broker: see `Delivery`.

        `expiry` is the time in seconds after which the message is useless; None is never. A message
        that expires in the queue is not sent, and its delivery fails with an ExpiredError. With
        MQTT 5, the broker also drops it for receivers that it has not reached in time, with a
        precision of one second. With MQTT 3.1.1, a message that was sent does not expire.

        Raises QueueFullError if there is no room, MessageTooLargeError if the message is larger
        than the broker is known to take, TopicError, OptionsError or ClosedError. In these cases
        the message was not accepted.
        """
        check_seconds("timeout", timeout, optional=False)
        delivery = self._core.delivery(payload, topic, qos, retain, expiry)
        deadline = time.monotonic() + (timeout if expiry is None else min(timeout, expiry))
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
                    continue  # includes a last try
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

        A thread of the communicator calls the callback for one message after the other, and logs
        its exceptions. Without a callback, `receive` returns the messages. With `manual_ack`, the
        broker keeps each message until `ReceivedMessage.ack` is called, and repeats it to a
        resumed session. Otherwise a message is acknowledged when it arrives.

        Returns when the broker has confirmed the subscription. Raises WaitTimeoutError after
        `timeout` seconds, RefusedError, SubscriptionError if there is a subscription to `topic`,
        TopicError or ClosedError. In these cases there is no subscription.
        """
        check_seconds("timeout", timeout)
        sink = None
        if callback is not None:
            sink = self._core.callback_sink(topic, callback, self._callbacks.sink)
        confirmed = self._core.subscribe(topic, qos, sink, manual_ack)
        try:
            wait(confirmed, timeout, f"the confirmation of the subscription to {topic!r}")
        except BaseException:
            with suppress(SubscriptionError):
                self._core.unsubscribe(topic)
            raise

    def subscribe_now(
        self,
        topic: str,
        callback: Callable[[ReceivedMessage], None],
        qos: int = 2,
        *,
        retained: bool = True,
    ) -> "Future[None]":
        """Do the same as `subscribe`, but do not wait for the broker.

        The broker gets the subscription before each message that is sent after this call. The
        future is done when the broker has confirmed it; it fails with RefusedError or ClosedError.
        The subscription stays until `unsubscribe`, also after a failure.

        Without `retained`, the broker need not send what it has retained if another subscription
        covers `topic`. Raises SubscriptionError, TopicError or ClosedError.
        """
        sink = self._core.callback_sink(topic, callback, self._callbacks.sink)
        return self._core.subscribe(topic, qos, sink, False, retained)

    def wait_for_callbacks(self, timeout: float | None = CONFIRM_SECONDS) -> None:
        """Wait until the callbacks have handled all messages that have arrived so far.

        After a confirmed `resend_retained`, the known brokers have sent what they retain, unless
        that is more than a broker sends without an acknowledgement. So a program that waits for
        both knows which topics have no retained message.

        Returns at once in a callback. Raises WaitTimeoutError after `timeout` seconds.
        """
        check_seconds("timeout", timeout)
        if not self._callbacks.wait(timeout):
            raise WaitTimeoutError(f"the callbacks have not returned within {timeout:g} s")

    def unsubscribe(self, topic: str) -> None:
        """End the subscription to `topic`, which must be the same text as in `subscribe`.

        Raises SubscriptionError if there is none.
        """
        self.unsubscribe_now(topic)

    def on_reconnect(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` each time after a lost connection was renewed.

        The subscriptions were sent to the broker before. It runs in the thread of the other
        callbacks, in order with them. Its exceptions are logged. Returns a function that removes
        the callback.
        """
        check_callable("callback", callback)
        return self._core.add_reconnect_listener(self._callbacks.sink(callback))

    def on_refused(self, callback: Callable[[str, RefusedError], None]) -> Callable[[], None]:
        """Call `callback` with each subscription that the broker refuses to renew.

        The broker confirmed the subscription to this topic before, and refuses it after a
        reconnect, for example because its access rules have changed. The subscription stays, and
        each further reconnect retries it. The callback runs in the thread of the other callbacks.
        Its exceptions are logged. Returns a function that removes the callback.
        """
        check_callable("callback", callback)
        return self._core.add_refusal_listener(self._callbacks.sink(callback))

    def on_close(self, callback: Callable[[ClosedError], None]) -> Callable[[], None]:
        """Call `callback` once at the end: when this is closed or fails permanently, or at once.

        Its argument says why this has ended: its `failure` is None if the program called `close`.
        It runs in the thread that ends the connection, and must not wait. Its exceptions are
        logged. Returns a function that removes the callback.
        """
        check_callable("callback", callback)
        return self._core.add_close_listener(callback)

    def receive(self, topic: str | None = None, timeout: float | None = None) -> ReceivedMessage:
        """Return the next message of a subscription that has no callback.

        `topic` is the text of the subscription. None is the options' `subscribe_topic`, or the
        only subscription without a callback. Waits at most `timeout` seconds; with None, only a
        message, `close` or Ctrl-C ends the wait.

        Raises WaitTimeoutError, SubscriptionError or ClosedError.
        """
        check_seconds("timeout", timeout)
        return self._receive(self._core.inbox(topic), timeout)

    def _receive(self, inbox: Inbox, timeout: float | None) -> ReceivedMessage:
        if (message := inbox.poll()) is not None:
            return message
        future = inbox.take()
        try:
            return wait(future, timeout, f"a message to {inbox.pattern!r}")
        except BaseException:
            inbox.cancel(future)
            raise

    def close(self, timeout: float | None = None, *, publish_will: bool = False) -> None:
        """Finish the callbacks, deliver the accepted messages, then disconnect.

        By default it waits for at most 30 s, and only while the broker is reachable. Without a
        connection it makes one further try to connect. It does not wait for a broker that is silent
        for 5 s. With `timeout` (seconds) it also waits for a broker that is unreachable or silent.

        With `publish_will` the broker publishes the last will, like after a lost connection. May be
        called again: that continues a call that an exception has ended, such as Ctrl-C, and else
        does nothing. Raises UndeliveredError with the messages that the broker has not confirmed.
        The communicator is also closed in that case.
        """
        check_seconds("timeout", timeout)
        if not self._core.begin_close():
            return
        start = time.monotonic()
        most = CLOSE_SECONDS if timeout is None else timeout
        with self._core.closing():
            self._callbacks.finish(most)
            rest = None if timeout is None else max(0.0, start + timeout - time.monotonic())
            closed = self._core.link.close(rest, publish_will)
            undelivered = wait(closed, most + GRACE_SECONDS, "the end of the connection")
        if undelivered:
            raise self._core.undelivered_error(undelivered, timeout)

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
            log.error("%s", undelivered)  # must not hide the error of the block
