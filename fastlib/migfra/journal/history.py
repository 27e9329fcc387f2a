"""Read the records of orders from the tables, for `query history`."""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from heapq import merge
from itertools import groupby, islice
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from fastlib.migfra.errors import JournalError

from . import schema
from .records import Event, Record, State

T = TypeVar("T")

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
    " ELSE payload END, answer, expires, began, outcome, vm_name FROM"
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
    given = _conditions({"id = ?": id, "key = ?": key})
    where = " AND ".join(given) or "true"
    if vm_name is None:
        query = f"{_ORDERS} containers WHERE {where} ORDER BY number DESC LIMIT ?"
        return _records(connection, connection.execute(query, (*given.values(), limit)))
    query = f"{_ORDERS} containers WHERE {where} AND number = ?"
    rows = (
        row
        for number in _of_domain(connection, schema.encoded(vm_name))
        for row in connection.execute(query, (*given.values(), number))
    )
    return _records(connection, islice(rows, limit))


def read_separately(path: Path | str, read: Callable[[sqlite3.Connection], T]) -> T:
    """Read by a separate connection, which does not wait for writes. Raises JournalError."""
    uri = f"{Path(path).absolute().as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=schema.BUSY_SECONDS)) as connection:
            return read(connection)
    except sqlite3.Error as error:
        raise JournalError(f"{path}: {error}") from error


def _of_domain(connection: sqlite3.Connection, vm_name: bytes) -> Iterator[int]:
    """Return the numbers of the orders of a domain, the newest first, and reads only these."""
    queries = (
        "SELECT number FROM containers WHERE vm_name = ? ORDER BY number DESC",
        "SELECT container FROM domains WHERE name = ? ORDER BY container DESC",
    )
    rows = (connection.execute(query, (vm_name,)) for query in queries)
    for number, _ in groupby(merge(*rows, reverse=True)):  # a note may name the domain again
        yield number[0]


def under_way(
    connection: sqlite3.Connection,
    id: str | None,
    key: str | None,
    vm_name: str | None,
    limit: int,
) -> list[Record]:
    """Return orders without an answer that fit everything that is not None, the oldest first."""
    has_domain = "? IN (SELECT vm_name UNION ALL SELECT name FROM domains WHERE container = number)"
    given = _conditions({"id = ?": id, "key = ?": key, has_domain: vm_name})
    # There are few of them, so their index is better than those of ids and domains.
    where = " AND ".join(("state < 2", "state = ?", *given))
    query = f"{_ORDERS} containers INDEXED BY containers_open WHERE {where} ORDER BY number LIMIT ?"
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
    outcome: bytes | None,
    vm_name: bytes | None,
) -> Record:
    domains = connection.execute("SELECT name FROM domains WHERE container = ?", (number,))
    names = {name for (name,) in domains}
    if vm_name is not None:
        names.add(vm_name)
    events = _events(connection, number)
    if began is not None:
        events.insert(0, Event(0, began, "begun"))  # with its acceptance
    if outcome is not None and answered is not None:
        _insert(events, Event(0, answered, "ended", schema.text(outcome) or ""))
    for time, kind in ((answered, "answered"), (confirmed, "confirmed")):
        if time is not None:
            _insert(events, Event(None, time, kind))
    return Record(
        number=number,
        id=schema.text(id),
        key=schema.text(key),
        host=schema.text(host),
        task=schema.text(task),
        vm_names=tuple(schema.text(name) or "" for name in sorted(names)),
        accepted=accepted,
        began=schema.began(connection, number),
        answered=answered,
        confirmed=confirmed,
        state=_STATES[state],
        cancelled=bool(cancelled),
        payload=payload,
        answer=answer,
        events=(Event(None, accepted, "accepted"), *events),
        expires=expires,
    )


def _events(connection: sqlite3.Connection, number: int) -> list[Event]:
    """Return the events of an order that its row does not have."""
    rows = connection.execute(
        "SELECT position, time, kind, text, vm_name FROM events WHERE container = ? ORDER BY rowid",
        (number,),
    )
    return [
        Event(position, time, kind, schema.text(words) or "", schema.text(vm_name))
        for position, time, kind, words, vm_name in rows
    ]


def _insert(events: list[Event], event: Event) -> None:
    """Insert an event of the row before the later ones, such as a repetition of the order."""
    place = len(events)
    while (
        place
        and events[place - 1].time > event.time
        and events[place - 1].kind in _AFTER_THE_ANSWER
    ):
        place -= 1
    events.insert(place, event)
