"""Describe the history of an order in words, then its events with their times.

All times are by the clock of the order's daemon. They are shown in the local time zone.
"""

from collections.abc import Callable, Iterator, Sequence, Set
from datetime import datetime
from typing import Final

import msgspec

from fastlib.codec.errors import MessageError
from fastlib.display.message_text import NO_DOMAIN
from fastlib.display.text import age, join_names, plural, printable
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

from .terminal import columns, wrap

MAX_ERRORS: Final = 5
"""The maximum number of errors of one order in a short description."""
KIND_WIDTH: Final = 12
"""The maximum width of an event's kind that has its own column."""
INDENT: Final = "  "
ENDS: Final = ("ended", "expired")
"""Kinds of events whose text repeats the reason of the result."""

Paint = Callable[[str, str], str]


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


# --- in words -------------------------------------------------------------------------------------


def headline(order: OrderReport, place: Place) -> str:
    """Return the state of an order in one sentence without control characters."""
    return printable(f"{_subject(order, place)} {_fate(order, place)}")


def style_of(order: OrderReport, place: Place) -> str:
    """Return the style of the headline."""
    status = _status(order, place)
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


def _fate(order: OrderReport, place: Place) -> str:
    if order.state == "ended":
        return _end(order, place)
    if order.state == "queued":
        return f"has not begun; accepted {_when(order.accepted, place)}{_expiry(order, place)}"
    if order.state in ("running", "cancelling"):
        ends = "is being cancelled" if order.state == "cancelling" else "is under way"
        if order.began is None:
            begun = " not begun," if order.begin_is_known else ""
            return f"{ends};{begun} accepted {_when(order.accepted, place)}{_last(order)}"
        return f"{ends}, begun {_when(order.began, place)}{_last(order)}"
    return f"is {order.state}, accepted {_when(order.accepted, place)}"


def _end(order: OrderReport, place: Place) -> str:
    at = "" if order.answered is None else f" {_when(order.answered, place)}"
    status = _status(order, place)
    if status is None:
        return f"ended{at}; its results are not known"
    if status == "success":
        return f"succeeded{at}"
    if order.began is None and order.begin_is_known:
        expired = any(event.event == "expired" for event in order.events)
        why = ", because it had expired; it" if expired else "; it"
        return f"was not begun{why} was answered with an error{at}"
    errors = sum(result.status == "error" for result in order.results)
    if place.focus is None and not order.results_left_out and errors < len(order.results):
        return f"failed in part{at}: {errors} of {plural(len(order.results), 'result')} are errors"
    return f"failed{at}"


def _status(order: OrderReport, place: Place) -> str | None:
    """Return the status of the queried domain, or else that of the order."""
    own = [result.status for result in order.results if result.vm_name == place.focus]
    if place.focus is None or not own:
        return order.status
    return "error" if "error" in own else "success"


def _expiry(order: OrderReport, place: Place) -> str:
    if order.expires is None:
        return ""
    if order.expires <= place.now:
        return f", and cannot begin any more, as it expired {_when(order.expires, place)}"
    return f", expires at {_clock(order.expires, place)}"


def _last(order: OrderReport) -> str:
    """Return the last phase or retry of an order in progress."""
    for event in reversed(order.events):
        if event.event in ("phase", "retry", "recovered") and event.details:
            return f"; last report: {event.details}"
    return ""


# --- times ----------------------------------------------------------------------------------------


def zone(time: datetime) -> str:
    """Return the offset of the local time zone at a time, such as `UTC+01:00`."""
    offset = time.astimezone().strftime("%z")
    return f"UTC{offset[:3]}:{offset[3:5]}"


def full_time(time: datetime) -> str:
    """Return a time in the local zone, with the zone."""
    return f"{time.astimezone():%Y-%m-%d %H:%M:%S} {zone(time)}"


def _clock(time: datetime, place: Place) -> str:
    """Return a time of the day, with the day if it is not today."""
    local = time.astimezone()
    today = place.now.astimezone().date() == local.date()
    return f"{local:%H:%M:%S}" if today else f"{local:%Y-%m-%d %H:%M:%S}"


def _when(time: datetime, place: Place) -> str:
    """Return for example `at 10:15:01 (2 min ago)`."""
    seconds = (place.now - time).total_seconds()
    ago = f" ({age(seconds)} ago)" if seconds >= 0 else ""
    return f"at {_clock(time, place)}{ago}"


# --- in lines -------------------------------------------------------------------------------------


def story(
    order: OrderReport, place: Place, *, width: int, paint: Paint, full: bool
) -> Iterator[str]:
    """Yield an order in lines: the headline, its errors, its facts, and its events.

    With `full`, also all errors and the text of the order.
    """
    yield from (paint(line, style_of(order, place)) for line in wrap(headline(order, place), width))
    yield from _result_lines(order, place, width, full=full)
    if order.state == "ended" and order.confirmed is None:
        yield from _indented("the broker has not confirmed the answer yet", width)
    yield from _indented(_facts(order, place, full=full), width)
    yield from _event_lines(order, place, width, _told(order, place, full=full))
    if full and order.text is not None:
        yield f"{INDENT}text of the order:"
        for line in order.text.splitlines():
            yield from _indented(printable(line.expandtabs(4)), width, first=f"{INDENT}  ")


def brief(order: OrderReport, place: Place, *, width: int) -> Iterator[str]:
    """Yield an order in one sentence, with its time and its id."""
    id = "" if order.id is None else f"; id {order.id}"
    yield from _indented(printable(f"{headline(order, place)}{id}"), width, hanging="    ")


def _shown(order: OrderReport, place: Place) -> list[Result]:
    shown = [result for result in order.results if place.focus in (None, result.vm_name)]
    return shown or list(order.results)


def _telling(order: OrderReport, place: Place) -> list[Result]:
    """Return the results that have a line."""
    shown = _shown(order, place)
    return [result for result in shown if result.status == "error" or _says_more(result, shown)]


def _told(order: OrderReport, place: Place, *, full: bool) -> Set[str]:
    """Return the reasons that a line of a result has."""
    cut = _telling(order, place)[: None if full else MAX_ERRORS]
    return {result.details for result in cut if result.details}


def _result_lines(order: OrderReport, place: Place, width: int, *, full: bool) -> Iterator[str]:
    shown, telling = _shown(order, place), _telling(order, place)
    cut = telling[: None if full else MAX_ERRORS]
    for result in cut:
        name = "" if len(shown) == 1 or result.vm_name in NO_DOMAIN else f"{result.vm_name}: "
        details = f": {result.details}" if result.details else ""
        yield from _indented(printable(f"{name}{result.status}{details}"), width)
    if len(cut) < len(telling):
        yield f"{INDENT}and {plural(len(telling) - len(cut), 'more error')}: see --full"


def _says_more(result: Result, shown: Sequence[Result]) -> bool:
    """Return True if a success gets a line: it is the only result, and it has details."""
    return len(shown) == 1 and bool(result.details)


def _facts(order: OrderReport, place: Place, *, full: bool) -> str:
    facts = [f"id {order.id}" if order.id is not None else "no id", f"order {order.number}"]
    if order.expires is not None and (order.began is None or full):
        facts.append(f"expires {_clock(order.expires, place)}")
    if order.idempotency_key is not None and full:
        facts.append(f"key {order.idempotency_key}")
    return printable(", ".join(facts))


def _event_lines(order: OrderReport, place: Place, width: int, reasons: Set[str]) -> Iterator[str]:
    """Yield the events, without the reasons that a line of a result has."""
    several = len(order.vm_names) > 1
    kinds = [printable(event.event) for event in order.events]
    kind_width = max((columns(kind) for kind in kinds if columns(kind) <= KIND_WIDTH), default=0)
    day = ""
    for event, kind in zip(order.events, kinds, strict=True):
        local = event.time.astimezone()
        if f"{local:%Y-%m-%d %z}" != day:
            day = f"{local:%Y-%m-%d %z}"
            yield f"{INDENT}{local:%Y-%m-%d} ({zone(event.time)})"
        stamp = f"{local:%H:%M:%S}.{local.microsecond // 1000:03}"
        text = printable(_event_text(event, several, place, reasons))
        if columns(kind) <= KIND_WIDTH:
            padded = f"{kind}{' ' * (kind_width - columns(kind))}"
            yield from _indented(text, width, first=f"{INDENT}{stamp}  {padded}  ")
        else:
            yield from _indented(f"{kind}  {text}", width, first=f"{INDENT}{stamp}  ")
    if order.events_left_out:
        text = f"{plural(order.events_left_out, 'event')} left out"
        yield f"{INDENT}{text}{', also of other domains' if place.focus is not None else ''}"


def _event_text(event: OrderEvent, several: bool, place: Place, reasons: Set[str]) -> str:
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


def _indented(
    text: str, width: int, *, first: str = INDENT, hanging: str | None = None
) -> Iterator[str]:
    """Yield a text in lines: the first after `first`, the others below it or after `hanging`."""
    rest = " " * columns(first) if hanging is None else hanging
    room = max(width - max(columns(first), columns(rest)), 20)
    for number, line in enumerate(wrap(text, room)):
        yield f"{rest if number else first}{line}".rstrip()
