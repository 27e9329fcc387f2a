"""Call a method of the hypervisor for a member, with its thread, context and progress."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import lru_cache
from logging import getLogger
from typing import Any, cast

from fastlib.message import TimeMeasurement
from fastlib.migfra.config.sections import RetrySection
from fastlib.migfra.errors import ClaimError, HypervisorError, UnexpectedError
from fastlib.migfra.journal.journal import Journal
from fastlib.migfra.plugin_api import retrying
from fastlib.migfra.plugin_api.context import Context, DaemonServices, ProgressFacts, done
from fastlib.migfra.plugin_api.hypervisor import Method
from fastlib.migfra.plugin_api.thread_pool import ThreadPool
from fastlib.migfra.telemetry.counters import Counters
from fastlib.migfra.telemetry.logs import task_log
from fastlib.transport import AsyncCommunicator

from .events import Events
from .jobs import Job, Member
from .progress import ProgressPublisher

log = getLogger("fastlib.migfra.task")


@dataclass(frozen=True, kw_only=True)
class ContextMaker:
    """Makes the contexts of members, with the services of the daemon."""

    host: str
    journal: Journal
    communicator: AsyncCommunicator
    retry: RetrySection
    counters: Counters
    events: Events
    is_ready: Callable[[], bool]
    """Whether `ready` need not wait."""
    ready: Callable[[], Awaitable[object]]
    """Waits until this daemon may begin a task. Raises ClaimError if it must not."""

    def make(
        self,
        job: Job,
        member: Member,
        measurement: TimeMeasurement,
        attempt: int = 0,
        report: Callable[[ProgressFacts], object] | None = None,
    ) -> Context:
        """Return the context of one attempt. Call it in the daemon's loop."""
        loop = asyncio.get_running_loop()

        def store_state(state: Mapping[str, Any]) -> "Future[None]":
            member.saved_state = state
            if job.number is None:
                return done()
            storing = self.journal.save_state(job.number, member.position, state)
            return asyncio.run_coroutine_threadsafe(storing, loop)

        def store_begin() -> "Future[None]":
            if job.number is None:
                return done()
            storing = self._store_begin(job.number, member)
            return asyncio.run_coroutine_threadsafe(storing, loop)

        return Context(
            self.host,
            id=job.id,
            attempt=attempt,
            log=task_log(log, job.id, member.domain),
            measurement=measurement,
            cancellation=member.cancellation,
            expiry=member.expiry,
            saved_state=member.saved_state,
            services=DaemonServices(
                store_state=store_state,
                store_begin=store_begin,
                report=report,
                set_waiting=lambda waits: loop.call_soon_threadsafe(member.set_waiting, waits),
                retried=lambda text, vm_name: self.retried(job, member, text, vm_name),
                pauses=self.pauses,
                communicator=self.communicator,
                loop=loop,
            ),
        )

    async def _store_begin(self, number: int, member: Member) -> None:
        """Store that a member acts. Raises TaskExpiredError if that took too long.

        Raises ClaimError if this daemon must not begin a task.
        """
        await self.ready()
        member.expiry.check_in_time()
        if not member.begin_is_stored:
            member.begin_is_stored = True
            await self.journal.begun(number, member.position)
            await self.ready()
            member.expiry.check_in_time()

    def pauses(self) -> Iterator[float]:
        """Return a new series of configured pauses between attempts, in seconds."""
        return retrying.pauses(self.retry.first, self.retry.longest)

    def retried(self, job: Job, member: Member, text: str, vm_name: str | None = None) -> None:
        """Count, log and note that a member, or one domain of it, is tried again."""
        self.counters.retries += 1
        self.events.retried(job, member, text, vm_name)


class MethodCaller:
    """Calls methods of the hypervisor: an `async` one in the loop, a plain one in a thread."""

    def __init__(
        self, contexts: ContextMaker, progress: ProgressPublisher, threads: ThreadPool
    ) -> None:
        self.contexts = contexts
        self._progress = progress
        self._threads = threads

    async def call(
        self,
        method: Method,
        job: Job,
        member: Member,
        measurement: TimeMeasurement,
        attempt: int = 0,
    ) -> Any:
        """Call a method of the hypervisor and return its value.

        Raises HypervisorError, ClaimError, and UnexpectedError for everything else that it raises.
        """
        reporter = self._progress.of(job, member)
        context = self.contexts.make(job, member, measurement, attempt, reporter.report)
        try:
            if _is_coroutine_function(getattr(method, "__func__", method)):
                return await cast(Awaitable[Any], method(member.task, context))
            outcome = await asyncio.wrap_future(self._threads.run(method, member.task, context))
            return await outcome if inspect.isawaitable(outcome) else outcome
        except (HypervisorError, ClaimError):
            raise
        except asyncio.CancelledError as error:
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                raise  # the daemon ends
            raise UnexpectedError(error) from error
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:
            raise UnexpectedError(error) from error
        finally:
            reporter.end()


@lru_cache(maxsize=256)
def _is_coroutine_function(function: Callable[..., object]) -> bool:
    return inspect.iscoroutinefunction(function)
