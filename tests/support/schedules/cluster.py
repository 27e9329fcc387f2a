"""A cluster for one schedule: daemons, schedulers and a C++-like sender on a simulated broker.

Everything that is under test is real: the client with its core, the transport's session, and the
daemon with its journal in an SQLite file. Simulated are the loop, the broker, the domains and the
clocks.
"""

import asyncio
import logging
import random
import re
import shutil
import sys
import tempfile
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from contextvars import Context, ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, Literal
from unittest import mock

from fastlib import Migrate, MigrateParameter, Start, Stop, Task, TaskContainer
from fastlib.client import AsyncHandle, AsyncMigfraClient, NoResultError
from fastlib.message import topics
from fastlib.migfra import Daemon, read_configuration, runtime
from fastlib.migfra.config.file import Configuration
from fastlib.transport import Delivery, MqttOptions, TransportError, connect_async

from .broker import Message, Network
from .hypervisor import Domains, Order, ScheduleHypervisor
from .link import simulated_links
from .loop import ScheduleLoop
from .process import CLOCK, PROCESS, Process

RETRY_SECONDS: Final = 5.0
"""The longest pause between two tries to connect."""

CONSTANT_ID: Final = ":-)"
"""The id of each order of the C++-like sender."""

SETTLE_SECONDS: Final = 2000.0
"""The time after which everything must have ended, once nothing is broken any more."""

LOST_WRITES: Final[ContextVar[int]] = ContextVar("lost_writes", default=0)
"""How many commits each crash of a daemon takes back: a planted fault."""

Kind = Literal["start", "stop", "migrate"]

_TASK: Final = re.compile(rb"^task: (.+)$", re.MULTILINE)
_VM_NAME: Final = re.compile(rb"vm-name: (\S+)")


@dataclass
class Sent:
    """An order of a scheduler, and what its client says of it."""

    order: Order
    host: str
    handle: AsyncHandle[Any] | None = None
    """None until the client has sent it."""
    error: BaseException | None = None
    """What the client raised instead of an answer."""
    over: bool = False
    """True once the client has given a result or an error."""
    begun_then: bool = False
    """Whether the order had begun when the client raised the error."""

    @property
    def expires(self) -> float | None:
        """Seconds since 1970, by the clock of the scheduler."""
        expires = None if self.handle is None else getattr(self.handle.container, "expires", None)
        return None if expires is None else expires.timestamp()


@dataclass
class Host:
    """A host with its daemon."""

    name: str
    configuration: Configuration
    journal: Path
    process: Process
    daemon: Daemon | None = None
    main: "asyncio.Task[None] | None" = None
    down_seconds: float | None = None
    """After so many seconds it is started again; None is only by `restart`."""
    lost_writes: int = 0
    """How many of the last commits a crash takes back, as a disk does that does not sync."""
    crashes: int = 0
    failures: list[BaseException] = field(default_factory=list)
    """Errors that ended the daemon without a crash."""

    _copies: deque[list[tuple[Path, bytes]]] = field(default_factory=deque)

    @property
    def client_id(self) -> str:
        """The id of the daemon at the broker."""
        return self.configuration.named(self.configuration.communicator.id)

    def keep_copy(self) -> None:
        """Keep what the journal's files are before a write."""
        files = [self.journal.with_name(f"{self.journal.name}{end}") for end in ("", "-wal")]
        self._copies.append([(file, file.read_bytes()) for file in files if file.exists()])
        if len(self._copies) > self.lost_writes:
            self._copies.popleft()

    def take_back_writes(self) -> None:
        """Give the journal's files the content that they had before the last writes."""
        if not self._copies:
            return
        for end in ("", "-wal", "-shm"):
            self.journal.with_name(f"{self.journal.name}{end}").unlink(missing_ok=True)
        for file, content in self._copies[0]:
            file.write_bytes(content)
        self._copies.clear()


class Cluster:
    """One schedule. The methods change something and return at once; `advance` lets time pass."""

    def __init__(
        self,
        seed: int,
        *,
        hosts: int = 1,
        schedulers: int = 2,
        clock_errors: tuple[float, ...] = (),
    ) -> None:
        """`clock_errors` are seconds, for the hosts first and then for the schedulers."""
        errors = iter((*clock_errors, *[0.0] * (hosts + schedulers)))
        self.dice: Final = random.Random(seed)
        random.seed(seed)  # the pauses between retries
        self.loop: Final = ScheduleLoop()
        self.loop.set_exception_handler(self._note_error)
        self.errors: Final[list[str]] = []
        """What nobody has caught."""
        self.network: Final = Network(self.loop, self.dice)
        self.network.broker.listeners.append(self._published)
        self.domains: Final = Domains(self.dice)
        self.copies: Final[defaultdict[Order, int]] = defaultdict(int)
        """How often the broker has published an order."""
        self.answers: Final[defaultdict[str, list[bytes]]] = defaultdict(list)
        """The payloads that the broker has published as results, by host."""
        self.sent: Final[list[Sent]] = []
        self.keyless: Final[defaultdict[Order, int]] = defaultdict(int)
        """How often the C++-like sender has sent an order."""
        self._parts = ExitStack()
        self._folder = Path(tempfile.mkdtemp(prefix="schedule-", dir=_memory_folder()))
        self._parts.callback(shutil.rmtree, self._folder)
        self._parts.enter_context(simulated_links(self.network))
        self._number = 0
        self.hosts: Final = [
            Host(
                name := f"n{number}",
                _configuration(name),
                self._folder / f"{name}.journal",
                Process(name, next(errors)),
            )
            for number in range(hosts)
        ]
        self._schedulers = [Process(f"s{number}", next(errors)) for number in range(schedulers)]
        self._clients: list[AsyncMigfraClient | None] = [None] * schedulers
        self._sender = Process("sender")
        self._outgoing: asyncio.Queue[tuple[Host, bytes, int]] = asyncio.Queue()
        self._deliveries: list[Delivery] = []
        for host in self.hosts:
            host.lost_writes = LOST_WRITES.get()
            self._run_daemon(host)
        for number, process in enumerate(self._schedulers):
            process.start(self._run_scheduler(number), self.loop)
        self._sender.start(self._run_sender(), self.loop)
        self.advance(1.0)

    # Running.

    def advance(self, seconds: float) -> None:
        """Let virtual time pass."""
        self.loop.run_until_complete(asyncio.sleep(seconds))

    def _run_daemon(self, host: Host) -> None:
        if host.lost_writes:
            host.process.before_write = host.keep_copy
        host.main = host.process.start(self._live(host), self.loop)
        host.process.at_end(lambda: self._crashed(host))

    def _crashed(self, host: Host) -> None:
        host.crashes += 1
        if host.lost_writes:
            host.take_back_writes()
        if host.down_seconds is not None:
            self.loop.call_later(host.down_seconds, self.restart, host, context=Context())

    async def _live(self, host: Host) -> None:
        daemon = host.daemon = Daemon(
            host.configuration,
            hypervisor=ScheduleHypervisor(self.domains, host.name),
            journal=host.journal,
            communicator=_options(host.client_id),
            clock=CLOCK,
        )
        process = PROCESS.get()
        try:
            await daemon.open()
            await daemon.ended.wait()
            if daemon.failure is not None and not process.dead:
                host.failures.append(daemon.failure)
        except TransportError:  # at the start; a service manager would start it again
            host.daemon = None
        except Exception as error:
            if not process.dead:
                host.failures.append(error)

    async def _run_scheduler(self, number: int) -> None:
        communicator = await connect_async(_options(f"s{number}"))
        client = AsyncMigfraClient(communicator, clock=CLOCK)
        self._clients[number] = await client.open()
        await asyncio.Event().wait()

    async def _run_sender(self) -> None:
        communicator = await connect_async(_options("sender"))
        while True:
            host, payload, qos = await self._outgoing.get()
            self._deliveries.append(
                await communicator.send(payload, topics.TASK(host.name), qos=qos)
            )

    def _note_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        process = PROCESS.get(None)
        if process is None or not process.dead:
            self.errors.append(f"{context.get('message')}: {context.get('exception')!r}")

    def _published(self, client_id: str, message: Message) -> None:
        parts = message.topic.split("/")
        if parts[-1] == "task":
            if (order := _order_in(message.payload)) is not None:
                self.copies[order] += 1
        elif parts[-1] == "result":
            self.answers[parts[-2]].append(message.payload)

    # What a schedule does.

    def submit(
        self,
        scheduler: int,
        host: Host,
        kind: Kind,
        timeout: float | None,
        *,
        failures: int = 0,
        **options: Any,
    ) -> None:
        """Let a scheduler send an order for a domain of its own.

        Its first attempts fail. A migration is tried again as often, others fail for good.
        """
        self._number += 1
        task = _task(kind, f"vm{self._number}", retries=failures)
        order = (task.declaration.task, f"vm{self._number}")
        if failures:
            self.domains.failures[order] = failures
        sent = Sent(order, host.name)
        self.sent.append(sent)
        self._schedulers[scheduler].start(
            self._submit(scheduler, sent, task, timeout=timeout, **options), self.loop
        )

    async def _submit(self, scheduler: int, sent: Sent, task: Task, **options: Any) -> None:
        client = self._clients[scheduler]
        assert client is not None
        sent.handle = await client.submit(sent.host, task, **options)
        try:
            await sent.handle
        except NoResultError as error:
            sent.error = error
            sent.begun_then = bool(self.domains.begins[sent.order])
        finally:
            sent.over = True

    def send_without_key(self, host: Host, qos: int) -> None:
        """Let the C++-like sender send the next order: start or stop of one domain, in turn."""
        kind: Kind = "stop" if sum(self.keyless.values()) % 2 else "start"
        task = _task(kind, "cpp", retries=0)
        self.keyless[task.declaration.task, "cpp"] += 1
        container = TaskContainer(tasks=[task], id=CONSTANT_ID)
        self._outgoing.put_nowait((host, container.to_yaml().encode(), qos))

    def crash(self, host: Host, down: float | None = None) -> None:
        """Crash a daemon now, and start it again after some seconds."""
        host.down_seconds = down
        host.process.crash()

    def crash_at(self, host: Host, moment: str, count: int, down: float | None = None) -> None:
        """Crash a daemon when it passes a moment for the `count`th time."""
        host.down_seconds = down
        host.process.crash_at(moment, count)

    def stop(self, host: Host) -> None:
        """End a daemon in order."""
        if host.daemon is not None:
            host.process.context.copy().run(host.daemon.stop)

    def restart(self, host: Host) -> None:
        """Start a daemon again if it does not run."""
        host.down_seconds = None
        if host.process.dead or (host.main is not None and host.main.done()):
            host.process = Process(host.name, host.process.clock_error)
            self._run_daemon(host)

    # The end.

    def settle(self) -> None:
        """Repair everything, and let time pass until nothing is under way."""
        self.network.blocked.clear()
        self.network.largest_delay = min(self.network.largest_delay, 0.002)
        for host in self.hosts:
            host.process.keep_alive()
            self.restart(host)
        waited = 0.0
        while not self.quiet:
            if waited > SETTLE_SECONDS:
                raise AssertionError(f"something is under way after {waited:g} s: {self!r}")
            self.advance(5.0)
            waited += 5.0
            for host in self.hosts:
                self.restart(host)

    @property
    def quiet(self) -> bool:
        """True if nothing is under way any more."""
        return (
            len(self._deliveries) == sum(self.keyless.values())
            and all(delivery.done for delivery in self._deliveries)
            and all(session.empty for session in self.network.broker.sessions.values())
            and all(sent.over for sent in self.sent)
            and all(_idle(host) for host in self.hosts)
        )

    def close(self) -> None:
        """End all processes, and remove the files."""
        try:
            for process in (*self._schedulers, self._sender, *(h.process for h in self.hosts)):
                process.crash()
            while left := asyncio.all_tasks(self.loop):
                self.loop.run_until_complete(asyncio.wait(left))
            self.loop.close()
        finally:
            self._parts.close()

    def __repr__(self) -> str:
        waiting = [str(sent.order) for sent in self.sent if not sent.over]
        busy = [s.client_id for s in self.network.broker.sessions.values() if not s.empty]
        working = [host.name for host in self.hosts if not _idle(host)]
        return f"<Cluster waiting={waiting} sessions={busy} daemons={working}>"


def _idle(host: Host) -> bool:
    daemon = host.daemon
    if daemon is None or host.process.dead or daemon._runtime is None:
        return False
    parts = daemon.runtime
    return (
        not list(parts.jobs)
        and not parts.publisher.unconfirmed
        and not parts.journal.waiting
        and parts.communicator.is_connected
    )


def _task(kind: Kind, name: str, *, retries: int) -> Task:
    if kind == "start":
        return Start(vm_name=name, probe_with_ssh=False)
    if kind == "stop":
        return Stop(vm_name=name)
    parameter = MigrateParameter(retry_counter=retries) if retries else None
    return Migrate(vm_name=name, destination="other", parameter=parameter)


def _order_in(payload: bytes) -> Order | None:
    """Return the order in the text of a container with one task, None if it is a query."""
    task = _TASK.search(payload)
    assert task is not None, payload
    title = task[1].decode()
    if title.startswith("query"):
        return None
    name = _VM_NAME.search(payload)
    assert name is not None, payload
    return title, name[1].decode()


def _options(client_id: str) -> MqttOptions:
    return MqttOptions(client_id=client_id, persistent=True, retry_min=0.1, retry_max=RETRY_SECONDS)


_configurations: dict[str, Configuration] = {}


def _configuration(host: str) -> Configuration:
    if host not in _configurations:
        _configurations[host] = read_configuration(
            f"hostname: {host}\nhypervisor: {{type: dummy}}\nretry: {{first: 1, longest: 4}}\n"
        )
    return _configurations[host]


def _memory_folder() -> str | None:
    """Return a folder in memory if there is one: its files cost no time."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


@contextmanager
def simulated_time() -> Iterator[None]:
    """Let the code under test read the clock of the process, and no log be written."""
    clock = SimpleNamespace(time=CLOCK.now, monotonic=CLOCK.monotonic)
    logging.disable(logging.CRITICAL)
    with ExitStack() as patches:
        patches.callback(logging.disable, logging.NOTSET)
        for name, module in sorted(sys.modules.items()):
            if name.startswith("fastlib.") and getattr(module, "time", None) is time:
                patches.enter_context(mock.patch.object(module, "time", clock))
        patches.enter_context(mock.patch.object(runtime, "_lock", return_value=nullcontext()))
        yield
