"""Which filters the broker has been asked for, and who waits for its answer."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from logging import getLogger

from fastlib.transport.errors import RefusedError, reason

from .filter_cover import Cover

log = getLogger("fastlib.transport")

AT_ONCE = 100
"""Filters in one packet at most."""


class Subscribing:
    """For the network's thread. `ask` sends a SUBSCRIBE and returns its packet number."""

    def __init__(
        self,
        ask: Callable[[list[tuple[str, int]]], int],
        give_up: Callable[[list[str]], None],
    ) -> None:
        """`give_up` sends an UNSUBSCRIBE."""
        self._ask = ask
        self._give_up = give_up
        self._cover = Cover()
        self._asked: dict[int, list[str]] = {}
        self._waiting: dict[str, list[Future[None]]] = {}
        self._unneeded: set[str] = set()

    def add(self, pattern: str, qos: int, confirmed: "Future[None]", connected: bool) -> None:
        """Ask for a filter now, or with the next connection."""
        around, replaced = self._cover.add(pattern, qos)
        waiting = self._waiting.setdefault(around, [])
        for other in replaced:
            waiting += self._waiting.pop(other, [])
        waiting.append(confirmed)
        if connected:
            # The new one first: for a moment a message may come twice, but none is missed.
            self._send([around])
            if replaced:
                self._give_up(replaced)
        else:
            self._unneeded |= set(replaced)

    def remove(self, pattern: str, connected: bool) -> None:
        """No longer ask for it, now or with the next connection."""
        wanted, unneeded = self._cover.remove(pattern)
        if connected:
            if wanted:
                self._send(wanted)
            if unneeded:
                self._give_up(unneeded)
        else:
            self._unneeded |= set(unneeded)
        for around in unneeded:
            for future in self._waiting.pop(around, []):
                future.cancel()

    def connected(self) -> None:
        """Ask for everything anew: the broker may have lost the session, or part of it."""
        self._asked.clear()
        unneeded = [around for around in self._unneeded if around not in self._cover]
        if unneeded:
            self._give_up(unneeded)
        self._unneeded.clear()
        self._send(list(self._cover.filters()))

    def _send(self, filters: Sequence[str]) -> None:
        for start in range(0, len(filters), AT_ONCE):
            part = list(filters[start : start + AT_ONCE])
            self._asked[self._ask([(around, self._cover.qos(around)) for around in part])] = part

    def answered(self, mid: int, codes: Iterable[int]) -> None:
        """The broker's SUBACK: a code for each filter, from 0x80 on a refusal."""
        for around, code in zip(self._asked.pop(mid, []), codes, strict=False):
            waiting = self._waiting.pop(around, [])
            if code < 0x80:
                for future in waiting:
                    if future.set_running_or_notify_cancel():
                        future.set_result(None)
                continue
            log.error("the broker refuses the subscription to %r: %s", around, reason(code))
            for future in waiting:
                if future.set_running_or_notify_cancel():
                    text = f"the broker refuses the subscription to {around!r}: {reason(code)}"
                    future.set_exception(RefusedError(text, code))

    def fail(self, error: Exception) -> None:
        """Nobody will answer any more."""
        for waiting in self._waiting.values():
            for future in waiting:
                if future.set_running_or_notify_cancel():
                    future.set_exception(error)
        self._waiting.clear()
