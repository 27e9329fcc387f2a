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
    """Make a group; False if it was there already. Raises GroupError."""
    try:
        path.mkdir()
    except FileExistsError as error:
        if path.is_dir():
            return False
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


def tree(path: Path) -> list[Path]:
    """A group and those below it, each before those above it; none if it is not there."""
    try:
        below = [Path(entry.path) for entry in os.scandir(path) if entry.is_dir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _unreachable(error, path) from error
    return [group for each in below for group in tree(each)] + [path]


def _unreachable(error: OSError, path: Path) -> GroupError:
    number, why = error.errno, os.strerror(error.errno or 0)
    if number in (errno.ENOENT, errno.ENODEV):
        return GoneError(
            f"{path} is not there; somebody else has removed the group, or the kernel lacks that: "
            "stop the domain and start it again, or use a newer kernel",
            number,
        )
    if number == errno.EBUSY:
        return BusyError(f"{path} is busy; it has processes or groups: end or move them", number)
    if number in (errno.EACCES, errno.EPERM):
        return GroupError(
            f"{path} is not this user's to change ({why}); run the daemon as root, or delegate a "
            "group to its user (systemd: Delegate=cpuset) and name that as 'parent'",
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
            f"{path} would be one group too many; raise cgroup.max.descendants or cgroup.max.depth "
            "of the groups above it",
            number,
        )
    return GroupError(f"{path}: {why}; look at what it is, and at the kernel's log", number)


def _refused(error: OSError, path: Path, text: str) -> GroupError:
    number, why = error.errno, os.strerror(error.errno or 0)
    if number == errno.ENODEV:
        return GoneError(
            f"{path.parent} was removed by somebody else; start the domain anew", number
        )
    if path.name.startswith("cpuset."):
        remedy = "groups above, beside or below it have a claim on them, such as cpu_exclusive"
    else:
        remedy = "look at the group and at the kernel's log"
    return GroupError(f"the kernel refuses {text!r} for {path} ({why}); {remedy}", number)
