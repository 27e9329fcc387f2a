"""A host with its daemon and journal, and their faults."""

import asyncio
import tempfile
from collections import deque
from contextvars import Context, ContextVar
from functools import cache
from pathlib import Path
from typing import Final

from fastlib.message import topics
from fastlib.migfra import Daemon
from fastlib.migfra.journal import schema
from fastlib.transport import TransportError

from .environment import Environment, memory_folder
from .hypervisor import ScheduleHypervisor
from .process import CLOCK, EPOCH, PROCESS, Process
from .settings import connection, daemon_configuration

LOST_WRITES: Final[ContextVar[int]] = ContextVar("lost_writes", default=0)
"""How many commits each crash of a daemon takes back: a planted fault."""

WILL_SECONDS: Final = 120.0
"""The time after which the broker has noticed that a client is gone, whatever happened."""


class Host:
    """A host. Its daemon runs in a process that is replaced when it starts again."""

    def __init__(self, name: str, environment: Environment, clock_error: float) -> None:
        """`clock_error` is the number of seconds that its clock is ahead."""
        self.name: Final = name
        self.configuration: Final = daemon_configuration(name)
        self.process = Process(name, clock_error)
        self.daemon: Daemon | None = None
        self.crashes = 0
        self.failures: list[BaseException] = []
        """Errors that ended the daemon without a crash."""
        self.ended: float | None = None
        """The time of the loop at which the daemon has ended in order, None while it runs."""
        self._environment = environment
        self._main: asyncio.Task[None] | None = None
        self._down_seconds: float | None = None
        """After so many seconds it is started again; None is only by `restart`."""
        self._journal = JournalFiles(environment.folder / f"{name}.journal")
        self._journal.make()
        self._start()

    @property
    def client_id(self) -> str:
        """The id of the daemon at the broker."""
        return self.configuration.named(self.configuration.communicator.id)

    # What a schedule does.

    def crash(self, down: float | None = None) -> None:
        """Crash the daemon now, and start it again after some seconds."""
        self._down_seconds = down
        self.process.crash()

    def crash_at(self, moment: str, count: int, down: float | None = None) -> None:
        """Crash the daemon when it passes a moment for the `count`th time."""
        self._down_seconds = down
        self.process.crash_at(moment, count)

    def stop(self) -> None:
        """End the daemon in order."""
        if self.daemon is not None:
            self.process.context.copy().run(self.daemon.stop)

    def restart(self) -> None:
        """Start the daemon again if it does not run."""
        self._down_seconds = None
        if not self.runs:
            self._check_offline()
            before, self.process = self.process, Process(self.name, self.process.clock_error)
            self.process.disk_is_full = before.disk_is_full
            self._start()

    def _check_offline(self) -> None:
        """Check that the presence says that a daemon has ended, once its last will is published."""
        observer, kept = self._environment.observer, self.presence
        if self.ended is None or self._environment.loop.time() - self.ended < WILL_SECONDS:
            return
        if self.name in observer.record.taken_over or observer.wills_lost > self.ended:
            return
        if kept is not None and b"status: offline" not in kept:
            text = f"{self.name} has ended, and its presence is online"
            observer.record.untrue_presences.append(text)

    # What it is like.

    @property
    def runs(self) -> bool:
        """True if there is a process of the daemon, in any state."""
        return not self.process.dead and self._main is not None and not self._main.done()

    @property
    def works(self) -> bool:
        """True if the daemon works, and has its connection to the broker."""
        daemon = self.daemon
        return (
            not self.process.dead
            and daemon is not None
            and daemon._runtime is not None
            and not daemon.stopping
            and daemon.runtime.communicator.is_connected
            and self._environment.network.connection(self.client_id) is not None
        )

    @property
    def idle(self) -> bool:
        """True if the daemon works, and has no order and no answer left."""
        daemon = self.daemon
        if daemon is None or self.process.dead or daemon._runtime is None:
            return False
        parts = daemon.runtime
        return (
            not list(parts.jobs)
            and not parts.publisher.unconfirmed
            and not parts.journal.waiting
            and parts.communicator.is_connected
        )

    @property
    def presence(self) -> bytes | None:
        """The presence that the broker has retained."""
        kept = self._environment.network.broker.retained.get(topics.PRESENCE(self.name))
        return None if kept is None else kept.payload

    @property
    def is_shown(self) -> bool:
        """True if the presence says that the daemon works, and that all is well."""
        kept = self.presence
        return kept is not None and b"status: online" in kept and b"degraded: " not in kept

    # The daemon's life.

    def _start(self) -> None:
        self.ended = None
        self._journal.lost_writes = LOST_WRITES.get()
        if self._journal.lost_writes:
            self.process.before_write = self._journal.keep_copy
        self._main = self.process.start(self._live(), self._environment.loop)
        self.process.at_end(self._crashed)

    async def _live(self) -> None:
        environment = self._environment
        daemon = self.daemon = Daemon(
            self.configuration,
            hypervisor=ScheduleHypervisor(environment.domains, self.name),
            journal=self._journal.path,
            communicator=connection(self.client_id, environment.protocol),
            clock=CLOCK,
        )
        process = PROCESS.get()
        try:
            await daemon.open()
            await daemon.ended.wait()
            self.ended = environment.loop.time()
            if daemon.failure is not None and not process.dead:
                self.failures.append(daemon.failure)
        except TransportError:  # at the start; a service manager would start it again
            self.daemon = None
        except Exception as error:
            if not process.dead:
                self.failures.append(error)

    def _crashed(self) -> None:
        self.crashes += 1
        if self._journal.lost_writes:
            self._journal.take_back_writes()
        if self._down_seconds is not None:
            self._environment.loop.call_later(self._down_seconds, self.restart, context=Context())


class JournalFiles:
    """The files of a journal, on a disk that may lose the last writes."""

    def __init__(self, path: Path) -> None:
        self.path: Final = path
        self.lost_writes = 0
        """How many of the last commits a crash takes back, as a disk does that does not sync."""
        self._copies: deque[list[tuple[Path, bytes]]] = deque()

    def make(self) -> None:
        """Write a new journal."""
        self.path.write_bytes(_new_journal())

    def remove(self) -> None:
        """Remove all files."""
        for end in ("", "-wal", "-shm"):
            self._file(end).unlink(missing_ok=True)

    def keep_copy(self) -> None:
        """Keep a copy of the files before a write."""
        files = [self._file(end) for end in ("", "-wal")]
        self._copies.append([(file, file.read_bytes()) for file in files if file.exists()])
        if len(self._copies) > self.lost_writes:
            self._copies.popleft()

    def take_back_writes(self) -> None:
        """Give the files the content that they had before the last writes."""
        if not self._copies:
            return
        self.remove()
        for file, content in self._copies[0]:
            file.write_bytes(content)
        self._copies.clear()

    def _file(self, end: str) -> Path:
        return self.path.with_name(f"{self.path.name}{end}")


@cache
def _new_journal() -> bytes:
    """Return the file of a journal that was just made: making it takes longer than a copy."""
    with tempfile.TemporaryDirectory(dir=memory_folder()) as folder:
        path = Path(folder, "journal")
        schema.open_tables(path, EPOCH).close()
        return path.read_bytes()
