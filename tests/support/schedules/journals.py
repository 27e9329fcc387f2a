"""Close the journals of crashed daemons at the end of a cluster: their processes live on here."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from unittest import mock

from fastlib.migfra.journal.journal import Journal

_really_open: Final = Journal.__init__


@contextmanager
def closing_journals() -> Iterator[None]:
    """Close all journals that are opened in the block at its end.

    A daemon that crashes closes none, so the next one recovers from the write-ahead log.
    """
    opened: list[Journal] = []

    def open_and_note(journal: Journal, *arguments: Any, **named: Any) -> None:
        _really_open(journal, *arguments, **named)
        opened.append(journal)

    try:
        with mock.patch.object(Journal, "__init__", open_and_note):
            yield
    finally:
        for journal in opened:
            _close(journal)


def _close(journal: Journal) -> None:
    journal._file.connection.close()
    for file in (journal._file._watch, journal._file._position_file):
        if file is not None:
            file.close()
