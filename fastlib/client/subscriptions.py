"""The subscriptions of a client: to each host that receives its orders, and for its watches.

A client subscribes only to the hosts that it uses. Before the first order to a host, it subscribes
to the host's results, progress and presence. It does not wait for the broker: a broker handles the
packets of one connection in order, so the subscription is there before the order. It unsubscribes
from hosts that have had no orders for long.

Watches add subscriptions of their own, to all hosts or to some. Two subscriptions may get the same
message. The transport requests it from the broker once, and `ClientCore` handles it once.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from functools import partial
from logging import getLogger
from typing import Any, Final, NamedTuple, Protocol

from fastlib.message.topics import PRESENCE, PROGRESS, RESULT, TASK, Topic
from fastlib.transport import ReceivedMessage, RefusedError, TransportError

from .core import ClientCore
from .hosts_in_use import HostsInUse
from .watchers import Watched

log = getLogger("fastlib.client")

HOST_TOPICS: Final = (RESULT, PROGRESS, PRESENCE)
"""The topics that a client receives from a host that it uses."""

_CONTENT: Final = {
    RESULT: "results of watched hosts",
    TASK: "tasks of watched hosts",
    PROGRESS: "reports of progress",
    PRESENCE: "presence of hosts",
}
"""The messages of each topic, in words."""

SUBSCRIPTION_QOS: Final = 2


class Subscriber(Protocol):
    """The methods of a communicator that subscriptions need. None of them waits."""

    def subscribe_now(
        self, topic: str, callback: Any, qos: int, *, retained: bool
    ) -> "Future[None]":
        """Subscribe, before each message that is sent later."""

    def unsubscribe_now(self, topic: str) -> None:
        """End a subscription."""

    def resend_retained(self, topic: str) -> "Future[None]":
        """Request a subscription again."""

    def forget(self, topic: str) -> None:
        """End a subscription that an earlier program may have left."""


class _Held(NamedTuple):
    """A subscription with the number of its users."""

    users: int
    confirmed: "Future[None]"


class Held:
    """The subscriptions that one watch or host holds, by topic and host; None is all hosts."""

    def __init__(self, confirmed: "dict[tuple[Topic, str | None], Future[None]]") -> None:
        self.confirmed: Final = confirmed
        self.released = False


class ClientSubscriptions:
    """Every method may be called from any thread, and none waits for the broker."""

    def __init__(
        self,
        core: ClientCore,
        communicator: Subscriber,
        callbacks: Mapping[Topic, Callable[[ReceivedMessage], Any]],
    ) -> None:
        """`callbacks` handle the messages of each kind of topic."""
        self._core = core
        self._communicator = communicator
        self._callbacks = callbacks
        self._lock = threading.RLock()
        self._held: dict[tuple[Topic, str | None], _Held] = {}
        self._keys: dict[str, tuple[Topic, str | None]] = {}
        """The keys of `_held` by the filter of each."""
        self._hosts = HostsInUse()
        self._refused: dict[str, RefusedError] = {}
        """The hosts whose results the broker has refused before."""
        self._warned: set[Topic] = set()
        self._for_good: set[Topic] = set()
        """The subscriptions to all hosts that last until the client is closed."""

    def forget_earlier(self) -> None:
        """Withdraw subscriptions that an earlier program has left in a persistent session.

        These are the subscriptions to its hosts, and those to all hosts, which clients of earlier
        versions have. The broker limits how many messages it sends without an acknowledgement.
        These messages would fill that limit and delay results.
        """
        for topic in HOST_TOPICS:
            self._communicator.forget(topic.pattern())

    def use(self, host: str) -> "Future[None] | None":
        """Listen to a host, before an order is sent to it.

        Returns a future to wait for if the broker has refused the results of this host before.
        Raises ClientClosedError, and the errors of `subscribe_now`.
        """
        with self._lock:
            self._core.check_open()
            now = self._core.clock.monotonic()
            held = None
            if self._hosts.use(host, now):
                try:
                    held = self._hold(HOST_TOPICS, [host])
                except BaseException:
                    self._hosts.leave(host)
                    raise
            for unused in self._hosts.leave_unused(now, self._core.pending.has_any):
                self._leave(unused)
        if held is None:
            return None
        for (topic, _), confirmed in held.confirmed.items():
            confirmed.add_done_callback(partial(self._answered, topic, host))
        return held.confirmed[RESULT, host] if host in self._refused else None

    def check(self, host: str) -> None:
        """Raise RefusedError if the broker has refused the results of a host since `use`.

        A refusal that comes later fails the requests that are pending then.
        """
        with self._lock:
            held = self._held.get((RESULT, host))
            error = self._refused.get(host) if held is None else _refusal_of(held.confirmed)
        if error is not None:
            raise RefusedError(f"{error}; the client sends nothing to this host", error.code)

    def presence_confirmed(self, host: str) -> "list[Future[None]]":
        """Return the broker's confirmation that it sends the presence of a host that is in use."""
        with self._lock:
            held = self._held.get((PRESENCE, host))
        return [] if held is None else [held.confirmed]

    def hold(self, topics: Iterable[Topic], hosts: Iterable[str] | None) -> Held:
        """Listen to topics of all hosts, or of some, until `release`.

        Raises ClientClosedError, and the errors of `subscribe_now`.
        """
        with self._lock:
            self._core.check_open()
            return self._hold(topics, [None] if hosts is None else hosts)

    def hold_for_good(self, topic: Topic) -> "Future[None]":
        """Listen to a topic of all hosts until the client is closed."""
        with self._lock:
            self._core.check_open()
            if topic not in self._for_good:
                self.hold([topic], None)
                self._for_good.add(topic)
            return self._held[topic, None].confirmed

    def release(self, held: Held) -> None:
        """End the held subscriptions that no other user holds."""
        with self._lock:
            if not held.released:
                held.released = True
                for topic, host in held.confirmed:
                    self._release(topic, host)

    def close(self) -> None:
        """End all subscriptions."""
        with self._lock:
            held, self._held = self._held, {}
            for topic, host in held:
                self._unsubscribe(topic, host)

    def _hold(self, topics: Iterable[Topic], hosts: Iterable[str | None]) -> Held:
        keys: list[tuple[Topic, str | None]] = []
        hosts = tuple(hosts)
        try:
            for topic in topics:
                for host in hosts:
                    self._hold_one(topic, host)
                    keys.append((topic, host))
        except BaseException:
            for key in keys:
                self._release(*key)
            raise
        return Held({key: self._held[key].confirmed for key in keys})

    def _hold_one(self, topic: Topic, host: str | None) -> None:
        held = self._held.get((topic, host))
        if held is not None:
            confirmed = held.confirmed
            if topic is RESULT and host in self._refused:  # after a reconnect: a watch has it still
                confirmed = self._communicator.resend_retained(_pattern(topic, host))
            self._held[topic, host] = _Held(held.users + 1, confirmed)
            return
        # The retained messages of all hosts would arrive again with each of them.
        every = self._held.get((topic, None))
        covered = host is not None and every is not None and not _has_failed(every.confirmed)
        if topic is PRESENCE:  # before: another thread may handle the retained messages at once
            note_confirmed = self._core.presences.listen(host)
        try:
            confirmed = self._communicator.subscribe_now(
                _pattern(topic, host),
                self._callbacks[topic],
                SUBSCRIPTION_QOS,
                retained=not covered,
            )
        except BaseException:
            if topic is PRESENCE:
                self._core.presences.unlisten(host)
            raise
        if topic is PRESENCE:
            confirmed.add_done_callback(partial(_call_if_confirmed, note_confirmed))
        self._held[topic, host] = _Held(1, confirmed)
        self._keys[_pattern(topic, host)] = (topic, host)

    def _release(self, topic: Topic, host: str | None) -> None:
        held = self._held.get((topic, host))
        if held is None:  # closed
            return
        if held.users > 1:
            self._held[topic, host] = held._replace(users=held.users - 1)
            return
        del self._held[topic, host]
        self._unsubscribe(topic, host)
        if topic is PRESENCE:
            self._core.presences.unlisten(host)

    def _unsubscribe(self, topic: Topic, host: str | None) -> None:
        pattern = _pattern(topic, host)
        self._keys.pop(pattern, None)
        try:
            self._communicator.unsubscribe_now(pattern)
        except TransportError as error:  # already closed
            log.debug("unsubscribing from %s: %s", pattern, error)

    def _leave(self, host: str) -> None:
        for topic in HOST_TOPICS:
            self._release(topic, host)

    def refused(self, pattern: str, error: RefusedError) -> None:
        """Note that the broker does not renew a subscription that it has confirmed before."""
        with self._lock:
            topic, host = self._keys.get(pattern, (None, None))
        if topic is not None and host is not None:
            self._refuse(topic, host, error)
        elif topic is not None:
            self._warn(topic, error)

    def _answered(self, topic: Topic, host: str, confirmed: "Future[None]") -> None:
        """Handle the broker's answer to a subscription, in any thread."""
        error = None if confirmed.cancelled() else confirmed.exception()
        if isinstance(error, RefusedError):
            self._refuse(topic, host, error)
        elif topic is RESULT:
            self._refused.pop(host, None)

    def _refuse(self, topic: Topic, host: str, error: RefusedError) -> None:
        if topic is not RESULT:
            self._warn(topic, error)
            return
        with self._lock:
            self._refused[host] = error
            if self._hosts.leave(host):
                self._leave(host)
            is_watched = (RESULT, host) in self._held
        if is_watched:
            self._warn(topic, error)
        text = f"{error}; this client cannot receive the results of orders that it has sent"
        for request in self._core.pending.for_host(host):
            self._core.pending.fail(request, RefusedError(f"{request}: {text}", error.code))

    def _warn(self, topic: Topic, error: RefusedError) -> None:
        """Warn once that the messages of a topic do not arrive."""
        with self._lock:
            is_new = topic not in self._warned
            self._warned.add(topic)
        if is_new:
            log.warning("the %s cannot be received: %s", _CONTENT[topic], error)


def _refusal_of(confirmed: "Future[None]") -> RefusedError | None:
    if not confirmed.done() or confirmed.cancelled():
        return None
    error = confirmed.exception()
    return error if isinstance(error, RefusedError) else None


def _call_if_confirmed(callback: Callable[[], object], confirmed: "Future[None]") -> None:
    if not _has_failed(confirmed):
        callback()


def _has_failed(confirmed: "Future[None]") -> bool:
    return confirmed.done() and (confirmed.cancelled() or confirmed.exception() is not None)


def _pattern(topic: Topic, host: str | None) -> str:
    return topic.pattern() if host is None else topic(host=host)


def watched_of(
    hosts: Iterable[str] | None, results: bool, tasks: bool, progress: bool, presence: bool
) -> Watched:
    """Return the topics and hosts that a watch with these options observes."""
    chosen = {RESULT: results, TASK: tasks, PROGRESS: progress, PRESENCE: presence}
    topics = frozenset(topic for topic, wanted in chosen.items() if wanted)
    return Watched(topics, None if hosts is None else frozenset(hosts))
