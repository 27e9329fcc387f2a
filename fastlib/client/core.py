"""The part that both clients share: it handles everything that arrives, and never waits."""

import math
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from functools import partial
from logging import getLogger
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from fastlib.argument_checks import check_bool, check_seconds
from fastlib.clock import SYSTEM_CLOCK, Clock
from fastlib.codec.errors import MessageError
from fastlib.message import (
    HistoryResult,
    Message,
    ResultContainer,
    TaskContainer,
)
from fastlib.message.node import Presence, Progress
from fastlib.message.topics import PRESENCE, PROGRESS, RESULT, TASK, Topic
from fastlib.transport import (
    Delivery,
    ExpiredError,
    MemoryBroker,
    MemoryOptions,
    MessageTooLargeError,
    MqttOptions,
    ReceivedMessage,
)
from fastlib.transport.core import CommunicatorBase

from . import task_requests
from .clock_warning import ClockWarnings
from .errors import ClientClosedError, HostOfflineError
from .expiry import expires_after
from .host_presence import HostPresence
from .journal_view import journal_view
from .message_sizes import LIMITS, ResultReader, SizeCheck
from .no_result import no_result
from .observed import ObservedMessage
from .outcome import (
    CLOCK_TOLERANCE,
    Evidence,
    outcome_of,
    seconds_to_wait,
    worth_asking,
    worth_looking,
)
from .pending_requests import PendingRequests
from .request import Absence, PendingRequest
from .task_requests import R, TaskRequest

log = getLogger("fastlib.client")

CONTENT_TYPE = "application/yaml"
"""The media type of all messages (RFC 9512), which MQTT 5 carries along."""

RESULT_SECONDS = 600.0
"""The default time after which a client stops waiting for a result."""

TASK_QOS = 2
"""A C++ peer executes a task once for each time it arrives, so a task must arrive only once."""

PRESENCE_SECONDS = 1.0
"""Seconds after the subscription in which a client learns whether a daemon is offline."""

MAX_QUESTIONS = 2
"""Once when a request's timeout has passed, and once when its order can no longer begin."""

LOOK_SECONDS = 2.0
"""Seconds for which a client waits until the broker has sent a presence again."""

LOOKS_SECONDS = 60.0
"""Seconds after which a request fails though the broker was not asked for the presence yet."""

CLOSED = "the client is closed"
COMMUNICATOR_CLOSED = "the communicator under the client is closed"


class Unclear(NamedTuple):
    """Requests whose timeout has passed, and of which more can be known."""

    questions: list[PendingRequest]
    """Those to ask their daemons about: see `ClientCore.question_about`."""
    looks: dict[str, list[PendingRequest]]
    """By host, those whose daemon is offline, if the broker confirms that."""


class _Listening:
    """A time in which this client hears the presence of a host, or of all hosts."""

    __slots__ = ("absence", "began", "connection")

    def __init__(self, began: float, connection: int) -> None:
        self.began: Final = began
        """The monotonic time of the subscription."""
        self.connection: Final = connection
        """How often this client had connected again by then."""
        self.absence: Final = Absence()
        """The absence of a daemon that the broker knew to be offline before."""


class Watched(NamedTuple):
    """What a watcher observes."""

    topics: frozenset[Topic]
    hosts: frozenset[str] | None
    """None is all hosts."""


class Watcher(Protocol):
    """A consumer of observed messages."""

    def put(self, observed: Any) -> None:
        """Queue an observed message; None is the end. Must not wait."""


class ClientCore:
    """Pending requests, the presence of the hosts, and the watchers."""

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
        self._sizes = SizeCheck()
        self._results = ResultReader(self._read_result, deliver)
        self.pending = PendingRequests(clock)
        self.timeout = _checked(timeout)
        self._tolerance = _checked_tolerance(clock_tolerance)
        self._is_connected = is_connected
        self.clock = clock
        self._clock_warnings = ClockWarnings(clock)
        self._lock = threading.Lock()
        """Guards the following, so a new watcher neither misses nor repeats a message."""
        self._closed: str | None = None
        self._hosts: dict[str, HostPresence] = {}
        self._connection = 0
        """How often this client has connected again."""
        self._listening: dict[str, _Listening] = {}
        """By host, since when its presence is heard."""
        self._listening_to_all: _Listening | None = None
        self._deaf = False
        self._awaited: dict[str, list[Future[None]]] = {}
        """What waits for the first presence of a host."""
        self._looks: dict[str, list[Callable[[], None]]] = {}
        """What waits until the broker sends the presence of a host again."""
        self._watchers: dict[Watcher, Watched] = {}
        self._last_received: ReceivedMessage | None = None

    def add(self, task_request: TaskRequest[R]) -> PendingRequest:
        """Register a request before it is sent: the result may arrive during sending.

        Raises HostOfflineError for a request with `only_if_online`.
        """
        timeout = _checked(task_request.timeout) if task_request.has_timeout else self.timeout
        container = self._with_expiry(task_request, timeout)
        host = task_request.host
        with self._lock:
            known = self._hosts.get(host)
            if known is not None:
                absence = known.absence
            else:  # the broker may yet send what it retained before the order is sent
                listening = self._listening_to(host)
                absence = None if self._missed_since(listening) else listening.absence
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

    def listen(self, host: str | None) -> None:
        """Note that the presence of a host, or with None of all, is heard from now on."""
        now = self.clock.monotonic()
        with self._lock:
            if host is None:
                self._listening_to_all = _Listening(now, self._connection)
            else:
                self._listening.setdefault(host, _Listening(now, self._connection))

    def unlisten(self, host: str | None) -> None:
        """Forget what is heard no more: of a host, or with None of all that are not used."""
        with self._lock:
            if host is None:
                self._listening_to_all = None
            else:
                self._listening.pop(host, None)
            if self._listening_to_all is None:
                unheard = [host] if host is not None else self._hosts.keys() - self._listening
                for one in unheard:
                    self._hosts.pop(one, None)

    def _listening_to(self, host: str) -> _Listening:
        """Return since when a host's presence is heard, the longer time if there are two."""
        known = self._known_listening(host)
        if not known:  # the broker has refused its presence
            return _Listening(self.clock.monotonic(), self._connection)
        return min(known, key=lambda listening: listening.began)

    def _known_listening(self, host: str) -> list[_Listening]:
        found = [self._listening.get(host), self._listening_to_all]
        return [listening for listening in found if listening is not None]

    def _missed_since(self, listening: _Listening) -> bool:
        """Return True if this client may have missed a presence since then."""
        return listening.connection != self._connection

    def await_presence(self, host: str) -> "tuple[Future[None], float]":
        """Return what is done when a host has shown its presence, and the seconds to wait for it.

        The broker sends what it retains soon after the subscription.
        """
        shown: Future[None] = Future()
        with self._lock:
            left = self._listening_to(host).began + PRESENCE_SECONDS - self.clock.monotonic()
            if host in self._hosts or left <= 0:
                shown.set_result(None)
            else:
                self._awaited.setdefault(host, []).append(shown)
        return shown, left

    def seconds_left(self, request: PendingRequest) -> float | None:
        """Return the expiry for the transport: seconds from now, None for none.

        An order that is sent again after its expiry asks only for the result. It is sent only to a
        daemon that honours `expires`.
        """
        left = request.seconds_left(self.clock)
        if left is not None and left <= 0:
            known = self._hosts.get(request.host)
            again = request.sent_before or request.delivery is not None
            if again and known is not None and known.knows_expires:
                return None
        return left

    def needs_presence(self, task_request: TaskRequest[R]) -> bool:
        """Return True if it matters for sending a request whether a fastlib daemon is there."""
        container = task_request.container
        asks_again = (
            container.idempotency_key is not None
            and not task_request.has_expires
            and container.expires is not None
            and container.expires <= self._now()
        )
        return task_request.only_if_online or asks_again

    def sent(self, request: PendingRequest, delivery: Delivery) -> None:
        """Note that the transport has accepted a request; fail the request if it is not sent."""

        repeated = request.delivery is not None
        request.repeated = repeated

        def check(future: "Future[None]") -> None:
            error = None if future.cancelled() else future.exception()
            if isinstance(error, ExpiredError):
                request.withdrawn = not (repeated or error.messages[0].sent)
                if request.withdrawn:
                    self._fail_pending(request)
            elif repeated and isinstance(error, MessageTooLargeError):
                # Another broker had taken it before, so its result may still come.
                log.warning("%s: could not be asked for again: %s", request, error)
            elif error is not None:
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

    def is_repeated(self, received: ReceivedMessage) -> bool:
        """Return True for the second copy of a message that two subscriptions have got.

        The copies come one after the other. Called where all messages are handled.
        """
        last, self._last_received = self._last_received, received
        return last is not None and last.is_same_as(received)

    def on_result(self, received: ReceivedMessage) -> None:
        """Handle a message to a result topic."""
        if self.is_repeated(received):
            return
        host = _host(RESULT, received)
        watchers = self._watchers_of(RESULT, host)
        if not watchers and not self.pending.has_any(host):
            return  # a result for another client, without a watcher here
        if not self._sizes.is_too_large(RESULT, host, received):
            self._results.put(host, received)

    def _read_result(self, received: ReceivedMessage) -> Callable[[], None]:
        """Read a result, in any thread. Return what handles it."""
        observed = _read(RESULT, ResultContainer, received, self._now())
        return partial(self._handle_result, received, observed)

    def _handle_result(
        self, received: ReceivedMessage, observed: ObservedMessage[ResultContainer]
    ) -> None:
        host = observed.host
        self._show(self._watchers_of(RESULT, host), observed)
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
        if self.is_repeated(received):
            return
        host = _host(PROGRESS, received)
        watchers = self._watchers_of(PROGRESS, host)
        if not watchers and not self.pending.has_any(host):
            return
        if self._sizes.is_too_large(PROGRESS, host, received):
            return
        observed = _read(PROGRESS, Progress, received, self._now())
        self._show(watchers, observed)
        progress = observed.message
        if progress is None:
            log.warning("%s: the progress cannot be read: %s", received.topic, observed.error)
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
            with self._lock:
                looks = self._looks.pop(_host(PRESENCE, received), ())
            for look in looks:
                look()
        return due

    def _read_presence(self, received: ReceivedMessage) -> list[PendingRequest]:
        """Read a presence. Return the requests to send again.

        A daemon that reports its presence executes an idempotency key (an older one: an id) only
        once and answers a repeated one again. C++ peers report no presence, so the client never
        repeats a request to them. The transport still sends the requests that the broker has not
        confirmed. See `HostPresence` for when a repetition is due.
        """
        self._deaf = False
        host = _host(PRESENCE, received)
        if not self._known_listening(host):
            return []  # it was on its way when this client has left the host
        if not received.payload:  # the retained message was deleted: the host was removed
            with self._lock:
                self._hosts.pop(host, None)
            return []
        if self._sizes.is_too_large(PRESENCE, host, received):
            return []
        observed = _read(PRESENCE, Presence, received, self._now())
        presence = observed.message
        if presence is not None and presence.is_claim and not received.retain:
            with self._lock:
                if host in self._hosts:
                    self._hosts[host].claimed()
            return []
        repeats = knows_expires = returned = False
        incarnation: tuple[str, int] | None = None
        awaited: list[Future[None]] = []
        with self._lock:
            known = self._hosts.get(host)
            if known is not None and known.shows_again(received.payload, retained=received.retain):
                return []
            self._show(self._watchers_of(PRESENCE, host), observed)
            if presence is not None:
                if known is None:
                    listening = self._listening_to(host)
                    known = self._hosts[host] = HostPresence(
                        missed=self._missed_since(listening), from_the_start=listening.absence
                    )
                    awaited = self._awaited.pop(host, [])
                repeats = known.show(observed, presence, retained=received.retain)
                knows_expires, returned = known.knows_expires, known.returned
                incarnation = known.incarnation
        if presence is None:
            log.warning("%s: the presence cannot be read: %s", received.topic, observed.error)
            return []
        for shown in awaited:
            shown.set_result(None)
        self._clock_warnings.check(
            host,
            presence,
            retained=received.retain,
            kept=received.qos > 0 and received.session_start < received.connection,
            returned=received.qos > 0 and returned,
        )
        if not repeats or incarnation is None:
            return []
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
        """Note that the connection was lost and is there again."""
        self._clock_warnings.reconnected()
        self._deaf = False
        with self._lock:
            self._connection += 1
            for known in self._hosts.values():
                known.reconnected()

    def on_task(self, received: ReceivedMessage) -> None:
        """Handle a message to a task topic."""
        host = _host(TASK, received)
        if not self.is_repeated(received) and not self._sizes.is_too_large(TASK, host, received):
            observed = _read(TASK, TaskContainer, received, self._now())
            self._show(self._watchers_of(TASK, host), observed)

    def watch(self, watcher: Watcher, watched: Watched) -> None:
        """Give a watcher all further messages, and the known presences at once.

        Raises ClientClosedError.
        """
        with self._lock:
            self._check_open()
            if PRESENCE in watched.topics:
                for host, known in self._hosts.items():
                    wanted = watched.hosts is None or host in watched.hosts
                    if wanted and known.observed is not None:
                        watcher.put(known.observed)
            self._watchers[watcher] = watched

    def unwatch(self, watcher: Watcher) -> None:
        """Give a watcher no more messages."""
        with self._lock:
            self._watchers.pop(watcher, None)

    def _watchers_of(self, topic: Topic, host: str) -> list[Watcher]:
        return [
            watcher
            for watcher, watched in list(self._watchers.items())
            if topic in watched.topics and (watched.hosts is None or host in watched.hosts)
        ]

    @staticmethod
    def _show(watchers: Iterable[Watcher], observed: ObservedMessage[Any]) -> None:
        for watcher in watchers:
            watcher.put(observed)

    def expire(self) -> Unclear:
        """Fail the requests whose timeout has passed. Return those of which more can be known."""
        unclear = Unclear([], {})

        def seconds_longer(request: PendingRequest) -> float:
            evidence, now = self._evidence(request), self._certain_time(request)
            seconds = seconds_to_wait(evidence, now)
            if request.asked < MAX_QUESTIONS and worth_asking(evidence, now):
                request.asked += 1
                unclear.questions.append(request)
                seconds = max(seconds, self._tolerance)
            if not request.looked and worth_looking(evidence, now):
                request.looked = True
                unclear.looks.setdefault(request.host, []).append(request)
                seconds = LOOKS_SECONDS
            return seconds

        for request in self.pending.pop_expired(seconds_longer):
            self._fail_without_result(request)
        return unclear

    @property
    def may_look(self) -> bool:
        """False if the broker did not send a presence again, and has sent none since."""
        return not self._deaf

    def expect_look(self, host: str, seen: Callable[[], None]) -> None:
        """Call `seen` once when the broker has sent the presence of a host again."""
        with self._lock:
            self._looks.setdefault(host, []).append(seen)

    def end_look(self, host: str, seen: Callable[[], None]) -> None:
        """Do not call `seen` any more."""
        with self._lock:
            left = [one for one in self._looks.pop(host, ()) if one is not seen]
            if left:
                self._looks[host] = left

    def on_look(self, requests: Iterable[PendingRequest]) -> None:
        """Handle that the broker has sent a presence again, in order with all others."""
        for request in requests:
            request.heard = self._is_away(request)
            self._fail_pending(request)

    def look_failed(self, requests: Iterable[PendingRequest]) -> None:
        """Handle that the broker has not sent the presence of a host again in time."""
        self._deaf = True
        for request in requests:
            self._fail_pending(request)

    def _fail_pending(self, request: PendingRequest) -> None:
        if self.pending.remove(request):
            self._fail_without_result(request)

    def question_about(self, request: PendingRequest) -> TaskRequest[HistoryResult]:
        """Return the query for what a daemon's journal says about an order."""
        key = request.container.idempotency_key
        assert key is not None  # each request has one
        return task_requests.history(
            request.host, {"key": key, "limit": 1, "timeout": self._tolerance}
        )

    def on_answer(self, request: PendingRequest, answer: "Future[ResultContainer]") -> None:
        """Handle the end of `question_about` an order."""
        if answer.cancelled() or answer.exception() is not None:
            return
        report = task_requests.history_result(answer.result()).history
        if report is None:
            return  # the journal cannot be read
        now = self._now()
        request.journal = journal_view(request, report, now)
        certain = self._certain_time(request)
        more_comes = seconds_to_wait(self._evidence(request), certain) > 0
        if not more_comes:
            self._fail_pending(request)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self.clock.now(), UTC)

    def _certain_time(self, request: PendingRequest) -> datetime:
        """Return the time that it is at least, also if the clock has jumped since the sending."""
        passed = timedelta(seconds=self.clock.monotonic() - request.monotonic)
        return min(self._now(), request.sent + passed)

    def _fail_without_result(self, request: PendingRequest) -> None:
        outcome = outcome_of(self._evidence(request), self._certain_time(request))
        known = self._hosts.get(request.host)
        request.future.set_exception(
            no_result(
                request,
                outcome,
                self._host_state(request.host),
                has_journal=known is not None and known.knows_expires,
            )
        )

    def _is_away(self, request: PendingRequest) -> bool:
        """Return True if the host's daemon was away from before the sending, without a gap."""
        known = self._hosts.get(request.host)
        return (
            request.absence is not None
            and known is not None
            and known.absence is request.absence
            and self._is_connected()
        )

    def _evidence(self, request: PendingRequest) -> Evidence:
        known = self._hosts.get(request.host)
        presence = self.presence(request.host)
        return Evidence(
            expires=request.expires,
            only_asks=request.only_asks,
            withdrawn=request.withdrawn,
            sent_before=request.sent_before,
            phase=None if request.progress is None else request.progress.phase,
            status=None if presence is None else presence.status,
            away=self._is_away(request),
            heard=request.heard,
            knows_expires=known is not None and known.knows_expires,
            confirmed=request.delivered,
            journal=request.journal,
            tolerance=self._tolerance,
        )

    def _is_online(self, host: str) -> bool:
        presence = self.presence(host)
        return presence is not None and presence.status == "online"

    def _host_state(self, host: str) -> str | None:
        observed = self._observed(host)
        if observed is None or not isinstance(observed.message, Presence):
            return None
        since = observed.time.isoformat(sep=" ", timespec="seconds")
        degraded = observed.message.degraded
        why = "" if degraded is None else f" and degraded ({degraded})"
        return f"its daemon is {observed.message.status}{why} since {since} or before"

    def check_open(self) -> None:
        """Raise ClientClosedError after `close`."""
        with self._lock:
            self._check_open()

    def _check_open(self) -> None:
        if self._closed is not None:
            raise ClientClosedError(self._closed)

    def refuse_requests(self) -> None:
        """Refuse further requests and watchers, as after `close`."""
        with self._lock:
            self._closed = self._closed or CLOSED

    def close(self, why: str = CLOSED) -> None:
        """End all pending requests and watchers. Further calls have no effect."""
        with self._lock:
            self._closed = self._closed or why
            watchers, self._watchers = self._watchers, {}
        self._results.close()
        self.pending.close(why)
        for watcher in watchers:
            watcher.put(None)


def check_communicator(given: object, kind: type, client: str) -> None:
    """Check the argument of a client's constructor. Raises TypeError with the remedy."""
    if isinstance(given, kind):
        return
    found = type(given).__name__
    if isinstance(given, str | MqttOptions | MemoryOptions):
        remedy = f"for a host, a URL or options, use `{client}.connect(...)`"
    elif isinstance(given, CommunicatorBase):
        other = "MigfraClient" if client.startswith("Async") else "AsyncMigfraClient"
        remedy = f"`{other}` uses this one"
    else:
        remedy = f"`{client}.connect(...)` makes one"
    raise TypeError(f"`communicator` must be an open {kind.__name__}, not {found}: {remedy}")


def check_watched(**options: object) -> None:
    """Check the options of `watch`. Raises TypeError."""
    for name, value in options.items():
        check_bool(name, value)


def options_of(
    broker: str | MqttOptions | MemoryOptions, connect_timeout: float
) -> MqttOptions | MemoryOptions:
    """Check the arguments of `connect`, and return the options. Raises TypeError, OptionsError."""
    check_seconds("connect_timeout", connect_timeout, optional=False)
    if isinstance(broker, str):
        broker = MqttOptions.from_url(broker)
    if isinstance(broker, MqttOptions) and broker.content_type is None:
        return msgspec.structs.replace(broker, content_type=CONTENT_TYPE)
    if isinstance(broker, MqttOptions | MemoryOptions):
        return broker
    remedy = ""
    if isinstance(broker, MemoryBroker):
        remedy = "; write MemoryOptions(broker=...)"
    elif isinstance(broker, CommunicatorBase):
        remedy = "; the constructor of the client takes a communicator"
    raise TypeError(
        "`broker` must be a host, a URL, MqttOptions or MemoryOptions, not "
        f"{type(broker).__name__}{remedy}"
    )


def _checked(timeout: float | None) -> float | None:
    """Return the timeout, or None for an endless one. Raises TypeError and ValueError."""
    if not (isinstance(timeout, float) and math.isnan(timeout)):
        check_seconds("timeout", timeout)
    if timeout is None or timeout > threading.TIMEOUT_MAX:
        return None
    if not timeout >= 0:  # also true for NaN
        raise ValueError(f"a timeout is a number of seconds from 0, or None; got {timeout!r}")
    return timeout


def _checked_tolerance(seconds: float) -> float:
    """Return the tolerance of clocks. Raises TypeError and ValueError."""
    if not (isinstance(seconds, float) and math.isnan(seconds)):
        check_seconds("clock_tolerance", seconds, optional=False)
    if not 0 <= seconds <= threading.TIMEOUT_MAX:  # also true for NaN
        raise ValueError(f"a tolerance of clocks is a number of seconds from 0; got {seconds!r}")
    return seconds


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
