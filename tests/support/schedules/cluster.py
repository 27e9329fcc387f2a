"""A cluster for one schedule: daemons, schedulers and a C++-like sender on a simulated broker.

Everything that is under test is real: the client with its core, the transport's session, and the
daemon with its journal in an SQLite file. Simulated are the loop, the broker, the domains and the
clocks.
"""

import asyncio
import random
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from fastlib import TaskContainer
from fastlib.client.outcome import CLOCK_TOLERANCE
from fastlib.transport import backoff

from .broker import Message, Network
from .environment import Environment, memory_folder
from .hosts import Host
from .hypervisor import Domains
from .journals import closing_journals
from .link import simulated_links
from .loop import ScheduleLoop
from .orders import Kind, make_task, order_in
from .process import EPOCH, PROCESS, Process
from .record import Arrival, Observer, Record, Sent
from .schedulers import Scheduler
from .second_daemon import SecondDaemon
from .sender import Sender
from .settings import Protocol

START_SECONDS: Final = 3.0
"""The time after which daemons and schedulers have begun, and have written what they note of it."""

SETTLE_SECONDS: Final = 2000.0
"""The time after which everything must have ended, once nothing is broken any more."""

SHORT_DELAY: Final = 0.002
"""Seconds that a packet travels at most while the network is fast."""


class UnsettledError(Exception):
    """Some work has not ended long after everything was repaired."""


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
        """`clock_errors` are seconds, for the hosts first and then for the schedulers."""
        errors = iter((*clock_errors, *[0.0] * (hosts + schedulers)))
        dice = random.Random(seed)
        backoff.RANDOM.seed(seed)  # the pauses between retries
        self.loop: Final = ScheduleLoop()
        self.loop.set_exception_handler(self._note_error)
        self.network: Final = Network(self.loop, dice)
        self.network.broker.publishes_at_release = publishes_at_release
        self.network.broker.reuses_packet_ids = reuses_packet_ids
        self.domains: Final = Domains(dice)
        self._parts = ExitStack()
        folder = Path(tempfile.mkdtemp(prefix="schedule-", dir=memory_folder()))
        self._parts.callback(shutil.rmtree, folder)
        self._parts.enter_context(closing_journals())
        self._parts.enter_context(simulated_links(self.network))
        self._client_ids: dict[str, str] = {}
        self._observer = Observer(self.network, self._client_ids)
        environment = self._environment = Environment(
            self.loop, self.network, self.domains, protocol, folder, self._observer
        )
        self._number = 0
        self.hosts: Final = [Host(f"n{n}", environment, next(errors)) for n in range(hosts)]
        self._client_ids.update((host.name, host.client_id) for host in self.hosts)
        self.schedulers: Final = [
            Scheduler(number, environment, next(errors)) for number in range(schedulers)
        ]
        self.sender: Final = Sender(environment, sender_qos)
        self._second: SecondDaemon | None = None
        self._clock_errors = {one.name: one.clock_error for one in self._clocks}
        self.advance(START_SECONDS)

    @property
    def record(self) -> Record:
        """The record of the present schedule."""
        return self._observer.record

    @property
    def _clocks(self) -> list[Process]:
        """The processes of the schedulers and hosts."""
        return [*(one.process for one in self.schedulers), *(one.process for one in self.hosts)]

    def advance(self, seconds: float) -> None:
        """Let virtual time pass."""
        self.loop.run_until_complete(asyncio.sleep(seconds))

    def _note_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        process = PROCESS.get(None)
        if process is None or not process.dead:
            cause = context.get("exception") or context.get("task")
            self.record.errors.append(f"{context.get('message')}: {cause!r}")

    # What a schedule does.

    def submit(
        self,
        scheduler: int,
        host: Host,
        kind: Kind,
        timeout: float | None,
        *,
        failures: int = 0,
        others_wait: bool = False,
        **options: Any,
    ) -> None:
        """Send an order of a scheduler for a separate domain.

        Its first attempts fail. A migration is tried again as often, others fail for good. With
        `others_wait`, orders that come later wait for its end.
        """
        self._number += 1
        task = make_task(kind, f"vm{self._number}", retries=failures)
        order = (task.declaration.task, f"vm{self._number}")
        if failures:
            self.domains.failures[order] = failures
        sender = self._scheduler(scheduler)
        sent = Sent(order, host.name, sender.number, timeout)
        self.record.sent.append(sent)
        self._compare_clocks()
        work = TaskContainer(tasks=[task], concurrent_execution=False) if others_wait else task
        sender.submit(sent, work, **options)

    def send_without_key(self, host: Host) -> None:
        """Let the C++-like sender send its next order."""
        self.sender.send(host.name)

    def cancel(self, which: int) -> None:
        """Let a scheduler cancel one of the orders that it still waits for, the newest first."""
        waiting = [
            sent for sent in self.record.sent if self.schedulers[sent.scheduler].waits_for(sent)
        ]
        if waiting:
            sent = waiting[-1 - which % len(waiting)]
            self.schedulers[sent.scheduler].cancel(sent)

    def quit(self, scheduler: int, host: Host) -> None:
        """Make a scheduler end a daemon, which finishes running tasks."""
        self._scheduler(scheduler).quit(host.name)

    def crash_scheduler(self, number: int, down: float) -> None:
        """Crash a scheduler. It starts again after some seconds, with the same ids."""
        self._scheduler(number).crash(down)

    def _scheduler(self, number: int) -> Scheduler:
        return self.schedulers[number % len(self.schedulers)]

    def start_second(self, host: Host, seconds: float = 0.0) -> None:
        """Start another daemon of the same host name. It works for some seconds, or is refused."""
        if self._second is None or not self._second.runs:
            self._second = SecondDaemon(host, self._environment, seconds)

    def restart_broker(self, down: float, *, keeps_sessions: bool) -> None:
        """End the broker, and start it again after some seconds."""
        self._observer.wills_lost = self.loop.time() + down
        if not keeps_sessions:
            for session in self.network.broker.sessions.values():
                self._observer.lose((*session.queue, *session.in_flight.values()))
        self.network.restart_broker(down, keeps_sessions=keeps_sessions)

    # Clocks.

    def set_clock(self, name: str, seconds: float) -> None:
        """Set the clock of a host (`n0`) or scheduler (`s0`) by some seconds."""
        number = int(name[1])
        if name[0] == "n":
            process = self.hosts[number % len(self.hosts)].process
        else:
            scheduler = self._scheduler(number)
            process = scheduler.process
            for sent in self.record.sent:
                sent.clocks_differ = sent.clocks_differ or sent.scheduler == scheduler.number
        process.clock_error += seconds
        if seconds < 0:
            self._note_setback(process)
        self._compare_clocks()

    def _note_setback(self, process: Process) -> None:
        """Count the orders that a daemon has not noted yet as if they came now: see `Arrival`.

        It cannot note them while its disk is full, also beyond a crash.
        """
        now = self.loop.time()
        for order, arrivals in self.record.arrivals.items():
            for host in self.hosts:
                came = host.process is process and any(a.daemon == process.name for a in arrivals)
                if came and (order, host.client_id) not in self.record.noted:
                    arrivals.append(Arrival(now, EPOCH + now + process.clock_error, process.name))

    def _compare_clocks(self) -> None:
        errors = {host.name: host.process.clock_error for host in self.hosts}
        for sent in self.record.sent:
            error = self.schedulers[sent.scheduler].process.clock_error
            if abs(errors[sent.host] - error) > CLOCK_TOLERANCE - 0.5:
                sent.clocks_differ = True

    # What the invariants ask for.

    def sent_with(self, message: Message) -> list[Sent]:
        """Return the order of a scheduler that a message has, if it has one."""
        order = order_in(message.payload) if message.topic.endswith("/task") else None
        return [sent for sent in self.record.sent if sent.order == order]

    def now(self, sent: Sent, time: float) -> float:
        """Return the seconds since 1970 by the clock of an order's scheduler, at a loop's time."""
        return EPOCH + time + self.schedulers[sent.scheduler].process.clock_error

    # The end.

    def repair(self) -> None:
        """Repair the network, the disks and the broker, and start all that does not run."""
        self.network.blocked.clear()
        self.network.start_broker()
        for host in self.hosts:
            host.process.disk_is_full = False
            host.restart()
        for scheduler in self.schedulers:
            scheduler.restart()

    def settle(self) -> None:
        """Repair everything, and advance time until all work is done.

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
                host.restart()

    @property
    def quiet(self) -> bool:
        """True if all work is done."""
        return (
            self.sender.quiet
            and not self.network.senders
            and all(session.empty for session in self.network.broker.sessions.values())
            and all(sent.over for sent in self.record.sent)
            and all(host.idle and host.is_shown for host in self.hosts)
            and not any(self._observer.is_forgotten(host.name) for host in self.hosts)
            and (self._second is None or not self._second.runs)
        )

    def begin_again(self) -> None:
        """Begin the next schedule, with a new record and with nothing slow or wrong."""
        self.domains.begin_again({*(sent.order for sent in self.record.sent), *self.record.keyless})
        self._observer.record = Record()
        self.sender.begin_again()
        self.network.largest_delay = SHORT_DELAY
        for host in self.hosts:
            host.process.write_seconds = 0.0
            host.crashes = 0
            host.failures.clear()
        for process in self._clocks:
            process.clock_error = self._clock_errors[process.name]

    def close(self) -> None:
        """End all processes, and remove the files."""
        try:
            for process in self._clocks:
                process.crash()
            self.sender.crash()
            if self._second is not None:
                self._second.crash()
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
        working = [host.name for host in self.hosts if not host.idle]
        hidden = [host.name for host in self.hosts if not host.is_shown]
        sending = self.network.senders
        return (
            f"<Cluster {waiting=} {sending=} sessions={busy} daemons={working} not_online={hidden}>"
        )
