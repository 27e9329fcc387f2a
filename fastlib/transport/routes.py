"""Route each inbound message to the matching subscriptions of the program."""

import threading
import time
from collections import deque
from collections.abc import Callable
from logging import getLogger
from typing import Final

from .filters import has_wildcard, matches
from .messages import InboundMessage, ReceivedMessage, SharedAck
from .queue_room import DropCount

log = getLogger("fastlib.transport")

UNCLAIMED_SECONDS: Final = 60.0
"""The maximum time that a message of a resumed session waits for a subscription."""

UNCLAIMED_BYTES: Final = 4 << 20
"""The maximum bytes of such messages; more with QoS 0 are dropped. No window bounds these."""

CACHED_TOPICS: Final = 4096
LONGEST_CACHED: Final = 256
"""The maximum length of a topic in the cache of subscriptions. A broker may send any topics."""


class Route:
    """A subscription: a filter, and the sink of its messages. `sink` must only enqueue."""

    __slots__ = ("manual_ack", "pattern", "qos", "sink")

    def __init__(
        self, pattern: str, qos: int, sink: Callable[[ReceivedMessage], None], manual_ack: bool
    ) -> None:
        self.pattern: Final = pattern
        self.qos: Final = qos
        self.sink: Final = sink
        self.manual_ack: Final = manual_ack


class Routes:
    """All subscriptions of a communicator.

    When a session is resumed, the broker sends its queued messages before the program can
    subscribe. These messages are kept without an acknowledgement until a subscription matches.
    After a minute they are dropped with a warning, except for those that are expected. Messages
    that are no longer needed are dropped at once, because a broker sends nothing else to a client
    that acknowledges none of about 20 messages.
    """

    def __init__(
        self,
        resumes: bool,
        drops: DropCount | None = None,
        forget: Callable[[str], None] = lambda topic: None,
    ) -> None:
        """`resumes` is True for a persistent session. `drops` counts messages without room.

        `forget` is called with the topic of each dropped message: an earlier program may have
        subscribed to it.
        """
        self._drops = drops or DropCount()
        self._forget = forget
        self._resumes = resumes
        self._lock = threading.Lock()
        self._exact: dict[str, Route] = {}
        """The subscriptions without wildcards. There may be thousands."""
        self._wild: dict[str, Route] = {}
        self._matching: dict[str, list[Route]] = {}
        """Those with wildcards, cached by topic."""
        self._removed: set[str] = set()
        self._expected: set[str] = set()
        self._unwanted: set[str] = set()
        self._unclaimed: deque[tuple[float, InboundMessage]] = deque()
        self._unclaimed_bytes = 0

    def add(self, route: Route) -> None:
        """Add a subscription; unclaimed messages go to it first."""
        with self._lock:
            if has_wildcard(route.pattern):
                self._wild[route.pattern] = route
                self._matching.clear()
            else:
                self._exact[route.pattern] = route
            self._removed.discard(route.pattern)
            if not self._unclaimed:
                return
            unclaimed, self._unclaimed = self._unclaimed, deque()
            for since, message in unclaimed:
                if matches(route.pattern, message.topic):
                    self._deliver_to([route], message)
                else:
                    self._unclaimed.append((since, message))
            self._unclaimed_bytes = sum(len(each.payload) for _, each in self._unclaimed)

    def expect(self, pattern: str) -> None:
        """Keep unclaimed messages that match a filter, without a time limit."""
        with self._lock:
            self._expected.add(pattern)

    def leave(self, pattern: str) -> None:
        """Drop unclaimed messages that match a filter, now and later."""
        with self._lock:
            self._unwanted.add(pattern)
            unclaimed, self._unclaimed = self._unclaimed, deque()
            for since, message in unclaimed:
                if matches(pattern, message.topic):
                    self._leave(message)
                else:
                    self._unclaimed.append((since, message))
            self._unclaimed_bytes = sum(len(each.payload) for _, each in self._unclaimed)

    def remove(self, pattern: str) -> None:
        """Remove a subscription."""
        with self._lock:
            if has_wildcard(pattern):
                del self._wild[pattern]
                self._matching.clear()
            else:
                del self._exact[pattern]
            if self._resumes:
                self._removed.add(pattern)

    def deliver(self, message: InboundMessage) -> None:
        """Give a message to every subscription that matches."""
        with self._lock:
            routes = self._find(message.topic)
            if routes:
                self._deliver_to(routes, message)
            elif self._resumes and any(matches(p, message.topic) for p in self._unwanted):
                self._leave(message)
            elif self._resumes and not any(matches(p, message.topic) for p in self._removed):
                if message.qos > 0 or self._unclaimed_bytes < UNCLAIMED_BYTES:
                    self._unclaimed.append((time.monotonic(), message))
                    self._unclaimed_bytes += len(message.payload)
                else:
                    self._drops.add()
            else:
                message.ack()
            if self._unclaimed:
                self._drop_old()

    def tick(self) -> None:
        """Drop the unclaimed messages that have waited too long. Called about every second.

        The broker may send nothing until they are acknowledged.
        """
        if self._unclaimed:
            with self._lock:
                self._drop_old()

    def _find(self, topic: str) -> list[Route]:
        wild = self._matching.get(topic)
        if wild is None:
            wild = [r for r in self._wild.values() if matches(r.pattern, topic)]
            if len(self._matching) >= CACHED_TOPICS:
                self._matching.clear()
            if len(topic) <= LONGEST_CACHED:
                self._matching[topic] = wild
        exact = self._exact.get(topic)
        return wild if exact is None else [exact, *wild]

    def _deliver_to(self, routes: list[Route], message: InboundMessage) -> None:
        acks = sum(route.manual_ack for route in routes)
        ack = SharedAck(message.ack, acks) if acks > 1 else message.ack
        for route in routes:
            qos = min(message.qos, route.qos)
            route.sink(ReceivedMessage(message, qos, ack if route.manual_ack else None))
        if acks == 0:
            message.ack()

    def _leave(self, message: InboundMessage) -> None:
        log.debug(
            "a message to %s is dropped: an earlier program has subscribed to it", message.topic
        )
        message.ack()
        self._forget(message.topic)

    def _drop_old(self) -> None:
        latest = time.monotonic() - UNCLAIMED_SECONDS
        unclaimed, self._unclaimed = self._unclaimed, deque()
        for since, message in unclaimed:
            if since >= latest or self._is_expected(message):
                self._unclaimed.append((since, message))
                continue
            self._unclaimed_bytes -= len(message.payload)
            log.warning(
                "a message to %s was dropped: the session has a subscription for it, but the "
                "program does not",
                message.topic,
            )
            message.ack()
            self._forget(message.topic)

    def _is_expected(self, message: InboundMessage) -> bool:
        # The broker limits how many are in flight. Nothing limits those of QoS 0.
        return message.qos > 0 and any(matches(p, message.topic) for p in self._expected)
