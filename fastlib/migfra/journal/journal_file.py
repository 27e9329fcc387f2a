"""The file of a journal: open it, watch it, and note its position beside it."""

import sqlite3
from contextlib import ExitStack
from pathlib import Path
from typing import Final
from uuid import uuid4

from fastlib.clock import Clock
from fastlib.migfra.errors import JournalError

from . import schema
from .file_watch import FileWatch
from .position import Position, PositionFile, is_older_copy

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class JournalFile:
    """The open database of a journal, with the run that has begun in it.

    It is in memory if its path is None. Then it has no watch and no file beside it.
    """

    def __init__(self, path: Path | str | None, host: str | None, clock: Clock) -> None:
        """Open the file, and begin a run. `host` is the name of the host.

        Raises JournalError.
        """
        self.path: Final = path
        self.boot: Final = _boot_id()
        with ExitStack() as parts:
            try:
                self.connection, self.run = schema.open_journal(path, host, self.boot, clock.now())
                parts.callback(self.connection.close)
                (application,) = self.connection.execute("PRAGMA application_id").fetchone()
                self._watch = None if path is None else FileWatch(path, application)
                self._position_file = None if path is None else PositionFile(path)
            except (sqlite3.Error, OSError) as error:
                raise cannot_be_opened(path, error) from error
            parts.pop_all()
        self.newest_order = self.run.order
        """The number of the newest order, 0 before the first one."""
        self.began = self.run.began
        """Time since which it has all orders, in seconds since 1970."""
        self.is_older_copy: Final = self._look_at_position(clock)
        """Whether the file was replaced by an older copy of itself: it misses newer orders."""

    def _look_at_position(self, clock: Clock) -> bool:
        """Return whether the file beside it has a newer position, and overwrite that."""
        if self._position_file is None:
            return False
        position = Position(self.run.identity, self.run.number, self.newest_order)
        is_older = is_older_copy(self._position_file.read(), self.run.number, position)
        if is_older:  # from now on it has all orders again
            self.began = clock.now()
            schema.set_meta(self.connection, "began", self.began)
        self._position_file.write(position)
        return is_older

    def note_order(self, number: int) -> None:
        """Note the number of the newest order in the file beside it."""
        self.newest_order = number
        if self._position_file is not None:
            self._position_file.write(Position(self.run.identity, self.run.number, number))

    def size(self) -> int:
        """Bytes of the files; 0 in memory."""
        if self.path is None:
            return 0
        files = (Path(f"{self.path}{suffix}") for suffix in ("", "-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    def find_problem(self) -> str | None:
        """Return the damage to the file, with the remedy; None without damage."""
        problem = None if self._watch is None else self._watch.problem()
        if problem is None:
            return None
        return (
            f"the file of the journal, {self.path}, {problem}; the daemon accepts no more tasks, "
            "and finishes those that run; put the old file back if you have it, and start the "
            "daemon again"
        )

    def close_others(self) -> None:
        """Close the watch and the file beside it. The database must be closed before."""
        if self._watch is not None:
            self._watch.close()
        if self._position_file is not None:
            self._position_file.close()


def cannot_be_opened(path: Path | str | None, error: Exception) -> JournalError:
    """Return the error about a journal that cannot be opened, with the remedy."""
    return JournalError(f"the journal {path} cannot be opened: {error}{_remedy(error)}")


def _remedy(error: Exception) -> str:
    """Return the remedy for a file that no retry can open, an empty text for other errors."""
    if getattr(error, "sqlite_errorcode", None) not in (
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_CORRUPT,
    ):
        return ""
    return (
        "; replace it by a good copy, or move it away: a new journal does not have the earlier "
        "orders"
    )


def _boot_id() -> str:
    """Return the identity of this boot of the host. Without one, each run counts as a boot."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return uuid4().hex
