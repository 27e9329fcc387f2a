"""Detect that the file of the journal was deleted, replaced or truncated while it is open.

SQLite continues to write to a deleted file without an error, and the next run would not find these
writes. The watch compares the file at the path with the opened one.
"""

import os
import struct
from pathlib import Path
from time import time_ns
from typing import Final

MAGIC: Final = b"SQLite format 3\0"
HEADER_SIZE: Final = 100
"""Bytes of the header of a database; see https://www.sqlite.org/fileformat2.html."""
APPLICATION: Final = slice(68, 72)
"""Where `PRAGMA application_id` is in the header."""
GRANULARITY_NS: Final = 3 * 10**9
"""Nanoseconds. Each file system stores different times for two changes that are further apart."""
_LARGEST_PAGE: Final = 65536
"""Bytes; the header has 1 for it."""


class FileWatch:
    """The files of an open database: itself and its write-ahead log.

    It keeps a descriptor of its own. Opening and closing one later would drop the locks that SQLite
    has on the file. So close the watch after the database.
    """

    def __init__(self, path: Path | str, application: int) -> None:
        """Watch an existing file. `application` is its `PRAGMA application_id`. Raises OSError.

        The database may have that only in its write-ahead log.
        """
        self._path = os.fspath(path)
        self._log_path = f"{self._path}-wal"
        self._descriptor = os.open(self._path, os.O_RDONLY)
        self._opened = _identity(os.fstat(self._descriptor))
        self._size = 0
        self._unchanged: tuple[int, ...] = ()
        """Times and size of the file at the last good check, if any later change must change them.
        """
        now = _application(os.pread(self._descriptor, HEADER_SIZE, 0))
        self._applications = {now, struct.pack(">I", application)}
        self._log: tuple[int, int] | None = None
        self._closed = False

    def problem(self) -> str | None:
        """Return the damage to the file, such as "was deleted"; None without damage.

        It is called for most commits, and usually makes two system calls. So it is one function for
        the usual case.
        """
        if self._closed:
            return None
        try:
            at_path = os.stat(self._path)
        except OSError:  # a folder that is missing or unreadable also hides the file
            return "was deleted"
        if (at_path.st_dev, at_path.st_ino) != self._opened:
            return "was replaced by another file"
        state = at_path.st_ctime_ns, at_path.st_mtime_ns, at_path.st_size
        if state != self._unchanged:
            problem = self._problem_of_the_content(at_path.st_size)
            if problem is not None:
                return problem
            if max(state[0], state[1]) < time_ns() - GRANULARITY_NS:
                self._unchanged = state
        try:
            log = os.stat(self._log_path)
        except OSError:
            return self._problem_of_the_log(None)
        found = (log.st_dev, log.st_ino)
        return None if found == self._log else self._problem_of_the_log(found)

    def _problem_of_the_content(self, size: int) -> str | None:
        header = os.pread(self._descriptor, HEADER_SIZE, 0)
        if _application(header) not in self._applications:
            return "was overwritten"
        # A full disk can leave a file shorter than its header says, but never makes it shorter.
        before, self._size = self._size, size
        if size < min(before, _declared_size(header)):
            return "was truncated"
        return None

    def _problem_of_the_log(self, found: tuple[int, int] | None) -> str | None:
        """Return the damage if the log has another identity than before, or the first one."""
        if self._log is None:
            self._log = found  # SQLite makes it with the first transaction
        elif found is None:
            return "has lost its write-ahead log (-wal), which was deleted"
        elif found != self._log:
            return "has another write-ahead log (-wal) than before"
        return None

    def close(self) -> None:
        """Close the descriptor. Later checks find no problems."""
        if not self._closed:
            self._closed = True
            os.close(self._descriptor)


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _application(header: bytes) -> bytes | None:
    """Return the random number of a journal in the header of its file, None for other files."""
    return header[APPLICATION] if header.startswith(MAGIC) else None


def _declared_size(header: bytes) -> int:
    """Return the least size in bytes of a database with this header."""
    (page,) = struct.unpack_from(">H", header, 16)
    (pages,) = struct.unpack_from(">I", header, 28)
    return (_LARGEST_PAGE if page == 1 else page) * int(pages)
