"""The tables of the journal: how they are made, read after a restart, and trimmed."""

import os
import sqlite3
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from fastlib.migfra.errors import JournalError

VERSION: Final = 1
"""Of the tables; those of a newer fastlib are refused."""
BUSY_SECONDS: Final = 2.0
"""How long another process may hold the database until a write counts as failed."""
TRIMMED_AT_ONCE: Final = 100

_TABLES = """
CREATE TABLE containers (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id BLOB,
    digest BLOB NOT NULL,
    accepted REAL NOT NULL,
    confirmed REAL,
    state INTEGER NOT NULL,
    acknowledged INTEGER NOT NULL DEFAULT 0,
    cancelled INTEGER NOT NULL DEFAULT 0,
    payload BLOB,
    answer BLOB
);
CREATE UNIQUE INDEX containers_id ON containers (id) WHERE id IS NOT NULL;
CREATE INDEX containers_state ON containers (state, number);
CREATE TABLE members (
    container INTEGER NOT NULL,
    position INTEGER NOT NULL,
    results BLOB,
    notes BLOB,
    PRIMARY KEY (container, position)
) WITHOUT ROWID;
"""

ACCEPTED, ANSWERED, CONFIRMED = 0, 1, 2


class MemberState(msgspec.Struct, frozen=True):
    """A member that was begun by an earlier run of the daemon."""

    results: bytes | None
    """JSON, None if it was under way."""
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
    """It may be a `cancel task`: its text has these words."""
    maybe_expires: bool
    """It may expire: its text has the word."""
    members: Mapping[int, MemberState]


def key(id: str | None) -> bytes | None:
    """An id as it stands in the tables; it may have what UTF-8 has not."""
    return None if id is None else id.encode("utf-8", "surrogatepass")


def _text(key: bytes | None) -> str | None:
    return None if key is None else key.decode("utf-8", "surrogatepass")


def open_tables(path: Path | str | None) -> sqlite3.Connection:
    """The database of a path, or one in memory. Raises JournalError, sqlite3.Error and OSError."""
    if path is not None:
        Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # tasks are nobody else's business
    connection = sqlite3.connect(
        ":memory:" if path is None else path,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,  # one thread at a time: GroupCommit ensures it
    )
    try:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # heeded while the file is empty
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise JournalError(
                f"the journal {path} is of a newer fastlib (version {version} of its tables, "
                f"this one knows {VERSION}); use that one, or another file"
            )
        if version == 0:
            connection.executescript(
                f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version = {VERSION}; COMMIT"
            )
    except BaseException:
        connection.close()
        raise
    return connection


def open_journal(
    path: Path | str | None,
) -> tuple[sqlite3.Connection, dict[bytes, deque[int]]]:
    """Return the database of a path, and its `unacknowledged`. Raises as `open_tables`."""
    connection = open_tables(path)
    try:
        return connection, unacknowledged(connection)
    except BaseException:
        connection.close()
        raise


def size(connection: sqlite3.Connection) -> int:
    """Bytes that are in use."""
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    return int((pages - free) * size)


def trim(connection: sqlite3.Connection, oldest: float, max_size: int) -> None:
    """Forget containers confirmed before `oldest`, and the oldest beyond `max_size`."""
    connection.execute(
        "DELETE FROM containers WHERE state = ? AND confirmed < ?", (CONFIRMED, oldest)
    )
    while size(connection) > max_size:
        deleted = connection.execute(
            "DELETE FROM containers WHERE number IN"
            " (SELECT number FROM containers WHERE state = ? ORDER BY number LIMIT ?)",
            (CONFIRMED, TRIMMED_AT_ONCE),
        ).rowcount
        if deleted == 0:  # the rest is still owed to somebody
            break
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    for _ in range(free):  # each call gives one page back, as the module sqlite3 steps only once
        connection.execute("PRAGMA incremental_vacuum(1)")


def unfinished(connection: sqlite3.Connection) -> list[Unfinished]:
    """The containers that are not answered, in order."""
    members: dict[int, dict[int, MemberState]] = {}
    for number, position, results, notes in connection.execute("SELECT * FROM members"):
        facts = {} if notes is None else msgspec.json.decode(notes)
        members.setdefault(number, {})[position] = MemberState(results, facts)
    query = (
        "SELECT number, id, accepted, cancelled, instr(payload, CAST('cancel task' AS BLOB)),"
        " instr(payload, CAST('expires' AS BLOB)) FROM containers WHERE state = ? ORDER BY number"
    )
    return [
        Unfinished(
            number,
            _text(id),
            accepted,
            bool(cancelled),
            bool(hint),
            bool(expires),
            members.get(number, {}),
        )
        for number, id, accepted, cancelled, hint, expires in connection.execute(query, (ACCEPTED,))
    ]


def unconfirmed(connection: sqlite3.Connection) -> list[tuple[int, str | None, bytes]]:
    """Numbers, ids and answers of the containers whose answer the broker may not have, in order."""
    query = "SELECT number, id, answer FROM containers WHERE state = ? ORDER BY number"
    return [
        (number, _text(id), answer) for number, id, answer in connection.execute(query, (ANSWERED,))
    ]


def unacknowledged(connection: sqlite3.Connection) -> dict[bytes, deque[int]]:
    """The containers without id of which the broker may not know that they are here, by digest."""
    found: dict[bytes, deque[int]] = {}
    query = (
        "SELECT digest, number FROM containers WHERE id IS NULL AND acknowledged = 0"
        " ORDER BY number"
    )
    for digest, number in connection.execute(query):
        found.setdefault(digest, deque()).append(number)
    return found
