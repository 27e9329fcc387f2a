"""Check whether a journal can be opened, without any change."""

import os
import shutil
import sqlite3
from os import geteuid
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from fastlib.migfra.errors import JournalError
from fastlib.migfra.own_files import check_own_file, check_own_folder

from .journal_file import cannot_be_opened
from .lock import check_journal_lock
from .position import SUFFIX
from .schema import SQLITE_FILES, open_tables

NEW_JOURNAL_BYTES: Final = 128 << 10
"""Free space in bytes that a new journal needs at the start."""
OLD_JOURNAL_BYTES: Final = 64 << 10
"""Free space in bytes that a start needs to continue a journal."""


def check_journal(path: Path, *, is_in_use: bool = False) -> None:
    """Raise the JournalError with which a daemon would fail to open a journal.

    The content of a journal that is in use is not checked, because it changes meanwhile.
    """
    check_journal_lock(path)
    try:
        if not is_in_use:
            _check_room(path)
        folder = path.absolute().parent
        check_own_folder(folder)
        if not folder.exists():
            return
        check_own_file(path, os.O_RDWR, correct_mode=True)
        for end in (*SQLITE_FILES, SUFFIX):
            check_own_file(f"{path}{end}", os.O_RDWR, correct_mode=end != SUFFIX)
        if path.exists() and not is_in_use:
            _check_content(path)
    except (sqlite3.Error, OSError) as error:
        raise cannot_be_opened(path, error) from error


def _check_room(path: Path) -> None:
    """Raise JournalError if the disk is too full to make or to continue a journal."""
    folder = next(each for each in path.absolute().parents if each.exists())
    needed = OLD_JOURNAL_BYTES if path.exists() else NEW_JOURNAL_BYTES
    free = _free_bytes(folder)
    if free < needed:
        raise JournalError(
            f"the journal {path} cannot be opened: its disk has {free >> 10} KiB free, and a start "
            f"needs {needed >> 10} KiB; free space on the disk, or name another place with "
            "'journal: {path: ...}' in the configuration"
        )


def _free_bytes(folder: Path) -> int:
    """Return the bytes that this user may still write. Only root may use all free blocks."""
    try:
        disk = os.statvfs(folder)
    except OSError:  # the other checks report a folder that cannot be used
        return NEW_JOURNAL_BYTES
    if disk.f_blocks == 0:  # such as a remote file system that does not know its size
        return NEW_JOURNAL_BYTES
    return (disk.f_bfree if geteuid() == 0 else disk.f_bavail) * disk.f_frsize


def _check_content(path: Path) -> None:
    """Open a copy, because SQLite writes to the file that it opens.

    Raises JournalError and sqlite3.Error.
    """
    with TemporaryDirectory(prefix="migfra-check-") as folder:
        copy = Path(folder, "journal")
        for end in ("", *SQLITE_FILES):
            if end != "-shm" and os.path.exists(f"{path}{end}"):
                shutil.copyfile(f"{path}{end}", f"{copy}{end}")
        try:
            open_tables(copy).close()
        except JournalError as error:
            raise JournalError(str(error).replace(str(copy), str(path))) from error
