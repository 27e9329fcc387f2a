"""A journal of version 1 of the tables, upgraded in place."""

import sqlite3
from contextlib import closing
from pathlib import Path

from fastlib.migfra.journal import schema
from fastlib.migfra.journal.schema import MemberState

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
INSERT INTO members VALUES (1, 0, NULL, NULL);
PRAGMA user_version = 1;
"""


def test_version_1_is_upgraded_and_keeps_what_is_owed(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with closing(sqlite3.connect(path, isolation_level=None)) as old:
        old.executescript(VERSION_1)
    connection, run = schema.open_journal(path, "node01", "boot", 100.0)
    with closing(connection):
        assert (run.number, run.began, run.seconds, run.earlier_host) == (1, 5.0, 0.0, None)
        (left,) = schema.unfinished(connection)
        assert (left.number, left.id, left.host) == (1, "a", None)
        assert left.members == {0: MemberState(None, {})}
        # A wall clock from the future does not count: it is confirmed at the journal's second 0.
        query = "SELECT settled FROM containers WHERE number = 2"
        assert connection.execute(query).fetchall() == [(0.0,)]
        query = "SELECT seq FROM sqlite_sequence WHERE name = 'containers'"
        assert connection.execute(query).fetchall() == [(3,)]  # no number is used again
    connection, again = schema.open_journal(path, "node02", "boot", 100.0)
    with closing(connection):
        assert (again.number, again.identity, again.earlier_host) == (2, run.identity, "node01")
