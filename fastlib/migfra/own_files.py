"""Open files that only this daemon should have: locks, logs, the journal.

Another user of the machine may have put something else in their place: a symbolic link to a file of
root, a file of that user, a named pipe. So a symbolic link as the last part of a path is not
followed, and a file of another user is refused.
"""

import errno
import os
import stat
from pathlib import Path
from typing import Final

from .file_systems import WITHOUT_FILES, file_system_of

PRIVATE: Final = 0o600
"""Mode of files that only their owner may read: orders have domain XML with passwords."""
_WITHOUT_NAMELESS_FILES: Final = (errno.ENOTSUP, errno.EISDIR, errno.ENOENT, errno.EINVAL)
"""The errors of file systems that take files with names only, such as NFS."""
LOG: Final = 0o640
"""Mode of a new log file: its group may read it."""


def open_own_file(path: Path | str, flags: int, mode: int, *, correct_mode: bool = False) -> int:
    """Open a file, or make it with a mode; return its descriptor.

    With `correct_mode`, permissions of an existing file that exceed the mode are removed. Raises
    OSError, also for a symbolic link, and for a file of another user if `correct_mode` is set.
    """
    _check_encodable(path)
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    except OSError as error:
        if error.errno == errno.ELOOP and os.path.islink(path):
            raise _link(path) from None
        raise
    if correct_mode:
        try:
            _correct_mode(path, descriptor, mode)
        except BaseException:
            os.close(descriptor)
            raise
    return descriptor


def protect_files(*paths: Path | str) -> None:
    """Give existing files the mode PRIVATE. Raises OSError as `open_own_file`."""
    for path in paths:
        try:
            os.close(open_own_file(path, os.O_RDONLY | os.O_NONBLOCK, PRIVATE, correct_mode=True))
        except FileNotFoundError:
            continue


def make_own_folder(folder: Path) -> None:
    """Make a folder with the mode 0700 if there is none.

    Raises OSError, also if the folder or a symbolic link in its place belongs to another user. Root
    may own both.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    owners = (os.lstat(folder).st_uid, os.stat(folder).st_uid)
    if not {*owners} <= {0, os.geteuid()}:
        raise PermissionError(errno.EPERM, "the directory belongs to another user", str(folder))


def _check_encodable(path: Path | str) -> None:
    """Raise OSError if the encoding of the locale does not have a character of a path."""
    try:
        os.fsencode(path)
    except UnicodeEncodeError as error:
        char = error.object[error.start]
        reason = (
            f"the encoding {error.encoding} of the locale does not have {char!a}; start the daemon "
            "with a locale of UTF-8, such as LC_ALL=C.UTF-8"
        )
        raise OSError(errno.EILSEQ, reason, str(path)) from None


def _correct_mode(path: Path | str, descriptor: int, mode: int) -> None:
    found = os.fstat(descriptor)
    _check_own(path, found)
    if stat.S_IMODE(found.st_mode) & ~mode:
        os.fchmod(descriptor, stat.S_IMODE(found.st_mode) & mode)


def _check_own(path: Path | str, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    if found.st_uid != os.geteuid():
        reason = "the file belongs to another user; remove it, or change its owner"
        raise PermissionError(errno.EPERM, reason, str(path))


def _link(path: Path | str) -> OSError:
    reason = (
        "it is a symbolic link, and the daemon follows none; name its target "
        f"{os.path.realpath(path)} instead"
    )
    return OSError(errno.ELOOP, reason, str(path))


# --- checks that change nothing -------------------------------------------------------------------


def check_own_folder(folder: Path) -> None:
    """Raise the OSError with which `make_own_folder` would fail. Change nothing."""
    existing = folder
    while not os.path.lexists(existing) and existing != existing.parent:
        existing = existing.parent
    if existing == folder:
        if not folder.is_dir():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(folder))
        make_own_folder(folder)  # checks its owner
    elif not existing.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    else:
        _check_new_entry(existing)


def check_own_file(path: Path | str, flags: int, *, correct_mode: bool = False) -> None:
    """Raise the OSError with which `open_own_file` would fail with O_CREAT. Change nothing."""
    _check_encodable(path)
    try:
        os.lstat(path)
    except FileNotFoundError:
        _check_new_entry(Path(path).absolute().parent)
        return
    descriptor = open_own_file(path, (flags & ~os.O_CREAT) | os.O_NONBLOCK, PRIVATE)
    try:
        if correct_mode:
            _check_own(path, os.fstat(descriptor))
    finally:
        os.close(descriptor)


def _check_new_entry(folder: Path) -> None:
    """Raise OSError if no file can be made in an existing folder."""
    os.stat(folder)
    if os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
        _check_takes_files(folder)
        return
    read_only = os.statvfs(folder).f_flag & os.ST_RDONLY
    number = errno.EROFS if read_only else errno.EACCES
    raise OSError(number, os.strerror(number), str(folder))


def _check_takes_files(folder: Path) -> None:
    """Raise OSError if the file system of a folder takes no files, although its user may write.

    Root may write to all folders, also to those of `/proc`.
    """
    try:
        os.close(os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, PRIVATE))
    except OSError as error:
        if error.errno not in _WITHOUT_NAMELESS_FILES:
            raise
        kind = file_system_of(folder)
        if kind in WITHOUT_FILES:
            reason = f"the file system {kind} keeps no files; choose a folder on a disk"
            raise OSError(errno.ENOTSUP, reason, str(folder)) from None
