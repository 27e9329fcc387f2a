"""Execute operations on SQLite in one transaction, and report which one failed."""

import sqlite3
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final

Operation = Callable[[sqlite3.Connection], Any]

_NOT_RETRIED: Final = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.InterfaceError,
    sqlite3.NotSupportedError,
    sqlite3.ProgrammingError,
)
"""Errors of SQLite that another attempt would not change."""


def is_temporary(error: sqlite3.Error) -> bool:
    """Return whether another attempt may succeed, such as for a lock or a full disk."""
    wrong_statement = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR
    return not wrong_statement and not isinstance(error, _NOT_RETRIED)


class OperationError(Exception):
    """An operation raised an error of its own, and the transaction must continue without it."""

    def __init__(self, position: int, error: Exception) -> None:
        """`position` is that of the operation in the transaction."""
        self.position: Final = position
        self.error: Final = error


def execute_all(connection: sqlite3.Connection, operations: Iterable[Operation]) -> list[Any]:
    """Execute operations in one transaction; return their results once it is committed.

    Raises sqlite3.Error if the transaction failed, and OperationError if one operation did. Then
    none of its changes are committed.
    """
    if connection.in_transaction:  # the last rollback also failed
        connection.execute("ROLLBACK")
    connection.execute("BEGIN IMMEDIATE")
    try:
        results = [
            execute(connection, operation, position)
            for position, operation in enumerate(operations)
        ]
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            with suppress(sqlite3.Error):  # the first error has the cause
                connection.execute("ROLLBACK")
        raise
    return results


def execute(connection: sqlite3.Connection, operation: Operation, position: int) -> Any:
    """Execute one operation of a transaction. Raises as `execute_all`."""
    try:
        return operation(connection)
    except StopIteration as error:  # a future cannot have it
        raise OperationError(position, RuntimeError(f"it raised {error!r}")) from error
    except Exception as error:
        if isinstance(error, sqlite3.Error) and is_temporary(error):
            raise
        raise OperationError(position, error) from error
