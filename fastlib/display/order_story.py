"""Describe the history of an order in words, for terminals and for the dashboard.

All times are by the clock of the order's daemon. A sentence has them as times: a terminal shows
them in its own time zone, and a page in that of its reader.
"""

from collections.abc import Iterator, Sequence, Set
from datetime import datetime
from typing import Final, TypeAlias

import msgspec

from fastlib.codec.errors import MessageError
from fastlib.message import (
    Evacuate,
    Migrate,
    OrderEvent,
    OrderReport,
    Result,
    Stop,
    Task,
    TaskContainer,
)

from .message_text import NO_DOMAIN
from .text import age, join_names, local_clock, plural, printable

MAX_ERRORS: Final = 5
"""The maximum number of errors of one order in a short description."""
ENDS: Final = ("ended", "expired")
"""Kinds of events whose text repeats the reason of the result."""

Sentence: TypeAlias = Iterator[str | datetime]
"""Texts and times, which make a sentence together."""


class Place(msgspec.Struct, frozen=True):
    """The point of view on an order."""

    host: str
    """The host whose daemon reports it."""
    now: datetime
    """The time of that daemon's clock."""
    focus: str | None = None
    """The domain of the query; None if it was for the order itself."""


def focus_of(order: OrderReport, name: str | None) -> str | None:
    """Return the domain of the query; None if its name is the order's own or not a domain's."""
    if name is None or name in (order.id, order.idempotency_key) or name not in order.vm_names:
        return None
    return name


# --- the headline ---------------------------------------------------------------------------------


def headline(order: OrderReport, place: Place) -> str:
    """Return the state of an order in one sentence without control characters."""
    parts = headline_parts(order, place)
    text = (part if isinstance(part, str) else clock(part, place) for part in parts)
    return printable("".join(text))


def headline_parts(order: OrderReport, place: Place) -> Sentence:
    """Yield the texts and the times of `headline`. The texts may have control characters."""
    yield f"{_subject(order, place)} "
    yield from _fate(order, place)


def clock(time: datetime, place: Place) -> str:
    """Return a local time of the day, with the day if that is not today."""
    return local_clock(time, place.now)


def style_of(order: OrderReport, place: Place) -> str:
    """Return the style of the headline."""
    status = status_of(order, place)
    return {"success": "mark", "error": "error"}.get(status or "", "bold")


def _subject(order: OrderReport, place: Place) -> str:
    names = [name for name in order.vm_names if name not in NO_DOMAIN]
    number = len(names) + (order.vm_names_left_out or 0)
    if place.focus is not None:
        others = f" ({plural(number, 'domain')})" if number > 1 else ""
        of = f" of {place.focus}{others}"
    elif order.vm_names_left_out:
        of = f" of {', '.join(names[:3])} and {number - 3} more"
    else:
        of = f" of {join_names(names)}" if names else ""
    sent_to = f" (sent to {order.host})" if order.host not in (None, place.host) else ""
    tasks = _tasks(order)
    what = f"'{order.task or 'unknown task'}'{of}{_regexes(tasks)}"
    return f"{what} on {place.host}{sent_to}{_destination(tasks)}"


def _tasks(order: OrderReport) -> Sequence[Task]:
    """Return the tasks of an order, if its text is complete."""
    try:
        return TaskContainer.from_yaml(order.text or "").tasks
    except MessageError:  # it was cut or is of another version
        return ()


def _regexes(tasks: Sequence[Task]) -> str:
    """Return the regular expressions of the domains to stop."""
    found = [repr(task.regex) for task in tasks if isinstance(task, Stop) and task.regex]
    return f" by the regex {join_names(found)}" if found else ""


def _destination(tasks: Sequence[Task]) -> str:
    """Return the destination of domains."""
    task = next(iter(tasks), None)
    if isinstance(task, Migrate):
        return f" to {task.destination}"
    return f" to {join_names(task.destinations)}" if isinstance(task, Evacuate) else ""


def _fate(order: OrderReport, place: Place) -> Sentence:
    if order.state == "ended":
        yield from _end(order, place)
        return
    if order.state == "queued":
        yield "has not begun; accepted "
        yield from _when(order.accepted, place)
        yield from _expiry(order, place)
    elif order.state in ("running", "cancelling"):
        running = "is in progress" if order.began is None else "is running"
        yield "is being cancelled" if order.state == "cancelling" else running
        if order.began is None:
            yield f";{' not begun,' if order.begin_is_known else ''} accepted "
            yield from _when(order.accepted, place)
        else:
            yield ", begun "
            yield from _when(order.began, place)
        yield _last(order)
    else:
        yield f"is {order.state}, accepted "
        yield from _when(order.accepted, place)


def _end(order: OrderReport, place: Place) -> Sentence:
    status = status_of(order, place)
    errors = sum(result.status == "error" for result in order.results)
    rest = ""
    if status is None:
        yield "ended"
        rest = "; its results are not known"
    elif status == "success":
        yield "succeeded"
    elif order.began is None and order.begin_is_known:
        expired = any(event.event == "expired" for event in order.events)
        why = ", because it had expired; it" if expired else "; it"
        yield f"was not begun{why} was answered with an error"
    elif place.focus is None and not order.results_left_out and errors < len(order.results):
        yield "failed in part"
        rest = f": {errors} of {plural(len(order.results), 'result')} are errors"
    else:
        yield "failed"
    if order.answered is not None:
        yield " "
        yield from _when(order.answered, place)
    yield rest


def status_of(order: OrderReport, place: Place) -> str | None:
    """Return the status of the queried domain, or else that of the order."""
    own = [result.status for result in order.results if result.vm_name == place.focus]
    if place.focus is None or not own:
        return order.status
    return "error" if "error" in own else "success"


def _expiry(order: OrderReport, place: Place) -> Sentence:
    if order.expires is None:
        return
    if order.expires <= place.now:
        yield ", and cannot begin, because it expired "
        yield from _when(order.expires, place)
    else:
        yield ", expires at "
        yield order.expires


def _last(order: OrderReport) -> str:
    """Return the last phase or retry of an order in progress."""
    for event in reversed(order.events):
        if event.event in ("phase", "retry", "recovered") and event.details:
            return f"; last report: {event.details}"
    return ""


def _when(time: datetime, place: Place) -> Sentence:
    """Yield for example `at `, the time, and ` (2 min ago)`."""
    yield "at "
    yield time
    seconds = (place.now - time).total_seconds()
    if seconds >= 0:
        yield f" ({age(seconds)} ago)"


# --- results and events ---------------------------------------------------------------------------


def result_texts(order: OrderReport, place: Place) -> list[str]:
    """Return a line for each error, and for the only result if it has details."""
    shown = _shown(order, place)
    return [printable(_result_text(result, shown)) for result in _telling(order, place)]


def _result_text(result: Result, shown: Sequence[Result]) -> str:
    name = "" if len(shown) == 1 or result.vm_name in NO_DOMAIN else f"{result.vm_name}: "
    details = f": {result.details}" if result.details else ""
    return f"{name}{result.status}{details}"


def _shown(order: OrderReport, place: Place) -> list[Result]:
    shown = [result for result in order.results if place.focus in (None, result.vm_name)]
    return shown or list(order.results)


def _telling(order: OrderReport, place: Place) -> list[Result]:
    """Return the results that have a line."""
    shown = _shown(order, place)
    return [result for result in shown if result.status == "error" or _says_more(result, shown)]


def _says_more(result: Result, shown: Sequence[Result]) -> bool:
    """Return True if a success gets a line: it is the only result, and it has details."""
    return len(shown) == 1 and bool(result.details)


def told_reasons(order: OrderReport, place: Place, *, full: bool = False) -> Set[str]:
    """Return the reasons that a line of `result_texts` has; without `full`, of the first ones."""
    cut = _telling(order, place)[: None if full else MAX_ERRORS]
    return {result.details for result in cut if result.details}


def event_text(event: OrderEvent, place: Place, reasons: Set[str], *, several: bool) -> str:
    """Return the text of an event, without the reason of an end that a result has."""
    name = event.vm_name if several and event.vm_name != place.focus else None
    details = event.details or ""
    start, colon, reason = details.partition(": ")
    if event.event in ENDS and colon and _is_told(reason, reasons):
        details = start
    return ": ".join(part for part in (name, details) if part)


def _is_told(reason: str, reasons: Set[str]) -> bool:
    """Return True if one of the reasons begins with it: an event cuts long reasons."""
    return any(told.startswith(reason.removesuffix("…")) for told in reasons)
