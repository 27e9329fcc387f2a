"""The lock of a journal: one daemon at a time writes it."""

from pathlib import Path

from fastlib.migfra.errors import JournalError
from fastlib.migfra.service.lock import InstanceLock, check_lock_file


def lock_of(journal: Path) -> Path:
    """Return the path of the lock file of a journal."""
    return Path(f"{journal}.lock")


def lock_journal(journal: Path) -> InstanceLock:
    """Lock a journal. Raises JournalError, and RunningError if another process has it."""
    try:
        return InstanceLock(lock_of(journal))
    except OSError as error:
        raise _cannot_be_kept(journal, error) from error


def check_journal_lock(journal: Path) -> None:
    """Raise the JournalError with which `lock_journal` would fail. Leave no trace."""
    try:
        check_lock_file(lock_of(journal))
    except OSError as error:
        raise _cannot_be_kept(journal, error) from error


def _cannot_be_kept(journal: Path, error: OSError) -> JournalError:
    return JournalError(
        f"the journal cannot be kept at {journal}: {error}; 'journal: {{path: ...}}' in "
        "the configuration names another place"
    )
