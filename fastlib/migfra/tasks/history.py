"""Answers `query history`: from the journal's records to a report of bounded size."""

import asyncio
import re
from collections.abc import Awaitable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

import msgspec

from fastlib.clock import Clock
from fastlib.codec.errors import MessageError
from fastlib.codec.writer import write_tree
from fastlib.message import (
    HistoryReport,
    HistoryResult,
    OrderEvent,
    OrderReport,
    QueryHistory,
    Result,
    ResultContainer,
    Status,
    Task,
)
from fastlib.message.task import declaration_of_result
from fastlib.migfra.errors import HypervisorError, JournalError
from fastlib.migfra.journal.records import Event, Record
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.plugin_api.domain_results import sound

from .decoding import Unreadable, read
from .jobs import Job
from .results import NO_DOMAIN, domains_of, vm_name_of

DEFAULT_ORDERS: Final = 20
"""Orders in a report if the query has no `limit`."""
MAX_ORDERS: Final = 1000
"""Maximum number of orders in a report."""
MAX_EVENTS: Final = 500
"""Maximum number of events of one order in a report."""
FIRST_EVENTS: Final = 50
"""Number of first events among them; the others are the last ones of the order."""
MAX_RESULTS: Final = 100
"""Maximum number of results of one order in a report."""
MAX_NAMES: Final = 100
"""Maximum number of domains that a report names of one order."""
MAX_DETAILS: Final = 1000
"""Maximum number of characters of an event's or a result's details."""
MAX_TEXT: Final = 2000
"""Maximum number of characters of an order's text."""
MAX_REWRITTEN: Final = 1 << 18
"""Maximum number of bytes of an order that is parsed to show its text without XML."""
MAX_CHARACTERS: Final = 1 << 20
"""Characters of a report after which no further order is added."""


class HistorySource(Protocol):
    """The methods of the journal that the history needs."""

    @property
    def began(self) -> float:
        """Time since which the journal has every order, in seconds since 1970 (UTC)."""

    @property
    def last_error(self) -> Exception | None:
        """The error of the last write; a JournalError if the file is lost."""

    def history(
        self,
        id: str | None = None,
        key: str | None = None,
        vm_name: str | None = None,
        limit: int = 100,
        *,
        under_way: bool = False,
    ) -> Awaitable[Sequence[Record]]:
        """Return the newest records that fit, at most `limit`, and one more if there are more.

        With `under_way`, return the oldest ones without an answer.
        """


class History:
    """Answers `query history`."""

    def __init__(self, journal: HistorySource, clock: Clock) -> None:
        self._journal = journal
        self._clock = clock
        self._turn = asyncio.Lock()
        """A report takes some MiB while it is made, so one is made at a time."""

    async def query(self, task: QueryHistory, context: Context, job: Job) -> HistoryResult:
        """Return the orders that fit the task. Raises HypervisorError."""
        async with self._turn:
            return await self._query(task, context)

    async def _query(self, task: QueryHistory, context: Context) -> HistoryResult:
        limit = min(task.limit or DEFAULT_ORDERS, MAX_ORDERS)
        filters: list[dict[str, Any]] = [
            {name: value}
            for name, value in (
                ("id", task.order_id),
                ("key", task.key),
                ("vm_name", task.vm_name),
            )
            if value is not None
        ]
        now = self._clock.now()  # events during the read come after the report
        found: dict[int, Record] = {}
        try:
            for one in filters or [{}]:
                for under_way in (False, True):
                    records = await self._journal.history(**one, limit=limit, under_way=under_way)
                    found.update((record.number, record) for record in records)
        except JournalError as error:  # an answer helps more than an unacknowledged message
            # The error of the lost file explains more than the error of reading another file in its
            # place.
            reason = self._lost() or error
            raise HypervisorError(f"the journal cannot be read: {reason}") from error
        if (lost := self._lost()) is not None:
            raise HypervisorError(f"the journal cannot be read: {lost}") from lost
        # Making a large report takes long, and the loop must not wait for it.
        report = await asyncio.to_thread(
            report_of,
            task,
            found.values(),
            host=context.host,
            since=min(self._journal.began, now),  # the clock may have been fast at that time
            now=now,
            limit=limit,
        )
        return HistoryResult(status="success", history=report)

    def _lost(self) -> JournalError | None:
        """Return why the file is lost: another one in its place has other orders."""
        error = self._journal.last_error
        return error if isinstance(error, JournalError) else None


def report_of(
    task: QueryHistory,
    records: Iterable[Record],
    *,
    host: str,
    since: float,
    now: float,
    limit: int,
) -> HistoryReport:
    """Return the report of records, the newest first, cut to its size.

    It has the `limit` newest orders, and up to `limit` older ones that are running or queued: an
    order that hangs is often the oldest one.
    """
    newest_first = sorted(records, key=lambda record: record.number, reverse=True)
    orders: list[OrderReport] = []
    size = 0
    hanging = [record for record in newest_first[limit:] if record.state == "unanswered"]
    for record in (*newest_first[:limit], *hanging[-limit:]):
        order = order_report(record, focus_of(task, record))
        size += _size(order)
        if orders and size > MAX_CHARACTERS:
            break
        orders.append(order)
    return HistoryReport(
        host=host,
        since=instant(since),
        time=instant(now),
        orders=orders,
        more=True if len(orders) < len(newest_first) else None,
    )


def focus_of(task: QueryHistory, record: Record) -> str | None:
    """Return the domain that the report is about; None for a report of the whole order."""
    by_itself = (task.order_id is not None and task.order_id == record.id) or (
        task.key is not None and task.key == record.key
    )
    return None if by_itself else task.vm_name


def order_report(record: Record, focus: str | None) -> OrderReport:
    """Return the report of one order; with `focus`, without what is about its other domains."""
    if record.task is None:
        record = _completed(record)
    events = [event for event in _named(record) if _is_about(event.vm_name, focus)]
    kept = _cut_events(events)
    results = _results(record.answer)
    shown = [result for result in results or () if _is_about(result.vm_name, focus)] or (
        results or ()
    )
    names = sorted(
        record.vm_names, key=lambda name: name != focus
    )  # stable sort: the focus comes first
    return OrderReport(
        number=record.number,
        id=_optional(record.id),
        idempotency_key=_optional(record.key),
        host=_optional(record.host),
        task=_optional(record.task),
        vm_names=[sound(name) for name in names[:MAX_NAMES]],
        vm_names_left_out=_left_out(names, MAX_NAMES),
        state=_state(record),
        status=_status(results),
        accepted=instant(record.accepted),
        began=_instant(record.began),
        answered=_instant(record.answered),
        confirmed=_instant(record.confirmed),
        expires=_instant(record.expires),
        results=[_brief(result) for result in shown[:MAX_RESULTS]],
        results_left_out=len(results or ()) - len(shown[:MAX_RESULTS]) or None,
        events=[_event_report(event) for event in kept],
        events_left_out=len(record.events) - len(kept) or None,
        text=_text(record.payload),
    )


def instant(seconds: float) -> datetime:
    """Return seconds since 1970 as a time in UTC, the nearest one that a message can have."""
    try:
        return _EPOCH + timedelta(seconds=seconds)
    except (OverflowError, ValueError):
        return datetime.max.replace(tzinfo=UTC) if seconds > 0 else _EPOCH


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _instant(seconds: float | None) -> datetime | None:
    return None if seconds is None else instant(seconds)


def _is_about(name: str | None, focus: str | None) -> bool:
    return focus is None or name is None or name == focus


def _named(record: Record) -> Sequence[Event]:
    """Return the events with the domains of their members, if the order has several domains."""
    events = record.events
    if len(record.vm_names) < 2 or record.payload is None:
        return events
    if all(event.vm_name is not None or event.position is None for event in events):
        return events
    container = read(record.payload, len(record.payload))
    if isinstance(container, Unreadable):  # of another version, or of a package that was removed
        return events
    names = dict(enumerate(map(_domain_of, container.tasks)))
    return [
        msgspec.structs.replace(event, vm_name=names.get(event.position))
        if event.vm_name is None and event.position is not None
        else event
        for event in events
    ]


def _completed(record: Record) -> Record:
    """Return an order that an older fastlib accepted, with the facts from its text or answer."""
    task, names = None, list(record.vm_names)
    if record.payload is not None:
        container = read(record.payload, len(record.payload))
        if not isinstance(container, Unreadable):
            task, names = container.task, domains_of(container)[0]
    elif (answer := _answer(record.answer)) is not None:
        declaration = declaration_of_result(answer.result)
        task = None if declaration is None else declaration.task
        found = (result.vm_name for result in answer.results)
        names = list(dict.fromkeys(name for name in found if name not in (None, NO_DOMAIN)))
    return msgspec.structs.replace(record, task=task, vm_names=record.vm_names or tuple(names))


def _domain_of(task: Task) -> str | None:
    name = vm_name_of(task)
    return None if name == NO_DOMAIN else name


def _cut_events(events: Sequence[Event]) -> list[Event]:
    """Return the first and the last events, at most `MAX_EVENTS`."""
    if len(events) <= MAX_EVENTS:
        return list(events)
    return [*events[:FIRST_EVENTS], *events[FIRST_EVENTS - MAX_EVENTS :]]


def _results(answer: bytes | None) -> tuple[Result, ...] | None:
    """Return the results of an answer; None if there is none that can be read."""
    container = _answer(answer)
    return None if container is None else tuple(container.results)


def _answer(answer: bytes | None) -> ResultContainer | None:
    """Return an answer; None if there is none that can be read."""
    if answer is None:
        return None
    try:
        return ResultContainer.from_yaml(answer)
    except MessageError:  # of another version, or of a package that was removed
        return None


def _status(results: Sequence[Result] | None) -> Status | None:
    if results is None:
        return None
    return "success" if all(result.status == "success" for result in results) else "error"


def _state(record: Record) -> str:
    if record.state != "unanswered":
        return "ended"
    if record.cancelled:
        return "cancelling"
    return "queued" if record.began is None else "running"


def _brief(result: Result) -> Result:
    details = None if result.details is None else _short(result.details)
    return Result(vm_name=sound(result.vm_name), status=result.status, details=details)


def _event_report(event: Event) -> OrderEvent:
    return OrderEvent(
        time=instant(event.time),
        event=sound(event.kind),
        member=event.position,
        vm_name=_optional(event.vm_name),
        details=_short(event.text) or None,
    )


def _text(payload: bytes | None) -> str | None:
    """Return the beginning of an order's text, without domain XML, which may have passwords."""
    if payload is None:
        return None
    if b"xml" in payload or b"<" in payload:
        payload = _without_xml(payload)
    beginning = payload[
        : 4 * MAX_TEXT
    ]  # enough for the characters, because each has at most four bytes
    text = beginning.decode("utf-8", "replace")
    cut = len(text) > MAX_TEXT or len(payload) > len(beginning)
    return f"{sound(text[:MAX_TEXT])}{'…' if cut else ''}"


def _without_xml(payload: bytes) -> bytes:
    """Return the text of an order with the length of each XML in its place.

    Of a large or unreadable text, return only the part before the XML.
    """
    container = None if len(payload) > MAX_REWRITTEN else read(payload, len(payload))
    if container is None or isinstance(container, Unreadable):
        return re.split(rb"xml|<", payload, maxsplit=1)[0] + "…".encode()
    return write_tree(_replace_xml(container.emit())).encode("utf-8", "replace")


def _replace_xml(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {
            key: f"{len(value)} characters, not shown"
            if key == "xml" and isinstance(value, str)
            else _replace_xml(value)
            for key, value in tree.items()
        }
    return list(map(_replace_xml, tree)) if isinstance(tree, list) else tree


def _short(text: str) -> str:
    return sound(text if len(text) <= MAX_DETAILS else f"{text[: MAX_DETAILS - 1]}…")


def _optional(text: str | None) -> str | None:
    return None if text is None else sound(text)


def _left_out(items: Sequence[Any], limit: int) -> int | None:
    return len(items) - limit if len(items) > limit else None


def _size(order: OrderReport) -> int:
    """Return about how many characters an order takes in a report."""
    texts = [order.text, order.id, order.idempotency_key, *order.vm_names]
    texts += [event.details for event in order.events]
    texts += [result.details for result in order.results]
    fixed = 400 + 120 * len(order.events) + 80 * len(order.results) + 8 * len(order.vm_names)
    return fixed + sum(len(text) for text in texts if text)
