"""The presence of the hosts that a client listens to, and the times of subscription. No I/O."""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial
from typing import Final, NamedTuple

from fastlib.clock import Clock
from fastlib.message import Message
from fastlib.message.node import Presence
from fastlib.transport import ReceivedMessage

from .host_presence import HostPresence
from .observed import ObservedMessage
from .request import Absence

PRESENCE_SECONDS: Final = 1.0
"""Seconds within which a client learns whether a daemon is offline.

They begin when the broker has confirmed the subscription.
"""


class _Listening:
    """A period in which this client receives the presence of a host, or of all hosts."""

    __slots__ = ("absence", "began", "confirmed", "connection")

    def __init__(self, began: float, connection: int) -> None:
        self.began: Final = began
        """The monotonic time of the subscription."""
        self.confirmed: float | None = None
        """The monotonic time of the broker's confirmation; None before it is known."""
        self.connection: Final = connection
        """The number of reconnects of this client until then."""
        self.absence: Final = Absence()
        """The absence of a daemon that the broker knew to be offline before."""


class Change(NamedTuple):
    """The effect of a presence that was not known before."""

    due: tuple[str, int] | None = None
    """The daemon's incarnation, if the requests that it never got are due: see `HostPresence`."""
    returned: bool = False
    """True if it ends an absence of the same run."""


class Presences:
    """The last presence of each host. Methods may be called from any thread."""

    def __init__(self, clock: Clock, lock: threading.RLock) -> None:
        """`lock` guards the presences. The caller may hold it to do more at the same moment."""
        self._clock = clock
        self._lock = lock
        self._hosts: dict[str, HostPresence] = {}
        self._connection = 0
        """The number of reconnects of this client."""
        self._listening: dict[str, _Listening] = {}
        """By host, the time since which its presence is received."""
        self._listening_to_all: _Listening | None = None
        self._deaf = False
        self._awaited: dict[str, list[Future[None]]] = {}
        """By host, futures that wait for its first presence."""
        self._looks: dict[str, list[Callable[[], None]]] = {}
        """By host, callbacks that wait until the broker sends its presence again."""

    def listen(self, host: str | None) -> Callable[[], object]:
        """Note that the presence of a host, or with None of all hosts, is received from now on.

        Returns a function to call when the broker has confirmed the subscription.
        """
        listening = _Listening(self._clock.monotonic(), self._connection)
        with self._lock:
            if host is None:
                self._listening_to_all = listening
            else:
                listening = self._listening.setdefault(host, listening)
        return partial(self._confirm, listening)

    def _confirm(self, listening: _Listening) -> float:
        """Note that a subscription is confirmed, and return since when."""
        with self._lock:
            if listening.confirmed is None:
                listening.confirmed = self._clock.monotonic()
            return listening.confirmed

    def unlisten(self, host: str | None) -> None:
        """Forget a host whose presence is no longer received; with None all unused ones."""
        with self._lock:
            if host is None:
                self._listening_to_all = None
            else:
                self._listening.pop(host, None)
            if self._listening_to_all is None:
                unheard = [host] if host is not None else self._hosts.keys() - self._listening
                for one in unheard:
                    self._hosts.pop(one, None)

    def listens_to(self, host: str) -> bool:
        """Return True if the presence of a host is received."""
        return bool(self._known_listening(host))

    def _known_listening(self, host: str) -> list[_Listening]:
        found = [self._listening.get(host), self._listening_to_all]
        return [listening for listening in found if listening is not None]

    def _listening_to(self, host: str) -> _Listening:
        """Return the time since which a host's presence is received; the earlier one of two."""
        known = self._known_listening(host)
        if not known:  # the broker has refused its presence
            return _Listening(self._clock.monotonic(), self._connection)
        return min(known, key=lambda listening: listening.began)

    def _missed_since(self, listening: _Listening) -> bool:
        """Return True if this client may have missed a presence since then."""
        return listening.connection != self._connection

    # --- what is known ----------------------------------------------------------------------------

    def of(self, host: str) -> HostPresence | None:
        """Return the known presence of a host's daemon; None if it has reported none."""
        return self._hosts.get(host)

    def observed(self) -> list[ObservedMessage[Message]]:
        """Return the last presence of each host that could be read."""
        found = [known.observed for known in self._hosts.values()]
        return [observed for observed in found if observed is not None]

    def last(self, host: str) -> Presence | None:
        """Return the last presence that a host's daemon reported."""
        known = self._hosts.get(host)
        observed = None if known is None else known.observed
        message = None if observed is None else observed.message
        return message if isinstance(message, Presence) else None

    def all(self) -> dict[str, Presence]:
        """Return the last presence of each host whose daemon has reported one."""
        found = {host: self.last(host) for host in sorted(self._hosts)}
        return {host: presence for host, presence in found.items() if presence is not None}

    def is_online(self, host: str) -> bool:
        """Return True if a fastlib daemon has reported its presence."""
        presence = self.last(host)
        return presence is not None and presence.status == "online"

    def knows_expires(self, host: str) -> bool:
        """Return True if a host's daemon has reported that it honours `expires`."""
        known = self._hosts.get(host)
        return known is not None and known.knows_expires

    def absence(self, host: str) -> Absence | None:
        """Return the absence in which an order would be sent now; None if there may be a daemon."""
        known = self._hosts.get(host)
        if known is not None:
            return known.absence
        # The broker may yet send what it retained before the order is sent.
        listening = self._listening_to(host)
        return None if self._missed_since(listening) else listening.absence

    def state(self, host: str) -> str | None:
        """Return the last presence of a host's daemon as a text for people."""
        known, presence = self._hosts.get(host), self.last(host)
        if known is None or known.observed is None or presence is None:
            return None
        since = known.observed.time.isoformat(sep=" ", timespec="seconds")
        why = "" if presence.degraded is None else f" and degraded ({presence.degraded})"
        return f"its daemon is {presence.status}{why} since {since} or before"

    # --- what arrives -----------------------------------------------------------------------------

    def reconnected(self) -> None:
        """Note that this client lost its connection and has reconnected."""
        self._deaf = False
        with self._lock:
            self._connection += 1
            for known in self._hosts.values():
                known.reconnected()

    def forget(self, host: str) -> bool:
        """Forget a host whose retained presence was deleted. Return False if it was not known."""
        with self._lock:
            return self._hosts.pop(host, None) is not None

    def claimed(self, host: str) -> None:
        """Note that a daemon is starting."""
        with self._lock:
            if host in self._hosts:
                self._hosts[host].claimed()

    def shows_again(self, host: str, received: ReceivedMessage) -> bool:
        """Return True for a retained presence that is already known: the client requested it."""
        known = self._hosts.get(host)
        return known is not None and known.shows_again(received.payload, retained=received.retain)

    def show(
        self, observed: ObservedMessage[Message], presence: Presence, *, retained: bool
    ) -> Change:
        """Note a presence."""
        with self._lock:
            known = self._hosts.get(observed.host)
            if known is None:
                listening = self._listening_to(observed.host)
                known = self._hosts[observed.host] = HostPresence(
                    missed=self._missed_since(listening), from_the_start=listening.absence
                )
            repeats = known.show(observed, presence, retained=retained)
            return Change(known.incarnation if repeats else None, known.returned)

    # --- what waits for a presence ----------------------------------------------------------------

    def await_first(self, host: str) -> "tuple[Future[None], float]":
        """Return a future of a host's first presence, and the seconds to wait for it.

        To be called when the broker has confirmed the subscription. It sends what it retains soon
        after that.
        """
        shown: Future[None] = Future()
        with self._lock:
            confirmed = self._confirm(self._listening_to(host))
            left = confirmed + PRESENCE_SECONDS - self._clock.monotonic()
            if host in self._hosts or left <= 0:
                shown.set_result(None)
            else:
                self._awaited.setdefault(host, []).append(shown)
        return shown, left

    def end_waits(self, host: str) -> None:
        """Complete the futures that wait for the first presence of a host."""
        with self._lock:
            awaited: Iterable[Future[None]] = self._awaited.pop(host, ())
        for shown in awaited:
            shown.set_result(None)

    @property
    def may_look(self) -> bool:
        """False if the broker did not send a presence again and has sent none since."""
        return not self._deaf

    def expect_look(self, host: str, seen: Callable[[], None]) -> None:
        """Call `seen` once when the broker has sent the presence of a host again."""
        with self._lock:
            self._looks.setdefault(host, []).append(seen)

    def end_look(self, host: str, seen: Callable[[], None]) -> None:
        """Stop calling `seen`."""
        with self._lock:
            left = [one for one in self._looks.pop(host, ()) if one is not seen]
            if left:
                self._looks[host] = left

    def heard(self) -> None:
        """Note that the broker sends presences."""
        self._deaf = False

    def not_heard(self) -> None:
        """Note that the broker has not sent a presence again in time."""
        self._deaf = True

    def seen_again(self, host: str) -> None:
        """Call the callbacks that wait until the broker sends the presence of a host again."""
        with self._lock:
            looks: Iterable[Callable[[], None]] = self._looks.pop(host, ())
        for seen in looks:
            seen()
