"""The filters that the client requests from the broker, and futures of the answers."""

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Final

from fastlib.transport.errors import RefusedError, reason

from .disjoint_filters import DisjointFilters

log = logging.getLogger("fastlib.transport")

MAX_FILTERS: Final = 100
"""The maximum number of filters in one packet."""

PACKET_TOO_LARGE = 0x95

ENDS_IN_A_ROW = 2
"""The number of ends while only a SUBSCRIBE was being sent, after which packets get smaller."""


class BrokerSubscriptions:
    """Sends SUBSCRIBE and UNSUBSCRIBE. Only for the network thread."""

    def __init__(
        self,
        subscribe: Callable[[list[tuple[str, int]]], int],
        unsubscribe: Callable[[list[str]], None],
        size_of: Callable[[Sequence[str]], int] = lambda filters: 0,
    ) -> None:
        """`subscribe` sends a SUBSCRIBE and returns its packet id. `size_of` returns its size."""
        self._subscribe = subscribe
        self._unsubscribe = unsubscribe
        self._filters = DisjointFilters()
        self._requested: dict[int, list[str | None]] = {}
        """The filters of each SUBSCRIBE that has no answer yet; None for one withdrawn since."""
        self._waiting: dict[str, list[tuple[str, Future[None]]]] = {}
        """The subscriptions that wait for each filter, with their futures."""
        self.on_refused: Callable[[str, RefusedError], None] = _ignore
        """Called with a subscription that the broker accepted before and does not renew."""
        self._unneeded: set[str] = set()
        self._max_filters = MAX_FILTERS
        self._max_size: int | None = None
        self._size_of = size_of
        self._ends = 0

    @property
    def unanswered(self) -> list[str]:
        """The filters that were sent on this connection and have no answer yet."""
        return [wide for part in self._requested.values() for wide in part if wide is not None]

    def describe(self) -> str:
        """Describe the filters without an answer; return nothing if there are none."""
        filters = self.unanswered
        more = f" and {len(filters) - 1} more" if len(filters) > 1 else ""
        return f"a subscription to {filters[0]}{more}" if filters else ""

    def connection_ended(self, alone: bool) -> None:
        """Note that the connection ended. Make the packets smaller if their size may be the cause.

        `alone` is True if nothing but a SUBSCRIBE was being sent.
        """
        if not self._requested or not alone:
            self._ends = 0
            return
        self._ends += 1
        if self._ends >= ENDS_IN_A_ROW:
            self._max_filters = max(1, self._max_filters // 4)

    def set_max_size(self, size: int | None) -> None:
        """Set the largest size of a packet in bytes, before `renew`."""
        self._max_size = size

    def add(
        self,
        pattern: str,
        qos: int,
        confirmed: "Future[None]",
        connected: bool,
        *,
        retained: bool = True,
    ) -> None:
        """Request a filter now, or with the next connection.

        Without `retained`, a filter that another one covers already is not requested again.
        """
        before = None if retained else self._filters.filter_of(pattern)
        wide, replaced = self._filters.add(pattern, qos)
        if before == (wide, self._filters.qos(wide)):
            if wide in self._waiting:
                self._waiting[wide].append((pattern, confirmed))
            elif confirmed.set_running_or_notify_cancel():
                confirmed.set_result(None)
            return
        waiting = self._waiting.setdefault(wide, [])
        for other in replaced:
            waiting += self._waiting.pop(other, [])
        waiting.append((pattern, confirmed))
        if connected:
            # The new filter first: a message may arrive twice for a moment, but none is missed.
            self._request([wide])
            if replaced:
                self._withdraw(replaced)
        else:
            self._unneeded |= set(replaced)

    def remove(self, pattern: str, connected: bool) -> None:
        """Withdraw a filter now, or with the next connection."""
        wanted, unneeded = self._filters.remove(pattern)
        if connected:
            if wanted:
                self._request(wanted)
            if unneeded:
                self._withdraw(unneeded)
        else:
            self._unneeded |= set(unneeded)
        for wide in unneeded:
            for waiting, future in self._waiting.pop(wide, []):
                if waiting == pattern or not self._wait_again(waiting, future):
                    future.cancel()

    def _wait_again(self, pattern: str, future: "Future[None]") -> bool:
        """Let a subscription wait for the filter that covers it now. Return False without one."""
        found = self._filters.filter_of(pattern)
        if found is None:
            return False
        self._waiting.setdefault(found[0], []).append((pattern, future))
        return True

    def forget(self, pattern: str, connected: bool) -> None:
        """Withdraw a filter that an earlier program may have left in the broker's session."""
        if pattern in self._filters:
            return
        if connected:
            self._withdraw([pattern])
        else:
            self._unneeded.add(pattern)

    def _withdraw(self, filters: Sequence[str]) -> None:
        """Send an UNSUBSCRIBE. An answer to an earlier SUBSCRIBE does not count for a later one."""
        self._requested = {
            packet_id: [None if wide in filters else wide for wide in requested]
            for packet_id, requested in self._requested.items()
        }
        for part in self._parts(filters):
            self._unsubscribe(part)

    def renew(self) -> None:
        """Request all filters on a new connection: the broker may have lost some or all."""
        self._requested.clear()
        unneeded = [wide for wide in self._unneeded if wide not in self._filters]
        for part in self._parts(unneeded):
            self._unsubscribe(part)
        self._unneeded.clear()
        self._request(list(self._filters.filters()))

    def _request(self, filters: Sequence[str]) -> None:
        for part in self._parts(filters):
            packet_id = self._subscribe([(wide, self._filters.qos(wide)) for wide in part])
            self._requested[packet_id] = [*part]

    def _parts(self, filters: Sequence[str]) -> Iterator[list[str]]:
        """Divide filters into those of one packet each."""
        part: list[str] = []
        for wide in filters:
            if self._max_size is not None and self._size_of([wide]) > self._max_size:
                why = f"the broker takes packets of at most {self._max_size} bytes"
                text = f"the subscription to {wide[:200]!r} is too large: {why}"
                self._refuse(wide, RefusedError(text, PACKET_TOO_LARGE))
                continue
            too_large = self._max_size is not None and self._size_of([*part, wide]) > self._max_size
            if part and (len(part) == self._max_filters or too_large):
                yield part
                part = []
            part.append(wide)
        if part:
            yield part

    def on_suback(self, packet_id: int, codes: Sequence[int], said: object = "") -> bool:
        """Handle the broker's answer: one code for each filter; 0x80 and more is a refusal.

        `said` is the broker's reason string. Return False if the number of codes is wrong.
        """
        requested = self._requested.pop(packet_id, None)
        if requested is None:
            return True
        if len(codes) != len(requested):
            return False
        for wide, code in zip(requested, codes, strict=True):
            if wide is None:
                continue
            if code < 0x80:
                self._accept(wide)
                continue
            why = f"the broker refuses the subscription to {wide!r}: {reason(code, said)}"
            self._refuse(wide, RefusedError(why, code))
        return True

    def _accept(self, wide: str) -> None:
        for _, future in self._waiting.pop(wide, []):
            if future.set_running_or_notify_cancel():
                future.set_result(None)
        if self._filters.is_apart(wide):
            wanted, unneeded = self._filters.accept(wide)
            if wanted:
                self._request(wanted)
            if unneeded:
                self._withdraw(unneeded)

    def _refuse(self, wide: str, error: RefusedError) -> None:
        """Fail the futures of a filter, and request the filters that it was to cover separately."""
        known = self._filters.is_apart(wide)
        narrower = self._filters.refuse(wide)
        waiting = self._waiting.pop(wide, [])
        log.log(logging.DEBUG if known else logging.ERROR, "%s", error)
        lost = self._filters.is_apart(wide) and not known
        for pattern, future in waiting:
            lost = lost and pattern != wide
            if pattern != wide and self._wait_again(pattern, future):
                continue
            if future.set_running_or_notify_cancel():
                future.set_exception(error)
        if narrower:
            self._request(narrower)
        if lost:
            self.on_refused(wide, error)

    def fail(self, error: Exception) -> None:
        """Fail all futures: no more answers will arrive."""
        for waiting in self._waiting.values():
            for _, future in waiting:
                if future.set_running_or_notify_cancel():
                    future.set_exception(error)
        self._waiting.clear()


def _ignore(pattern: str, error: RefusedError) -> None:
    """Do nothing: there is no listener."""
