"""Read and write the kernel's files and folders of cgroups, and translate their errors.

::

    HypervisorError
    └── GroupError      the kernel has refused; has `.errno`
        ├── GoneError   the group or file is not there
        └── BusyError   the group has processes or groups, or the kernel is not done with them
"""

import errno
import os
from pathlib import Path
from typing import Final

from fastlib.migfra.errors import HypervisorError

_GONE: Final = (errno.ENOENT, errno.ENODEV, errno.ESRCH)
"""Errors that mean: the group, the file or the process does not exist."""


class GroupError(HypervisorError):
    """The kernel has refused an operation on a group."""

    def __init__(self, text: str, number: int | None) -> None:
        self.errno: Final = number
        super().__init__(text)


class GoneError(GroupError):
    """The group or file is not there."""


class BusyError(GroupError):
    """The group has processes or groups, or the kernel is not done with them."""


def read(path: Path) -> str:
    """Return the text of a file. Raises GroupError."""
    try:
        return path.read_text()
    except OSError as error:
        raise _unreachable(error, path) from error


def write(path: Path, text: str) -> None:
    """Write a value to a file. Raises GroupError."""
    try:
        file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError as error:
        raise _unreachable(error, path) from error
    try:
        os.write(file, f"{text}\n".encode())
    except OSError as error:
        raise _refused(error, path, text) from error
    finally:
        os.close(file)


def check_writable(path: Path) -> None:
    """Raise GroupError if this user must not write a file, or make groups in a group."""
    try:
        if path.is_dir():
            if not os.access(path, os.W_OK | os.X_OK, effective_ids=True):
                read_only = os.statvfs(path).f_flag & os.ST_RDONLY
                raise OSError(errno.EROFS if read_only else errno.EACCES, "")
        else:
            os.close(os.open(path, os.O_WRONLY | os.O_CLOEXEC))
    except OSError as error:
        raise _unreachable(error, path) from error


def make(path: Path) -> bool:
    """Make a group. Returns False if it existed already.

    Raises GroupError; GoneError if another program is removing it or the group above it.
    """
    try:
        path.mkdir()
    except FileExistsError as error:
        if path.is_dir():
            return False
        if not path.exists():
            raise GoneError(f"another program has just removed {path}", error.errno) from error
        raise _unreachable(error, path) from error
    except OSError as error:
        raise _unreachable(error, path) from error
    return True


def remove(path: Path) -> None:
    """Remove a group if it is there. Raises GroupError."""
    try:
        path.rmdir()
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unreachable(error, path) from error


def is_group(path: Path) -> bool:
    """Return whether a group exists. Raises GroupError if that cannot be found out."""
    try:
        return path.is_dir()
    except OSError as error:
        raise _unreachable(error, path) from error


def number_of(path: Path) -> int | None:
    """Return the kernel's unique number of a group. None if the group does not exist."""
    try:
        return path.stat().st_ino
    except OSError as error:
        if error.errno in _GONE:
            return None
        raise _unreachable(error, path) from error


def folders_in(path: Path) -> list[str]:
    """Return the names of the folders in a folder; none if it does not exist. Raises GroupError."""
    try:
        with os.scandir(path) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError as error:
        if error.errno in _GONE:
            return []
        raise _unreachable(error, path) from error


def tree(path: Path) -> list[Path]:
    """Return a group and those below it, inner ones first; none if it does not exist.

    Raises GroupError.
    """
    found: list[Path] = []
    left = [path] if is_group(path) else []
    while left:  # groups may be nested deeper than Python's limit of recursion
        group = left.pop()
        found.append(group)
        left += [group / name for name in folders_in(group)]
    return found[::-1]


def _unreachable(error: OSError, path: Path) -> GroupError:
    number, why = error.errno, os.strerror(error.errno or 0)
    if number in _GONE:
        return GoneError(_gone(path), number)
    if number == errno.EBUSY:
        return BusyError(f"{path} is busy; it has processes or groups: end or move them", number)
    if number in (errno.EACCES, errno.EPERM):
        return GroupError(
            f"this user must not read or change {path} ({why}); run the daemon as root, or "
            "delegate a group to its user (systemd: Delegate=cpuset) and name that as 'parent'",
            number,
        )
    if number == errno.EROFS:
        return GroupError(
            f"{path} is mounted read-only; mount its file system writable (for a container, set "
            "that where it is started)",
            number,
        )
    if number == errno.EAGAIN:
        return GroupError(
            f"{path} would exceed the limit of groups; raise cgroup.max.descendants or "
            "cgroup.max.depth of the groups above it",
            number,
        )
    return GroupError(f"{path}: {why}; find out what it is, and read the kernel's log", number)


def _gone(path: Path) -> str:
    """Return which part of a path is missing, with the remedy."""
    missing = path
    while missing != missing.parent and not missing.parent.exists():
        missing = missing.parent
    if missing != path:
        return (
            f"the group {missing} is missing; another program has removed it: "
            "start the domain again"
        )
    return (
        f"{path} is missing; another program has removed it, or this kernel or the controllers of "
        "that group do not provide it: start the domain again, or use a newer kernel"
    )


def _refused(error: OSError, path: Path, text: str) -> GroupError:
    number, why = error.errno, os.strerror(error.errno or 0)
    if number == errno.ENODEV:
        return GoneError(
            f"{path.parent} was removed by another program; start the domain again", number
        )
    if path.name.startswith("cpuset."):
        remedy = (
            "check whether a group above, beside or below it claims them, such as by cpu_exclusive"
        )
    else:
        remedy = "check the group and the kernel's log"
    return GroupError(f"the kernel refuses {text!r} for {path} ({why}); {remedy}", number)
