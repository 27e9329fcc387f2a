"""The steps of the files: locks, the log, the journal."""

from collections.abc import Iterator

from fastlib.migfra.errors import JournalError, RunningError
from fastlib.migfra.journal.check import check_journal
from fastlib.migfra.service.lock import check_lock_file
from fastlib.migfra.telemetry.logs import check_log

from .findings import NOWHERE, Finding, StartUp


def check_lock(start: StartUp) -> Iterator[Finding]:
    """Check that the lock of this configuration can be made, and that no daemon has it."""
    try:
        check_lock_file(start.lock)
    except OSError as error:
        yield Finding(NOWHERE, error)
    held = start.held_lock()
    if held is not None:
        # An operator checks a configuration before the restart of the running daemon.
        path, process = held
        yield Finding(NOWHERE, RunningError(str(path), process or None), "warning")


def check_log_file(start: StartUp) -> Iterator[Finding]:
    """Check that lines can be added to the log file."""
    if start.log_file is not None:
        try:
            check_log(start.log_file)
        except OSError as error:
            yield Finding(NOWHERE, error)


def check_journal_file(start: StartUp) -> Iterator[Finding]:
    """Check that the journal can be opened or made."""
    try:
        is_in_use = start.running() is not None
        check_journal(start.configuration.journal_path(), is_in_use=is_in_use)
    except JournalError as error:
        yield Finding(("journal", "path"), error)
