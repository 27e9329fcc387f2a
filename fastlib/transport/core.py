"""The part that both communicators share: subscriptions over a link. It never waits."""

import math
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import wraps
from logging import getLogger
from typing import Final, NoReturn, TypeVar

from fastlib.argument_checks import check_bool, check_callable, check_seconds, check_str

from .delivery import Delivery
from .errors import (
    ClosedError,
    LoopError,
    MessageTooLargeError,
    OptionsError,
    RefusedError,
    SubscriptionError,
    TopicError,
    TransportError,
    Undelivered,
    UndeliveredError,
    closed_by_program,
)
from .filters import check_filter, check_qos, check_topic, is_shared, overlap, own_filter
from .inbox import Inbox
from .link import CLOSE_SECONDS, Link
from .messages import InboundMessage, ReceivedMessage
from .own_process import OwnProcess, not_copied
from .queue_room import DropCount, QueueRoom
from .routes import Route, Routes

log = getLogger("fastlib.transport")

MAX_PAYLOAD: Final = 268_435_455 - 65_535 - 16
"""The maximum size of a payload in bytes: it fits into an MQTT packet with any topic."""

MAX_EXPIRY: Final = 0xFFFF_FFFF
"""The maximum expiry of a message in seconds (MQTT 5, section 3.3.2.3.3): 136 years."""

R = TypeVar("R")
MessageCallback = Callable[[ReceivedMessage], R]

CONNECT_SECONDS: Final = 30.0
CONFIRM_SECONDS: Final = 30.0
ROOM_SECONDS: Final = 30.0


class CommunicatorCore:
    """The subscriptions, inboxes and listeners of one communicator."""

    def __init__(
        self,
        link: Link,
        publish_topic: str | None,
        subscribe_topic: str | None,
        max_queued: int | None = None,
    ) -> None:
        """`max_queued` is the option of this name."""
        self.link: Final = link
        self.process: Final = OwnProcess()
        self.subscribe_topic: Final = subscribe_topic and check_filter(subscribe_topic)
        self._publish_topic = publish_topic and check_topic(publish_topic)
        self._drops = DropCount()
        self._routes = Routes(link.resumes, self._drops, link.forget)
        self._max_queued = max_queued
        self._lock = threading.Lock()
        self._inboxes: dict[str, Inbox] = {}
        self._callbacks: set[str] = set()
        self._shared: set[str] = set()
        self._qos: dict[str, int] = {}
        """The quality of service of each subscription."""
        self._closing = False
        self._was_interrupted = False
        """Whether an exception has ended a `close` before its end."""
        self._reconnect_listeners: list[Callable[[], None]] = []
        self._refusal_listeners: list[Callable[[str, RefusedError], None]] = []
        self._close_listeners: list[Callable[[ClosedError], None]] = []
        self._end: ClosedError | None = None
        """The reason of the end, once the link has ended."""
        link.listen_for_refusals(self._on_refused)
        link.call_each_second(self._routes.tick)

    def on_message(self, message: InboundMessage) -> None:
        """Route a message, except while closing: it stays unacknowledged, or is dropped."""
        if self._closing:
            return
        try:
            self._routes.deliver(message)
        except LoopError as error:
            self._end_without_loop(error)

    def _end_without_loop(self, error: LoopError) -> None:
        """End, because callbacks can no longer run. The message stays unacknowledged."""
        if not self._closing:
            self.stop_arrivals()
            log.error("%s: %s", self.link.name, error)
            self.link.close(0)

    def delivery(
        self,
        payload: bytes,
        topic: str | None,
        qos: int,
        retain: bool,
        expiry: float | None,
    ) -> Delivery:
        """Check a message to be sent. Raises TopicError, OptionsError, TypeError, ForkedError."""
        self.process.check(self.link.name)
        check_str("topic", topic, optional=True)
        check_bool("retain", retain)
        topic = topic if topic is not None else self._publish_topic
        if topic is None:
            raise TopicError("", "is empty, and the options have no `publish_topic`")
        check_qos(qos)
        if not isinstance(payload, bytes | bytearray | memoryview):
            remedy = "; write payload.encode()" if isinstance(payload, str) else ""
            raise TypeError(f"a payload must be bytes, not {type(payload).__name__}{remedy}")
        if not (isinstance(expiry, float) and math.isnan(expiry)):
            check_seconds("expiry", expiry)
        if len(payload) > MAX_PAYLOAD:
            size = len(payload)
            facts = Undelivered(topic, qos, size, sent=False)
            raise MessageTooLargeError(facts, size, MAX_PAYLOAD, "MQTT")
        if expiry is not None and math.isnan(expiry):
            raise OptionsError("`expiry` must be a number of seconds or None, not nan")
        if expiry is not None and expiry > MAX_EXPIRY:
            expiry = None
        return Delivery(check_topic(topic), bytes(payload), qos, retain, expiry)

    def subscribe(
        self,
        topic: str,
        qos: int,
        sink: Callable[[ReceivedMessage], None] | None,
        manual_ack: bool,
        retained: bool = True,
    ) -> "Future[None]":
        """Subscribe; without a sink the messages go to an inbox. A sink only enqueues.

        `retained` is that of `Link.subscribe`.
        """
        self.process.check(self.link.name)
        check_str("topic", topic)
        check_bool("manual_ack", manual_ack)
        check_filter(topic)
        check_qos(qos)
        with self._lock:
            if self._closing:
                raise self._closed_error()
            if topic in self._inboxes or topic in self._callbacks:
                raise SubscriptionError(f"{topic!r} is subscribed to already; unsubscribe first")
            self._check_shared(topic)
            if is_shared(topic):
                self._shared.add(topic)
            pattern = own_filter(topic)
            if sink is None:
                inbox = self._inboxes[topic] = Inbox(topic, self._room(topic))
                route = Route(pattern, qos, inbox.put, manual_ack)
            else:
                self._callbacks.add(topic)
                route = Route(pattern, qos, sink, manual_ack)
            self._routes.add(route)
            self._qos[topic] = qos
        return self.link.subscribe(topic, qos, retained)

    def resend_retained(self, topic: str) -> "Future[None]":
        """Subscribe to a topic again, so the broker sends what it has retained for it."""
        self.process.check(self.link.name)
        with self._lock:
            qos = self._qos.get(topic)
        if qos is None:
            raise SubscriptionError(f"{topic!r} is not subscribed to")
        return self.link.subscribe(topic, qos)

    def _check_shared(self, topic: str) -> None:
        """Raise SubscriptionError if a shared subscription would overlap with another one.

        A message does not say for which of the two it came.
        """
        every = (*self._inboxes, *self._callbacks) if is_shared(topic) else tuple(self._shared)
        for other in every:
            if overlap(own_filter(topic), own_filter(other)):
                raise SubscriptionError(
                    f"{topic!r} overlaps with {other!r}, and one of them is shared: use another "
                    "communicator for it"
                )

    def callback_sink(
        self,
        topic: str,
        callback: MessageCallback[R],
        sink_of: Callable[[MessageCallback[R]], MessageCallback[None]],
    ) -> MessageCallback[None]:
        """Return the sink of a callback, which drops what has no room. Raises TypeError.

        `sink_of` returns a function that queues a call of its argument.
        """
        check_callable("callback", callback)
        check_str("topic", topic)
        room = self._room(topic)
        if room is None:
            return sink_of(callback)

        @wraps(callback)
        def taken(message: ReceivedMessage) -> R:
            room.remove(message)
            return callback(message)

        enqueue = sink_of(taken)

        def sink(message: ReceivedMessage) -> None:
            if room.add(message):
                enqueue(message)

        return sink

    def _room(self, topic: str) -> QueueRoom | None:
        if self._max_queued is None:
            return None
        return QueueRoom(topic, self._max_queued, self._drops)

    @property
    def dropped(self) -> int:
        """The messages with QoS 0 that had no room."""
        return self._drops.total

    def expect(self, topic: str) -> None:
        """Keep unclaimed messages for a topic, without a time limit."""
        self._routes.expect(own_filter(topic))

    def forget(self, topic: str) -> None:
        """End a subscription of an earlier program, and drop its further messages."""
        self._routes.leave(own_filter(topic))
        self.link.forget(topic)

    def unsubscribe(self, topic: str) -> None:
        """End a subscription; waiting readers get a SubscriptionError."""
        self.process.check(self.link.name)
        check_str("topic", topic)
        with self._lock:
            if topic not in self._inboxes and topic not in self._callbacks:
                raise SubscriptionError(f"{topic!r} is not subscribed to")
            self._callbacks.discard(topic)
            self._shared.discard(topic)
            inbox = self._inboxes.pop(topic, None)
            self._routes.remove(own_filter(topic))
            del self._qos[topic]
        self.link.unsubscribe(topic)
        if inbox is not None:
            inbox.close(SubscriptionError(f"{topic!r} was unsubscribed from"))

    def inbox(self, topic: str | None) -> Inbox:
        """Return the inbox of a subscription. None is the default or the only subscription."""
        self.process.check(self.link.name)
        check_str("topic", topic, optional=True)
        with self._lock:
            if topic is None:
                topic = self.subscribe_topic
            if topic is None:
                if len(self._inboxes) != 1:
                    raise SubscriptionError(
                        f"there are {len(self._inboxes)} subscriptions to receive from; name one"
                    )
                topic = next(iter(self._inboxes))
            if topic in self._callbacks:
                raise SubscriptionError(
                    f"the messages of {topic!r} go to its callback and cannot be received"
                )
            inbox = self._inboxes.get(topic)
            if inbox is None:
                if self._closing:
                    raise self._closed_error()
                raise SubscriptionError(f"{topic!r} is not subscribed to")
            return inbox

    def add_reconnect_listener(self, sink: Callable[[], None]) -> Callable[[], None]:
        """Call `sink` after each reconnect. It only enqueues. Return a function that removes it."""

        def remove() -> None:
            with self._lock:
                if sink in self._reconnect_listeners:
                    self._reconnect_listeners.remove(sink)

        with self._lock:
            self._reconnect_listeners.append(sink)
        return remove

    def on_reconnect(self) -> None:
        """Call the listeners after a reconnect of the link."""
        with self._lock:
            sinks = list(self._reconnect_listeners)
        try:
            for sink in sinks:
                sink()
        except LoopError as error:
            self._end_without_loop(error)

    def add_refusal_listener(self, sink: Callable[[str, RefusedError], None]) -> Callable[[], None]:
        """Call `sink` for each subscription that the broker does not renew. It only enqueues.

        Return a function that removes it.
        """

        def remove() -> None:
            with self._lock:
                if sink in self._refusal_listeners:
                    self._refusal_listeners.remove(sink)

        with self._lock:
            self._refusal_listeners.append(sink)
        return remove

    def _on_refused(self, topic: str, error: RefusedError) -> None:
        with self._lock:
            sinks = list(self._refusal_listeners)
        try:
            for sink in sinks:
                sink(topic, error)
        except LoopError as ended:
            self._end_without_loop(ended)

    def stop_arrivals(self) -> None:
        """Route no more messages."""
        with self._lock:
            self._closing = True

    def begin_close(self) -> bool:
        """Route no more messages. Return False if a `close` has ended, or is in progress.

        A fork has nothing to close: the connection belongs to the other process.
        """
        if not self.process.is_here:
            return False
        with self._lock:
            is_due = self._was_interrupted or not self._closing
            self._closing, self._was_interrupted = True, False
        return is_due

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Let a later `close` continue if an exception, such as a cancellation, ends the block."""
        try:
            yield
        except BaseException:
            self._was_interrupted = True
            raise

    def undelivered_error(
        self, messages: tuple[Undelivered, ...], timeout: float | None
    ) -> UndeliveredError:
        """Return the error of a `close` that could not deliver all messages."""
        last = self.link.last_error
        why = f"closed after {CLOSE_SECONDS if timeout is None else timeout:g} s"
        if timeout is None and last is not None:
            why = f"closed: {last}"
        return UndeliveredError(messages, why)

    def _closed_error(self) -> ClosedError:
        return closed_by_program(self.link.name) if self._end is None else self._end.again()

    def on_end(self, error: ClosedError) -> None:
        """Fail all waiting readers and call the listeners: the link has ended."""
        with self._lock:
            self._closing, self._end = True, error
            inboxes = list(self._inboxes.values())
            sinks, self._close_listeners = self._close_listeners, []
        for inbox in inboxes:
            inbox.close(error)
        for sink in sinks:
            try:
                sink(error)
            except Exception:
                log.exception("the callback %r failed", sink)

    def add_close_listener(self, sink: Callable[[ClosedError], None]) -> Callable[[], None]:
        """Call `sink` with the reason at the end of the link, or at once.

        Return a function that removes it.
        """

        def remove() -> None:
            with self._lock:
                if sink in self._close_listeners:
                    self._close_listeners.remove(sink)

        with self._lock:
            if (end := self._end) is None:
                self._close_listeners.append(sink)
                return remove
        sink(end)
        return remove


class CommunicatorBase:
    """The declarations that both communicators share, for threads and for coroutines."""

    _core: CommunicatorCore

    @property
    def is_connected(self) -> bool:
        """True while there is a connection that the broker has accepted.

        A lost connection is renewed automatically, with growing pauses.
        """
        return self._core.link.is_connected

    def check_process(self) -> None:
        """Raise ForkedError in a process that a fork has made after `connect`."""
        self._core.process.check(self._core.link.name)

    @property
    def is_of_this_process(self) -> bool:
        """False in a process that a fork has made after `connect`: then `close` does nothing."""
        return self._core.process.is_here

    @property
    def session_start(self) -> int:
        """The number of the connection that began the broker's session; 0 if it is older.

        See `ReceivedMessage.session_start`.
        """
        return self._core.link.session_start

    @property
    def last_error(self) -> TransportError | None:
        """The last failure of the connection; None while the connection is stable."""
        return self._core.link.last_error

    def expect(self, topic: str) -> None:
        """Keep the messages of a resumed session for a topic until the program subscribes to it.

        Without this they are dropped after a minute. Messages of QoS 0 always are.
        """
        self._core.expect(topic)

    def unsubscribe_now(self, topic: str) -> None:
        """Do the same as `unsubscribe`, for threads and coroutines."""
        self._core.unsubscribe(topic)

    def forget(self, topic: str) -> None:
        """End a subscription that an earlier program may have left in a persistent session.

        Nothing happens if this program has it. Messages that the broker has kept for it are
        acknowledged and dropped. With wildcards, earlier subscriptions to single matching topics
        are also ended, when a message for them arrives.
        """
        if self._core.link.resumes:
            self._core.forget(topic)

    def resend_retained(self, topic: str) -> "Future[None]":
        """Request a subscription again: the broker sends again what it has retained for it.

        `topic` must be the same text as in `subscribe`. Does not wait. The future is done when the
        broker has confirmed it, with a RefusedError if the broker refuses it. Raises
        SubscriptionError if there is no such subscription.
        """
        return self._core.resend_retained(topic)

    @property
    def dropped(self) -> int:
        """The number of messages with QoS 0 that were dropped so far because they had no room.

        See `MqttOptions.max_queued`.
        """
        return self._core.dropped

    def __reduce__(self) -> NoReturn:
        raise not_copied(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._core.link.name}>"
