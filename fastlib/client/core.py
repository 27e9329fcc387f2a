"""The part that both clients share: it handles everything that arrives, and never waits."""

import threading
from collections.abc import Iterable, Mapping
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
from .host_presence import HostPresence, is_claim
from .observed import ObservedMessage
from .pending_requests import PendingRequests, fail_expired
from .request import PendingRequest
from .task_requests import R, TaskRequest

log = getLogger("fastlib.client")

RESULT_SECONDS = 600.0
"""The default time after which a client stops waiting for a result."""

TASK_QOS = 2
"""A C++ peer executes a task once for each time it arrives, so a task must arrive only once."""

CLOSED = "the client is closed"
COMMUNICATOR_CLOSED = "the communicator under the client is closed"


class Watcher(Protocol):
    """A consumer of observed messages."""

    def put(self, observed: Any) -> None:
        """Queue an observed message; None is the end. Must not wait."""


class ClientCore:
    """Pending requests, the presence of the hosts, and the watchers."""

    def __init__(self, timeout: float | None) -> None:
        self.pending = PendingRequests()
        self.timeout = _checked(timeout)
        self._lock = threading.Lock()
        """Guards the following, so a new watcher neither misses nor repeats a message."""
        self._closed: str | None = None
        self._hosts: dict[str, HostPresence] = {}
        self._reconnected = False
        self._watchers: dict[Watcher, frozenset[Topic]] = {}

    def add(self, task_request: TaskRequest[R]) -> PendingRequest:
        """Register a request before it is sent: the result may arrive during sending."""
        timeout = _checked(task_request.timeout) if task_request.has_timeout else self.timeout
        request = self.pending.add(task_request.host, task_request.work, timeout)
        if task_request.on_progress is not None:
            request.listeners.append(task_request.on_progress)
        return request

    def sent(self, request: PendingRequest, delivery: Delivery) -> None:
        """Note that the transport has accepted a request; fail the request if it is not sent."""

        def check(future: "Future[None]") -> None:
            error = None if future.cancelled() else future.exception()
            if error is not None:
                self.pending.fail(request, error)

        request.delivery = delivery
        delivery.future.add_done_callback(check)

    def presence(self, host: str) -> Presence | None:
        """Return the last presence that a host's daemon reported."""
        observed = self._observed(host)
        message = None if observed is None else observed.message
        return message if isinstance(message, Presence) else None

    def _observed(self, host: str) -> ObservedMessage[Message] | None:
        """Return the last presence of a host that could be read, with the time of its arrival."""
        known = self._hosts.get(host)
        return None if known is None else known.observed

    def presences(self) -> dict[str, Presence]:
        """Return the last presence of each host whose daemon has reported one."""
        found = {host: self.presence(host) for host in sorted(self._hosts)}
        return {host: presence for host, presence in found.items() if presence is not None}

    def on_result(self, received: ReceivedMessage) -> None:
        """Handle a message to a result topic."""
        host = _host(RESULT, received)
        watchers = self._watchers_of(RESULT)
        if not watchers and not self.pending.has_any(host):
            return  # a result for another client, without a watcher here
        observed = _read(RESULT, ResultContainer, received)
        self._show(watchers, observed)
        if observed.message is not None:
            # A daemon that reports its presence is a fastlib daemon. A C++ peer loses ids.
            keeps_ids = self._is_online(host)
            self.pending.resolve(host, observed.message, keeps_ids=keeps_ids)
        else:
            assert observed.error is not None
            self.pending.add_unreadable(host, observed.error)
            log.warning("%s: the result cannot be read: %s", received.topic, observed.error)

    def on_progress(self, received: ReceivedMessage) -> None:
        """Handle a message to a progress topic."""
        host = _host(PROGRESS, received)
        watchers = self._watchers_of(PROGRESS)
        if not watchers and not self.pending.has_any(host):
            return
        observed = _read(PROGRESS, Progress, received)
        self._show(watchers, observed)
        progress = observed.message
        if progress is None:
            log.warning("%s: the progress cannot be read: %s", received.topic, observed.error)
            return
        request = self.pending.find(host, progress.id)
        if request is None:
            return
        request.understood = True
        request.progress = progress
        for listener in request.listeners:
            try:
                listener(progress)
            except Exception:
                log.exception("%s: %r failed on its progress", request, listener)

    def on_presence(self, received: ReceivedMessage) -> list[PendingRequest]:
        """Handle a message to a presence topic. Return the requests to send again.

        A daemon that reports its presence executes an idempotency key (an older one: an id) only
        once and answers a repeated one again. C++ peers report no presence, so the client never
        repeats a request to them. The transport still sends the requests that the broker has not
        confirmed. See `HostPresence` for when a repetition is due.
        """
        host = _host(PRESENCE, received)
        if not received.payload:  # the retained message was deleted: the host was removed
            with self._lock:
                self._hosts.pop(host, None)
            return []
        observed = _read(PRESENCE, Presence, received)
        presence = observed.message
        if presence is not None and is_claim(presence, retained=received.retain):
            return []
        repeats = False
        with self._lock:
            self._show(self._watchers_of(PRESENCE), observed)
            if presence is not None:
                known = self._hosts.get(host)
                if known is None:
                    known = self._hosts[host] = HostPresence(missed=self._reconnected)
                repeats = known.show(observed, presence, retained=received.retain)
        if presence is None:
            log.warning("%s: the presence cannot be read: %s", received.topic, observed.error)
        if not repeats:
            return []
        return [request for request in self.pending.for_host(host) if request.delivered]

    def on_reconnect(self) -> None:
        """Note that the connection was lost and is there again."""
        with self._lock:
            self._reconnected = True
            for known in self._hosts.values():
                known.reconnected()

    def on_task(self, received: ReceivedMessage) -> None:
        """Handle a message to a task topic."""
        self._show(self._watchers_of(TASK), _read(TASK, TaskContainer, received))

    def watch(self, watcher: Watcher, topics: Iterable[Topic]) -> None:
        """Give a watcher all further messages of these topics, and the known presences at once.

        Raises ClientClosedError.
        """
        topics = frozenset(topics)
        with self._lock:
            self._check_open()
            if PRESENCE in topics:
                for known in self._hosts.values():
                    if known.observed is not None:
                        watcher.put(known.observed)
            self._watchers[watcher] = topics

    def unwatch(self, watcher: Watcher) -> None:
        """Give a watcher no more messages."""
        with self._lock:
            self._watchers.pop(watcher, None)

    def _watchers_of(self, topic: Topic) -> list[Watcher]:
        return [w for w, topics in list(self._watchers.items()) if topic in topics]

    @staticmethod
    def _show(watchers: Iterable[Watcher], observed: ObservedMessage[Any]) -> None:
        for watcher in watchers:
            watcher.put(observed)

    def expire(self) -> None:
        """Fail the requests whose timeout has passed."""
        for request in self.pending.pop_expired():
            fail_expired(request, self._host_state(request.host))

    def _is_online(self, host: str) -> bool:
        presence = self.presence(host)
        return presence is not None and presence.status == "online"

    def _host_state(self, host: str) -> str:
        observed = self._observed(host)
        if observed is None or not isinstance(observed.message, Presence):
            return "its daemon has never said that it is there"
        since = observed.time.isoformat(sep=" ", timespec="seconds")
        return f"its daemon is {observed.message.status} since {since} or before"

    def check_open(self) -> None:
        """Raise ClientClosedError after `close`."""
        with self._lock:
            self._check_open()

    def _check_open(self) -> None:
        if self._closed is not None:
            raise ClientClosedError(self._closed)

    def close(self, why: str = CLOSED) -> None:
        """End all pending requests and watchers. Further calls have no effect."""
        with self._lock:
            self._closed = self._closed or why
            watchers, self._watchers = self._watchers, {}
        self.pending.close(why)
        for watcher in watchers:
            watcher.put(None)


class ClientBase:
    """What the clients for threads and for coroutines declare alike."""

    _core: ClientCore

    @property
    def presences(self) -> Mapping[str, Presence]:
        """The last presence that each fastlib daemon reported, by host."""
        return self._core.presences()


def _checked(timeout: float | None) -> float | None:
    """Return the timeout, or None for an endless one. Raises ValueError."""
    if timeout is None or timeout > threading.TIMEOUT_MAX:
        return None
    if not timeout >= 0:  # also true for NaN
        raise ValueError(f"a timeout is a number of seconds from 0, or None; got {timeout!r}")
    return timeout


def _host(topic: Topic, received: ReceivedMessage) -> str:
    names = topic.parse(received.topic)
    assert names is not None  # the subscription matches no other topic
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
