"""The one implementation under both clients: what becomes of what arrives. It never waits."""

import threading
from collections.abc import Iterable
from concurrent.futures import Future
from datetime import datetime
from logging import getLogger
from typing import Any, Protocol

from fastlib.codec.errors import MessageError
from fastlib.message import Message, ResultContainer, TaskContainer
from fastlib.message.node import Presence, Progress
from fastlib.message.topics import PRESENCE, PROGRESS, RESULT, TASK, Topic
from fastlib.transport import Delivery, ReceivedMessage

from .errors import ClientClosedError
from .observed import ObservedMessage
from .pending_requests import Book, give_up
from .request import Request
from .task_requests import Order, R

log = getLogger("fastlib.client")

RESULT_SECONDS = 600.0
"""How long a client waits for a result unless it is told otherwise."""

TASK_QOS = 2
"""A C++ peer executes what arrives twice, so nothing shall."""

CLOSED = "the client is closed"
COMMUNICATOR_CLOSED = "the communicator under the client is closed"


class Watcher(Protocol):
    """Who wants to see what passes."""

    def put(self, observed: Any) -> None:
        """An observed message; None is the end. Only enqueues."""


class Core:
    """Requests, what is known of the hosts, and who watches."""

    def __init__(self, timeout: float | None) -> None:
        self.book = Book()
        self.timeout = _checked(timeout)
        self._lock = threading.Lock()
        """Guards what follows, so that who begins to watch misses and repeats nothing."""
        self._closed: str | None = None
        self._presences: dict[str, ObservedMessage[Message]] = {}
        self._watchers: dict[Watcher, frozenset[Topic]] = {}

    def place(self, order: Order[R]) -> Request:
        """Enter an order, before it is sent: the answer may come while it still is."""
        timeout = _checked(order.timeout) if order.has_timeout else self.timeout
        request = self.book.enter(order.host, order.work, timeout)
        if order.on_progress is not None:
            request.listeners.append(order.on_progress)
        return request

    def sent(self, request: Request, delivery: Delivery) -> None:
        """The transport has accepted a request; should it not get through, there is no result."""

        def check(future: "Future[None]") -> None:
            error = None if future.cancelled() else future.exception()
            if error is not None:
                self.book.failed(request, error)

        request.delivery = delivery
        delivery.future.add_done_callback(check)

    def presence(self, host: str) -> Presence | None:
        """What a host's daemon last said of itself."""
        seen = self._presences.get(host)
        message = None if seen is None else seen.message
        return message if isinstance(message, Presence) else None

    def presences(self) -> dict[str, Presence]:
        """The hosts whose daemons have ever said of themselves how they are."""
        found = {host: self.presence(host) for host in sorted(self._presences)}
        return {host: presence for host, presence in found.items() if presence is not None}

    def on_result(self, received: ReceivedMessage) -> None:
        """A message to a topic of results."""
        host = _host(RESULT, received)
        wanted = self._wanted(RESULT)
        if not wanted and not self.book.waits_for(host):
            return  # others' business, and nobody watches
        observed = _read(RESULT, ResultContainer, received)
        self._show(wanted, observed)
        if observed.message is not None:
            # Who says that it is there is a fastlib daemon; a C++ peer loses ids.
            keeps_ids = self._is_online(host)
            self.book.answered(host, observed.message, keeps_ids=keeps_ids)
        else:
            assert observed.error is not None
            self.book.unreadable(host, observed.error)
            log.warning("%s: the result cannot be read: %s", received.topic, observed.error)

    def on_progress(self, received: ReceivedMessage) -> None:
        """A message to a topic of progress."""
        host = _host(PROGRESS, received)
        wanted = self._wanted(PROGRESS)
        if not wanted and not self.book.waits_for(host):
            return
        observed = _read(PROGRESS, Progress, received)
        self._show(wanted, observed)
        progress = observed.message
        if progress is None:
            log.warning("%s: the progress cannot be read: %s", received.topic, observed.error)
            return
        request = self.book.find(host, progress.id)
        if request is None:
            return
        request.alive = True
        request.progress = progress
        for listener in request.listeners:
            try:
                listener(progress)
            except Exception:
                log.exception("%s: %r failed on its progress", request, listener)

    def on_presence(self, received: ReceivedMessage) -> list[Request]:
        """A message to a topic of presence. Returns what is to be sent again.

        A daemon that comes (back), or that is heard of after our connection was lost, may have
        missed a task, or we its result. Those that say so execute an id once and answer it again,
        so that they can be asked. C++ peers do not say so, and are never asked twice. What the
        broker has not confirmed yet is on its way anyway.
        """
        host = _host(PRESENCE, received)
        if not received.payload:  # what was retained is deleted: a host that is no more
            with self._lock:
                self._presences.pop(host, None)
            return []
        observed = _read(PRESENCE, Presence, received)
        with self._lock:
            self._show(self._wanted(PRESENCE), observed)
            first = host not in self._presences
            if observed.message is not None:
                self._presences[host] = observed
        if observed.message is None:
            log.warning("%s: the presence cannot be read: %s", received.topic, observed.error)
            return []
        if observed.message.status != "online" or (first and received.retain):
            return []
        return [request for request in self.book.of(host) if request.delivered]

    def on_task(self, received: ReceivedMessage) -> None:
        """A message to a topic of tasks."""
        self._show(self._wanted(TASK), _read(TASK, TaskContainer, received))

    def watch(self, watcher: Watcher, topics: Iterable[Topic]) -> None:
        """Let someone see messages of these kinds, and at once what is known of the hosts.

        Raises ClientClosedError.
        """
        topics = frozenset(topics)
        with self._lock:
            self._check_open()
            if PRESENCE in topics:
                self._show_all(watcher)
            self._watchers[watcher] = topics

    def _show_all(self, watcher: Watcher) -> None:
        for seen in self._presences.values():
            watcher.put(seen)

    def unwatch(self, watcher: Watcher) -> None:
        """Let someone see no more."""
        with self._lock:
            self._watchers.pop(watcher, None)

    def _wanted(self, topic: Topic) -> list[Watcher]:
        return [w for w, topics in list(self._watchers.items()) if topic in topics]

    @staticmethod
    def _show(watchers: Iterable[Watcher], observed: ObservedMessage[Any]) -> None:
        for watcher in watchers:
            watcher.put(observed)

    def expire(self) -> None:
        """Give up what was not answered in time."""
        for request in self.book.expire():
            give_up(request, self._known(request.host))

    def _is_online(self, host: str) -> bool:
        presence = self.presence(host)
        return presence is not None and presence.status == "online"

    def _known(self, host: str) -> str:
        seen = self._presences.get(host)
        if seen is None or not isinstance(seen.message, Presence):
            return "its daemon has never said that it is there"
        since = seen.time.isoformat(sep=" ", timespec="seconds")
        return f"its daemon is {seen.message.status} since {since} or before"

    def check_open(self) -> None:
        """Raises ClientClosedError after `close`."""
        with self._lock:
            self._check_open()

    def _check_open(self) -> None:
        if self._closed is not None:
            raise ClientClosedError(self._closed)

    def close(self, why: str = CLOSED) -> None:
        """End what waits, and whoever watches; more than once does no harm."""
        with self._lock:
            self._closed = self._closed or why
            watchers, self._watchers = self._watchers, {}
        self.book.close(why)
        for watcher in watchers:
            watcher.put(None)


def _checked(timeout: float | None) -> float | None:
    """A timeout that can be waited for; None for one that never ends. Raises ValueError."""
    if timeout is None or timeout > threading.TIMEOUT_MAX:
        return None
    if not timeout >= 0:  # which holds for NaN, too
        raise ValueError(f"a timeout is a number of seconds from 0, or None; got {timeout!r}")
    return timeout


def _host(topic: Topic, received: ReceivedMessage) -> str:
    names = topic.parse(received.topic)
    assert names is not None  # the subscription has no other
    return names["host"]


def _read(topic: Topic, kind: type[Any], received: ReceivedMessage) -> ObservedMessage[Any]:
    message, error = None, None
    try:
        message = kind.from_yaml(received.payload)
    except MessageError as problem:
        error = problem
    return ObservedMessage(
        host=_host(topic, received),
        topic=received.topic,
        time=datetime.now().astimezone(),
        payload=received.payload,
        message=message,
        error=error,
    )
