"""The daemon: its life from `open` to `close`."""

import asyncio
import secrets
from contextlib import AsyncExitStack
from logging import getLogger
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from fastlib.clock import SYSTEM_CLOCK, Clock

from . import runtime
from .config.file import Configuration
from .errors import HostTakenError
from .failures import log_failure
from .plugin_api.hypervisor import Hypervisor
from .plugin_api.method_checks import check_methods
from .runtime import Broker, Plan, Runtime
from .tasks.jobs import Job
from .tasks.results import quit_answer
from .telemetry.counters import Counters
from .telemetry.logs import About, host
from .telemetry.safe_logger import protect_loggers

log = getLogger("fastlib.migfra")


class Daemon:
    """A migration daemon, as an async context manager::

        async with Daemon(configuration) as daemon:
            await daemon.ended.wait()

    `ended` is set after `stop`, after a `quit` that came as a message, or after a failure.
    """

    def __init__(
        self,
        configuration: Configuration,
        *,
        communicator: Broker | None = None,
        hypervisor: Hypervisor | None = None,
        journal: Path | str | None = None,
        in_memory: bool = False,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """Prepare a daemon.

        A given part replaces the configured one: a broker, an existing hypervisor, the path of the
        journal. With `in_memory` the journal has no file and ends with the daemon. `clock` has the
        time by which orders expire.

        Raises PluginError.
        """
        self._clock = clock
        self.configuration: Final = configuration
        self.host: Final = configuration.host
        if hypervisor is not None:
            check_methods(type(hypervisor))
        self.hypervisor: Final = hypervisor or configuration.hypervisor.make(configuration.node)
        """Executes the tasks."""
        self.counters: Final = Counters()
        self.started: Final = clock.now()
        self.instance: Final = secrets.token_hex(8)
        """Random text that identifies this run."""
        self.ended: Final = asyncio.Event()
        """Set when the daemon has ended."""
        self.failure: BaseException | None = None
        """The unexpected error that ended the daemon, None if there was none."""
        self._plan = Plan(
            configuration=configuration,
            hypervisor=self.hypervisor,
            broker=communicator,
            journal=None if in_memory else Path(journal or configuration.journal_path()),
            counters=self.counters,
            started=self.started,
            clock=clock,
            instance=self.instance,
        )
        self._runtime: Runtime | None = None
        self._parts = AsyncExitStack()
        self._life: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._stop_now = asyncio.Event()
        self._killed = False

    @property
    def runtime(self) -> Runtime:
        """The parts of the open daemon. Raises RuntimeError before `open`."""
        if self._runtime is None:
            raise RuntimeError("the daemon is not open")
        return self._runtime

    async def open(self) -> Self:
        """Wait for the broker, and begin to work.

        Raises RunningError, HostTakenError, JournalError, PluginError, OptionsError, and
        RefusedError if the broker refuses the connection.
        """
        protect_loggers("fastlib.")  # the program may have handlers of its own
        token = host.set(self.host)  # all tasks of the daemon inherit it
        try:
            async with AsyncExitStack() as parts:
                self._runtime = await runtime.open_runtime(self._plan, parts, self.stop, self._fail)
                self._parts = parts.pop_all()
            self._life = asyncio.create_task(self._live())
        finally:
            host.reset(token)
        return self

    def stop(self) -> None:
        """Finish the running tasks and end; `ended` is set then. Returns at once."""
        self._stop.set()

    @property
    def stopping(self) -> bool:
        """True as soon as the daemon is ending."""
        return self._stop.is_set()

    def stop_now(self) -> None:
        """Stop waiting for running tasks; the next run determines their ends. Returns at once."""
        self._stop_now.set()

    def _fail(self, part: str, error: BaseException) -> None:
        """End because of an unexpected error; the next run continues from the journal."""
        if isinstance(error, HostTakenError):
            log.critical("%s", error)
        else:
            log_failure(part, error)
        if self.failure is None:
            self.failure = error
            log.critical("the daemon ends; the next run continues from the journal")
        self.stop()

    async def _live(self) -> None:
        """Wait for the end, and close everything."""
        try:
            await self._stop.wait()
            await (self._drop() if self._killed else self._finish())
        except Exception as error:
            self.failure = self.failure or error
            log.exception("the daemon failed while it ended")
        finally:
            try:
                await self._parts.aclose()
            except Exception as error:
                self.failure = self.failure or error
                log.exception("the daemon could not close everything")
            finally:
                self.ended.set()
                log.info("ended")

    async def _finish(self) -> None:
        timeout = self.configuration.shutdown_timeout
        log.info("ending: running tasks have %g s to finish", timeout)
        parts = self.runtime
        await parts.accept_no_more()
        left = await parts.dispatcher.finish(timeout, self._stop_now)
        words = ", ".join(f"{job.title} {job.id or '(without id)'}" for job in left)
        until = f"within {timeout:g} s"
        if self._stop_now.is_set():
            until = "before the daemon received the order to end at once"
        for job in left:
            log.warning(
                "%s did not end %s; the next run continues it", job.title, until,
                extra={"about": About(job.id, job.domain)},
            )  # fmt: skip
        if parts.dispatcher.queued:
            log.warning(
                "%d accepted containers have not begun; the next run executes them",
                parts.dispatcher.queued,
            )
        if parts.quit is not None:
            await self._answer_quit(parts.quit, f"did not end in time: {words}" if left else None)
        await parts.presence.end()
        parts.connection.close_timeout = await self._flush()

    async def _answer_quit(self, quit: Job, details: str | None) -> None:
        assert quit.container is not None
        try:
            async with asyncio.timeout(runtime.CLOSE_SECONDS):
                await self.runtime.dispatcher.answerer.answer(
                    quit, quit_answer(quit.container, details)
                )
        except TimeoutError:
            log.warning(
                "the journal has not stored the answer to quit in time; the next run sends it"
            )

    async def _flush(self) -> float:
        """Wait until the broker has confirmed all results. Return the seconds left to close."""
        publisher = self.runtime.publisher
        until = self._clock.monotonic() + runtime.CLOSE_SECONDS
        flushing = asyncio.create_task(publisher.flush(runtime.CLOSE_SECONDS))
        stopped_now = asyncio.create_task(self._stop_now.wait())
        await asyncio.wait((flushing, stopped_now), return_when=asyncio.FIRST_COMPLETED)
        flushing.cancel()
        stopped_now.cancel()
        if publisher.unconfirmed:
            log.warning(
                "the broker has not confirmed %d results; the next run sends them again",
                publisher.unconfirmed,
            )
        if not self.runtime.communicator.is_connected:
            return 0.0  # the last will reports the end
        return 0.0 if self._stop_now.is_set() else max(0.0, until - self._clock.monotonic())

    async def close(self) -> None:
        """Finish the running tasks within the configured timeout, and end."""
        self.stop()
        if self._life is not None:
            await asyncio.shield(self._life)

    async def kill(self) -> None:
        """End at once as if the process were killed: for tests and demos.

        The hypervisor is still closed, and threads in it continue to run.
        """
        self._killed = True
        await self.close()

    async def _drop(self) -> None:
        parts = self.runtime
        parts.journal.give_up()
        parts.presence.give_up()
        parts.publisher.stop()
        await parts.dispatcher.abandon()
        await parts.connection.drop()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()
