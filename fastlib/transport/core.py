"""The one implementation under both faces: subscriptions over a link, without any waiting."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from logging import getLogger
from typing import Final

from .delivery import Delivery
from .errors import ClosedError, OptionsError, SubscriptionError, TopicError, TransportError
from .filters import check_filter, check_topic
from .inbox import Inbox
from .link import Link
from .messages import InboundMessage, ReceivedMessage
from .routes import Route, Routes

log = getLogger("fastlib.transport")

MAX_PAYLOAD: Final = 268_435_455 - 65_535 - 16
"""Bytes of the largest payload that fits into an MQTT packet with any topic."""

CONNECT_SECONDS: Final = 30.0
CONFIRM_SECONDS: Final = 30.0
ROOM_SECONDS: Final = 30.0
CLOSE_SECONDS: Final = 30.0


class Core:
    """Subscriptions and messages of one communicator."""

    def __init__(self, link: Link, publish_topic: str | None, subscribe_topic: str | None) -> None:
        self.link: Final = link
        self.subscribe_topic: Final = subscribe_topic and check_filter(subscribe_topic)
        self._publish_topic = publish_topic and check_topic(publish_topic)
        self._routes = Routes(link.resumes)
        self._lock = threading.Lock()
        self._inboxes: dict[str, Inbox] = {}
        self._callbacks: set[str] = set()
        self._closing = False
        self._on_reconnect: list[Callable[[], None]] = []
        self._on_close: list[Callable[[], None]] = []
        self._over = False

    def arrived(self, arrival: InboundMessage) -> None:
        """A message came. While closing, the broker keeps it or it is too late for it."""
        if not self._closing:
            self._routes.arrived(arrival)

    def delivery(self, payload: bytes, topic: str | None, qos: int, retain: bool) -> Delivery:
        """A message to be sent, checked."""
        topic = topic if topic is not None else self._publish_topic
        if topic is None:
            raise TopicError("", "is empty, and the options have no `publish_topic`")
        if qos not in (0, 1, 2):
            raise OptionsError(f"a quality of service is 0, 1 or 2, not {qos!r}")
        if not isinstance(payload, bytes | bytearray | memoryview):
            raise TypeError(f"a payload is bytes, not {type(payload).__name__}")
        if len(payload) > MAX_PAYLOAD:
            raise OptionsError(f"a payload has at most {MAX_PAYLOAD} bytes, not {len(payload)}")
        return Delivery(check_topic(topic), bytes(payload), qos, retain)

    def subscribe(
        self,
        topic: str,
        qos: int,
        sink: Callable[[ReceivedMessage], None] | None,
        manual_ack: bool,
    ) -> "Future[None]":
        """Subscribe; without a sink the messages wait in an inbox. A sink only enqueues."""
        check_filter(topic)
        if qos not in (0, 1, 2):
            raise OptionsError(f"a quality of service is 0, 1 or 2, not {qos!r}")
        with self._lock:
            if self._closing:
                raise ClosedError(f"{self.link.name} is closed")
            if topic in self._inboxes or topic in self._callbacks:
                raise SubscriptionError(f"{topic!r} is subscribed to already; unsubscribe first")
            if sink is None:
                inbox = self._inboxes[topic] = Inbox(topic)
                route = Route(topic, qos, inbox.put, manual_ack)
            else:
                self._callbacks.add(topic)
                route = Route(topic, qos, sink, manual_ack)
            self._routes.add(route)
        return self.link.subscribe(topic, qos)

    def unsubscribe(self, topic: str) -> None:
        """End a subscription; whoever waits for its messages gets a SubscriptionError."""
        with self._lock:
            if topic not in self._inboxes and topic not in self._callbacks:
                raise SubscriptionError(f"{topic!r} is not subscribed to")
            self._callbacks.discard(topic)
            inbox = self._inboxes.pop(topic, None)
            self._routes.remove(topic)
        self.link.unsubscribe(topic)
        if inbox is not None:
            inbox.close(SubscriptionError(f"{topic!r} was unsubscribed from"))

    def inbox(self, topic: str | None) -> Inbox:
        """Where the messages of a subscription wait. None is the options' or the only one."""
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
                    raise ClosedError(f"{self.link.name} is closed")
                raise SubscriptionError(f"{topic!r} is not subscribed to")
            return inbox

    def on_reconnect(self, sink: Callable[[], None]) -> None:
        """Have `sink` called after each connect but the first. It only enqueues."""
        self._on_reconnect.append(sink)

    def reconnected(self) -> None:
        """The link was lost and is there again."""
        for sink in self._on_reconnect:
            sink()

    def stop_arrivals(self) -> bool:
        """From now on nothing arrives any more. False if that was so before."""
        with self._lock:
            before, self._closing = self._closing, True
        return not before

    def ended(self, error: TransportError) -> None:
        """The link is no more: wake up whoever waits for a message."""
        with self._lock:
            self._closing = self._over = True
            inboxes = list(self._inboxes.values())
            sinks, self._on_close = self._on_close, []
        for inbox in inboxes:
            inbox.close(error)
        for sink in sinks:
            try:
                sink()
            except Exception:
                log.exception("the callback %r failed", sink)

    def on_close(self, sink: Callable[[], None]) -> Callable[[], None]:
        """Have `sink` called when the link is no more, at once if that is so already.

        Returns a function that takes that back.
        """

        def forget() -> None:
            with self._lock:
                if sink in self._on_close:
                    self._on_close.remove(sink)

        with self._lock:
            if not self._over:
                self._on_close.append(sink)
                return forget
        sink()
        return forget
