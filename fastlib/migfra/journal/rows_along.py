"""Rows that may wait for the next transaction, and are written together."""

import sqlite3
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from .group_commit import GroupCommit, Operation

Row = tuple[Any, ...]


class RowsAlong:
    """A queue of rows. Adding one costs less than an operation of its own."""

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
        self._rows: deque[Row] = deque()
        self._submitted = False

    def add(self, row: Row) -> None:
        """Let a row be written; returns at once."""
        self._rows.append(row)
        if not self._submitted:
            self._submitted = True
            self._group_commit.submit_along(self._operation(), self._seconds)

    def _operation(self) -> Operation:
        rows: list[Row] = []  # kept, as the transaction may be repeated

        def write(connection: sqlite3.Connection) -> None:
            self._submitted = False
            with suppress(IndexError):
                while True:
                    rows.append(self._rows.popleft())
            self._write(connection, rows)

        return write
