"""The way by which orders come: sessions, packets and ids, which show that an order comes again.

`repetition.py` decides from these facts, and `acceptance.py` has the facts about stored orders.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from .repetition import Origin, Place
from .schema import Run


class Way(msgspec.Struct, frozen=True):
    """The way by which one order comes."""

    place: Place
    """The run and the connection."""
    fresh: Place
    """The newest earlier place that brought a message without DUP."""
    session: int
    """The number of the MQTT session, counted over all runs."""
    packet_is_known: bool
    """Whether an earlier order may have come with its packet id."""


class Arrivals:
    """Notes how orders come in this run of the daemon."""

    def __init__(
        self, run: Run, window: float, opened: float, store_session: Callable[[int], object]
    ) -> None:
        """`window` is the time in seconds in which the same bytes count as a repetition.

        `opened` is the time at which the journal was opened, by the monotonic clock.
        `store_session` stores the number of a new session.
        """
        self._run: Final = run.number
        self._window: Final = window
        self._opened: Final = opened
        self._store_session: Final = store_session
        self._sessions = {0: run.session}
        self._fresh = run.fresh
        self._packets = set(run.packets)
        """Packet ids that the table `packets` may have."""
        self._recent: dict[bytes | None, float] = {}
        """Time at which an order of each id came last, the oldest first."""

    def note(self, origin: Origin, id: bytes | None, clock: float, *, has_key: bool) -> Way:
        """Note an order that comes now, by the monotonic clock, and return its way."""
        place, fresh = (self._run, origin.connection), self._fresh
        packet_is_known = origin.packet_id in self._packets
        if not origin.duplicate:
            self._fresh = max(fresh, place)
        if not has_key and origin.packet_id is not None:
            self._packets.add(origin.packet_id)
        recent = self._recent
        recent.pop(id, None)
        recent[id] = clock  # the oldest is the first
        while clock - recent[oldest := next(iter(recent))] > self._window:
            del recent[oldest]
        return Way(place, fresh, self.session_of(origin.session_start), packet_is_known)

    def session_of(self, session_start: int) -> int:
        """Return the number of a session, and store it if it is new."""
        known = self._sessions.get(session_start)
        if known is not None:
            return known
        session = self._sessions[session_start] = max(self._sessions.values()) + 1
        self._store_session(session)
        return session

    def may_come_again(self, id: bytes | None, clock: float) -> bool:
        """Return whether an order of an id may have come within the window.

        An order of the run before may have, too, if the journal was just opened.
        """
        just_opened = clock - self._opened < self._window
        return just_opened or clock - self._recent.get(id, -self._window) < self._window
