"""The parts of a running daemon: open them, connect them to each other, and close them."""

import asyncio
import platform
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from functools import partial
from logging import getLogger
from pathlib import Path
from typing import Any, Final

from fastlib import __version__
from fastlib.clock import Clock, duration_words
from fastlib.message import topics
from fastlib.message.node import Presence
from fastlib.transport import AsyncCommunicator, MemoryBroker, MemoryOptions, MqttOptions

from .broker_connection import BrokerConnection
from .config.file import Configuration
from .errors import ClaimError, JournalError
from .failures import OnFailure
from .journal.journal import Journal
from .journal.left_beside import left_beside
from .journal.lock import lock_journal
from .plugin_api.hypervisor import Hypervisor, NodeContext
from .plugin_api.lifecycle import opened
from .plugin_api.thread_pool import ThreadPool
from .tasks.admission import Admission
from .tasks.builtin_tasks import BuiltinTasks
from .tasks.decoding import digest_of
from .tasks.dispatcher import Dispatcher
from .tasks.events import Events
from .tasks.executor import Executor
from .tasks.jobs import Job, JobTable
from .tasks.late_acks import LateAcks
from .tasks.method_caller import ContextMaker, MethodCaller
from .tasks.progress import ProgressPublisher
from .tasks.publisher import Publisher
from .tasks.receiver import Receiver
from .telemetry.clock_jumps import ClockJumps
from .telemetry.counters import Counters, Gauge
from .telemetry.degradation import degraded_by
from .telemetry.other_daemons import OtherDaemons
from .telemetry.outages import Outages
from .telemetry.presence import PresencePublisher

log = getLogger("fastlib.migfra")

CLOSE_SECONDS: Final = 10.0
"""Seconds that the broker, the journal and the hypervisor may each take to close."""
CLOCK_SECONDS: Final = 2.0
"""Seconds that the clock may be behind the journal without a warning."""
CHECK_SECONDS: Final = 1.0
"""Seconds that the presence waits for a check of the journal's file."""
ENDING: Final = (
    "the daemon is ending: it finishes the running tasks and accepts no others; start it again, "
    "and it receives the tasks that wait at the broker"
)
SPARE_THREADS: Final = 4
"""Threads in addition to those of the running members: for queries, `open` and `close`."""

Broker = MqttOptions | MemoryOptions | MemoryBroker


@dataclass(frozen=True)
class Plan:
    """The parts of a daemon before it is opened."""

    configuration: Configuration
    hypervisor: Hypervisor
    broker: Broker | None
    """Replaces the broker of the configuration."""
    journal: Path | None
    """None is a journal in memory."""
    counters: Counters
    started: float
    """Seconds since 1970 (UTC)."""
    clock: Clock
    instance: str
    """Random text that identifies this run."""


class Runtime:
    """The parts of an open daemon."""

    def __init__(
        self,
        plan: Plan,
        journal: Journal,
        threads: ThreadPool,
        connection: BrokerConnection,
        communicator: AsyncCommunicator,
        on_quit: Callable[[], object],
        on_failure: OnFailure,
    ) -> None:
        """Connect the parts to each other. `open_runtime` starts them."""
        config, hypervisor, counters = plan.configuration, plan.hypervisor, plan.counters
        self._hypervisor = hypervisor
        self._started = plan.started
        self._host = config.host
        self._clock = plan.clock
        self._on_quit = on_quit
        self.journal: Final = journal
        self.connection: Final = connection
        self.communicator: Final = communicator
        self.jobs: Final = JobTable()
        self.quit: Job | None = None
        """The `quit` that ends the daemon, if one came as a message."""
        self.publisher: Final = Publisher(
            communicator,
            journal,
            config.result_topic,
            config.communicator.qos,
        )
        self.acks: Final = LateAcks()
        self._ends = False
        """True while the daemon only finishes running tasks."""
        own = Presence(
            status="online",
            version=__version__,
            hypervisor=hypervisor.name,
            started=plan.started,
            client_id=connection.client_id,
            instance=plan.instance,
        )
        self._clock_jumps: Final = ClockJumps(plan.clock)
        self.presence: Final = PresencePublisher(
            communicator,
            config.host,
            own,
            interval=config.presence_interval,
            ready=self._host_is_ours,
            degraded=self._degraded,
            check=self._check,
            clock=plan.clock,
        )
        journal.on_change(self.presence.changed)
        self.other_daemons: Final = OtherDaemons(
            communicator,
            config.host,
            own,
            online=self.presence.online,
            answer=self.presence.changed,
            on_taken=partial(on_failure, "the host's name"),
            clock=plan.clock,
        )
        events = Events(journal, asyncio.get_running_loop())
        caller = MethodCaller(
            ContextMaker(
                host=config.host,
                journal=journal,
                communicator=communicator,
                retry=config.retry,
                counters=counters,
                events=events,
                is_ready=self.other_daemons.is_ours,
                ready=self._host_is_ours,
            ),
            ProgressPublisher(
                communicator, config.host, config.progress_interval, counters, events
            ),
            threads,
        )
        builtin = BuiltinTasks(
            hypervisor,
            caller,
            self.jobs,
            journal,
            cancel_timeout=config.cancel_timeout,
            versions={"fastlib": __version__, "python": platform.python_version()},
            degraded=self._degraded,
            clock=plan.clock,
        )
        executor = Executor(
            hypervisor, caller, builtin.methods(), journal, counters, events, plan.clock
        )
        self.dispatcher: Final = Dispatcher(
            executor,
            self.jobs,
            journal,
            self.publisher,
            self.acks,
            config.limits,
            quit=self._set_quit,
            on_failure=on_failure,
            clock=plan.clock,
        )
        admission = Admission(
            journal,
            self.dispatcher,
            executor,
            self.publisher,
            self.acks,
            counters,
            host=config.host,
            jobs=self.jobs,
            limits=config.limits,
            clock=plan.clock,
        )
        self.receiver: Final = Receiver(
            communicator,
            config.named(config.communicator.subscribe_topic),
            config.limits,
            admission.admit,
            on_failure,
            counters,
            is_ready=self.other_daemons.is_ours,
            ready=self._host_is_ours,
            on_refusal=self._note_refusal,
        )

    async def _host_is_ours(self, connection: int = 0) -> None:
        """Wait until it is certain that no other daemon has this host's name."""
        await self.other_daemons.confirmed(connection)

    def _degraded(self) -> str | None:
        degraded = degraded_by(self.journal.last_error, self.journal.path)
        if degraded is None and self._ends:
            return ENDING
        return degraded or self.receiver.refusal

    def _note_refusal(self) -> None:
        self.connection.refusal = self.receiver.refusal
        self.presence.changed()

    async def accept_no_more(self) -> None:
        """Stop receiving tasks.

        If the end must wait for running tasks, report that in the presence.
        """
        await self.receiver.end()
        if self.dispatcher.running:
            self._ends = True
            self.presence.changed()

    async def _check(self) -> None:
        """Check the clock and the journal's file, which nothing else does without orders."""
        self._clock_jumps.check()
        self.journal.trim_if_due()
        with suppress(TimeoutError, JournalError):  # `last_error` has the reason
            async with asyncio.timeout(CHECK_SECONDS):
                await self.journal.check_file()

    def _set_quit(self, job: Job) -> None:
        self.quit = job
        self._on_quit()

    async def on_reconnect(self) -> None:
        """Note the session of the new connection."""
        self.journal.session_began(self.communicator.session_start)

    async def resume(self) -> None:
        """Continue what an earlier run has left in the journal."""
        if self.journal.is_new and self.communicator.session_start == 0:
            log.warning(
                "the journal %s is new, but the broker has a session of this daemon: the journal "
                "does not have the orders that the daemon accepted earlier; the daemon does not "
                "answer these, and executes each of them again if it is sent again; if you have "
                "the old journal, stop the daemon and put that back",
                self.journal.path,
            )  # fmt: skip
        if self.journal.is_older_copy:
            log.warning(
                "the journal %s was replaced by an older copy of itself: it does not have the "
                "orders that came after the copy was made; the daemon executes each of these "
                "again if it is sent again; orders without an answer in the copy may have been "
                "executed since",
                self.journal.path,
            )  # fmt: skip
        behind = (self.journal.newest or 0.0) - self._clock.now()
        if behind > CLOCK_SECONDS:
            log.warning(
                "the newest order in the journal was accepted %s in the future: the clock of this "
                "host is slow now, or was fast then; orders expire by this clock; synchronize it, "
                "for example by NTP", duration_words(behind),
            )  # fmt: skip
        self.journal.trim()
        for owed in await self.journal.unconfirmed():
            self.publisher.put(owed.number, owed.id, owed.answer, owed.host)
        left = await self.journal.unfinished()
        if self.journal.earlier_host not in (None, self._host):
            log.warning(
                "the journal %s belonged to the host %s; this daemon finishes its unanswered "
                "orders (%d containers), and answers them under the name %s",
                self.journal.path, self.journal.earlier_host, len(left), self.journal.earlier_host,
            )  # fmt: skip
        for unfinished in left:
            job = Job(
                unfinished.number,
                unfinished.id,
                None,
                recovered=unfinished,
                host=self._host,
                clock=self._clock,
            )
            if unfinished.maybe_cancel:  # it must not wait for the end of its target
                await self.dispatcher.loader.load(job)
            if not job.begun:
                self.dispatcher.put(job)
        if left:
            log.info("containers that the last run did not finish: %d", len(left))

    async def report_left_beside(self, paths: Iterable[Path]) -> None:
        """Log other journals with unfinished orders that no daemon uses."""
        for left in await asyncio.to_thread(left_beside, paths):
            log.warning("%s", left)

    async def claim_host(self) -> None:
        """Claim the host, and refuse to work if another daemon has it. Raises HostTakenError."""
        try:
            await self.other_daemons.claim()
        except ClaimError:
            self.connection.publish_will = False  # the host is not offline: another daemon has it
            raise

    async def publish_offline(self) -> None:
        """Publish the presence `offline`.

        If the broker does not confirm it, the daemon does not send DISCONNECT, and the broker
        publishes the last will.
        """
        if not self.other_daemons.may_publish_offline:
            self.presence.give_up()
            self.connection.publish_will = False
            return
        until = self._clock.monotonic() + self.connection.close_timeout
        await self.presence.end()
        self.connection.publish_will = not await self.presence.is_offline(
            self.connection.close_timeout
        )
        self.connection.close_timeout = max(0.0, until - self._clock.monotonic())

    def gauges(self) -> list[Gauge]:
        """Return the numbers that are measured now."""
        return [*self._migration_gauges(), *self._own_gauges()]

    def _migration_gauges(self) -> list[Gauge]:
        limits = self._hypervisor.migration_limits()
        if limits is None:
            return []
        return [
            Gauge("migfra_migrations_running", "Migrations that run now.", lambda: limits.running),
            Gauge(
                "migfra_migrations_queued",
                "Migrations that wait in the queue.",
                lambda: limits.queued,
            ),
        ]

    def _own_gauges(self) -> list[Gauge]:
        return [
            Gauge("migfra_containers_at_work", "Task containers that run now.",
                  lambda: self.dispatcher.running),
            Gauge("migfra_containers_waiting", "Accepted task containers that have not begun.",
                  lambda: self.dispatcher.queued),
            Gauge("migfra_messages_dropped",
                  "Messages with QoS 0 that the daemon dropped because its inbox was full.",
                  lambda: self.communicator.dropped, only_grows=True),
            Gauge("migfra_answers_unconfirmed", "Answers that the broker has not confirmed yet.",
                  lambda: self.publisher.unconfirmed),
            Gauge("migfra_journal_bytes", "Size of the journal in bytes.", self.journal.size),
            Gauge("migfra_journal_writable", "1 if the journal can be written, 0 if not.",
                  lambda: float(self.journal.last_error is None)),
            Gauge("migfra_broker_connected", "1 if the broker is connected, 0 if not.",
                  lambda: float(self.communicator.is_connected)),
            Gauge("migfra_start_time_seconds",
                  "Time of the daemon's start, in seconds since 1970-01-01 UTC.",
                  lambda: self._started),
        ]  # fmt: skip


async def open_runtime(
    plan: Plan, parts: AsyncExitStack, on_quit: Callable[[], object], on_failure: OnFailure
) -> Runtime:
    """Open the parts of a daemon in order; `parts` closes them in the opposite order.

    `on_quit` is called when a `quit` comes as a message, `on_failure` for an unexpected error after
    which the daemon cannot continue.

    Raises RunningError, HostTakenError, JournalError, PluginError, HypervisorError, OptionsError,
    RefusedError and, for the metrics, OSError.
    """
    config = plan.configuration
    if plan.journal is not None:
        parts.enter_context(lock_journal(plan.journal))
    journal = Journal(
        plan.journal,
        max_age=config.journal.max_age,
        max_size=config.journal.max_size << 20,
        repetition_window=config.journal.repetition_window,
        host=config.host,
        on_failure=on_failure,
        clock=plan.clock,
        digest_of=digest_of,
    )
    parts.push_async_callback(journal.close, CLOSE_SECONDS)
    threads = ThreadPool(config.limits.members + SPARE_THREADS, f"migfra-{config.host}")
    parts.callback(threads.close)
    node = getattr(plan.hypervisor, "node", None)
    if isinstance(node, NodeContext):  # a plug-in need not keep it
        node.keep_state(journal.hypervisor_state, partial(_store_hypervisor_state, journal))
    await parts.enter_async_context(opened(plan.hypervisor, threads))
    connection = BrokerConnection(config, plan.broker, plan.instance, on_failure)
    outages = Outages(partial(_outages, connection, journal, plan.hypervisor), plan.clock)
    parts.callback(outages.end)
    outages.begin()
    communicator = await connection.open()
    # The next steps can take long: the journal's disk may be full, the broker silent.
    communicator.expect(topics.TASK(config.host))
    parts.push_async_callback(connection.close)
    runtime = Runtime(plan, journal, threads, connection, communicator, on_quit, on_failure)
    parts.callback(runtime.acks.end)
    await runtime.claim_host()
    parts.push_async_callback(runtime.publish_offline)
    parts.callback(runtime.publisher.stop)
    parts.push_async_callback(runtime.dispatcher.abandon)
    journal.session_began(communicator.session_start)
    communicator.on_reconnect(runtime.on_reconnect)
    await runtime.resume()
    if plan.journal == config.journal_path():
        await runtime.report_left_beside(config.other_journals())
    if config.metrics is not None:
        from .telemetry.metrics import serve  # an extra

        parts.callback(serve(plan.counters, runtime.gauges(), config.metrics))
    parts.push_async_callback(runtime.receiver.end)
    await runtime.receiver.begin()
    parts.callback(runtime.other_daemons.end)
    await runtime.other_daemons.begin()
    runtime.dispatcher.start()
    runtime.presence.begin()
    return runtime


def _store_hypervisor_state(journal: Journal, state: Mapping[str, Any]) -> "Future[None]":
    return asyncio.run_coroutine_threadsafe(
        journal.save_hypervisor_state(state), asyncio.get_running_loop()
    )


async def _outages(
    connection: BrokerConnection, journal: Journal, hypervisor: Hypervisor
) -> dict[str, str]:
    """Return what is unavailable now, with the reasons."""
    own = {
        "the broker": connection.outage(),
        "the permission to receive orders": connection.refusal,
        "the journal": None if journal.last_error is None else str(journal.last_error),
    }
    found = {name: reason for name, reason in own.items() if reason is not None}
    return {**found, **await hypervisor.outages()}
