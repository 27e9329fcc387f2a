"""Notices that the file of the journal was deleted, replaced or truncated while it is open.

SQLite goes on writing to a deleted file without an error, and the next run would not find what was
written. The watch compares what is at the path with what was opened.
"""

import os
import struct
from pathlib import Path
from typing import Final

MAGIC: Final = b"SQLite format 3\0"
_LARGEST_PAGE: Final = 65536
"""Bytes; the header has 1 for it."""


class FileWatch:
    """The files of an open database: itself and its write-ahead log.

    It keeps a descriptor of its own. Opening and closing one later would drop the locks that SQLite
    has on the file. So close the watch after the database.
    """

    def __init__(self, path: Path | str) -> None:
        """Watch a file that is there. Raises OSError."""
        self._path = Path(path)
        self._descriptor = os.open(self._path, os.O_RDONLY)
        self._log: tuple[int, int] | None = None
        self._closed = False

    def problem(self) -> str | None:
        """Return what happened to the file, None if nothing did."""
        if self._closed:
            return None
        opened = os.fstat(self._descriptor)
        at_path = _identity(self._path)
        if at_path is None:
            return "was deleted"
        if at_path != (opened.st_dev, opened.st_ino):
            return "was replaced by another file"
        if opened.st_size < _declared_size(os.pread(self._descriptor, 100, 0)):
            return "was truncated or overwritten"
        return self._problem_of_the_log()

    def _problem_of_the_log(self) -> str | None:
        log = _identity(Path(f"{self._path}-wal"))
        if self._log is None:
            self._log = log  # SQLite makes it with the first transaction
        elif log is None:
            return "has lost its write-ahead log (-wal), which was deleted"
        elif log != self._log:
            return "has another write-ahead log (-wal) than before"
        return None

    def close(self) -> None:
        """Close the descriptor; there are no problems any more."""
        if not self._closed:
            self._closed = True
            os.close(self._descriptor)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:  # a folder that is gone or may not be read hides the file as well
        return None
    return found.st_dev, found.st_ino


def _declared_size(header: bytes) -> int:
    """Return the least size in bytes of a file with this header.

    The header of a file that was emptied or overwritten declares more than any file has.
    """
    if not header.startswith(MAGIC) or len(header) < 100:
        return 1 << 63
    (page,) = struct.unpack_from(">H", header, 16)
    (pages,) = struct.unpack_from(">I", header, 28)
    return (_LARGEST_PAGE if page == 1 else page) * int(pages)
