"""Store a new order in the tables, or find the one that it repeats."""

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal

import msgspec

from . import schema
from .begins import Turn, take_back
from .repetition import (
    Arrival,
    KnownOrder,
    KnownPacket,
    Place,
    elapsed,
    is_packet_again,
    is_packet_of_version_1,
    is_sent_again,
)

_INSERT: Final = (
    "INSERT INTO containers (number, id, key, digest, raw, run, clock, accepted, state, followed,"
    " expires, host, task, vm_name, payload, noted, began)"
    " VALUES (max((SELECT value FROM meta WHERE name = 'order'),"
    " (SELECT coalesce(max(number), 0) FROM containers)) + 1,"
    " ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (key) WHERE key IS NOT NULL DO NOTHING"
)


class Acceptance(msgspec.Struct, frozen=True):
    """The journal's decision about an order that came."""

    kind: Literal["new", "unanswered", "answered", "other", "full"]
    """`other`: the key was used for an order with another content.

    `full`: it is new and was not stored, because there is no room for it.
    """
    number: int
    answer: bytes | None = None
    """The stored answer, if `answered`."""
    executed: float | None = None
    """Time of its begin, or of its end if it never began, in seconds since 1970, if `answered`."""
    other_id: bytes | None = None
    """The id of the order that has the key, if `other`."""


class Order(msgspec.Struct, frozen=True):
    """An order that comes, with everything that the journal stores of it."""

    arrival: Arrival
    id: bytes | None
    key: bytes | None
    task: bytes
    vm_names: Sequence[bytes]
    any_domain: bool
    """Whether it may affect domains that it does not name."""
    expires: float | None
    """Time in seconds since 1970 after which it does not begin."""
    host: bytes | None
    payload: bytes
    packet: int | None
    packet_is_known: bool
    """Whether an earlier order may have come with this packet id."""
    place: Place
    """The place (run and connection) at which it comes."""
    fresh: Place
    """The newest earlier place that brought a message without DUP."""
    window: float
    """Seconds in which the same bytes count as a repetition."""
    now: float
    """Seconds since 1970."""
    clock: float
    """The monotonic clock."""
    boot: str
    digest_of: Callable[[bytes], bytes]
    """Returns the digest of the content of a payload, which `arrival` may not have."""
    has_room: bool = True
    """Whether it may be stored if it is new."""
    turn: Turn | None = None
    """Decides whether a new order begins with its acceptance. None if it waits for its turn."""


class _Known(msgspec.Struct, frozen=True):
    number: int
    how: str
    """For people."""


def accept(connection: sqlite3.Connection, order: Order) -> Acceptance:
    """Store an order, unless it is known. Raises sqlite3.Error."""
    if not order.arrival.duplicate and order.place > order.fresh:
        schema.set_fresh(connection, order.place)
    # For a key, the index that finds a known order also refuses it. That saves a query.
    number = _insert(connection, order) if order.key is not None and order.has_room else None
    known = _known(connection, order) if number is None else None
    if known is None:
        if not order.has_room:
            mark_followed(connection, order.id)
            return Acceptance("full", 0)
        if number is None:
            number = _insert(connection, order)
        assert number is not None  # without a key, no order is known by the index
        _remember_packet(connection, order, number)
        return Acceptance("new", number)
    query = (
        "SELECT digest, payload, state, answer, answered, accepted, id"
        " FROM containers WHERE number = ?"
    )
    digest, payload, state, answer, answered, accepted, other_id = connection.execute(
        query, (known.number,)
    ).fetchone()
    if not _has_content(order, digest, payload):
        mark_followed(connection, order.id)
        add_event(connection, known.number, order.now, "refused", "the key came with another order")
        return Acceptance("other", known.number, other_id=other_id)
    add_event(connection, known.number, order.now, "repeated", known.how)
    if order.key is None:
        _remember_packet(connection, order, known.number)
    else:
        mark_followed(connection, order.id, known.number)
    if state == schema.ACCEPTED:
        return Acceptance("unanswered", known.number)
    began = schema.began(connection, known.number)
    return Acceptance("answered", known.number, answer, began or answered or accepted)


def take_back_begins(connection: sqlite3.Connection, written: Iterable[Acceptance]) -> None:
    """Remove the note that an order begins if no caller waits for it. It is still accepted."""
    for accepted in written:
        if accepted.kind == "new":
            take_back(connection, accepted.number, 0)


def _has_content(order: Order, digest: bytes, payload: bytes | None) -> bool:
    """Return whether an order has the content of a stored one.

    Most orders never come again. So a digest is computed only if both have the same key, and other
    bytes.
    """
    if payload == order.payload and not (digest and order.arrival.content):
        return True
    stored = digest or order.digest_of(payload or b"")
    return stored == _content_of(order)


def _content_of(order: Order) -> bytes:
    return order.arrival.content or order.digest_of(order.payload)


def mark_followed(
    connection: sqlite3.Connection, id: bytes | None, unless: int | None = None
) -> None:
    """Note that another message came after the newest order of an id, unless that is `unless`."""
    connection.execute(
        "UPDATE containers SET followed = 2 WHERE number ="
        " (SELECT number FROM containers WHERE id IS ? ORDER BY number DESC LIMIT 1)"
        " AND number IS NOT ?",
        (id, unless),
    )


def add_event(
    connection: sqlite3.Connection, number: int, now: float, kind: str, text: str
) -> None:
    """Store an event of the whole order."""
    connection.execute(
        "INSERT INTO events (container, time, kind, text) VALUES (?, ?, ?, ?)",
        (number, now, kind, schema.key(text)),
    )


def _known(connection: sqlite3.Connection, order: Order) -> _Known | None:
    if order.key is not None:
        query = "SELECT number FROM containers WHERE key = ?"
        row = connection.execute(query, (order.key,)).fetchone()
        return None if row is None else _Known(row[0], "with the same key")
    return (
        _repeated_packet(connection, order)
        or _repeated_from_version_1(connection, order)
        or _sent_again(connection, order)
    )


def _repeated_packet(connection: sqlite3.Connection, order: Order) -> _Known | None:
    if not order.arrival.duplicate or order.packet is None:
        return None
    row = connection.execute(
        "SELECT number, raw, packets.session, packets.run, packets.connection"
        " FROM packets JOIN containers ON number = container WHERE packet = ?",
        (order.packet,),
    ).fetchone()
    if row is None:
        return None
    number, raw, session, *place = row
    known = KnownPacket(raw, session, (place[0], place[1]))
    if not is_packet_again(order.arrival, known, order.fresh):
        return None
    return _Known(number, "by the broker")


def _repeated_from_version_1(connection: sqlite3.Connection, order: Order) -> _Known | None:
    if not order.arrival.duplicate:
        return None
    arrival = msgspec.structs.replace(order.arrival, content=_content_of(order))
    row = connection.execute(
        "SELECT number, digest FROM containers"
        " WHERE raw IS NULL AND key IS NULL AND digest = ? AND id IS ? ORDER BY number LIMIT 1",
        (arrival.content, order.id),
    ).fetchone()
    if row is None or not is_packet_of_version_1(arrival, row[1], order.fresh):
        return None
    # From now on it is found like any other order.
    connection.execute(
        "UPDATE containers SET raw = ? WHERE number = ?", (order.arrival.raw, row[0])
    )
    return _Known(row[0], "by the broker")


def _sent_again(connection: sqlite3.Connection, order: Order) -> _Known | None:
    row = connection.execute(
        "SELECT containers.number, raw, clock, boot"
        " FROM containers LEFT JOIN runs ON runs.number = run"
        " WHERE raw = ? ORDER BY containers.number DESC LIMIT 1",
        (order.arrival.raw,),
    ).fetchone()
    if row is None:
        return None
    number, raw, clock, boot = row
    passed = elapsed(clock, order.clock, same_boot=boot == order.boot)
    # Orders before the window may be many, and none of them matters.
    followed = passed < order.window and _is_followed(connection, number, order)
    if not is_sent_again(order.arrival, KnownOrder(raw, passed, followed), order.window):
        return None
    return _Known(number, "by the sender")


def _is_followed(connection: sqlite3.Connection, number: int, order: Order) -> bool:
    """Return whether a message with this id came after `number` that may affect its domains."""
    row = connection.execute(
        "SELECT 1 FROM containers WHERE id IS ? AND followed > 0 AND number >= ?"
        " AND (followed = 2 OR number > ?) LIMIT 1",
        (order.id, number, number),
    ).fetchone()
    if row is not None:
        return True
    if order.any_domain:
        query = "SELECT 1 FROM containers WHERE id IS ? AND number > ? LIMIT 1"
        return connection.execute(query, (order.id, number)).fetchone() is not None
    queries = (
        "SELECT 1 FROM containers INDEXED BY containers_vm_name"
        " WHERE vm_name = ? AND number > ? AND id IS ? LIMIT 1",
        "SELECT 1 FROM domains CROSS JOIN containers ON number = container"  # in this order
        " WHERE name = ? AND container > ? AND id IS ? LIMIT 1",
    )
    return any(
        connection.execute(query, (name, number, order.id)).fetchone() is not None
        for name in order.vm_names
        for query in queries
    )


def first_begin(order: Order) -> tuple[bool, float | None]:
    """Return whether the first member begins with the acceptance, and when it acts."""
    begins = None if order.turn is None else order.turn.begins
    return begins is not None, order.now if begins == "acts" else None


def _insert(connection: sqlite3.Connection, order: Order) -> int | None:
    """Store an order and return its number, None if another order has its key."""
    raw = None if order.key is not None else order.arrival.raw
    noted, began = first_begin(order)
    cursor = connection.execute(
        _INSERT,
        (
            order.id,
            order.key,
            order.arrival.content,
            raw,
            order.place[0],
            order.clock,
            order.now,
            schema.ACCEPTED,
            int(order.any_domain),
            order.expires,
            order.host,
            order.task,
            order.vm_names[0] if order.vm_names else None,
            order.payload,
            noted,
            began,
        ),
    )
    number = cursor.lastrowid
    if not cursor.rowcount:
        return None
    assert number is not None
    if len(order.vm_names) > 1:
        add_names(connection, ((number, name) for name in order.vm_names[1:]))
    return number


def add_names(connection: sqlite3.Connection, rows: Iterable[tuple[int, bytes]]) -> None:
    """Make orders findable by further domains: each row has a number and a name."""
    connection.executemany("INSERT OR IGNORE INTO domains VALUES (?, ?)", rows)


def _remember_packet(connection: sqlite3.Connection, order: Order, number: int) -> None:
    if order.packet is None:
        return
    if order.key is not None:  # it is found by its key; but no earlier order has this id now
        if order.packet_is_known:
            connection.execute("DELETE FROM packets WHERE packet = ?", (order.packet,))
    else:
        connection.execute(
            "INSERT OR REPLACE INTO packets VALUES (?, ?, ?, ?, ?)",
            (order.packet, number, order.arrival.session, *order.place),
        )
