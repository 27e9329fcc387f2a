"""Rows that may wait for the next transaction and are written together."""

import sqlite3
from collections.abc import Callable
from typing import Any, Final

from .acceptance import add_names
from .group_commit import GroupCommit

Row = tuple[Any, ...]
_EVENT: Final = (
    "INSERT INTO events (container, position, time, kind, text, vm_name) VALUES (?, ?, ?, ?, ?, ?)"
)


class RowsAlong:
    """Collects rows. Adding one costs less than an operation of its own."""

    def __init__(
        self,
        group_commit: GroupCommit,
        write: Callable[[sqlite3.Connection, list[Row]], object],
        seconds: float,
    ) -> None:
        """`write` writes rows, at the latest `seconds` after the first of them was added."""
        self._group_commit: Final = group_commit
        self._write: Final = write
        self._seconds: Final = seconds
        self._rows: list[Row] | None = None
        """The rows of the operation that was submitted last, while more can be added."""

    def add(self, row: Row) -> None:
        """Add a row to the queue; returns at once."""
        if self._rows is None:
            rows = self._rows = []
            self._group_commit.submit_along(
                lambda connection: self._write(connection, rows), self._seconds, self._end_rows
            )
        self._rows.append(row)

    def cut(self) -> None:
        """Write further rows after the operations that are submitted ahead next."""
        self._rows = None

    def _end_rows(self, may_wait: bool) -> bool:
        """Add no more to rows that are being written."""
        self._rows = None
        return True


def write_notes(connection: sqlite3.Connection, rows: list[Row]) -> None:
    """Write events of orders. The orders can be found by the domains of the events, too."""
    connection.executemany(_EVENT, rows)
    add_names(connection, ((row[0], row[-1]) for row in rows if row[-1] is not None))


def write_confirmations(connection: sqlite3.Connection, rows: list[Row]) -> None:
    """Write that the broker has confirmed answers."""
    connection.executemany(
        "UPDATE containers SET state = ?, confirmed = ?, settled = ? WHERE number = ?", rows
    )
