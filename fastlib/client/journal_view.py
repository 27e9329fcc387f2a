"""Extract the facts about one order from a daemon's history report. No I/O."""

from datetime import datetime
from typing import Final

from fastlib.message import HistoryReport, OrderReport

from .outcome import QUEUED, JournalView
from .request import PendingRequest

_ACTS: Final = frozenset({"phase", "retry"})
"""Kinds of events that occur only after an order has begun, even if the journal lacks its begin."""


def journal_view(request: PendingRequest, report: HistoryReport, now: datetime) -> JournalView:
    """Return the facts about the order of a request from a report that arrived at `now`."""
    order = next(iter(report.orders), None)
    if order is None:
        # Both times of the report are of the daemon's clock, which may differ from this one.
        covers = report.time - report.since > now - request.sent
        complete = covers and not request.sent_before
        return JournalView(time=report.time, began=None, expires=request.expires, complete=complete)
    return JournalView(
        time=report.time,
        began=order.began,
        expires=order.expires,
        complete=(
            order.begin_is_known
            and not _may_have_acted(order)
            and order.accepted >= report.since  # otherwise the journal may be an older copy
        ),
    )


def _may_have_acted(order: OrderReport) -> bool:
    """Return True if an order without a begin has events of one that has begun."""
    return bool(order.events_left_out) or any(
        event.event in _ACTS and not (event.details or "").startswith(QUEUED)
        for event in order.events
    )
