"""Allow one instance at a time: a locked file that has the id of the process."""

import fcntl
import hashlib
import os
from pathlib import Path
from typing import Final, Self

from fastlib.migfra.errors import RunningError
from fastlib.migfra.own_files import (
    PRIVATE,
    check_own_file,
    check_own_folder,
    make_own_folder,
    open_own_file,
)

LOCKS: Final = Path("/proc/locks")


class InstanceLock:
    """A file that one process has locked. The kernel unlocks it at every end of the process.

    Only its owner may open the file, because every user who may read a file may lock it.
    """

    def __init__(self, path: Path) -> None:
        """Raises RunningError if another process has it, OSError if the file cannot be made."""
        try:
            make_own_folder(path.parent)
            self._file = open_own_file(path, os.O_RDWR | os.O_CREAT, PRIVATE, correct_mode=True)
        except OSError as error:
            raise _cannot_be_made(path, error) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            pids = [pid for pid in holders(path) if pid > 0]  # 0: a process of another namespace
            raise RunningError(str(path), pids[0] if pids else None) from None
        os.ftruncate(self._file, 0)
        os.write(self._file, f"{os.getpid()}\n".encode())

    def release(self) -> None:
        """Unlock. The file stays: without it, two processes could lock two different files."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def check_lock_file(path: Path) -> None:
    """Raise the OSError with which an InstanceLock would fail. Lock nothing, and leave no trace."""
    try:
        check_own_folder(path.parent)
        if path.parent.exists():
            check_own_file(path, os.O_RDWR, correct_mode=True)
    except OSError as error:
        raise _cannot_be_made(path, error) from error


def _cannot_be_made(path: Path, error: OSError) -> OSError:
    return OSError(f"the lock file {path} cannot be made: {error.strerror}")


def holders(path: Path) -> list[int]:
    """Return the processes that have locked a file, as far as the kernel lists them.

    The locks are read, not tried: a try could make another daemon's start fail. The file itself may
    name a process that has ended.
    """
    try:
        file = path.stat()
        lines = [line.split() for line in LOCKS.read_text().splitlines()]
    except OSError:
        return []
    found = [line for line in lines if len(line) > 5 and line[1] == "FLOCK"]
    # Files of several file systems can have the same inode.
    device = f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}:{file.st_ino}"
    return [int(line[4]) for line in found if line[5] == device]


def runtime_directory() -> Path:
    """Return the directory of runtime files: that of systemd, of the system or of the user."""
    given = os.environ.get("RUNTIME_DIRECTORY")
    if given:
        return Path(given.split(":")[0])
    if os.geteuid() == 0:
        return Path("/run/migfra")
    user = os.environ.get("XDG_RUNTIME_DIR")
    return Path(user) / "migfra" if user else Path(f"/tmp/migfra-{os.geteuid()}")  # noqa: S108


def lock_path(configuration: Path, host: str) -> Path:
    """Return the lock of a configuration on a host."""
    name = hashlib.sha256(f"{host}\0{configuration.resolve()}".encode()).hexdigest()[:16]
    return runtime_directory() / f"{name}.lock"
