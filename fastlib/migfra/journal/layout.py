"""The layout of the tables of the journal: make them, or upgrade those of an older fastlib."""

import secrets
import sqlite3
from collections.abc import Set
from contextlib import closing
from pathlib import Path
from typing import Final

from fastlib.migfra.errors import JournalError

VERSION: Final = 4
"""Version of the tables. Those of a newer fastlib are refused, those of an older one are upgraded.
"""

_CONTAINERS = """
CREATE TABLE containers (
    number INTEGER PRIMARY KEY,
    id BLOB,
    key BLOB,
    digest BLOB NOT NULL,
    raw BLOB,
    run INTEGER NOT NULL DEFAULT 0,
    clock REAL NOT NULL DEFAULT 0,
    accepted REAL NOT NULL,
    began REAL,
    answered REAL,
    confirmed REAL,
    settled REAL,
    expires REAL,
    state INTEGER NOT NULL,
    cancelled INTEGER NOT NULL DEFAULT 0,
    followed INTEGER NOT NULL DEFAULT 0,
    noted INTEGER NOT NULL DEFAULT 0,
    host BLOB,
    task BLOB,
    vm_name BLOB,
    outcome BLOB,
    payload BLOB,
    answer BLOB
);
CREATE UNIQUE INDEX containers_key ON containers (key) WHERE key IS NOT NULL;
CREATE INDEX containers_id ON containers (id, number);
CREATE INDEX containers_raw ON containers (raw, number) WHERE raw IS NOT NULL;
CREATE INDEX containers_followed ON containers (id, number) WHERE followed > 0;
CREATE INDEX containers_open ON containers (state, number) WHERE state < 2;
CREATE INDEX containers_vm_name ON containers (vm_name, number) WHERE vm_name IS NOT NULL;
CREATE INDEX containers_version_1 ON containers (digest) WHERE raw IS NULL AND key IS NULL;
CREATE TRIGGER forget AFTER DELETE ON containers BEGIN
    DELETE FROM domains WHERE container = old.number;
    DELETE FROM events WHERE container = old.number;
END;
"""
"""Times:
- `clock` is a reading of the monotonic clock, valid for the boot of its run.
- `settled` is in seconds of the journal's own running time, see `Run.seconds`.
- The other times are seconds since 1970, for people. No decision depends on them.

`digest` is that of the content. It is empty if the payload was stored without computing it.

`followed` is 2 if a message other than an order has come since with the same id. It is 1 for an
order that may affect any domain. `raw` is NULL with a key. It is also NULL for an order of version
1 that the broker may repeat. `packets` has the newest use of each packet id, unless that was an
order with a key.

Most orders have one member and one domain. So the row of an order has what other orders have in
further tables, because each table and each index that a commit changes costs two writes:
- `vm_name` is the first domain. `domains` has the further ones.
- `noted` is 1 if the first member was passed to the hypervisor. `members` has the further ones.
- `began` is the time at which the first member began to act, if that was with the acceptance.
- `outcome` says how the only member ended, right before its answer.

For the same reason, `containers_open` has only the orders whose answer the broker may not have.
"""

_OTHERS = """
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

_MEMBERS = """
CREATE TABLE members (
    container INTEGER NOT NULL,
    position INTEGER NOT NULL,
    results BLOB,
    notes BLOB,
    PRIMARY KEY (container, position)
) WITHOUT ROWID;
"""

_META: Final = frozenset(
    {"identity", "began", "seconds", "session", "fresh-run", "fresh-connection", "order"}
)
"""The names of the facts in `meta` that each journal has from its beginning.

`order` is the number of the newest order that was forgotten. No number is used again.
"""

_FROM_VERSION_1: Final = (
    """
DROP INDEX containers_id;
DROP INDEX containers_state;
ALTER TABLE containers RENAME TO old;
""",
    _CONTAINERS,
    _OTHERS,
    """
INSERT INTO containers (number, id, digest, raw, accepted, confirmed, settled, state, cancelled,
                        payload, answer)
    SELECT number, id, digest, iif(acknowledged, x'', NULL), accepted, confirmed,
           iif(state = 2, 0, NULL), state, cancelled, payload, answer FROM old;
""",
)
"""Confirmed orders count as confirmed now, because their wall clock proves nothing.

No order has an empty `raw`.
"""

_IN_VERSION_2 = (
    "number, id, key, digest, raw, run, clock, accepted, answered, confirmed, settled, expires,"
    " state, cancelled, followed, host, task, payload, answer"
)
_IN_VERSION_3 = f"{_IN_VERSION_2}, noted, began"
"""In version 2, `members` and `events` have the begin of the first member, too.

In versions 2 and 3, `domains` has all domains, and `events` all ends.
"""
_NEW_IN_VERSION_4: Final = frozenset({"containers.vm_name", "containers.outcome", "meta.order"})
_NEW_IN_VERSION_3: Final = _NEW_IN_VERSION_4 | {"containers.noted", "containers.began"}

_TO_VERSION_4: Final = (
    """
DROP TRIGGER forget;
DROP INDEX containers_key;
DROP INDEX containers_id;
DROP INDEX containers_raw;
DROP INDEX containers_followed;
DROP INDEX containers_state;
DROP INDEX containers_settled;
DROP INDEX containers_version_1;
ALTER TABLE containers RENAME TO old;
""",
    _CONTAINERS,
    """
INSERT INTO containers (COLUMNS) SELECT COLUMNS FROM old;
UPDATE containers SET vm_name = (SELECT min(name) FROM domains WHERE container = number);
DELETE FROM domains
    WHERE name = (SELECT vm_name FROM containers WHERE number = container);
""",
)
"""`COLUMNS` are the columns of the orders before the upgrade."""

_DROP_OLD = """
INSERT INTO meta
    SELECT 'order', coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'old'), 0);
DROP TABLE old;
"""


def make_or_upgrade(connection: sqlite3.Connection, path: Path | str | None, now: float) -> None:
    """Make the tables in an empty database, or upgrade those of an older fastlib.

    Each happens as a whole or not at all. `now` is the wall clock, in seconds since 1970.

    Raises JournalError and sqlite3.Error.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise JournalError(
            f"the journal {path} is of a newer fastlib (version {version} of its tables, "
            f"this one knows {VERSION}); use that one, or another file"
        )
    if version == 0:
        _make(connection, f"{_CONTAINERS} {_OTHERS} {_MEMBERS}", now)
    elif version == 1:
        _make(connection, " ".join(_FROM_VERSION_1), now, old=True)
    elif version == 2:
        _check_layout(connection, path, later=_NEW_IN_VERSION_3)
        _upgrade(connection, _IN_VERSION_2)
    elif version == 3:
        _check_layout(connection, path, later=_NEW_IN_VERSION_4)
        _upgrade(connection, _IN_VERSION_3)
    else:
        _check_layout(connection, path)


def _make(connection: sqlite3.Connection, tables: str, now: float, *, old: bool = False) -> None:
    """Make the tables in one transaction, and give the journal its identity.

    With `old`, the table `old` has the orders before an upgrade, and is dropped.
    """
    application = secrets.randbelow(1 << 31)  # distinguishes the file from another journal
    connection.executescript(
        f"BEGIN IMMEDIATE; {tables} PRAGMA user_version = {VERSION};"
        f" PRAGMA application_id = {application}"
    )
    facts = {
        "identity": secrets.token_hex(16),
        # Version 1 has forgotten some orders, and does not have the domains of the others.
        "began": now,
        "seconds": 0.0,
        "session": 0,
        "fresh-run": 0,
        "fresh-connection": 0,
    }
    connection.executemany("INSERT INTO meta VALUES (?, ?)", facts.items())
    if old:
        for statement in _DROP_OLD.split(";"):  # `executescript` would commit first
            connection.execute(statement)
    else:
        connection.execute("INSERT INTO meta VALUES ('order', 0)")
    connection.execute("COMMIT")


def _upgrade(connection: sqlite3.Connection, columns: str) -> None:
    """Upgrade tables whose orders have these columns, in one transaction."""
    script = " ".join((*_TO_VERSION_4, _DROP_OLD)).replace("COLUMNS", columns)
    connection.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {VERSION}; COMMIT")


def _check_layout(
    connection: sqlite3.Connection, path: Path | str | None, later: Set[str] = frozenset()
) -> None:
    """Refuse tables that differ from those of this fastlib, except for what came `later`."""
    with closing(sqlite3.connect(":memory:")) as new:
        new.executescript(f"{_CONTAINERS} {_OTHERS} {_MEMBERS}")
        missing = columns_of(new) - columns_of(connection) - later
    if not missing:
        names = {name for (name,) in connection.execute("SELECT name FROM meta")}
        missing = {f"meta.{name}" for name in _META - names} - later
    if missing:
        raise JournalError(
            f"the journal {path} was made by an unreleased fastlib, and this one cannot read it "
            f"({', '.join(sorted(missing))} missing); use the fastlib that made it until all "
            "orders are answered, or move the file away: a new journal does not have the earlier "
            "orders"
        )


def columns_of(connection: sqlite3.Connection) -> set[str]:
    """Return all columns of a database, each with the name of its table."""
    query = (
        "SELECT tables.name || '.' || columns.name"
        " FROM sqlite_master AS tables, pragma_table_info(tables.name) AS columns"
        " WHERE tables.type = 'table'"
    )
    return {name for (name,) in connection.execute(query)}
