"""The kernel's files and folders of cgroups, and what their errors mean.

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
"""The group, the file or the process that a file is about is not there."""


class GroupError(HypervisorError):
    """The kernel has refused what was to be done with a group."""

    def __init__(self, text: str, number: int | None) -> None:
        self.errno: Final = number
        super().__init__(text)


class GoneError(GroupError):
    """The group or file is not there."""


class BusyError(GroupError):
    """The group has processes or groups, or the kernel is not done with them."""


def read(path: Path) -> str:
    """The text of a file. Raises GroupError."""
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


def make(path: Path) -> bool:
    """Make a group; False if it was there already.

    Raises GroupError: GoneError if it, or the group above it, is being removed by another program.
    """
    try:
        path.mkdir()
    except FileExistsError as error:
        if path.is_dir():
            return False
        if not path.exists():
            raise GoneError(
                f"{path} was removed by another program just now", error.errno
            ) from error
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
    """Tell whether there is a group. Raises GroupError if that cannot be known."""
    try:
        return path.is_dir()
    except OSError as error:
        raise _unreachable(error, path) from error


def number_of(path: Path) -> int | None:
    """The number of a group, which the kernel gives once; None if it is not there."""
    try:
        return path.stat().st_ino
    except OSError as error:
        if error.errno in _GONE:
            return None
        raise _unreachable(error, path) from error


def folders_in(path: Path) -> list[str]:
    """The names of the folders in a folder; none if it is not there. Raises GroupError."""
    try:
        with os.scandir(path) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError as error:
        if error.errno in _GONE:
            return []
        raise _unreachable(error, path) from error


def tree(path: Path) -> list[Path]:
    """A group and those below it, each before those above it; none if it is not there.

    Raises GroupError.
    """
    found: list[Path] = []
    left = [path] if is_group(path) else []
    while left:  # groups may be nested deeper than Python may call
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
            f"{path} is not this user's to read or change ({why}); run the daemon as root, or "
            "delegate a group to its user (systemd: Delegate=cpuset) and name that as 'parent'",
            number,
        )
    if number == errno.EROFS:
        return GroupError(
            f"{path} is mounted read-only; mount its file system writable, which in a container is "
            "a matter of how that is started",
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
    """Say what of a path is missing, and what to do."""
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
        "that group do not have it: start the domain again, or use a newer kernel"
    )


def _refused(error: OSError, path: Path, text: str) -> GroupError:
    number, why = error.errno, os.strerror(error.errno or 0)
    if number == errno.ENODEV:
        return GoneError(
            f"{path.parent} was removed by another program; start the domain again", number
        )
    if path.name.startswith("cpuset."):
        remedy = "groups above, beside or below it have a claim on them, such as cpu_exclusive"
    else:
        remedy = "check the group and the kernel's log"
    return GroupError(f"the kernel refuses {text!r} for {path} ({why}); {remedy}", number)
