"""One instance at a time: a locked file that names the process."""

import errno
import fcntl
import hashlib
import os
from pathlib import Path
from typing import Self

from fastlib.migfra.errors import RunningError


class InstanceLock:
    """A file that one process has locked; the kernel unlocks it however the process ends."""

    def __init__(self, path: Path) -> None:
        """Raises RunningError if another process has it, OSError if there can be no such file."""
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if path.parent.stat().st_uid not in (0, os.geteuid()):
                raise PermissionError(errno.EPERM, "the directory belongs to another user")
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        except OSError as error:
            raise OSError(f"the lock file {path} cannot be made: {error.strerror}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.read(self._file, 32).decode(errors="replace").strip()
            os.close(self._file)
            raise RunningError(str(path), int(pid) if pid.isdecimal() else None) from None
        os.ftruncate(self._file, 0)
        os.write(self._file, f"{os.getpid()}\n".encode())

    def release(self) -> None:
        """Unlock. The file stays, as removing it would let two processes lock two files."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def runtime_directory() -> Path:
    """Where what lives as long as a process is kept: systemd's, the system's or the user's."""
    given = os.environ.get("RUNTIME_DIRECTORY")
    if given:
        return Path(given.split(":")[0])
    if os.geteuid() == 0:
        return Path("/run/migfra")
    user = os.environ.get("XDG_RUNTIME_DIR")
    return Path(user) / "migfra" if user else Path(f"/tmp/migfra-{os.geteuid()}")  # noqa: S108


def lock_path(configuration: Path, host: str) -> Path:
    """The lock of a configuration on a host."""
    name = hashlib.sha256(f"{host}\0{configuration.resolve()}".encode()).hexdigest()[:16]
    return runtime_directory() / f"{name}.lock"
