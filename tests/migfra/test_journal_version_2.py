"""A journal of version 2 of the tables, upgraded in place.

In version 2, the beginning of the first member is in `members` and `events`.
"""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from fastlib.migfra.errors import JournalError
from fastlib.migfra.journal import schema
from fastlib.migfra.journal.acceptance import Acceptance
from fastlib.migfra.journal.journal import Journal
from fastlib.migfra.journal.repetition import Origin
from fastlib.migfra.journal.schema import MemberState

TABLES = """
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
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
    answer BLOB
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
CREATE TABLE members (
    container INTEGER NOT NULL,
    position INTEGER NOT NULL,
    results BLOB,
    notes BLOB,
    PRIMARY KEY (container, position)
) WITHOUT ROWID;
PRAGMA user_version = 2;
"""
ROWS = """
INSERT INTO runs (boot) VALUES ('boot');
INSERT INTO meta VALUES ('identity', 'abc'), ('began', 1.0), ('seconds', 2.0), ('session', 3),
    ('fresh-run', 1), ('fresh-connection', 1);
INSERT INTO containers (id, key, digest, run, accepted, state, payload)
    VALUES (x'61', x'6b31', x'01', 1, 5, 0, x'ff');
INSERT INTO containers (id, key, digest, run, accepted, answered, confirmed, settled, state, answer)
    VALUES (x'62', x'6b32', x'02', 1, 6, 8, 9, 2, 2, x'ee');
INSERT INTO members VALUES (1, 0, NULL, x'7b2278223a317d');
INSERT INTO events VALUES (1, 0, 5.5, 'begun', x'', NULL), (2, 0, 7, 'begun', x'', NULL);
INSERT INTO packets VALUES (7, 1, 3, 1, 1);
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "journal"
    with closing(sqlite3.connect(path, isolation_level=None)) as old:
        old.executescript(TABLES)
        old.executescript(ROWS)
    return path


def test_version_2_is_upgraded_and_keeps_everything(path: Path) -> None:
    async def main() -> None:
        journal = Journal(path, host="node01")
        assert journal.identity == "abc"
        (left,) = await journal.unfinished()
        assert (left.number, left.id) == (1, "a")
        assert left.members == {0: MemberState(None, {"x": 1})}
        known = await journal.accept("b", b"\2", b"p", key="k2")
        assert known == Acceptance("answered", 2, b"\xee", 7.0)
        (record,) = await journal.history("b")
        assert record.began == 7.0
        assert [event.kind for event in record.events] == [
            "accepted", "begun", "answered", "confirmed", "repeated",
        ]  # fmt: skip
        number = (await journal.accept("c", b"\3", b"q", key="k3", origin=Origin(7))).number
        assert number == 3
        await journal.close()

    asyncio.run(main())
    with closing(sqlite3.connect(path)) as upgraded:
        assert upgraded.execute("PRAGMA user_version").fetchone() == (4,)
        # An order with a key has come with the packet id of the first order.
        assert upgraded.execute("SELECT count(*) FROM packets").fetchone() == (0,)


def test_upgraded_journal_is_opened_again_without_another_change(path: Path) -> None:
    asyncio.run(Journal(path).close())
    asyncio.run(Journal(path).close())
    with (
        closing(sqlite3.connect(path)) as upgraded,
        closing(schema.open_tables(path.with_name("new"))) as new,
    ):
        parts = "SELECT type, name, sql FROM sqlite_master ORDER BY type, name"
        assert upgraded.execute(parts).fetchall() == new.execute(parts).fetchall()


def test_unreleased_layout_of_version_2_is_refused_and_not_changed(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as old:
        old.execute("ALTER TABLE containers DROP COLUMN task")
    with pytest.raises(JournalError, match=r"unreleased fastlib.*containers\.task missing"):
        Journal(path)
    with closing(sqlite3.connect(path)) as refused:
        assert refused.execute("PRAGMA user_version").fetchone() == (2,)


def test_upgrade_that_fails_changes_nothing(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as old:
        old.execute("CREATE INDEX containers_vm_name ON domains (name)")
        before = old.execute("SELECT * FROM sqlite_master").fetchall()
    with pytest.raises(JournalError, match="cannot be opened: index containers_vm_name already"):
        Journal(path)
    with closing(sqlite3.connect(path)) as refused:
        assert refused.execute("PRAGMA user_version").fetchone() == (2,)
        assert refused.execute("SELECT * FROM sqlite_master").fetchall() == before
        assert refused.execute("SELECT count(*) FROM containers").fetchone() == (2,)
