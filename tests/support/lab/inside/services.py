"""The first process of a PID namespace: it keeps services and reaps orphaned processes."""

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

SIGNALS = {signal.SIGCHLD, signal.SIGUSR1}
_SET_TO_DEFAULT = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}


@dataclass
class Service:
    """A program, the file that its output is added to, and its process id while it runs."""

    argv: list[str]
    log: Path
    env: dict[str, str] = field(default_factory=dict)
    pid: int | None = None

    def start(self) -> None:
        """Start it unless it runs."""
        if self.pid is None:
            self.pid = spawn(self.argv, self.log, self.env)


def spawn(
    argv: list[str], log: Path, env: dict[str, str] | None = None, stdout: int | None = None
) -> int:
    """Start a program in a separate session with default signal handling. Return its id."""
    to_log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    null = os.open("/dev/null", os.O_RDONLY)
    try:
        return os.posix_spawnp(
            argv[0],
            argv,
            os.environ | (env or {}),
            file_actions=[
                (os.POSIX_SPAWN_DUP2, null, 0),
                (os.POSIX_SPAWN_DUP2, to_log if stdout is None else stdout, 1),
                (os.POSIX_SPAWN_DUP2, to_log, 2),
            ],
            setsid=True,
            setsigmask=[],
            setsigdef=_SET_TO_DEFAULT,
        )
    finally:
        os.close(to_log)
        os.close(null)


def block_signals() -> None:
    """To be called first: those that `keep` waits for must not be lost before."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def keep(services: Sequence[Service]) -> None:
    """Reap forever. SIGUSR1 starts the services that have ended; nothing else does."""
    while True:
        number = signal.sigwait(SIGNALS)
        reap(services)
        if number == signal.SIGUSR1:
            for service in services:
                service.start()


def reap(services: Sequence[Service]) -> None:
    """Collect all that have ended, without waiting."""
    while True:
        try:
            ended, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if ended == 0:
            return
        for service in services:
            if service.pid == ended:
                service.pid = None
