"""The common part of both clients: it handles all arriving messages, and never waits."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from functools import partial
from logging import getLogger
from typing import Any

import msgspec

from fastlib.clock import SYSTEM_CLOCK, Clock
from fastlib.codec.errors import MessageError
from fastlib.message import Message, ResultContainer, TaskContainer
from fastlib.message.node import Presence, Progress
from fastlib.message.topics import PRESENCE, PROGRESS, RESULT, TASK, Topic
from fastlib.transport import (
    ClosedError,
    Delivery,
    ExpiredError,
    MessageTooLargeError,
    ReceivedMessage,
)
from fastlib.transport.futures import call_when_done

from .arguments import checked_timeout, checked_tolerance
from .clock_warning import ClockWarnings
from .errors import ClientClosedError, HostOfflineError
from .expiry import expires_after
from .limited_warnings import LimitedWarnings
from .message_sizes import LIMITS, ResultReader, SizeCheck
from .observed import ObservedMessage
from .outcome import CLOCK_TOLERANCE
from .pending_requests import PendingRequests
from .presences import Presences
from .request import PendingRequest
from .task_requests import R, TaskRequest
from .unanswered import UnansweredRequests
from .watchers import Watched, Watcher, Watchers

log = getLogger("fastlib.client")

RESULT_SECONDS = 600.0
"""The default time after which a client stops waiting for a result."""

TASK_QOS = 2
"""A C++ peer executes a task once for each time it arrives, so a task must arrive only once."""


class ClientCore:
    """Registers requests, and passes arriving messages to requests, presences and watchers."""

    def __init__(
        self,
        timeout: float | None,
        *,
        is_connected: Callable[[], bool],
        deliver: Callable[[Callable[[], None]], None],
        clock_tolerance: float = CLOCK_TOLERANCE,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """`deliver` is called in a thread of the core; see `ResultReader`."""
        self.timeout = checked_timeout(timeout)
        self.clock = clock
        self._lock = threading.RLock()
        """Guards presences and watchers, so a new watcher neither misses nor repeats a message."""
        self.pending = PendingRequests(clock)
        self.presences = Presences(clock, self._lock)
        self.unanswered = UnansweredRequests(
            self.pending,
            self.presences,
            is_connected=is_connected,
            tolerance=checked_tolerance(clock_tolerance),
            clock=clock,
        )
        self._watchers = Watchers()
        self._sizes = SizeCheck()
        self._warnings = LimitedWarnings(clock.monotonic)
        self._results = ResultReader(self._read_result, deliver, self._warnings)
        self._clock_warnings = ClockWarnings(clock)
        self._closed: ClientClosedError | None = None
        self._last_received: ReceivedMessage | None = None

    # --- requests ---------------------------------------------------------------------------------

    def add(self, task_request: TaskRequest[R]) -> PendingRequest:
        """Register a request before it is sent: the result may arrive during sending.

        Raises HostOfflineError for a request with `only_if_online`.
        """
        timeout = (
            checked_timeout(task_request.timeout) if task_request.has_timeout else self.timeout
        )
        container = self._with_expiry(task_request, timeout)
        host = task_request.host
        with self._lock:
            known, absence = self.presences.of(host), self.presences.absence(host)
        if task_request.only_if_online and known is not None and absence is not None:
            raise HostOfflineError(host)
        request = self.pending.add(host, container, timeout)
        request.absence = absence
        if known is not None and known.incarnation is not None:
            request.incarnations.add(known.incarnation)
        if task_request.on_progress is not None:
            request.listeners.append(task_request.on_progress)
        return request

    def _with_expiry(self, task_request: TaskRequest[R], timeout: float | None) -> TaskContainer:
        """Return the container with its `expires`: by default its own, or the timeout's end."""
        container, expires = task_request.container, task_request.expires
        if not task_request.has_expires:
            if container.expires is not None or timeout is None:
                return container
            expires = timedelta(seconds=timeout)
        if isinstance(expires, timedelta):
            expires = expires_after(expires, self.clock.now())
        return msgspec.structs.replace(container, expires=expires)

    def needs_presence(self, task_request: TaskRequest[R]) -> bool:
        """Return True if a request must be sent differently when a fastlib daemon is present."""
        container = task_request.container
        asks_again = (
            container.idempotency_key is not None
            and not task_request.has_expires
            and container.expires is not None
            and container.expires <= self._now()
        )
        return task_request.only_if_online or asks_again

    def seconds_left(self, request: PendingRequest) -> float | None:
        """Return the expiry for the transport: seconds from now, None for none.

        An order that is sent again after its expiry only requests the result. It is sent only to a
        daemon that honours `expires`.
        """
        left = request.seconds_left(self.clock)
        if left is not None and left <= 0:
            again = request.sent_before or request.delivery is not None
            if again and self.presences.knows_expires(request.host):
                return None
        return left

    def sent(self, request: PendingRequest, delivery: Delivery) -> None:
        """Note that the transport has accepted a request; fail the request if it is not sent."""

        repeated = request.delivery is not None
        request.repeated = repeated

        def check(future: "Future[None]") -> None:
            error = None if future.cancelled() else future.exception()
            if isinstance(error, ExpiredError):
                request.withdrawn = not (repeated or error.messages[0].sent)
                if request.withdrawn:
                    self.unanswered.fail(request)
            elif repeated and isinstance(error, MessageTooLargeError):
                # Another broker had taken it before, so its result may still come.
                log.warning("%s: the request could not be sent again: %s", request, error)
            elif error is not None:
                self.pending.fail(request, error)

        request.delivery = delivery
        call_when_done(delivery.future, check)

    # --- what arrives -----------------------------------------------------------------------------

    def is_repeated(self, received: ReceivedMessage) -> bool:
        """Return True for the second copy of a message that two subscriptions received.

        The copies arrive one after the other. Called where all messages are handled.
        """
        last, self._last_received = self._last_received, received
        return last is not None and last.is_same_as(received)

    def on_task(self, received: ReceivedMessage) -> None:
        """Handle a message to a task topic."""
        host = _host(TASK, received)
        if not self.is_repeated(received) and not self._sizes.is_too_large(TASK, host, received):
            self._watchers.show(TASK, _read(TASK, TaskContainer, received, self._now()))

    def on_result(self, received: ReceivedMessage) -> None:
        """Handle a message to a result topic."""
        if self.is_repeated(received):
            return
        host = _host(RESULT, received)
        if not self._matters(RESULT, host):
            return  # a result for another client, without a watcher here
        if not self._sizes.is_too_large(RESULT, host, received):
            self._results.put(host, received)

    def _matters(self, topic: Topic, host: str) -> bool:
        return self._watchers.watches(topic, host) or self.pending.has_any(host)

    def _read_result(self, received: ReceivedMessage) -> Callable[[], None]:
        """Read a result, in any thread. Return a function that handles it."""
        observed = _read(RESULT, ResultContainer, received, self._now())
        return partial(self._handle_result, received, observed)

    def _handle_result(
        self, received: ReceivedMessage, observed: ObservedMessage[ResultContainer]
    ) -> None:
        host = observed.host
        self._watchers.show(RESULT, observed)
        if observed.message is not None:
            # A daemon that reports its presence is a fastlib daemon. A C++ peer loses ids.
            keeps_ids = self.presences.is_online(host)
            self.pending.resolve(host, observed.message, keeps_ids=keeps_ids)
        else:
            assert observed.error is not None
            self.pending.add_unreadable(host, observed.error)
            self._warnings.unreadable("result", received.topic, observed.error)

    def on_progress(self, received: ReceivedMessage) -> None:
        """Handle a message to a progress topic."""
        if self.is_repeated(received):
            return
        host = _host(PROGRESS, received)
        if not self._matters(PROGRESS, host):
            return
        if self._sizes.is_too_large(PROGRESS, host, received):
            return
        observed = _read(PROGRESS, Progress, received, self._now())
        self._watchers.show(PROGRESS, observed)
        progress = observed.message
        if progress is None:
            self._warnings.unreadable("progress", received.topic, observed.error)
            return
        request = self.pending.find(
            host, progress.id, progress.idempotency_key, progress.request_digest
        )
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
        """Handle a message to a presence topic. Return the requests to send again."""
        if self.is_repeated(received):
            return []
        due = self._read_presence(received)
        if received.retain:
            self.presences.seen_again(_host(PRESENCE, received))
        return due

    def _read_presence(self, received: ReceivedMessage) -> list[PendingRequest]:
        """Read a presence. Return the requests to send again.

        A daemon that reports its presence executes an idempotency key (an older one: an id) only
        once and answers a repeated one again. C++ peers report no presence, so the client never
        repeats a request to them. The transport still sends the requests that the broker has not
        confirmed. `HostPresence` decides when a repetition is due.
        """
        host = _host(PRESENCE, received)
        self.presences.heard()
        if not self.presences.listens_to(host):
            return []  # it was in flight when this client left the host
        if not received.payload:  # the retained message was deleted: the host was removed
            self._forget(host, received)
            return []
        if self._sizes.is_too_large(PRESENCE, host, received):
            return []
        observed = _read(PRESENCE, Presence, received, self._now())
        presence = observed.message
        if presence is not None and presence.is_claim and not received.retain:
            self.presences.claimed(host)
            return []
        with self._lock:
            if self.presences.shows_again(host, received):
                return []
            self._watchers.show(PRESENCE, observed)
            if presence is None:
                self._warnings.unreadable("presence", received.topic, observed.error)
                return []
            change = self.presences.show(observed, presence, retained=received.retain)
        self.presences.end_waits(host)
        self._clock_warnings.check(
            host,
            presence,
            retained=received.retain,
            kept=received.qos > 0 and received.session_start < received.connection,
            returned=received.qos > 0 and change.returned,
        )
        return [] if change.due is None else self._due(host, change.due)

    def _forget(self, host: str, received: ReceivedMessage) -> None:
        """Forget a host whose presence was deleted, and report that to the watchers."""
        forgotten = ObservedMessage[Message](
            host=host,
            topic=received.topic,
            time=self._now().astimezone(),
            payload=b"",
            message=None,
        )
        with self._lock:
            if self.presences.forget(host):
                self._watchers.show(PRESENCE, forgotten)

    def _due(self, host: str, incarnation: tuple[str, int]) -> list[PendingRequest]:
        """Return the requests to a host that this incarnation of its daemon has not received."""
        knows_expires = self.presences.knows_expires(host)
        due = [
            request
            for request in self.pending.for_host(host)
            if incarnation not in request.incarnations
            if request.delivered and (knows_expires or not self._has_expired(request))
        ]
        for request in due:
            request.incarnations.add(incarnation)
        return due

    def _has_expired(self, request: PendingRequest) -> bool:
        left = request.seconds_left(self.clock)
        return left is not None and left <= 0

    def on_reconnect(self) -> None:
        """Note that the connection was lost and is restored."""
        self._clock_warnings.reconnected()
        self.presences.reconnected()

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self.clock.now(), UTC)

    # --- watchers and the end ---------------------------------------------------------------------

    def watch(self, watcher: Watcher, watched: Watched) -> None:
        """Give a watcher all further messages, and the known presences at once.

        Raises ClientClosedError.
        """
        with self._lock:
            self.check_open()
            for observed in self.presences.observed():
                if watched.includes(PRESENCE, observed.host):
                    watcher.put(observed)
            self._watchers.add(watcher, watched)

    def unwatch(self, watcher: Watcher) -> None:
        """Give a watcher no more messages."""
        with self._lock:
            self._watchers.remove(watcher)

    def check_open(self) -> None:
        """Raise ClientClosedError after `close`."""
        if self._closed is not None:
            raise ClientClosedError(self._closed.reason)

    def refuse_requests(self) -> None:
        """Refuse further requests and watchers, as after `close`."""
        with self._lock:
            self._closed = self._closed or ClientClosedError()

    def close(self, reason: ClosedError | None = None) -> None:
        """End all pending requests and watchers. Further calls have no effect.

        `reason` says why the communicator has ended; None if it has not.
        """
        with self._lock:
            self._closed = self._closed or ClientClosedError(reason)
            watchers = self._watchers.remove_all()
        self._results.close()
        self.pending.close(reason)
        failed = reason is not None and reason.failure is not None
        for watcher in watchers:
            watcher.end(ClientClosedError(reason) if failed else None)


def _host(topic: Topic, received: ReceivedMessage) -> str:
    names = topic.parse(received.topic)
    assert names is not None  # the subscription matches no other topic
    return names["host"]


def _read(
    topic: Topic, kind: type[Any], received: ReceivedMessage, now: datetime
) -> ObservedMessage[Any]:
    message, error = None, None
    try:
        message = kind.from_yaml(received.payload, limits=LIMITS)
    except MessageError as problem:
        error = problem
    return ObservedMessage(
        host=_host(topic, received),
        topic=received.topic,
        time=now.astimezone(),
        payload=received.payload,
        message=message,
        error=error,
    )
