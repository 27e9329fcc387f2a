"""Read the records of orders from the tables, for `query history`."""

import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from . import schema
from .records import Event, Record, State

_STATES: Final[dict[int, State]] = {
    schema.ACCEPTED: "unanswered",
    schema.ANSWERED: "answered",
    schema.CONFIRMED: "confirmed",
}

LONGEST_PAYLOAD: Final = 1 << 15
"""Bytes of an order that are read. A report shows fewer."""
MAX_TEXTS: Final = 8 << 20
"""Bytes of texts and answers that are read in total; later records are without them."""
_ORDERS: Final = (
    "SELECT number, id, key, host, task, accepted, answered, confirmed, state, cancelled,"
    f" CASE WHEN length(payload) > {LONGEST_PAYLOAD} THEN substr(payload, 1, {LONGEST_PAYLOAD})"
    " ELSE payload END, answer, expires, began FROM"
)

_AFTER_THE_ANSWER: Final = ("repeated", "refused", "answered", "confirmed")
"""Events that can come after the answer of an order."""


def history(
    connection: sqlite3.Connection,
    id: str | None,
    key: str | None,
    vm_name: str | None,
    limit: int,
) -> list[Record]:
    """Return orders that fit everything that is not None, the newest first, at most `limit`."""
    given = _conditions({"id = ?": id, "key = ?": key, "name = ?": vm_name})
    # The index of the domains has the orders of each domain in order, so only these are read.
    table, number = ("containers", "number")
    if vm_name is not None:
        table, number = ("domains JOIN containers ON number = container", "container")
    where = " AND ".join(given) or "true"
    query = f"{_ORDERS} {table} WHERE {where} ORDER BY {number} DESC LIMIT ?"
    return _records(connection, connection.execute(query, (*given.values(), limit)))


def under_way(
    connection: sqlite3.Connection,
    id: str | None,
    key: str | None,
    vm_name: str | None,
    limit: int,
) -> list[Record]:
    """Return orders without an answer that fit everything that is not None, the oldest first."""
    has_domain = "EXISTS (SELECT 1 FROM domains WHERE container = number AND name = ?)"
    given = _conditions({"id = ?": id, "key = ?": key, has_domain: vm_name})
    # There are few of them, so their index is better than those of ids and domains.
    where = " AND ".join(("state = ?", *given))
    query = (
        f"{_ORDERS} containers INDEXED BY containers_state WHERE {where} ORDER BY number LIMIT ?"
    )
    rows = connection.execute(query, (schema.ACCEPTED, *given.values(), limit))
    return _records(connection, rows)


def _records(connection: sqlite3.Connection, rows: Iterable[tuple[Any, ...]]) -> list[Record]:
    """Return the records of rows, with at most about `MAX_TEXTS` bytes of texts and answers."""
    records: list[Record] = []
    size = 0
    for row in rows:
        record = _record(connection, *row)
        size += len(record.payload or b"") + len(record.answer or b"")
        if size > MAX_TEXTS and records:
            record = msgspec.structs.replace(record, payload=None, answer=None)
        records.append(record)
    return records


def _conditions(values: Mapping[str, str | None]) -> dict[str, bytes | None]:
    """Return the requested conditions, with their values in the form of the tables."""
    return {
        condition: schema.key(value) for condition, value in values.items() if value is not None
    }


def _record(
    connection: sqlite3.Connection,
    number: int,
    id: bytes | None,
    key: bytes | None,
    host: bytes | None,
    task: bytes | None,
    accepted: float,
    answered: float | None,
    confirmed: float | None,
    state: int,
    cancelled: int,
    payload: bytes | None,
    answer: bytes | None,
    expires: float | None,
    began: float | None,
) -> Record:
    names = connection.execute(
        "SELECT name FROM domains WHERE container = ? ORDER BY name", (number,)
    )
    return Record(
        number=number,
        id=schema.text(id),
        key=schema.text(key),
        host=schema.text(host),
        task=schema.text(task),
        vm_names=tuple(schema.text(name) or "" for (name,) in names),
        accepted=accepted,
        began=schema.began(connection, number),
        answered=answered,
        confirmed=confirmed,
        state=_STATES[state],
        cancelled=bool(cancelled),
        payload=payload,
        answer=answer,
        events=_events(connection, number, accepted, began, answered, confirmed),
        expires=expires,
    )


def _events(
    connection: sqlite3.Connection,
    number: int,
    accepted: float,
    began: float | None,
    answered: float | None,
    confirmed: float | None,
) -> tuple[Event, ...]:
    """Return the events of an order. Its row has the times of those that happen to every order."""
    rows: list[Any] = connection.execute(
        "SELECT position, time, kind, text, vm_name FROM events WHERE container = ? ORDER BY rowid",
        (number,),
    ).fetchall()
    events = [
        Event(position, time, kind, schema.text(words) or "", schema.text(vm_name))
        for position, time, kind, words, vm_name in rows
    ]
    if began is not None:
        events.insert(0, Event(0, began, "begun"))  # with its acceptance
    for time, kind in ((answered, "answered"), (confirmed, "confirmed")):
        if time is not None:
            _insert(events, Event(None, time, kind))
    return (Event(None, accepted, "accepted"), *events)


def _insert(events: list[Event], event: Event) -> None:
    """Insert an event of the whole order before the later ones, such as its repetition."""
    place = len(events)
    while (
        place
        and events[place - 1].time > event.time
        and events[place - 1].kind in _AFTER_THE_ANSWER
    ):
        place -= 1
    events.insert(place, event)
