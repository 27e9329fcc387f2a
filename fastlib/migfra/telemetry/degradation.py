"""Explain why the daemon accepts no tasks at present, with the remedy."""

import sqlite3
from pathlib import Path
from typing import Final

from fastlib.migfra.failures import describe

_REMEDIES: Final = {
    sqlite3.SQLITE_FULL: "free space on its disk",
    sqlite3.SQLITE_IOERR: "free space on its disk, or repair the disk",
    sqlite3.SQLITE_READONLY: "make it and its directory writable",
    sqlite3.SQLITE_PERM: "make it and its directory writable",
    sqlite3.SQLITE_CANTOPEN: "make its directory writable",
    sqlite3.SQLITE_BUSY: "end the other program that has locked it",
    sqlite3.SQLITE_LOCKED: "end the other program that has locked it",
}
"""By the primary code of SQLite's error, its last byte."""


def degraded_by(error: Exception | None, journal: Path | str | None) -> str | None:
    """Return why no task is accepted, with the remedy; None if the journal can be written.

    `error` is the journal's last error. A JournalError names its remedy itself.
    """
    if error is None:
        return None
    if not isinstance(error, sqlite3.Error):
        return str(error) or describe(error)
    code = getattr(error, "sqlite_errorcode", None)
    remedy = _REMEDIES.get(code & 0xFF if code is not None else -1, "see the log of the daemon")
    where = "the journal" if journal is None else f"the journal {journal}"
    return (
        f"{where} cannot be written: {error}; {remedy}; the daemon then continues without a restart"
    )
