"""The tables of the journal: make, upgrade, read after a restart, and trim them."""

import math
import os
import secrets
import sqlite3
from collections.abc import Mapping, Set
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import msgspec

from fastlib.migfra.errors import JournalError
from fastlib.migfra.own_files import PRIVATE, make_own_folder, open_own_file, protect_files
from fastlib.migfra.plugin_api.expiry import latest_begin_after_restart

VERSION: Final = 3
"""Version of the tables. Those of a newer fastlib are refused, those of an older one are upgraded.
"""
BUSY_SECONDS: Final = 2.0
"""Seconds that another process may hold the database until a write counts as failed."""
TRIMMED_AT_ONCE: Final = 100
SQLITE_FILES: Final = ("-wal", "-shm", "-journal")
"""Suffixes of the names of SQLite's other files."""

RUNS_KEPT: Final = 1000
"""Maximum number of runs of the daemon that the journal stores."""

_CONTAINERS = """
CREATE TABLE containers (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id BLOB,
    key BLOB,
    digest BLOB NOT NULL,
    raw BLOB,
    run INTEGER NOT NULL DEFAULT 0,
    clock REAL NOT NULL DEFAULT 0,
    accepted REAL NOT NULL,
    answered REAL,
    confirmed REAL,
    settled REAL,
    expires REAL,
    state INTEGER NOT NULL,
    cancelled INTEGER NOT NULL DEFAULT 0,
    followed INTEGER NOT NULL DEFAULT 0,
    host BLOB,
    task BLOB,
    payload BLOB,
    answer BLOB,
    noted INTEGER NOT NULL DEFAULT 0,
    began REAL
);
CREATE UNIQUE INDEX containers_key ON containers (key) WHERE key IS NOT NULL;
CREATE INDEX containers_id ON containers (id, number);
CREATE INDEX containers_raw ON containers (raw, number) WHERE raw IS NOT NULL;
CREATE INDEX containers_followed ON containers (id, number) WHERE followed > 0;
CREATE INDEX containers_state ON containers (state, number);
CREATE INDEX containers_settled ON containers (settled) WHERE settled IS NOT NULL;
CREATE INDEX containers_version_1 ON containers (digest) WHERE raw IS NULL AND key IS NULL;
CREATE TABLE domains (
    container INTEGER NOT NULL,
    name BLOB NOT NULL,
    PRIMARY KEY (container, name)
) WITHOUT ROWID;
CREATE INDEX domains_name ON domains (name, container);
CREATE TABLE events (
    container INTEGER NOT NULL,
    position INTEGER,
    time REAL NOT NULL,
    kind TEXT NOT NULL,
    text BLOB NOT NULL,
    vm_name BLOB
);
CREATE INDEX events_container ON events (container);
CREATE TRIGGER forget AFTER DELETE ON containers BEGIN
    DELETE FROM domains WHERE container = old.number;
    DELETE FROM events WHERE container = old.number;
END;
CREATE TABLE packets (
    packet INTEGER PRIMARY KEY,
    container INTEGER NOT NULL,
    session INTEGER NOT NULL,
    run INTEGER NOT NULL,
    connection INTEGER NOT NULL
);
CREATE TABLE runs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    boot TEXT NOT NULL
);
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value NOT NULL
) WITHOUT ROWID;
"""
"""Times:
- `clock` is a reading of the monotonic clock, valid for the boot of its run.
- `settled` is in seconds of the journal's own running time, see `Run.seconds`.
- The other times are seconds since 1970, for people. No decision depends on them.

`followed` is 2 if a message other than an order has come since with the same id. It is 1 for an
order that may affect any domain. `raw` is NULL with a key. It is also NULL for an order of version
1 that the broker may repeat. `packets` has the newest use of each packet id, unless that was an
order with a key.

`noted` is 1 if the first member was passed to the hypervisor, so most orders need no row of
`members`. `began` is the time at which it began to act, if that was with the acceptance.
"""

_MEMBERS = """
CREATE TABLE members (
    container INTEGER NOT NULL,
    position INTEGER NOT NULL,
    results BLOB,
    notes BLOB,
    PRIMARY KEY (container, position)
) WITHOUT ROWID;
"""

_FROM_VERSION_2 = """
ALTER TABLE containers ADD COLUMN noted INTEGER NOT NULL DEFAULT 0;
ALTER TABLE containers ADD COLUMN began REAL;
"""
"""In journals of version 2, `members` and `events` have the beginning of the first member, too."""
_NEW_IN_VERSION_3: Final = frozenset({"containers.noted", "containers.began"})

_BEFORE_UPGRADE = """
DROP INDEX containers_id;
DROP INDEX containers_state;
ALTER TABLE containers RENAME TO old;
"""
_AFTER_UPGRADE = """
INSERT INTO containers (number, id, digest, raw, accepted, confirmed, settled, state, cancelled,
                        payload, answer)
    SELECT number, id, digest, iif(acknowledged, x'', NULL), accepted, confirmed,
           iif(state = 2, 0, NULL), state, cancelled, payload, answer FROM old;
INSERT INTO sqlite_sequence (name, seq)
    SELECT 'containers', seq FROM sqlite_sequence
    WHERE name = 'old' AND NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'containers');
UPDATE sqlite_sequence SET seq = (SELECT seq FROM sqlite_sequence WHERE name = 'old')
    WHERE name = 'containers';
DROP TABLE old;
"""
"""Confirmed orders count as confirmed now, because their wall clock proves nothing.

No order has an empty `raw`.
"""

_META: Final = frozenset(
    {"identity", "began", "seconds", "session", "fresh-run", "fresh-connection"}
)
"""The names of the facts in `meta` that each journal has from its beginning."""

ACCEPTED, ANSWERED, CONFIRMED = 0, 1, 2


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
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise JournalError(
                f"the journal {path} is of a newer fastlib (version {version} of its tables, "
                f"this one knows {VERSION}); use that one, or another file"
            )
        if version == 0:
            _make(connection, f"{_CONTAINERS} {_MEMBERS}", now)
        elif version == 1:
            _make(connection, f"{_BEFORE_UPGRADE} {_CONTAINERS} {_AFTER_UPGRADE}", now)
        elif version == 2:
            _check_layout(connection, path, later=_NEW_IN_VERSION_3)
            connection.executescript(
                f"BEGIN IMMEDIATE; {_FROM_VERSION_2} PRAGMA user_version = {VERSION}; COMMIT"
            )
        else:
            _check_layout(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _check_layout(
    connection: sqlite3.Connection, path: Path | str | None, later: Set[str] = frozenset()
) -> None:
    """Refuse tables that differ from those of this fastlib, except for `later` columns."""
    with closing(sqlite3.connect(":memory:")) as new:
        new.executescript(f"{_CONTAINERS} {_MEMBERS}")
        missing = _columns(new) - _columns(connection) - later
    if not missing:
        names = {name for (name,) in connection.execute("SELECT name FROM meta")}
        missing = {f"meta.{name}" for name in _META - names}
    if missing:
        raise JournalError(
            f"the journal {path} was made by an unreleased fastlib, and this one cannot read it "
            f"({', '.join(sorted(missing))} missing); use the fastlib that made it until all "
            "orders are answered, or move the file away: a new journal does not have the earlier "
            "orders"
        )


def _columns(connection: sqlite3.Connection) -> set[str]:
    query = (
        "SELECT tables.name || '.' || columns.name"
        " FROM sqlite_master AS tables, pragma_table_info(tables.name) AS columns"
        " WHERE tables.type = 'table'"
    )
    return {name for (name,) in connection.execute(query)}


def _make(connection: sqlite3.Connection, tables: str, now: float) -> None:
    """Make or upgrade the tables in one transaction, and give the journal its identity."""
    application = secrets.randbelow(1 << 31)  # distinguishes the file from another journal
    connection.executescript(
        f"BEGIN IMMEDIATE; {tables} PRAGMA user_version = {VERSION};"
        f" PRAGMA application_id = {application}"
    )
    set_meta(connection, "identity", secrets.token_hex(16))
    # Version 1 has forgotten some orders, and does not have the domains of the others.
    set_meta(connection, "began", now)
    set_meta(connection, "seconds", 0.0)
    set_meta(connection, "session", 0)
    set_fresh(connection, (0, 0))
    connection.execute("COMMIT")


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
    (settled,) = connection.execute("SELECT max(settled) FROM containers").fetchone()
    (session,) = connection.execute("SELECT max(session) FROM packets").fetchone()
    newest = connection.execute(
        "SELECT accepted FROM containers ORDER BY number DESC LIMIT 1"
    ).fetchone()
    if host is not None:
        set_meta(connection, "host", key(host))
    used = connection.execute(
        "SELECT seq FROM sqlite_sequence WHERE name = 'containers'"
    ).fetchone()
    return Run(
        number=number,
        is_new=number == 1 and used is None,
        identity=meta["identity"],
        began=meta["began"],
        seconds=max(meta["seconds"], settled or 0.0),
        session=max(meta["session"], session or 0),
        fresh=(meta["fresh-run"], meta["fresh-connection"]),
        earlier_host=text(meta.get("host")),
        order=0 if used is None else used[0],
        newest=None if newest is None else newest[0],
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
        "SELECT min(time) FROM (SELECT began AS time FROM containers WHERE number = ?1"
        " UNION ALL SELECT time FROM events WHERE container = ?1 AND kind = 'begun')"
    )
    row: tuple[float | None] = connection.execute(query, (number,)).fetchone()
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
    forgotten: float | None
    last: int | None
    forgotten, last = connection.execute(
        "SELECT max(accepted), max(number) FROM containers WHERE settled < ?", (oldest,)
    ).fetchone()
    connection.execute("DELETE FROM containers WHERE settled < ?", (oldest,))
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
        last = max(numbers[-1][0], last or 0)
    if forgotten is not None:
        (began,) = connection.execute("SELECT value FROM meta WHERE name = 'began'").fetchone()
        forgotten = max(float(began), forgotten)
        set_meta(connection, "began", forgotten)
        connection.execute(
            "DELETE FROM packets WHERE container <= ?"
            " AND container NOT IN (SELECT number FROM containers)",
            (last,),
        )
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    for _ in range(free):  # each call gives one page back, as the module sqlite3 steps only once
        connection.execute("PRAGMA incremental_vacuum(1)")
    return forgotten


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
        " FROM containers LEFT JOIN runs ON runs.number = run WHERE state = ?"
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
    query = "SELECT number, id, answer, host FROM containers WHERE state = ? ORDER BY number"
    return [
        Unconfirmed(number, text(id), answer, text(host))
        for number, id, answer, host in connection.execute(query, (ANSWERED,))
    ]
