"""A journal of version 1 of the tables, upgraded in place."""

import asyncio
import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path

from fastlib.migfra.journal import schema
from fastlib.migfra.journal.acceptance import Acceptance
from fastlib.migfra.journal.journal import Journal
from fastlib.migfra.journal.records import Event
from fastlib.migfra.journal.repetition import Origin
from fastlib.migfra.journal.schema import MemberState
from tests.support.clock import SetClock

VERSION_1 = """
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
CREATE TABLE containers (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB, digest BLOB NOT NULL,
    accepted REAL NOT NULL, confirmed REAL, state INTEGER NOT NULL,
    acknowledged INTEGER NOT NULL DEFAULT 0, cancelled INTEGER NOT NULL DEFAULT 0,
    payload BLOB, answer BLOB
);
CREATE UNIQUE INDEX containers_id ON containers (id) WHERE id IS NOT NULL;
CREATE INDEX containers_state ON containers (state, number);
CREATE TABLE members (
    container INTEGER NOT NULL, position INTEGER NOT NULL, results BLOB, notes BLOB,
    PRIMARY KEY (container, position)
) WITHOUT ROWID;
INSERT INTO containers (id, digest, accepted, state, payload) VALUES (x'61', x'01', 5, 0, x'ff');
INSERT INTO containers (id, digest, accepted, confirmed, state, answer)
    VALUES (x'62', x'02', 6, 9e9, 2, x'ee');
INSERT INTO containers (digest, accepted, state) VALUES (x'03', 7, 0);
DELETE FROM containers WHERE number = 3;
INSERT INTO containers (digest, accepted, acknowledged, state, answer)
    VALUES (x'04', 8, 0, 1, x'dd'), (x'05', 9, 1, 1, x'cc');
INSERT INTO members VALUES (1, 0, NULL, NULL);
PRAGMA user_version = 1;
"""


def test_version_1_is_upgraded_and_keeps_unanswered_orders(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with closing(sqlite3.connect(path, isolation_level=None)) as old:
        old.executescript(VERSION_1)
    connection, run = schema.open_journal(path, "node01", "boot", 100.0)
    with closing(connection):
        assert (run.number, run.began, run.seconds, run.earlier_host) == (1, 100.0, 0.0, None)
        (left,) = schema.unfinished(connection, "boot", 0.0)
        assert (left.number, left.id, left.host) == (1, "a", None)
        assert left.members == {0: MemberState(None, {})}
        # A wall clock from the future does not count: it is confirmed at the journal's second 0.
        query = "SELECT settled FROM containers WHERE number = 2"
        assert connection.execute(query).fetchall() == [(0.0,)]
        assert run.order == 5  # no number is used again
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        assert "old" not in {name for (name,) in tables}
    connection, again = schema.open_journal(path, "node02", "boot", 100.0)
    with closing(connection):
        assert (again.number, again.identity, again.earlier_host) == (2, run.identity, "node01")


def test_broker_repeats_an_order_of_version_1(tmp_path: Path) -> None:
    """Version 1 has no packet ids, so the content and the DUP flag are compared."""

    async def main() -> None:
        path = tmp_path / "journal"
        with closing(sqlite3.connect(path, isolation_level=None)) as old:
            old.executescript(VERSION_1)

        async def accept(id: str | None, digest: bytes, packet: int, *, dup: bool) -> Acceptance:
            origin = Origin(packet, dup, 1)
            return await journal.accept(id, digest, b"raw" + digest, origin=origin)

        journal = Journal(path, host="node01", repetition_window=0.0)
        for _ in range(2):
            assert await accept("a", b"\1", 1, dup=True) == Acceptance("unanswered", 1)
            assert await accept("b", b"\2", 2, dup=True) == Acceptance("answered", 2, b"\xee", 6.0)
            assert (await accept(None, b"\4", 3, dup=True)).number == 4
            await journal.close()
            journal = Journal(path, host="node01", repetition_window=0.0)
        # It was acknowledged, so the broker does not mean it; and an id with other content.
        assert (await accept(None, b"\5", 4, dup=True)).kind == "new"
        assert (await accept("a", b"\2", 5, dup=True)).kind == "new"
        # An id alone says nothing.
        assert (await accept("a", b"\1", 6, dup=False)).kind == "new"
        await journal.close()

    asyncio.run(main())


def test_order_of_version_1_is_found_like_any_other_after_its_repetition(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "journal"
        with closing(sqlite3.connect(path, isolation_level=None)) as old:
            old.executescript(VERSION_1)
        journal = Journal(path, digest_of=lambda payload: payload[:1])
        origin = Origin(1, duplicate=True, connection=1)
        found = await journal.accept("a", None, b"\1 in other bytes", origin=origin)
        assert found == Acceptance("unanswered", 1)
        (record,) = await journal.history("a")
        assert (record.events[-1].kind, record.events[-1].text) == ("repeated", "by the broker")
        await journal.close()
        with closing(sqlite3.connect(path)) as tables:
            raw = dict(tables.execute("SELECT number, raw FROM containers WHERE number < 3"))
        assert raw == {1: hashlib.sha256(b"\1 in other bytes").digest(), 2: None}

    asyncio.run(main())


def test_history_has_orders_of_version_1(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "journal"
        with closing(sqlite3.connect(path, isolation_level=None)) as old:
            old.executescript(VERSION_1)
        clock = SetClock()
        journal = Journal(path, host="node01", clock=clock)
        (found,) = await journal.history("b")
        assert (found.host, found.task, found.vm_names, found.key) == (None, None, (), None)
        assert (found.state, found.payload, found.answer) == ("confirmed", None, b"\xee")
        assert found.events == (Event(None, 6.0, "accepted"), Event(None, 9e9, "confirmed"))
        assert journal.began == clock.now()  # the upgrade
        await journal.close()

    asyncio.run(main())
