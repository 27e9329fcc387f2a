"""The tables of the journal: open them, read them after a restart, and trim them."""

import math
import os
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from fastlib.migfra.own_files import PRIVATE, make_own_folder, open_own_file, protect_files
from fastlib.migfra.plugin_api.expiry import latest_begin_after_restart

from . import layout

BUSY_SECONDS: Final = 2.0
"""Seconds that another process may hold the database until a write counts as failed."""
TRIMMED_AT_ONCE: Final = 100
KEPT_IN_A_ROW: Final = 256
"""Orders in a row that are too young to be forgotten, after which a trim looks no further."""
SQLITE_FILES: Final = ("-wal", "-shm", "-journal")
"""Suffixes of the names of SQLite's other files."""

LATEST_ORDERS: Final = 1000
"""Newest orders whose confirmations show how long the journal has run at least."""

RUNS_KEPT: Final = 1000
"""Maximum number of runs of the daemon that the journal stores."""

HYPERVISOR_STATE: Final = "hypervisor-state"
"""The name in `meta` of the state that the hypervisor has saved besides its tasks."""

ACCEPTED, ANSWERED, CONFIRMED = 0, 1, 2
"""States of an order. A query of the first two needs `state < 2` to use their index."""


class MemberState(msgspec.Struct, frozen=True):
    """A member that was begun by an earlier run of the daemon."""

    results: bytes | None
    """JSON, None if it was running."""
    saved_state: Mapping[str, Any]
    """By `Context.save_state`; the column `notes` has it as JSON."""


class Unfinished(msgspec.Struct, frozen=True):
    """A container that an earlier run of the daemon has accepted and not answered."""

    number: int
    id: str | None
    accepted: float
    """Seconds after the beginning of 1970 (UTC)."""
    cancelled: bool
    maybe_cancel: bool
    """True for a `cancel task`, and for an order of an older fastlib that may be one."""
    members: Mapping[int, MemberState]
    host: str | None = None
    """The name of the host that it came to, None if an older fastlib has accepted it."""
    expires: float | None = None
    """Time in seconds since 1970 (UTC) after which it does not begin; None: it never expires."""
    latest_begin: float = math.inf
    """See `latest_begin_after_restart`; infinite if it never expires, or if the bound is not known.
    """
    size: int = 0
    """Bytes of its payload."""


class Unconfirmed(msgspec.Struct, frozen=True):
    """An answer that the broker may not have."""

    number: int
    id: str | None
    answer: bytes
    host: str | None = None
    """As in `Unfinished`."""


class Run(msgspec.Struct, frozen=True):
    """The facts from the journal when it is opened."""

    number: int
    """Number of this run of the daemon, from 1."""
    is_new: bool
    """Whether the journal was made for this run, and not upgraded."""
    identity: str
    """Random text, made with the journal."""
    began: float
    """Time since which the journal has all orders, in seconds since 1970 (UTC)."""
    seconds: float
    """Total running time of the daemons of this journal, in seconds, as far as it is recorded."""
    session: int
    """The number of the last MQTT session."""
    fresh: tuple[int, int]
    """The newest run and connection that have brought a message without DUP."""
    earlier_host: str | None
    """The name of the host in the run before."""
    order: int
    """The number of the newest order, 0 if there was none."""
    newest: float | None
    """Time at which the newest order was accepted, in seconds since 1970; None without one."""
    packets: frozenset[int]
    """The packet ids that the journal has."""
    hypervisor_state: bytes | None = None
    """The state that the hypervisor has saved besides its tasks, as JSON. None if there is none."""


def key(id: str | None) -> bytes | None:
    """Return an id as the tables have it; it may have characters that UTF-8 cannot encode."""
    return None if id is None else encoded(id)


def encoded(text: str) -> bytes:
    """Return a text as the tables have it; see `key`."""
    return text.encode("utf-8", "surrogatepass")


def text(key: bytes | None) -> str | None:
    """Return the id, key or name of a value of the tables."""
    return None if key is None else key.decode("utf-8", "surrogatepass")


def open_tables(path: Path | str | None, now: float = 0.0) -> sqlite3.Connection:
    """Open the database of a path, or one in memory.

    `now` is the wall clock, in seconds since 1970.

    Raises JournalError, sqlite3.Error and OSError.
    """
    if path is not None:
        # Only the owner may read orders. SQLite itself would follow a symbolic link.
        make_own_folder(Path(path).absolute().parent)
        flags = os.O_RDWR | os.O_CREAT | os.O_NONBLOCK
        os.close(open_own_file(path, flags, PRIVATE, correct_mode=True))
        protect_files(*(f"{path}{end}" for end in SQLITE_FILES))
    connection = sqlite3.connect(
        ":memory:" if path is None else path,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,  # one thread at a time: GroupCommit ensures it
    )
    try:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # works while the file is empty
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        layout.make_or_upgrade(connection, path, now)
    except BaseException:
        connection.close()
        raise
    return connection


def open_journal(
    path: Path | str | None, host: str | None, boot: str, now: float
) -> tuple[sqlite3.Connection, Run]:
    """Return the database of a path, and the run that begins. Raises as `open_tables`.

    `host` is the name of this host, `boot` the identity of this boot of it, `now` its wall clock in
    seconds since 1970.
    """
    connection = open_tables(path, now)
    try:
        connection.execute("BEGIN IMMEDIATE")
        run = begin_run(connection, host, boot)
        connection.execute("COMMIT")
    except BaseException:
        connection.close()
        raise
    return connection, run


def begin_run(connection: sqlite3.Connection, host: str | None, boot: str) -> Run:
    """Store that a run of the daemon begins."""
    cursor = connection.execute("INSERT INTO runs (boot) VALUES (?)", (boot,))
    assert cursor.lastrowid is not None
    number = cursor.lastrowid
    connection.execute("DELETE FROM runs WHERE number <= ?", (number - RUNS_KEPT,))
    meta = dict(connection.execute("SELECT name, value FROM meta"))
    (settled,) = connection.execute(
        "SELECT max(settled) FROM (SELECT settled FROM containers ORDER BY number DESC LIMIT ?)",
        (LATEST_ORDERS,),
    ).fetchone()
    (session,) = connection.execute("SELECT max(session) FROM packets").fetchone()
    newest = connection.execute(
        "SELECT number, accepted FROM containers ORDER BY number DESC LIMIT 1"
    ).fetchone()
    if host is not None:
        set_meta(connection, "host", key(host))
    order = max(meta["order"], 0 if newest is None else newest[0])
    return Run(
        number=number,
        is_new=number == 1 and not order,
        identity=meta["identity"],
        began=meta["began"],
        seconds=max(meta["seconds"], settled or 0.0),
        session=max(meta["session"], session or 0),
        fresh=(meta["fresh-run"], meta["fresh-connection"]),
        earlier_host=text(meta.get("host")),
        order=order,
        newest=None if newest is None else newest[1],
        packets=frozenset(packet for (packet,) in connection.execute("SELECT packet FROM packets")),
        hypervisor_state=meta.get(HYPERVISOR_STATE),
    )


def set_meta(connection: sqlite3.Connection, name: str, value: object) -> None:
    """Store a fact about the journal itself."""
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))


def set_fresh(connection: sqlite3.Connection, place: tuple[int, int]) -> None:
    """Store the newest run and connection that have brought a message without DUP."""
    set_meta(connection, "fresh-run", place[0])
    set_meta(connection, "fresh-connection", place[1])


def began(connection: sqlite3.Connection, number: int) -> float | None:
    """Return when the first member of a container began, None if none has."""
    query = (
        "SELECT min(time) FROM (SELECT began AS time FROM containers WHERE number = ?"
        " UNION ALL SELECT time FROM events WHERE container = ? AND kind = 'begun')"
    )
    row: tuple[float | None] = connection.execute(query, (number, number)).fetchone()
    return row[0]


def size(connection: sqlite3.Connection) -> int:
    """Return the number of bytes in use."""
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    return int((pages - free) * size)


def trim(connection: sqlite3.Connection, oldest: float, max_size: int) -> float | None:
    """Forget containers confirmed before `oldest`, and the oldest beyond `max_size`.

    `oldest` is in seconds of the journal's running time. Return the time of acceptance of the
    newest forgotten container, None without one. The duration depends on the number of forgotten
    containers, and hardly on the total number.
    """
    forgotten: float | None = None
    last = 0
    for number, accepted in list(_confirmed_before(connection, oldest)):
        connection.execute("DELETE FROM containers WHERE number = ?", (number,))
        forgotten, last = max(accepted, forgotten or 0.0), number
    while size(connection) > max_size:
        numbers = connection.execute(
            "SELECT number, accepted FROM containers WHERE state = ? ORDER BY number LIMIT ?",
            (CONFIRMED, TRIMMED_AT_ONCE),
        ).fetchall()
        if not numbers:  # the other containers are still unanswered or unconfirmed
            break
        connection.executemany(
            "DELETE FROM containers WHERE number = ?", [(number,) for number, _ in numbers]
        )
        forgotten = max(*(accepted for _, accepted in numbers), forgotten or 0.0)
        last = max(numbers[-1][0], last)
    if forgotten is not None:
        (began,) = connection.execute("SELECT value FROM meta WHERE name = 'began'").fetchone()
        forgotten = max(float(began), forgotten)
        set_meta(connection, "began", forgotten)
        connection.execute(
            "UPDATE meta SET value = ? WHERE name = 'order' AND value < ?", (last, last)
        )
        connection.execute(
            "DELETE FROM packets WHERE container <= ?"
            " AND container NOT IN (SELECT number FROM containers)",
            (last,),
        )
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    for _ in range(free):  # each call gives one page back, as the module sqlite3 steps only once
        connection.execute("PRAGMA incremental_vacuum(1)")
    return forgotten


def _confirmed_before(connection: sqlite3.Connection, oldest: float) -> Iterator[tuple[int, float]]:
    """Return number and time of acceptance of the orders that were confirmed before `oldest`.

    Orders are confirmed about in their order. So the search ends after `KEPT_IN_A_ROW` others. An
    index would be changed with each confirmation.
    """
    kept = 0
    query = "SELECT number, accepted, settled FROM containers ORDER BY number"
    for number, accepted, settled in connection.execute(query):
        if settled is not None and settled < oldest:
            kept = 0
            yield number, accepted
        elif (kept := kept + 1) == KEPT_IN_A_ROW:
            return


def unfinished(connection: sqlite3.Connection, boot: str, monotonic: float) -> list[Unfinished]:
    """Return the containers without an answer, in order.

    `boot` is the identity of this boot, `monotonic` the monotonic clock.
    """
    members: dict[int, dict[int, MemberState]] = {}
    for number, position, results, notes in connection.execute("SELECT * FROM members"):
        facts = {} if notes is None else msgspec.json.decode(notes)
        members.setdefault(number, {})[position] = MemberState(results, facts)
    query = (
        "SELECT containers.number, id, accepted, cancelled,"
        " coalesce(nullif(task, x'') = CAST('cancel task' AS BLOB),"
        " instr(payload, CAST('cancel task' AS BLOB))),"
        " host, expires, clock, boot, coalesce(length(payload), 0), noted"
        " FROM containers LEFT JOIN runs ON runs.number = run WHERE state < 2 AND state = ?"
        " ORDER BY containers.number"
    )
    return [
        Unfinished(
            number,
            text(id),
            accepted,
            bool(cancelled),
            bool(hint),
            {**({0: MemberState(None, {})} if noted else {}), **members.get(number, {})},
            text(host),
            expires,
            math.inf
            if expires is None
            else latest_begin_after_restart(
                expires, accepted, monotonic, clock if then == boot else None
            ),
            size,
        )
        for (
            number, id, accepted, cancelled, hint, host, expires, clock, then, size, noted,
        ) in connection.execute(query, (ACCEPTED,))
    ]  # fmt: skip


def unconfirmed(connection: sqlite3.Connection) -> list[Unconfirmed]:
    """Return the answers that the broker may not have, in order."""
    query = (
        "SELECT number, id, answer, host FROM containers WHERE state < 2 AND state = ?"
        " ORDER BY number"
    )
    return [
        Unconfirmed(number, text(id), answer, text(host))
        for number, id, answer, host in connection.execute(query, (ANSWERED,))
    ]
