"""The daemon's own tasks: `cancel task` and `query node`."""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from fastlib.message import Cancel, NodeReport, NodeResult, Query, Result, TimeMeasurement
from fastlib.migfra.errors import HypervisorError, UnexpectedError
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.plugin_api.hypervisor import Hypervisor, supported

from .executor import Executor
from .jobs import Job, Member
from .results import NO_DOMAIN

if TYPE_CHECKING:
    from .dispatcher import Dispatcher


class BuiltinTasks:
    """What the daemon does itself, beside its hypervisor."""

    def __init__(
        self,
        hypervisor: Hypervisor,
        host: str,
        executor: Executor,
        dispatcher: "Dispatcher",
        cancel_timeout: float,
        versions: Mapping[str, str],
    ) -> None:
        self._hypervisor = hypervisor
        self._host = host
        self._executor = executor
        self._dispatcher = dispatcher
        self._cancel_timeout = cancel_timeout
        self._versions = versions
        executor.own[Cancel] = self.cancel
        executor.own[Query] = self.query

    async def cancel(self, task: Cancel, context: Context, job: Job) -> Result:
        """Lets a container end, and says how many of its tasks were cancelled.

        Raises HypervisorError if there is none under way, or if nothing of it could be cancelled.
        """
        aim = self._dispatcher.find(task.id)
        if aim is None:
            raise HypervisorError(f"no task with the id {task.id!r} is under way at {self._host}")
        if aim is job or aim.title == job.title:
            raise HypervisorError(f"{task.id!r} is a {job.title} itself")
        await self._dispatcher.cancel(aim)
        try:
            async with asyncio.timeout(self._cancel_timeout):
                await aim.ended.wait()
        except TimeoutError:
            raise HypervisorError(
                f"{task.id!r} was told to end, and is still under way after "
                f"{self._cancel_timeout:g} s"
            ) from None
        cancelled = sum(member.was_cancelled for member in aim.members)
        if not cancelled:
            raise HypervisorError(f"{task.id!r} has ended before it could be cancelled")
        return Result(
            vm_name=NO_DOMAIN,
            status="success",
            details=f"{cancelled} of {len(aim.members)} cancelled: {aim.title} {task.id}",
        )

    async def query(self, task: Query, context: Context, job: Job) -> NodeResult:
        """What the hypervisor says of the node, and what the daemon knows beside it."""
        method = getattr(self._hypervisor, "query", None)
        report: Any = None
        if method is not None:
            member = Member(task, 0, None)
            measurement = TimeMeasurement(enabled=False)
            try:
                report = await self._executor.call(method, job, member, measurement, 0)
            except UnexpectedError as error:
                raise HypervisorError(f"the hypervisor cannot tell: {error}") from error
            if not isinstance(report, NodeReport):
                raise HypervisorError(
                    f"the hypervisor answered query node with a {type(report).__name__}"
                )
        if report is None:
            report = NodeReport(host=self._host, hypervisor=self._hypervisor.name)
        capabilities = {
            "tasks": sorted({*supported(self._hypervisor), "cancel task", "query node", "quit"}),
            **self._hypervisor.capabilities(),
            **(report.capabilities or {}),
        }
        versions = {**self._versions, **(report.versions or {})}
        report = msgspec.structs.replace(
            report,
            tasks=tuple(self._dispatcher.reports()),
            capabilities=capabilities,
            versions=versions,
        )
        return NodeResult(status="success", node=report)
