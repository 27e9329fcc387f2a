"""Requests without a result in time: find out the state of their orders, and fail them."""

from collections.abc import Callable, Iterable
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from fastlib.clock import Clock
from fastlib.message import HistoryResult, ResultContainer

from . import task_requests
from .journal_view import journal_view
from .no_result import no_result
from .outcome import Evidence, outcome_of, seconds_to_wait, worth_asking, worth_looking
from .pending_requests import PendingRequests
from .presences import Presences
from .request import PendingRequest
from .task_requests import TaskRequest

MAX_QUESTIONS: Final = 2
"""Once when a request's timeout has passed, and once when its order can no longer begin."""

LOOK_SECONDS: Final = 2.0
"""Seconds for which a client waits until the broker has sent a presence again."""

LOOKS_SECONDS: Final = 60.0
"""Seconds after which a request fails although the presence was not requested again yet."""


class Unclear(NamedTuple):
    """Requests whose timeout has passed, and about which more can be found out."""

    questions: list[PendingRequest]
    """Those about which their daemons are queried: see `UnansweredRequests.question_about`."""
    looks: dict[str, list[PendingRequest]]
    """By host, those whose daemon is offline, if the broker confirms that."""


class UnansweredRequests:
    """Collects the evidence about orders without a result. `outcome.py` decides from it."""

    def __init__(
        self,
        pending: PendingRequests,
        presences: Presences,
        *,
        is_connected: Callable[[], bool],
        tolerance: float,
        clock: Clock,
    ) -> None:
        """`tolerance` is the seconds by which this clock and those of the daemons may differ."""
        self._pending = pending
        self._presences = presences
        self._is_connected = is_connected
        self._tolerance = tolerance
        self._clock = clock

    def expire(self) -> Unclear:
        """Fail the requests whose timeout has passed. Return those with more to find out."""
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

        for request in self._pending.pop_expired(seconds_longer):
            self._fail_without_result(request)
        return unclear

    def fail(self, request: PendingRequest) -> None:
        """Fail a request with the facts about its order, unless it has ended."""
        if self._pending.remove(request):
            self._fail_without_result(request)

    def on_look(self, requests: Iterable[PendingRequest]) -> None:
        """Handle the presence that the broker has sent again, in order with all others."""
        for request in requests:
            request.heard = self._is_away(request)
            self.fail(request)

    def look_failed(self, requests: Iterable[PendingRequest]) -> None:
        """Note that the broker has not sent the presence of a host again in time."""
        self._presences.not_heard()
        for request in requests:
            self.fail(request)

    def question_about(self, request: PendingRequest) -> TaskRequest[HistoryResult]:
        """Return the query for an order in a daemon's journal."""
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
        request.journal = journal_view(request, report, self._now())
        certain = self._certain_time(request)
        more_comes = seconds_to_wait(self._evidence(request), certain) > 0
        if not more_comes:
            self.fail(request)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now(), UTC)

    def _certain_time(self, request: PendingRequest) -> datetime:
        """Return a lower bound of the current time, even if the clock jumped since the sending."""
        passed = timedelta(seconds=self._clock.monotonic() - request.monotonic)
        return min(self._now(), request.sent + passed)

    def _fail_without_result(self, request: PendingRequest) -> None:
        outcome = outcome_of(self._evidence(request), self._certain_time(request))
        request.future.set_exception(
            no_result(
                request,
                outcome,
                self._presences.state(request.host),
                has_journal=self._presences.knows_expires(request.host),
                is_connected=self._is_connected(),
            )
        )

    def _is_away(self, request: PendingRequest) -> bool:
        """Return True if the host's daemon was continuously offline since before the sending."""
        known = self._presences.of(request.host)
        return (
            request.absence is not None
            and known is not None
            and known.absence is request.absence
            and self._is_connected()
        )

    def _evidence(self, request: PendingRequest) -> Evidence:
        presence = self._presences.last(request.host)
        return Evidence(
            expires=request.expires,
            only_asks=request.only_asks,
            withdrawn=request.withdrawn,
            sent_before=request.sent_before,
            phase=None if request.progress is None else request.progress.phase,
            status=None if presence is None else presence.status,
            away=self._is_away(request),
            heard=request.heard,
            knows_expires=self._presences.knows_expires(request.host),
            confirmed=request.delivered,
            journal=request.journal,
            tolerance=self._tolerance,
        )
