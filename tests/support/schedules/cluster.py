"""A cluster for one schedule: daemons, schedulers and a C++-like sender on a simulated broker.

Everything that is under test is real: the client with its core, the transport's session, and the
daemon with its journal in an SQLite file. Simulated are the loop, the broker, the domains and the
clocks.
"""

import asyncio
import logging
import math
import random
import re
import shutil
import sqlite3
import sys
import tempfile
import time
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import _base as futures
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from contextvars import Context, ContextVar
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, Literal, NamedTuple
from unittest import mock

from fastlib import Migrate, MigrateParameter, Start, Stop, Task, TaskContainer
from fastlib.client import AsyncHandle, AsyncMigfraClient, ClientError, NoResultError
from fastlib.client.outcome import CLOCK_TOLERANCE
from fastlib.message import topics
from fastlib.migfra import Daemon, HostTakenError, read_configuration, runtime
from fastlib.migfra.config.file import Configuration
from fastlib.migfra.journal import schema
from fastlib.migfra.journal.group_commit import GroupCommit, Operation
from fastlib.migfra.telemetry.other_daemons import OtherDaemons
from fastlib.transport import Delivery, MqttOptions, TransportError, connect_async

from .broker import Message, Network, Packet
from .hypervisor import Domains, Order, ScheduleHypervisor
from .link import simulated_links
from .loop import ScheduleLoop
from .process import CLOCK, EPOCH, PROCESS, Process

RETRY_SECONDS: Final = 5.0
"""The longest pause between two tries to connect."""

CONSTANT_ID: Final = ":-)"
"""The id of each order of the C++-like sender."""

START_SECONDS: Final = 3.0
"""The time after which daemons and schedulers have begun, and have written what they note of it."""

SETTLE_SECONDS: Final = 2000.0
"""The time after which everything must have ended, once nothing is broken any more."""

LOST_WRITES: Final[ContextVar[int]] = ContextVar("lost_writes", default=0)
"""How many commits each crash of a daemon takes back: a planted fault."""

PRESENCE_SECONDS: Final = 300.0
"""How often the daemons publish their presence. It is long, since most schedules are short."""

SHORT_DELAY: Final = 0.002
"""Seconds that a packet travels at most while the network is fast."""

WILL_SECONDS: Final = 120.0
"""The time after which the broker has noticed that a client is gone, whatever happened."""

ACCEPT_SECONDS: Final = 5.0
"""The time within which a daemon notes when an order came, also with a slow disk."""

Kind = Literal["start", "stop", "migrate"]
Protocol = Literal["3.1.1", "5"]

ORDER_TITLES: Final = ("start vm", "stop vm", "migrate vm")
"""The titles of what schedulers and sender order; others query, cancel and quit."""

_TASK: Final = re.compile(rb"^task: (.+)$", re.MULTILINE)
_VM_NAME: Final = re.compile(rb"vm-name: (\S+)")


@dataclass
class Sent:
    """An order of a scheduler, and what its client says of it."""

    order: Order
    host: str
    scheduler: int
    timeout: float | None = None
    handle: AsyncHandle[Any] | None = None
    """None until the client has sent it."""
    clocks_differ: bool = False
    """True if the clocks of scheduler and host have differed by more than the client tolerates."""
    lost: bool = False
    """True if the scheduler died before it had the handle, so that nobody waits for a result."""
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


class UnsettledError(Exception):
    """Something is still under way, long after everything was repaired."""


class Arrival(NamedTuple):
    """An order has come to the daemon of a host."""

    time: float
    """The time of the loop."""
    now: float
    """Seconds since 1970 by the clock of the host."""
    host: str


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
    ended: float | None = None
    """The time of the loop at which the daemon has ended in order, None while it runs."""

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


class Record:
    """What has happened in a schedule, for the invariants."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        """What nobody has caught."""
        self.published: defaultdict[Order, int] = defaultdict(int)
        """How often the broker has published an order."""
        self.copies: defaultdict[Order, int] = defaultdict(int)
        """How often the broker has queued an order for a daemon."""
        self.lost_copies: defaultdict[Order, int] = defaultdict(int)
        """How many of the copies of an order the broker has dropped or forgotten, at most."""
        self.arrivals: defaultdict[Order, list[Arrival]] = defaultdict(list)
        """When an order has come to its daemon."""
        self.answers: defaultdict[str, list[bytes]] = defaultdict(list)
        """The payloads that the broker has published as results, by host."""
        self.sent: list[Sent] = []
        self.cancelled: dict[Order, float] = {}
        """The orders that were cancelled with success, with the time of the loop."""
        self.keyless: defaultdict[Order, int] = defaultdict(int)
        """How often the C++-like sender has sent an order."""
        self.beside: list[str] = []
        """The hosts where a second daemon has begun to work beside the first."""
        self.untrue_presences: list[str] = []
        """What the presence of a daemon that had ended did not say."""
        self.took_over = False
        """True if a second daemon began in the absence of the first one, as an operator may want.

        Then both may execute an order.
        """


class Cluster:
    """The cluster of one or more schedules, one after the other.

    The methods change something and return at once; `advance` lets time pass. `settle` ends a
    schedule, and `begin_again` begins the next one.
    """

    def __init__(
        self,
        seed: int = 1,
        *,
        hosts: int = 1,
        schedulers: int = 2,
        clock_errors: tuple[float, ...] = (),
        protocol: Protocol = "3.1.1",
        sender_qos: int = 1,
        publishes_at_release: bool = True,
        reuses_packet_ids: bool = False,
    ) -> None:
        """`clock_errors` are seconds, for the hosts first and then for the schedulers.

        The sender without keys uses one quality of service: MQTT keeps the order of messages with
        the same one only.
        """
        errors = iter((*clock_errors, *[0.0] * (hosts + schedulers)))
        self._protocol: Final = protocol
        self._sender_qos: Final = sender_qos
        self.dice: Final = random.Random(seed)
        random.seed(seed)  # the pauses between retries
        self.loop: Final = ScheduleLoop()
        self.loop.set_exception_handler(self._note_error)
        self.network: Final = Network(self.loop, self.dice)
        broker = self.network.broker
        broker.publishes_at_release = publishes_at_release
        broker.reuses_packet_ids = reuses_packet_ids
        broker.listeners.append(self._published)
        broker.on_drop = self._dropped
        self.network.on_delivery = self._delivered
        self.domains: Final = Domains(self.dice)
        self.presences_lost = -math.inf
        """The time of the loop at which the broker has last forgotten the presences."""
        self.record: Record = Record()
        self._keyless_number = 0
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
        self._sends = False
        self._second: Process | None = None
        self._outgoing: asyncio.Queue[tuple[Host, bytes, int]] = asyncio.Queue()
        self._deliveries: list[Delivery] = []
        self._clock_errors = {
            process.name: process.clock_error
            for process in (*self._schedulers, *(host.process for host in self.hosts))
        }
        for host in self.hosts:
            host.journal.write_bytes(_new_journal())
            host.lost_writes = LOST_WRITES.get()
            self._run_daemon(host)
        for number, process in enumerate(self._schedulers):
            process.start(self._run_scheduler(number), self.loop)
        self.advance(START_SECONDS)

    # Running.

    def advance(self, seconds: float) -> None:
        """Let virtual time pass."""
        self.loop.run_until_complete(asyncio.sleep(seconds))

    def _run_daemon(self, host: Host) -> None:
        host.ended = None
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
            communicator=_options(host.client_id, self._protocol),
            clock=CLOCK,
        )
        process = PROCESS.get()
        try:
            await daemon.open()
            await daemon.ended.wait()
            host.ended = self.loop.time()
            if daemon.failure is not None and not process.dead:
                host.failures.append(daemon.failure)
        except TransportError:  # at the start; a service manager would start it again
            host.daemon = None
        except Exception as error:
            if not process.dead:
                host.failures.append(error)

    async def _run_scheduler(self, number: int) -> None:
        try:
            communicator = await connect_async(_options(f"s{number}", self._protocol))
            client = await AsyncMigfraClient(communicator, clock=CLOCK).open()
        except TransportError:  # it ends, as a program does that cannot begin, and is started again
            self.crash_scheduler(number, 1.0)
            return
        self._clients[number] = client
        for sent in self.record.sent:
            if sent.scheduler == number and not sent.over:
                self._start_waiting(sent)
        await asyncio.Event().wait()

    async def _run_sender(self) -> None:
        communicator = None
        while communicator is None:
            with suppress(TransportError):  # a client of C++ tries until it has a connection
                communicator = await connect_async(_options("sender", "3.1.1"))
        while True:
            host, payload, qos = await self._outgoing.get()
            self._deliveries.append(
                await communicator.send(payload, topics.TASK(host.name), qos=qos)
            )

    def _note_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        process = PROCESS.get(None)
        if process is None or not process.dead:
            cause = context.get("exception") or context.get("task")
            self.record.errors.append(f"{context.get('message')}: {cause!r}")

    def _published(self, client_id: str, message: Message, receivers: int) -> None:
        parts = message.topic.split("/")
        if parts[-1] == "task":
            if (order := _order_in(message.payload)) is not None:
                self.record.published[order] += 1
                if not receivers and not self._is_forgotten(parts[-2]):
                    receivers = 1  # a daemon keeps its session, so it must get the order
                self.record.copies[order] += receivers
        elif parts[-1] == "result":
            self.record.answers[parts[-2]].append(message.payload)

    def _is_forgotten(self, host: str) -> bool:
        """Return True if the broker has forgotten that a host's daemon wants its orders."""
        (client_id,) = (one.client_id for one in self.hosts if one.name == host)
        return (client_id, topics.TASK(host)) in self.network.broker.forgotten

    def _delivered(self, process: Process | None, packet: Packet) -> None:
        if process is not None and packet.topic.endswith("/task"):
            order = _order_in(packet.payload)
            if order is not None:
                self.record.arrivals[order].append(
                    Arrival(self.loop.time(), process.now(), process.name)
                )

    def _dropped(self, message: Message) -> None:
        self._lose((message,))

    def _lose(self, messages: Iterable[Message | None]) -> None:
        """Note that the broker has dropped or forgotten messages for a daemon."""
        for message in messages:
            if message is not None and message.topic.endswith("/task"):
                order = _order_in(message.payload)
                if order is not None:
                    self.record.lost_copies[order] += 1

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
        scheduler %= len(self._schedulers)
        sent = Sent(order, host.name, scheduler, timeout)
        self.record.sent.append(sent)
        self._compare_clocks()
        if self._schedulers[scheduler].dead:
            sent.over = sent.lost = True
            return
        self._schedulers[scheduler].start(self._submit(sent, task, **options), self.loop)

    async def _submit(self, sent: Sent, work: Task | TaskContainer, **options: Any) -> None:
        """Send an order, or the container of one again, and wait for what becomes of it."""
        client = self._clients[sent.scheduler]
        if client is None:  # not open yet: the same as a scheduler that comes later
            sent.over = sent.lost = True
            return
        process = PROCESS.get()
        try:
            sent.handle = await client.submit(sent.host, work, timeout=sent.timeout, **options)
            await sent.handle
        except NoResultError as error:
            sent.error = error
            sent.begun_then = bool(self.domains.begins[sent.order])
        except Exception as error:
            if not process.dead:
                self.record.errors.append(f"the client failed at {sent.order}: {error!r}")
        finally:
            if not process.dead:
                sent.over = True

    def _start_waiting(self, sent: Sent) -> None:
        """Let a scheduler that has come back ask again for the result of an order."""
        if sent.handle is None:
            sent.over = sent.lost = True
            return
        container = sent.handle.container
        self._schedulers[sent.scheduler].start(self._submit(sent, container), self.loop)

    def crash_scheduler(self, number: int, down: float) -> None:
        """Crash a scheduler. It comes back after some seconds, with the ids of before."""
        number %= len(self._schedulers)
        if not self._schedulers[number].dead:
            self._schedulers[number].crash()
            self._clients[number] = None
            self.loop.call_later(down, self._restart_scheduler, number, context=Context())

    def _restart_scheduler(self, number: int) -> None:
        before = self._schedulers[number]
        if before.dead:
            process = self._schedulers[number] = Process(before.name, before.clock_error)
            process.start(self._run_scheduler(number), self.loop)

    def cancel(self, which: int) -> None:
        """Let a scheduler cancel one of the orders that it still waits for, the newest first."""
        waiting = [
            sent
            for sent in self.record.sent
            if not sent.over and sent.handle is not None and self._clients[sent.scheduler]
        ]
        if waiting:
            sent = waiting[-1 - which % len(waiting)]
            self._schedulers[sent.scheduler].start(self._cancel(sent), self.loop)

    async def _cancel(self, sent: Sent) -> None:
        client = self._clients[sent.scheduler]
        assert client is not None
        assert sent.handle is not None
        assert sent.handle.container.id is not None
        with suppress(ClientError):
            result = await (await client.cancel(sent.host, sent.handle.container.id))
            if result.status == "success":
                self.record.cancelled.setdefault(sent.order, self.loop.time())

    def quit(self, scheduler: int, host: Host) -> None:
        """Let a scheduler end a daemon, which finishes what runs."""
        client = self._clients[scheduler]
        if client is not None:
            self._schedulers[scheduler].start(self._quit(client, host), self.loop)

    async def _quit(self, client: AsyncMigfraClient, host: Host) -> None:
        with suppress(ClientError):
            await (await client.quit(host.name, timeout=20.0))

    def set_clock(self, name: str, seconds: float) -> None:
        """Set the clock of a host (`n0`) or scheduler (`s0`) by some seconds."""
        number = int(name[1])
        if name[0] == "n":
            process = self.hosts[number % len(self.hosts)].process
        else:
            number %= len(self._schedulers)
            process = self._schedulers[number]
            for sent in self.record.sent:
                sent.clocks_differ = sent.clocks_differ or sent.scheduler == number
        process.clock_error += seconds
        if seconds < 0:
            self._note_setback(process)
        self._compare_clocks()

    def _note_setback(self, process: Process) -> None:
        """Count the orders that came just before as if they came now: see `Arrival`."""
        now = self.loop.time()
        for arrivals in self.record.arrivals.values():
            if any(a.host == process.name and now - a.time < ACCEPT_SECONDS for a in arrivals):
                arrivals.append(Arrival(now, EPOCH + now + process.clock_error, process.name))

    def _compare_clocks(self) -> None:
        errors = {host.name: host.process.clock_error for host in self.hosts}
        for sent in self.record.sent:
            error = self._schedulers[sent.scheduler].clock_error
            if abs(errors[sent.host] - error) > CLOCK_TOLERANCE - 0.5:
                sent.clocks_differ = True

    def restart_broker(self, down: float, *, keeps_sessions: bool) -> None:
        """End the broker, and start it again after some seconds."""
        if not keeps_sessions:
            self.presences_lost = self.loop.time() + down
            for session in self.network.broker.sessions.values():
                self._lose((*session.queue, *session.in_flight.values()))
        self.network.restart_broker(down, keeps_sessions=keeps_sessions)

    def start_second(self, host: Host) -> None:
        """Start another daemon of the same host name, with another client id and journal."""
        if self._second is None or self._second.dead:
            self._second = Process(f"second-{host.name}", host.process.clock_error)
            self._second.start(self._live_beside(host), self.loop)

    async def _live_beside(self, host: Host) -> None:
        first, process, client_id = host.process, PROCESS.get(), f"second-{host.name}"
        ready = self._works(host)
        losses = self.network.losses
        daemon = Daemon(
            host.configuration,
            hypervisor=ScheduleHypervisor(self.domains, host.name),
            journal=self._folder / f"{client_id}.journal",
            communicator=_options(client_id, self._protocol),
            clock=CLOCK,
        )
        with suppress(HostTakenError, TransportError):
            await daemon.open()
            ready = ready and first is host.process and self._works(host)
            if ready and losses == self.network.losses:
                self.record.beside.append(host.name)
            else:
                self.record.took_over = True
        process.crash()
        self._forget_session(client_id)

    def _forget_session(self, client_id: str) -> None:
        session = self.network.broker.sessions.pop(client_id, None)
        if session is not None:
            self._lose((*session.queue, *session.in_flight.values()))

    def _works(self, host: Host) -> bool:
        """Return True if a daemon works, and has its connection to the broker."""
        daemon = host.daemon
        return (
            not host.process.dead
            and daemon is not None
            and daemon._runtime is not None
            and not daemon.stopping
            and daemon.runtime.communicator.is_connected
            and self.network.is_connected(host.client_id)
        )

    def send_without_key(self, host: Host) -> None:
        """Let the C++-like sender send the next order: start or stop of one domain, in turn."""
        if not self._sends:
            self._sends = True
            self._sender.start(self._run_sender(), self.loop)
        kind: Kind = "stop" if sum(self.record.keyless.values()) % 2 else "start"
        name = f"cpp{self._keyless_number}"
        task = _task(kind, name, retries=0)
        self.record.keyless[task.declaration.task, name] += 1
        container = TaskContainer(tasks=[task], id=CONSTANT_ID)
        self._outgoing.put_nowait((host, container.to_yaml().encode(), self._sender_qos))

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
            self._check_offline(host)
            before, host.process = host.process, Process(host.name, host.process.clock_error)
            host.process.disk_is_full = before.disk_is_full
            self._run_daemon(host)

    def _check_offline(self, host: Host) -> None:
        """Check that the presence says that a daemon has ended, once its last will is published."""
        if host.ended is None or self.loop.time() - host.ended < WILL_SECONDS:
            return
        if self.record.took_over or self.presences_lost > host.ended:
            return
        kept = self.network.broker.retained.get(topics.PRESENCE(host.name))
        if kept is not None and b"status: offline" not in kept.payload:
            self.record.untrue_presences.append(
                f"{host.name} has ended, and its presence is online"
            )

    def repair(self) -> None:
        """Repair the network, the disks and the broker, and start all that does not run."""
        self.network.blocked.clear()
        self.network.start_broker()
        for host in self.hosts:
            host.process.disk_is_full = False
            self.restart(host)
        for number in range(len(self._schedulers)):
            self._restart_scheduler(number)

    # What the invariants ask for.

    def sent_with(self, message: Message) -> list[Sent]:
        """Return the order of a scheduler that a message has, if it has one."""
        order = _order_in(message.payload) if message.topic.endswith("/task") else None
        return [sent for sent in self.record.sent if sent.order == order]

    def now(self, sent: Sent, time: float) -> float:
        """Return the seconds since 1970 by the clock of an order's scheduler, at a loop's time."""
        return EPOCH + time + self._schedulers[sent.scheduler].clock_error

    # The end.

    def settle(self) -> None:
        """Repair everything, and let time pass until nothing is under way.

        Raises UnsettledError.
        """
        for host in self.hosts:
            host.process.keep_alive()
        self.repair()
        self.network.largest_delay = min(self.network.largest_delay, SHORT_DELAY)
        waited = 0.0
        while not self.quiet:
            if waited > SETTLE_SECONDS:
                text = f"something is under way after {waited:g} s: {self!r}"
                raise UnsettledError("\n".join((text, *self.record.errors)))
            self.advance(5.0)
            waited += 5.0
            for host in self.hosts:
                self.restart(host)

    def begin_again(self) -> None:
        """Begin the next schedule, with a new record and with nothing slow or wrong."""
        self.record = Record()
        self._deliveries.clear()
        self._keyless_number += 1
        self.domains.begin_again()
        self.network.largest_delay = SHORT_DELAY
        for host in self.hosts:
            host.process.write_seconds = 0.0
            host.crashes = 0
            host.failures.clear()
        for process in (*self._schedulers, *(host.process for host in self.hosts)):
            process.clock_error = self._clock_errors[process.name]

    @property
    def quiet(self) -> bool:
        """True if nothing is under way any more."""
        return (
            len(self._deliveries) == sum(self.record.keyless.values())
            and all(delivery.done for delivery in self._deliveries)
            and all(session.empty for session in self.network.broker.sessions.values())
            and all(sent.over for sent in self.record.sent)
            and all(_idle(host) and self._is_shown(host) for host in self.hosts)
            and not any(self._is_forgotten(host.name) for host in self.hosts)
            and (self._second is None or self._second.dead)
        )

    def _is_shown(self, host: Host) -> bool:
        """Return True if the presence says that the daemon works, and that all is well."""
        kept = self.network.broker.retained.get(topics.PRESENCE(host.name))
        return (
            kept is not None
            and b"status: online" in kept.payload
            and b"degraded: " not in kept.payload
        )

    def close(self) -> None:
        """End all processes, and remove the files."""
        try:
            daemons = [host.process for host in self.hosts]
            second = () if self._second is None else (self._second,)
            for process in (*self._schedulers, self._sender, *daemons, *second):
                process.crash()
            while left := asyncio.all_tasks(self.loop):
                for task in left:  # one that was about to end can miss a first cancellation
                    task.cancel()
                self.loop.run_until_complete(asyncio.wait(left))
            self.loop.close()
        finally:
            self._parts.close()

    def __repr__(self) -> str:
        waiting = [str(sent.order) for sent in self.record.sent if not sent.over]
        busy = [s.client_id for s in self.network.broker.sessions.values() if not s.empty]
        working = [host.name for host in self.hosts if not _idle(host)]
        hidden = [host.name for host in self.hosts if not self._is_shown(host)]
        return f"<Cluster {waiting=} sessions={busy} daemons={working} not_online={hidden}>"


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
    """Return the order in the text of a container with one task, None if it is about others."""
    task = _TASK.search(payload)
    assert task is not None, payload
    title = task[1].decode()
    if title not in ORDER_TITLES:
        return None
    name = _VM_NAME.search(payload)
    assert name is not None, payload
    return title, name[1].decode()


def _options(client_id: str, protocol: Protocol) -> MqttOptions:
    return MqttOptions(
        client_id=client_id,
        persistent=True,
        protocol=protocol,
        retry_min=0.1,
        retry_max=RETRY_SECONDS,
    )


_configurations: dict[str, Configuration] = {}


def _configuration(host: str) -> Configuration:
    if host not in _configurations:
        _configurations[host] = read_configuration(
            f"hostname: {host}\nhypervisor: {{type: dummy}}\nretry: {{first: 1, longest: 4}}\n"
            f"presence-interval: {PRESENCE_SECONDS:g}\n"
        )
    return _configurations[host]


@cache
def _new_journal() -> bytes:
    """Return the file of a journal that was just made: making it takes longer than a copy."""
    with tempfile.TemporaryDirectory(dir=_memory_folder()) as folder:
        path = Path(folder, "journal")
        schema.open_tables(path, EPOCH).close()
        return path.read_bytes()


def _memory_folder() -> str | None:
    """Return a folder in memory if there is one: its files cost no time."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


class NoLock:
    """Stands in for the condition of a future, as all futures are in one thread."""

    def __enter__(self) -> None:
        """Lock nothing."""

    def __exit__(self, *_: object) -> None:
        """Unlock nothing."""

    def notify_all(self) -> None:
        """Wake nobody."""

    def wait(self, timeout: float | None = None) -> None:
        """Refuse to wait."""
        raise AssertionError("a future is waited for in the only thread")


@contextmanager
def simulated_time() -> Iterator[None]:
    """Let the code under test read the clock of the process, and no log be written."""
    clock = SimpleNamespace(time=CLOCK.now, monotonic=CLOCK.monotonic)
    unlocked = SimpleNamespace(Condition=NoLock)
    logging.disable(logging.CRITICAL)
    with ExitStack() as patches:
        patches.callback(logging.disable, logging.NOTSET)
        for name, module in sorted(sys.modules.items()):
            if name.startswith("fastlib.") and getattr(module, "time", None) is time:
                patches.enter_context(mock.patch.object(module, "time", clock))
        patches.enter_context(mock.patch.object(runtime, "_lock", return_value=nullcontext()))
        patches.enter_context(mock.patch.object(futures, "threading", unlocked))
        # No process stands still here, and looking twice a second whether it does costs most time.
        patches.enter_context(mock.patch.object(OtherDaemons, "_watch_beat", _never))
        patches.enter_context(mock.patch.object(OtherDaemons, "_look_at_beat", _never_stood_still))
        patches.enter_context(mock.patch.object(GroupCommit, "_execute_all", _execute_all))
        yield


async def _never(*_: object) -> None:
    await asyncio.Event().wait()


def _never_stood_still(*_: object, **__: object) -> None:
    """Do nothing."""


_really_execute_all: Final = GroupCommit._execute_all


def _execute_all(commit: GroupCommit, operations: list[Operation]) -> list[Any]:
    """Execute operations on a disk that may be full: the last write of a transaction fails."""
    if not PROCESS.get().disk_is_full:
        return _really_execute_all(commit, operations)
    return _really_execute_all(commit, [*operations, _fail_for_room])


def _fail_for_room(connection: sqlite3.Connection) -> None:
    raise sqlite3.OperationalError("database or disk is full")
