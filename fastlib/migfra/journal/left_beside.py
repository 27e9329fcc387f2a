"""Find other journals with unfinished orders that no daemon uses.

A journal is named after its host. After a change of the host's name or of the path, the old journal
would stay behind unnoticed.
"""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fastlib.migfra.service.lock import holders

from . import schema


@dataclass(frozen=True)
class LeftBehind:
    """A journal that no daemon uses, with orders that are not answered."""

    path: Path
    host: str | None
    """The name of the host that it belongs to, None if it does not say."""
    unanswered: int
    unconfirmed: int
    """Answers that the broker may not have."""
    oldest: float
    """Time at which the oldest of these orders was accepted, in seconds since 1970 (UTC)."""

    def __str__(self) -> str:
        host = "" if self.host is None else f" of the host {self.host}"
        since = datetime.fromtimestamp(self.oldest, UTC).isoformat(timespec="seconds")
        remedy = "'journal: {path: ...}'"
        if self.host is not None:
            remedy = f"'hostname: {self.host}' or {remedy}"
        left = []
        if self.unanswered:
            orders = "1 order" if self.unanswered == 1 else f"{self.unanswered} orders"
            left.append(f"{orders} without an answer")
        if self.unconfirmed:
            answers = "1 answer" if self.unconfirmed == 1 else f"{self.unconfirmed} answers"
            left.append(f"{answers} that the broker may not have")
        return (
            f"the journal {self.path}{host}, which no daemon uses, has {' and '.join(left)}, the "
            f"oldest of {since}; a daemon with {remedy} in its configuration finishes them"
        )


def left_beside(paths: Iterable[Path]) -> list[LeftBehind]:
    """Return the journals with unfinished orders that no daemon uses.

    Unreadable files are not journals, and are left out.
    """
    found = []
    for path in sorted(set(paths)):
        if not path.is_file() or _is_in_use(path):
            continue
        try:
            left = _read(path)
        except (sqlite3.Error, OSError):
            continue
        if left is not None:
            found.append(left)
    return found


def _read(path: Path) -> LeftBehind | None:
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        connection.execute(f"PRAGMA busy_timeout = {int(schema.BUSY_SECONDS * 1000)}")
        counts = dict(
            connection.execute(
                "SELECT state, count(*) FROM containers WHERE state < 2 GROUP BY state"
            )
        )
        if not counts:
            return None
        (oldest,) = connection.execute(
            "SELECT min(accepted) FROM containers WHERE state < 2"
        ).fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        row = None
        if version >= 2:
            row = connection.execute("SELECT value FROM meta WHERE name = 'host'").fetchone()
        return LeftBehind(
            path,
            None if row is None else schema.text(row[0]),
            counts.get(schema.ACCEPTED, 0),
            counts.get(schema.ANSWERED, 0),
            oldest,
        )


def _is_in_use(path: Path) -> bool:
    """Return whether a daemon of this machine has locked the journal."""
    return bool(holders(Path(f"{path}.lock")))
