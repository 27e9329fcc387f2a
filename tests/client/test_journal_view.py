"""Tests of the conclusions about one order from a daemon's report of its history."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fastlib import HistoryReport, OrderEvent, OrderReport, Suspend, TaskContainer
from fastlib.client.journal_view import journal_view
from fastlib.client.request import PendingRequest
from fastlib.clock import Clock

SENT = datetime(2026, 1, 1, 12, tzinfo=UTC)
EXPIRES = SENT + timedelta(seconds=10)
NOW = SENT + timedelta(seconds=11)
DAEMON_AHEAD = timedelta(hours=1)
"""Its clock must not matter."""


class SentClock(Clock):
    def now(self) -> float:
        return SENT.timestamp()


def request(*, sent_before: bool = False) -> PendingRequest:
    container = TaskContainer(
        tasks=[Suspend(vm_name="vm1")], id="1", expires=EXPIRES, idempotency_key="key"
    )
    return PendingRequest("hostA", container, 10, SentClock(), sent_before=sent_before)


def report(age: timedelta, *orders: OrderReport) -> HistoryReport:
    """Return a report of a journal of that age."""
    time = NOW + DAEMON_AHEAD
    return HistoryReport(host="hostA", since=time - age, time=time, orders=orders)


def order(*events: tuple[str, str | None], **more: Any) -> OrderReport:
    listed = [OrderEvent(time=NOW, event=kind, details=details) for kind, details in events]
    accepted = {"accepted": NOW + DAEMON_AHEAD}
    return OrderReport(
        number=1, task="suspend vm", state="ended", events=listed, **(accepted | more)
    )


@pytest.mark.parametrize(("seconds", "complete"), [(12, True), (11, False), (1, False)])
def test_journal_older_than_the_order_would_have_it(seconds: int, complete: bool) -> None:
    view = journal_view(request(), report(timedelta(seconds=seconds)), NOW)
    assert (view.began, view.expires, view.complete) == (None, EXPIRES, complete)
    assert view.time == NOW + DAEMON_AHEAD


def test_earlier_order_with_the_key_may_be_forgotten() -> None:
    known = report(timedelta(days=1))
    assert not journal_view(request(sent_before=True), known, NOW).complete


@pytest.mark.parametrize(("age", "complete"), [(0, True), (1, True), (-1, False)])
def test_order_from_before_the_journal_was_complete_may_have_begun(
    age: int, complete: bool
) -> None:
    """The journal was replaced by an older copy, in which the order had not begun yet."""
    accepted = NOW + DAEMON_AHEAD + timedelta(seconds=age)
    view = journal_view(request(), report(timedelta(0), order(accepted=accepted)), NOW)
    assert view.complete is complete


def test_expiry_of_the_order_in_the_journal_counts() -> None:
    later = EXPIRES + timedelta(days=1)
    view = journal_view(request(), report(timedelta(0), order(expires=later)), NOW)
    assert (view.expires, view.complete) == (later, True)
    assert journal_view(request(), report(timedelta(0), order()), NOW).expires is None


def test_begin_in_the_journal_is_the_begin() -> None:
    view = journal_view(request(), report(timedelta(0), order(began=SENT)), NOW)
    assert view.began == SENT


@pytest.mark.parametrize(
    ("event", "complete"),
    [
        (("accepted", None), True),
        (("expired", None), True),
        (("ended", "error"), True),
        (("phase", "queued, place 2"), True),
        (("phase", "memory"), False),
        (("retry", None), False),
        (("recovered", "the daemon determines its state"), True),  # it waited when its daemon ended
    ],
)
def test_order_that_seems_to_have_acted_is_not_excluded(
    event: tuple[str, str | None], complete: bool
) -> None:
    view = journal_view(request(), report(timedelta(0), order(("accepted", None), event)), NOW)
    assert view.complete == complete


def test_order_with_events_left_out_is_not_excluded() -> None:
    view = journal_view(request(), report(timedelta(0), order(events_left_out=3)), NOW)
    assert not view.complete
