"""Execute one member: call the hypervisor's method, retry, and store the results."""

from collections.abc import Mapping
from logging import getLogger
from typing import Any

from fastlib.clock import SYSTEM_CLOCK, Clock
from fastlib.message import Task, TimeMeasurement
from fastlib.message.result_container import CANCELLED_BEFORE
from fastlib.migfra.errors import (
    CANCELLED,
    ClaimError,
    FinalError,
    HypervisorError,
    JournalError,
    TaskCancelledError,
    TaskExpiredError,
    UnexpectedError,
)
from fastlib.migfra.journal.begins import Beginning
from fastlib.migfra.journal.journal import Journal
from fastlib.migfra.plugin_api import retrying
from fastlib.migfra.plugin_api.hypervisor import Hypervisor, Method, method_of
from fastlib.migfra.telemetry.counters import Counters
from fastlib.migfra.virt.names import check_names

from .builtin_tasks import BuiltinMethod
from .events import Events
from .jobs import Job, Member
from .method_caller import MethodCaller
from .results import failure, restore, results_of, retry_counter

log = getLogger("fastlib.migfra.task")


class Executor:
    """Executes members with the hypervisor, and those of built-in tasks without it."""

    def __init__(
        self,
        hypervisor: Hypervisor,
        caller: MethodCaller,
        builtin: Mapping[type[Task], BuiltinMethod],
        journal: Journal,
        counters: Counters,
        events: Events,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """`builtin` has the methods of the daemon's own tasks."""
        self._hypervisor = hypervisor
        self._caller = caller
        self._builtin = builtin
        self._journal = journal
        self._counters = counters
        self._events = events
        self._clock = clock

    def begins_at_once(self, task: Task) -> Beginning | None:
        """Return whether a task that begins now acts or waits; None if it must not begin yet.

        The daemon's own tasks are not passed to it.
        """
        if type(task) in self._builtin or not self._caller.contexts.is_ready():
            return None
        try:
            check_names(task)
        except HypervisorError:
            return None
        return "waits" if self._hypervisor.begins_itself else "acts"

    async def execute(self, job: Job, member: Member) -> None:
        """Execute a member to its end, and give it its results. The log is about it already.

        Raises JournalError and ClaimError if the next run must continue it.
        """
        earlier = member.earlier
        if earlier is not None and earlier.results is not None:
            member.results = restore(earlier.results, member.task)
            member.was_cancelled = member.cancellation.cancelled and member.failed
            return
        began = self._clock.monotonic()
        try:
            await self._execute(job, member)
        finally:
            member.end()
        outcome = "success"
        if member.failed:
            outcome = "cancelled" if member.was_cancelled else "error"
        if member.has_expired:
            outcome = "expired"
        seconds = self._clock.monotonic() - began
        self._counters.count(job.title, outcome, seconds)
        self._events.ended(job, member, outcome, seconds)

    async def _execute(self, job: Job, member: Member) -> None:
        task = member.task
        measurement = TimeMeasurement(enabled=bool(task.time_measurement))
        member.state = "running"
        try:
            if measurement.enabled:
                with measurement.measure("overall"):
                    outcome, retries = await self._outcome(job, member, measurement)
            else:
                outcome, retries = await self._outcome(job, member, measurement)
            member.results = results_of(outcome, task, retries, measurement)
            # Several results: some domains may have ended before the cancellation.
            member.was_cancelled = member.cancellation.cancelled and member.failed
            return
        except (ClaimError, JournalError):
            raise
        except TaskCancelledError as error:
            member.was_cancelled = True
            reason = str(error)
            if not member.expiry.has_acted:
                reason = reason.replace(CANCELLED, CANCELLED_BEFORE, 1)
        except TaskExpiredError as error:
            member.has_expired = True
            reason = str(error)
        except HypervisorError as error:
            reason = str(error)
        except UnexpectedError as error:
            log.error(
                "the hypervisor raised an unexpected error during %s: %s",
                job.title,
                error,
                exc_info=error.error,
            )
            reason = str(error)
        except Exception as error:  # a defect of the daemon, or an invalid outcome
            log.exception("%s failed with an unexpected error", job.title)
            reason = str(UnexpectedError(error))
        # Not the error: with its traceback, this frame would be a cycle of objects.
        member.results = (failure(member.vm_name, reason, measurement),)

    async def _outcome(
        self, job: Job, member: Member, measurement: TimeMeasurement
    ) -> tuple[Any, int]:
        """Return what the task's method returned, and after how many retries."""
        builtin = self._builtin.get(type(member.task))
        if not (builtin or member.begin_is_noted or self._caller.contexts.is_ready()):
            await self._caller.contexts.ready()
        member.begins_now()  # no await from here until the journal has its begin
        if member.earlier is not None and builtin is None:
            return await self._recover(job, member, measurement), 0
        waits = builtin is None and self._hypervisor.begins_itself
        if not member.begin_is_noted:  # a noted begin has passed these checks
            member.cancellation.check()
            member.expiry.check()
            if builtin is None:  # the daemon's own tasks only compare names
                check_names(member.task)
            if member.earlier is None and job.number is not None:
                await self._journal.begin(job.number, member.position, waits=waits)
        member.begin_is_stored = not waits
        member.expiry.on_begin(lambda: self._events.begun(job, member))
        try:  # the call of the journal may have taken long
            if builtin is None:
                return await self._try(job, member, measurement)
            member.expiry.begin()
        except TaskExpiredError:
            if not (waits or member.expiry.has_acted) and job.number is not None:
                await self._journal.not_begun(job.number, member.position)
            raise
        context = self._caller.contexts.make(job, member, measurement)
        return await builtin(member.task, context, job), 0

    async def _recover(self, job: Job, member: Member, measurement: TimeMeasurement) -> Any:
        method: Method | None = getattr(self._hypervisor, "recover", None)
        if method is None:
            raise HypervisorError(
                "the daemon was restarted while the task ran, and the hypervisor "
                f"{self._hypervisor.name} cannot determine how it ended; check the state of the "
                "domain"
            )
        self._events.recovered(job, member)
        member.expiry.on_begin(lambda: self._events.begun(job, member))
        return await self._caller.call(method, job, member, measurement)

    async def _try(self, job: Job, member: Member, measurement: TimeMeasurement) -> tuple[Any, int]:
        """Call the hypervisor's method, again up to the task's retry counter."""
        method = method_of(self._hypervisor, type(member.task))
        retries = retry_counter(member.task) or 0
        last: str | None = None

        async def attempt(number: int) -> Any:
            member.state = "running"
            member.expiry.reset()
            try:
                if not self._caller.contexts.is_ready():
                    await self._caller.contexts.ready()
                if not self._hypervisor.begins_itself:
                    member.expiry.begin()
                return await self._caller.call(method, job, member, measurement, number)
            except TaskExpiredError as error:
                if last is None:
                    raise
                raise FinalError(f"{last}; {member.expiry.against_retry(0.0)}") from error

        def before_retry(error: Exception, number: int, pause: float) -> None:
            nonlocal last
            text = f"retry {number} of {retries} in {pause:.1f} s: {error}"
            self._caller.contexts.retried(job, member, text)
            last = str(error)
            member.state = "retrying"

        if not retries:
            return await attempt(0), 0
        return await retrying.retry(
            attempt,
            retries=retries,
            pauses=self._caller.contexts.pauses(),
            sleep=member.cancellation.sleep,
            cancelled=lambda: member.cancellation.cancelled,
            before_retry=before_retry,
            against_retry=member.expiry.against_retry,
            retry_on=(HypervisorError, UnexpectedError),
        )
