"""The daemon: everything put together, from `open` to `close`."""

import asyncio
import platform
import time
from contextlib import AsyncExitStack
from logging import getLogger
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from fastlib import __version__
from fastlib.message.node import Presence
from fastlib.transport import (
    AsyncCommunicator,
    MemoryBroker,
    MemoryOptions,
    MqttOptions,
)

from .broker_connection import Connection
from .config.file import Configuration
from .errors import JournalError
from .journal.journal import Journal
from .plugin_api.hypervisor import Hypervisor
from .plugin_api.lifecycle import opened
from .plugin_api.thread_pool import ThreadPool
from .service.lock import InstanceLock
from .tasks.builtin_tasks import BuiltinTasks
from .tasks.dispatcher import Dispatcher
from .tasks.executor import Executor
from .tasks.jobs import Job
from .tasks.progress import ProgressPublisher
from .tasks.publisher import Publisher
from .tasks.receiver import Receiver
from .tasks.results import quit_answer
from .telemetry.counters import Counters
from .telemetry.presence import PresencePublisher

log = getLogger("fastlib.migfra")

CLOSE_SECONDS: Final = 10.0
"""How long the broker, the journal and the hypervisor may each take to let go."""
SPARE_THREADS: Final = 4
"""For what is called beside the members at work: queries, `open` and `close`."""


class Daemon:
    """A migration daemon, as an async context manager::

        async with Daemon(configuration) as daemon:
            await daemon.ended.wait()

    `ended` is set after `stop`, or after a `quit` that came as a message.
    """

    def __init__(
        self,
        configuration: Configuration,
        *,
        communicator: MqttOptions | MemoryOptions | MemoryBroker | None = None,
        hypervisor: Hypervisor | None = None,
        journal: Path | str | None = None,
        in_memory: bool = False,
    ) -> None:
        """The parts that are given stand for those of the configuration: a broker, a hypervisor
        that was made already, the path of the journal. `in_memory` is a journal without a file,
        which does not outlive the daemon.
        """
        self.configuration: Final = configuration
        self.host: Final = configuration.host
        self.counters: Final = Counters()
        self.ended: Final = asyncio.Event()
        """Set when the daemon has ended."""
        self.started: Final = time.time()
        self._given = communicator
        self._hypervisor = hypervisor or configuration.hypervisor.make(configuration.node)
        self._path = None if in_memory else Path(journal or configuration.journal_path())
        self._stop = asyncio.Event()
        self._quit: Job | None = None
        self._stop_now = asyncio.Event()
        self._killed = False
        self._life: asyncio.Task[None] | None = None
        self._parts = AsyncExitStack()
        self.communicator: AsyncCommunicator
        self.journal: Journal
        self.dispatcher: Dispatcher
        self.publisher: Publisher
        self._connection: Connection
        self._receiver: Receiver
        self._presence: PresencePublisher

    @property
    def hypervisor(self) -> Hypervisor:
        """What executes the tasks."""
        return self._hypervisor

    async def open(self) -> Self:
        """Begin to work, as soon as the broker is there.

        Raises RunningError, JournalError, PluginError, OptionsError, and RefusedError if the broker
        does not want us.
        """
        async with AsyncExitStack() as parts:
            await self._open(parts)
            self._parts = parts.pop_all()
        self._life = asyncio.create_task(self._live())
        return self

    async def _open(self, parts: AsyncExitStack) -> None:
        config = self.configuration
        if self._path is not None:
            parts.enter_context(self._lock(self._path))
        self.journal = Journal(
            self._path, max_age=config.journal.max_age, max_size=config.journal.max_size << 20
        )
        parts.push_async_callback(self.journal.close, CLOSE_SECONDS)
        threads = ThreadPool(config.limits.members + SPARE_THREADS, f"migfra-{self.host}")
        parts.callback(threads.close)
        await parts.enter_async_context(opened(self._hypervisor, threads))
        self._connection = Connection(config, self._given)
        self.communicator = await self._connection.open()
        parts.push_async_callback(self._connection.close)
        topic = config.named(config.communicator.publish_topic)
        self.publisher = Publisher(self.communicator, self.journal, topic, config.communicator.qos)
        parts.callback(self.publisher.stop)
        self._assemble(threads)
        parts.push_async_callback(self.dispatcher.abandon)
        await self._take_up()
        if config.metrics is not None:
            from .telemetry.metrics import serve  # an extra

            parts.callback(serve(self, config.metrics))
        parts.push_async_callback(self._receiver.end)
        await self._receiver.begin()
        self.dispatcher.start()
        await self._presence.begin()

    @staticmethod
    def _lock(journal: Path) -> InstanceLock:
        try:
            return InstanceLock(Path(f"{journal}.lock"))
        except OSError as error:
            raise JournalError(
                f"the journal cannot be kept at {journal}: {error}; 'journal: {{path: ...}}' in "
                "the configuration names another place"
            ) from error

    def _assemble(self, threads: ThreadPool) -> None:
        config = self.configuration
        progress = ProgressPublisher(
            self.communicator, self.host, config.progress_interval, self.counters
        )
        executor = Executor(
            self._hypervisor,
            self.host,
            journal=self.journal,
            communicator=self.communicator,
            progress=progress,
            threads=threads,
            retry=config.retry,
            counters=self.counters,
        )
        self.dispatcher = Dispatcher(
            executor, self.journal, self.publisher, config.limits, self._quit_came
        )
        versions = {"fastlib": __version__, "python": platform.python_version()}
        BuiltinTasks(
            self._hypervisor, self.host, executor, self.dispatcher, config.cancel_timeout, versions
        )
        self._receiver = Receiver(
            self.communicator,
            config.named(config.communicator.subscribe_topic),
            config.limits.payload,
            journal=self.journal,
            dispatcher=self.dispatcher,
            publisher=self.publisher,
            executor=executor,
            counters=self.counters,
        )
        presence = Presence(
            status="online",
            version=__version__,
            hypervisor=self._hypervisor.name,
            started=self.started,
        )
        self._presence = PresencePublisher(self.communicator, self.host, presence)

    async def _take_up(self) -> None:
        """Go on with what an earlier run has left."""
        self.journal.trim()
        for number, id, answer in await self.journal.unconfirmed():
            self.publisher.put(number, id, answer)
        left = await self.journal.unfinished()
        for unfinished in left:
            job = Job(unfinished.number, unfinished.id, None, recovered=unfinished)
            if unfinished.maybe_cancel:  # which must not wait behind what it is to end
                await self.dispatcher.load(job)
            if not job.begun:
                self.dispatcher.put(job)
        if left:
            log.info("%d containers were left by the last run", len(left))

    def stop(self) -> None:
        """Finish what runs and end; `ended` is set then. Returns at once."""
        self._stop.set()

    @property
    def stopping(self) -> bool:
        """True from the moment on that it is to end."""
        return self._stop.is_set()

    def stop_now(self) -> None:
        """Wait no longer for what runs; the next run looks how it ended. Returns at once."""
        self._stop_now.set()

    def _quit_came(self, job: Job) -> None:
        self._quit = job
        self.stop()

    async def _live(self) -> None:
        """Wait for the end, and see to it."""
        try:
            await self._stop.wait()
            await (self._drop() if self._killed else self._finish())
        except Exception:
            log.exception("the daemon did not end as it should")
        finally:
            try:
                await self._parts.aclose()
            except Exception:
                log.exception("the daemon did not let go of everything as it should")
            finally:
                self.ended.set()
                log.info("ended")

    async def _finish(self) -> None:
        timeout = self.configuration.shutdown_timeout
        log.info("ending: what runs is finished within %g s", timeout)
        await self._receiver.end()
        left = await self.dispatcher.finish(timeout, self._stop_now)
        words = ", ".join(f"{job.title} {job.id or '(without id)'}" for job in left)
        if left:
            log.warning("did not end within %g s and is left to the next run: %s", timeout, words)
        if self.dispatcher.queued:
            log.warning("%d containers wait for the next run", self.dispatcher.queued)
        if self._quit is not None and self._quit.container is not None:
            said = f"did not end in time: {words}" if left else None
            answer = quit_answer(self._quit.container, said)
            try:
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self.dispatcher.answer(self._quit, answer)
            except TimeoutError:
                log.warning("the answer to quit cannot be written; the next run gives it")
        await self._presence.end()
        self._connection.patience = await self._flush()

    async def _flush(self) -> float:
        """Wait until the broker has all results; how many seconds are left to wait for the rest."""
        until = time.monotonic() + CLOSE_SECONDS
        flushing = asyncio.create_task(self.publisher.flush(CLOSE_SECONDS))
        stopped_now = asyncio.create_task(self._stop_now.wait())
        await asyncio.wait((flushing, stopped_now), return_when=asyncio.FIRST_COMPLETED)
        flushing.cancel()
        stopped_now.cancel()
        if self.publisher.unconfirmed:
            log.warning(
                "the broker does not have %d results; the next run sends them",
                self.publisher.unconfirmed,
            )
        elif not self.communicator.is_connected:
            return 0.0  # the last will says the rest
        return 0.0 if self._stop_now.is_set() else max(0.0, until - time.monotonic())

    async def close(self) -> None:
        """Finish what runs, at most for the configured timeout, and end."""
        self.stop()
        if self._life is not None:
            await asyncio.shield(self._life)

    async def kill(self) -> None:
        """End at once and without a word, as if the process were killed: for tests and demos.

        The hypervisor is closed all the same, and threads in it run on.
        """
        self._killed = True
        await self.close()

    async def _drop(self) -> None:
        self.journal.give_up()
        self.publisher.stop()
        await self.dispatcher.abandon()
        await self._connection.drop()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()
