"""Executes one member: calls the hypervisor's method, tries again, and tells how it ended."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import Future
from logging import getLogger
from typing import Any

import msgspec

from fastlib.message import Result, Task, TimeMeasurement
from fastlib.migfra.config.sections import RetrySection
from fastlib.migfra.errors import (
    HypervisorError,
    JournalError,
    TaskCancelledError,
    UnexpectedError,
)
from fastlib.migfra.journal.journal import Journal
from fastlib.migfra.plugin_api import retrying
from fastlib.migfra.plugin_api.context import Context, DaemonServices, done
from fastlib.migfra.plugin_api.hypervisor import Hypervisor, Method, method_of
from fastlib.migfra.plugin_api.thread_pool import ThreadPool
from fastlib.migfra.telemetry.counters import Counters
from fastlib.migfra.telemetry.logs import About, about, task_log
from fastlib.migfra.virt.names import check_names
from fastlib.transport import AsyncCommunicator

from .jobs import Job, Member
from .progress import ProgressPublisher
from .results import failure, restore, results_of, retry_counter

log = getLogger("fastlib.migfra.task")

OwnMethod = Callable[[Any, Context, Job], Awaitable[Any]]


class Executor:
    """Executes members with a hypervisor, and those of the daemon's own tasks without."""

    def __init__(
        self,
        hypervisor: Hypervisor,
        host: str,
        *,
        journal: Journal,
        communicator: AsyncCommunicator,
        progress: ProgressPublisher,
        threads: ThreadPool,
        retry: RetrySection,
        counters: Counters,
    ) -> None:
        self._hypervisor = hypervisor
        self._host = host
        self._journal = journal
        self._communicator = communicator
        self._progress = progress
        self._threads = threads
        self._retry = retry
        self._counters = counters
        self._loop = asyncio.get_running_loop()
        self.own: dict[type[Task], OwnMethod] = {}
        """Methods of the daemon itself, by task."""

    async def execute(self, job: Job, member: Member) -> None:
        """Let a member end, one way or another, and give it its results."""
        earlier = member.earlier
        if earlier is not None and earlier.results is not None:
            member.results = restore(earlier.results, member.task)
            member.was_cancelled = member.cancellation.cancelled and member.failed
            return
        token = about.set(About(job.id, member.vm_name))
        began = time.monotonic()
        try:
            await self._execute(job, member)
        finally:
            about.reset(token)
        outcome = "success"
        if member.failed:
            outcome = "cancelled" if member.was_cancelled else "error"
        seconds = time.monotonic() - began
        self._counters.count(job.title, outcome, seconds)
        log.info(
            "%s ended with %s after %.3f s", job.title, outcome, seconds,
            extra={"about": About(job.id, member.vm_name)},
        )  # fmt: skip

    async def _execute(self, job: Job, member: Member) -> None:
        earlier, task = member.earlier, member.task
        measurement = TimeMeasurement(enabled=bool(task.time_measurement))
        member.state = "running"
        try:
            with measurement.measure("overall"):
                if earlier is not None and type(task) not in self.own:
                    outcome = await self._recover(job, member, measurement)
                    retries = 0
                else:
                    member.cancellation.check()
                    check_names(task)
                    if earlier is None and job.number is not None:
                        await self._journal.begin(job.number, member.position)
                    outcome, retries = await self._tries(job, member, measurement)
            member.results = results_of(outcome, task, retries, measurement)
            # Several results: some domains may have been done with before the cancellation.
            member.was_cancelled = member.cancellation.cancelled and member.failed
        except TaskCancelledError as error:
            member.was_cancelled = True
            member.results = (self._failure(member, error, measurement),)
        except HypervisorError as error:
            log.warning("%s failed: %s", job.title, error)
            member.results = (self._failure(member, error, measurement),)
        except UnexpectedError as error:
            log.error(
                "the hypervisor failed at %s in a way that it should not: %s",
                job.title,
                error,
                exc_info=error.error,
            )
            member.results = (self._failure(member, error, measurement),)
        except JournalError:
            raise
        except Exception as error:  # a mistake in here, or in what the hypervisor gave
            log.exception("%s failed in a way that it should not", job.title)
            member.results = (self._failure(member, UnexpectedError(error), measurement),)

    @staticmethod
    def _failure(member: Member, error: Exception, measurement: TimeMeasurement) -> Result:
        result = failure(member.vm_name, str(error))
        if not measurement:
            return result
        return msgspec.structs.replace(result, time_measurement=measurement.snapshot())

    async def _recover(self, job: Job, member: Member, measurement: TimeMeasurement) -> Any:
        method: Method | None = getattr(self._hypervisor, "recover", None)
        if method is None:
            raise HypervisorError(
                "the daemon was restarted while the task ran, and the hypervisor "
                f"{self._hypervisor.name} cannot tell how it ended; look at the domain"
            )
        log.info("%s was under way when the daemon ended; looking how it stands", job.title)
        return await self.call(method, job, member, measurement, 0)

    async def _tries(
        self, job: Job, member: Member, measurement: TimeMeasurement
    ) -> tuple[Any, int]:
        """What the method returned, and after how many retries."""
        own = self.own.get(type(member.task))
        if own is not None:
            context = self._context(job, member, measurement, 0)
            return await own(member.task, context, job), 0
        method = method_of(self._hypervisor, type(member.task))
        retries = retry_counter(member.task) or 0

        async def attempt(number: int) -> Any:
            member.state = "running"
            return await self.call(method, job, member, measurement, number)

        def before_retry(error: Exception, number: int, pause: float) -> None:
            log.warning(
                "%s failed, retry %d of %d in %.1f s: %s",
                job.title, number, retries, pause, error,
            )  # fmt: skip
            self._count_retry()
            member.state = "retrying"

        return await retrying.retry(
            attempt,
            retries=retries,
            pauses=self._pauses(),
            sleep=member.cancellation.sleep,
            cancelled=lambda: member.cancellation.cancelled,
            before_retry=before_retry,
            retry_on=(HypervisorError, UnexpectedError),
        )

    def _pauses(self) -> Iterator[float]:
        return retrying.pauses(self._retry.first, self._retry.longest)

    def _count_retry(self) -> None:
        self._counters.retries += 1

    async def call(
        self,
        method: Method,
        job: Job,
        member: Member,
        measurement: TimeMeasurement,
        attempt: int,
    ) -> Any:
        """What a method of the hypervisor returns.

        Raises HypervisorError, and UnexpectedError for whatever else it raises.
        """
        reporter = self._progress.of(job, member)
        context = self._context(job, member, measurement, attempt, reporter.report)
        try:
            if inspect.iscoroutinefunction(method):
                return await method(member.task, context)
            called = self._threads.run(method, member.task, context)
            outcome = await asyncio.wrap_future(called)
            return await outcome if inspect.isawaitable(outcome) else outcome
        except HypervisorError:
            raise
        except asyncio.CancelledError as error:
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                raise  # it is us who end
            raise UnexpectedError(error) from error
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:
            raise UnexpectedError(error) from error
        finally:
            reporter.end()

    def _context(
        self,
        job: Job,
        member: Member,
        measurement: TimeMeasurement,
        attempt: int,
        report: Callable[[Any], object] | None = None,
    ) -> Context:
        def store(state: Mapping[str, Any]) -> "Future[None]":
            member.saved_state = state
            if job.number is None:
                return done()
            storing = self._journal.save_state(job.number, member.position, state)
            return asyncio.run_coroutine_threadsafe(storing, self._loop)

        return Context(
            self._host,
            id=job.id,
            attempt=attempt,
            log=task_log(log, job.id, member.vm_name),
            measurement=measurement,
            cancellation=member.cancellation,
            saved_state=member.saved_state,
            services=DaemonServices(
                store_state=store,
                report=report,
                count_retry=self._count_retry,
                pauses=self._pauses,
                communicator=self._communicator,
                loop=self._loop,
            ),
        )
