"""From a message that arrived to the subscriptions here that want it."""

import threading
import time
from collections import deque
from collections.abc import Callable
from logging import getLogger
from typing import Final

from .filters import matches
from .messages import InboundMessage, ReceivedMessage, SharedAck

log = getLogger("fastlib.transport")

UNCLAIMED_SECONDS: Final = 60.0
"""How long a message of a resumed session waits for its subscription to be made again."""

CACHED_TOPICS: Final = 4096


class Route:
    """A subscription: a filter and where its messages go. `sink` must only enqueue."""

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

    When a session is resumed, the broker sends what it kept before the program has had the time
    to subscribe. Such messages are held without being acknowledged until their subscription is
    made, or with a warning dropped after a minute.
    """

    def __init__(self, resumes: bool) -> None:
        self._resumes = resumes
        self._lock = threading.Lock()
        self._routes: dict[str, Route] = {}
        self._found: dict[str, list[Route]] = {}
        self._removed: set[str] = set()
        self._unclaimed: deque[tuple[float, InboundMessage]] = deque()

    def add(self, route: Route) -> None:
        """Messages go to the route from now on, held ones first."""
        with self._lock:
            self._routes[route.pattern] = route
            self._removed.discard(route.pattern)
            self._found.clear()
            held, self._unclaimed = self._unclaimed, deque()
            for since, arrival in held:
                if matches(route.pattern, arrival.topic):
                    self._hand([route], arrival)
                else:
                    self._unclaimed.append((since, arrival))

    def remove(self, pattern: str) -> None:
        """Messages no longer go there."""
        with self._lock:
            del self._routes[pattern]
            self._removed.add(pattern)
            self._found.clear()

    def arrived(self, arrival: InboundMessage) -> None:
        """Hand a message to every subscription that matches."""
        with self._lock:
            routes = self._found.get(arrival.topic)
            if routes is None:
                routes = [r for r in self._routes.values() if matches(r.pattern, arrival.topic)]
                if len(self._found) >= CACHED_TOPICS:
                    self._found.clear()
                self._found[arrival.topic] = routes
            if routes:
                self._hand(routes, arrival)
            elif self._resumes and not any(matches(p, arrival.topic) for p in self._removed):
                self._unclaimed.append((time.monotonic(), arrival))
            else:
                arrival.ack()
            if self._unclaimed:
                self._drop_old()

    def _hand(self, routes: list[Route], arrival: InboundMessage) -> None:
        waiting = sum(route.manual_ack for route in routes)
        if waiting == 0:
            ack = None
        else:
            ack = arrival.ack if waiting == 1 else SharedAck(arrival.ack, waiting)
        for route in routes:
            qos = min(arrival.qos, route.qos)
            route.sink(ReceivedMessage(arrival, qos, ack if route.manual_ack else None))
        if ack is None:
            arrival.ack()

    def _drop_old(self) -> None:
        latest = time.monotonic() - UNCLAIMED_SECONDS
        while self._unclaimed and self._unclaimed[0][0] < latest:
            _, arrival = self._unclaimed.popleft()
            log.warning(
                "a message to %s was dropped: the session has a subscription for it, the program "
                "has not",
                arrival.topic,
            )
            arrival.ack()
