"""Processes of this machine: found by their properties, ended by a handle that stays unique."""

import os
import select
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support.waiting import WAIT_LIMIT

from .errors import LabError


@dataclass(frozen=True)
class Process:
    """A process, by its id and the moment when it began, in ticks of the kernel."""

    pid: int
    start_time: int
    argv: tuple[str, ...]

    @property
    def is_running(self) -> bool:
        found = find(self.pid)
        return found is not None and found.start_time == self.start_time

    def send(self, number: signal.Signals) -> None:
        """Do nothing if it has ended by now."""
        with self._handle() as handle:
            if handle is not None:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(handle, number)

    def kill(self, patience: float = WAIT_LIMIT) -> None:
        """End it with SIGKILL and wait for its end. Raises LabError if it does not end."""
        with self._handle() as handle:
            if handle is None:
                return
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
            if not select.select([handle], [], [], patience)[0]:
                raise LabError(
                    f"process {self.pid} ({' '.join(self.argv)[:80]}) was killed, but is still "
                    f"there after {patience:g} s; if it is the first of its namespace, a process "
                    "outside may not have waited for a child that it started there"
                )

    def freeze(self) -> None:
        self.send(signal.SIGSTOP)

    def thaw(self) -> None:
        self.send(signal.SIGCONT)

    @contextmanager
    def _handle(self) -> Iterator[int | None]:
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            yield None
            return
        with closing(os.fdopen(handle, "rb", buffering=0)):
            yield handle if self.is_running else None


def find(pid: int) -> Process | None:
    """Return the process with this id; None if there is none, or if it has ended."""
    try:
        argv = Path(f"/proc/{pid}/cmdline").read_bytes()
        # The name before the last parenthesis may have any character.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    if fields[0] in "ZX":
        return None
    return Process(pid, int(fields[19]), tuple(os.fsdecode(argv).split("\0")[:-1]))


def all_processes() -> Iterator[Process]:
    """All that run."""
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (found := find(int(entry))):
            yield found


def find_init(*ending: str) -> Process | None:
    """The first process of a PID namespace whose command line ends like this."""
    for process in all_processes():
        if process.argv[-len(ending) :] == ending and _innermost_id(process.pid) == 1:
            return process
    return None


def namespace_of(pid: int) -> str | None:
    """A name of the PID namespace that a process is in; None if it has ended, or is not ours."""
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None


def in_namespace_of(first: Process) -> list[Process]:
    """All that run in the same PID namespace."""
    namespace = namespace_of(first.pid)
    return [
        p for p in all_processes() if namespace is not None and namespace_of(p.pid) == namespace
    ]


def _innermost_id(pid: int) -> int | None:
    """The process id that it has itself in its own namespace; None if it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    for line in status.splitlines():
        if line.startswith("NSpid:"):
            return int(line.split()[-1])
    return None
