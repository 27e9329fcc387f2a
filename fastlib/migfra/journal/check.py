"""Check whether a journal can be opened, without any change."""

import os
import shutil
import sqlite3
from pathlib import Path
from tempfile import TemporaryDirectory

from fastlib.migfra.errors import JournalError
from fastlib.migfra.own_files import check_own_file, check_own_folder

from .journal_file import cannot_be_opened
from .lock import check_journal_lock
from .position import SUFFIX
from .schema import SQLITE_FILES, open_tables


def check_journal(path: Path, *, is_in_use: bool = False) -> None:
    """Raise the JournalError with which a daemon would fail to open a journal.

    The content of a journal that is in use is not checked, because it changes meanwhile.
    """
    check_journal_lock(path)
    try:
        folder = path.absolute().parent
        check_own_folder(folder)
        if not folder.exists():
            return
        check_own_file(path, os.O_RDWR, correct_mode=True)
        for end in (*SQLITE_FILES, SUFFIX):
            if os.path.lexists(f"{path}{end}"):
                check_own_file(f"{path}{end}", os.O_RDWR, correct_mode=end != SUFFIX)
        if path.exists() and not is_in_use:
            _check_content(path)
    except (sqlite3.Error, OSError) as error:
        raise cannot_be_opened(path, error) from error


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
