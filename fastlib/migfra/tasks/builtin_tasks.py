"""The daemon's own tasks: `cancel task`, `query node` and `query history`."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec

from fastlib.clock import SYSTEM_CLOCK, Clock
from fastlib.message import (
    Cancel,
    NodeReport,
    NodeResult,
    Query,
    QueryHistory,
    Result,
    Task,
    TimeMeasurement,
)
from fastlib.migfra.errors import HypervisorError, UnexpectedError
from fastlib.migfra.journal.journal import Journal
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.plugin_api.hypervisor import Hypervisor, supported

from .history import History
from .jobs import Job, JobTable, Member
from .method_caller import MethodCaller
from .results import NO_DOMAIN

BuiltinMethod = Callable[[Any, Context, Job], Awaitable[Any]]

_OWN_TASKS: Final = ("cancel task", "query history", "query node", "quit")


class BuiltinTasks:
    """Executes the tasks that need no method of the hypervisor."""

    def __init__(
        self,
        hypervisor: Hypervisor,
        caller: MethodCaller,
        jobs: JobTable,
        journal: Journal,
        *,
        cancel_timeout: float,
        versions: Mapping[str, str],
        degraded: Callable[[], str | None],
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """`cancel task` waits `cancel_timeout` seconds.

        `query node` reports `versions`, and the text of `degraded`: the reason why the daemon
        accepts no tasks at present, or None.
        """
        self._degraded = degraded
        self._hypervisor = hypervisor
        self._caller = caller
        self._jobs = jobs
        self._journal = journal
        self._cancel_timeout = cancel_timeout
        self._versions = versions
        self._history = History(journal, clock)

    def methods(self) -> Mapping[type[Task], BuiltinMethod]:
        """Return the methods by task."""
        return {Cancel: self.cancel, Query: self.query, QueryHistory: self._history.query}

    async def cancel(self, task: Cancel, context: Context, job: Job) -> Result:
        """Cancel the containers of an id, wait for their end, and say how many tasks it ended.

        A sender that gives every order the same id may have several running or queued orders with
        it. One of them may be a `cancel task`.

        Raises HypervisorError if none is running or queued, or if nothing could be cancelled.
        """
        found = [other for other in self._jobs.find(task.id) if other is not job]
        targets = [target for target in found if target.title != job.title]
        if not targets:
            raise HypervisorError(
                f"{task.id!r} is a {job.title}, which cannot be cancelled"
                if found
                else f"no task with the id {task.id!r} is running or queued on {context.host}"
            )
        numbers = [target.number for target in targets if target.number is not None]
        await asyncio.gather(*map(self._journal.cancel, numbers))
        for target in targets:
            target.cancel()
        try:
            async with asyncio.timeout(self._cancel_timeout):
                for target in targets:
                    await target.wait_until_ended()
        except TimeoutError:
            raise HypervisorError(
                f"{task.id!r} received the request to end, and is still running after "
                f"{self._cancel_timeout:g} s; query the host, and repeat the request if necessary"
            ) from None
        members = [member for target in targets for member in target.members]
        cancelled = sum(member.was_cancelled for member in members)
        titles = ", ".join(dict.fromkeys(target.title for target in targets))
        if not cancelled:
            raise HypervisorError(f"{task.id!r} ended before it could be cancelled")
        return Result(
            vm_name=NO_DOMAIN,
            status="success",
            details=f"{cancelled} of {len(members)} cancelled: {titles} {task.id}",
        )

    async def query(self, task: Query, context: Context, job: Job) -> NodeResult:
        """Return the hypervisor's report of the node, with the facts that the daemon adds."""
        report = await self._hypervisor_report(task, job)
        if report is None:
            report = NodeReport(host=context.host, hypervisor=self._hypervisor.name)
        capabilities = {
            "tasks": sorted({*supported(self._hypervisor), *_OWN_TASKS}),
            **self._hypervisor.capabilities(),
            **(report.capabilities or {}),
        }
        report = msgspec.structs.replace(
            report,
            tasks=tuple(self._jobs.reports()),
            capabilities=capabilities,
            versions={**self._versions, **(report.versions or {})},
            degraded=self._degraded(),
        )
        return NodeResult(status="success", node=report)

    async def _hypervisor_report(self, task: Query, job: Job) -> NodeReport | None:
        method = getattr(self._hypervisor, "query", None)
        if method is None:
            return None
        member = Member(task, 0, None)
        try:
            report = await self._caller.call(method, job, member, TimeMeasurement(enabled=False))
        except UnexpectedError as error:
            raise HypervisorError(f"the query of the hypervisor failed: {error}") from error
        if not isinstance(report, NodeReport):
            raise HypervisorError(
                "the hypervisor must answer query node with a NodeReport; got "
                f"{type(report).__name__}"
            )
        return report
