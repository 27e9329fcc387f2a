"""The reason why a daemon accepts no tasks, with the remedy."""

import sqlite3
from pathlib import Path

import pytest

from fastlib.migfra.errors import JournalError
from fastlib.migfra.telemetry.degradation import degraded_by

JOURNAL = Path("/var/lib/migfra/node01.journal")


def database_error(text: str, code: int) -> sqlite3.Error:
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    return error


def test_daemon_whose_journal_can_be_written_is_not_degraded() -> None:
    assert degraded_by(None, JOURNAL) is None


@pytest.mark.parametrize(
    ("text", "code", "remedy"),
    [
        ("database or disk is full", sqlite3.SQLITE_FULL, "free space on its disk"),
        ("disk I/O error", sqlite3.SQLITE_IOERR_WRITE, "free space on its disk, or repair"),
        ("attempt to write a readonly database", sqlite3.SQLITE_READONLY, "make it and its dir"),
        ("database is locked", sqlite3.SQLITE_BUSY, "end the other program"),
        ("out of memory", sqlite3.SQLITE_NOMEM, "see the log of the daemon"),
    ],
)
def test_error_of_the_database_has_a_remedy(text: str, code: int, remedy: str) -> None:
    said = degraded_by(database_error(text, code), JOURNAL)
    assert said is not None
    assert said.startswith(f"the journal {JOURNAL} cannot be written: {text}; {remedy}")


def test_error_without_a_code_and_a_file_is_reported() -> None:
    assert degraded_by(sqlite3.OperationalError("odd"), None) == (
        "the journal cannot be written: odd; see the log of the daemon; the daemon then continues "
        "without a restart"
    )


def test_error_of_the_journal_names_its_remedy_itself() -> None:
    assert degraded_by(JournalError("the file was deleted; start the daemon again"), JOURNAL) == (
        "the file was deleted; start the daemon again"
    )
