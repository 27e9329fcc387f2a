"""A daemon with the hypervisor ponci, a scheduler, and real cgroups, for the checks."""

import asyncio
import os
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from fastlib import Result, Task, TimeMeasurement
from fastlib.message.node import NodeReport, NodeResult
from fastlib.message.tasks import Query
from fastlib.migfra import Context
from fastlib.migfra.hypervisors.ponci import PonciHypervisor, PonciOptions
from fastlib.migfra.plugin_api.cancellation import Cancellation
from fastlib.migfra.plugin_api.hypervisor import NodeContext
from tests.support.migfra.bench import HOST, Bench, patiently
from tests.support.ponci.cgroup_trees import CgroupTrees
from tests.support.ponci.parent_groups import parent_name
from tests.support.ponci.workload import Workload
from tests.support.waiting import wait_until_async

Check = Callable[["PonciRunner"], Awaitable[None]]


class PonciRunner:
    """One daemon with a separate parent group."""

    def __init__(self, bench: Bench, directory: Path, parent: str) -> None:
        self.bench = bench
        self.directory = directory
        self.parent = parent
        self.trees = CgroupTrees(parent)
        self.hypervisor: PonciHypervisor
        self._count = 0

    async def open(self, **options: Any) -> None:
        """Start the daemon, or restart it."""
        for daemon in self.bench.daemons:
            await patiently(daemon.close())
        self.hypervisor = self.another(**options)
        await self.bench.daemon(self.hypervisor)

    def another(self, **options: Any) -> PonciHypervisor:
        """A hypervisor of the same host."""
        return PonciHypervisor(PonciOptions(**{"parent": self.parent} | options), NodeContext(HOST))

    async def send(self, task: Task) -> str:
        """Send a task; its id."""
        self._count += 1
        await self.bench.send(task, id=f"t{self._count}")
        return f"t{self._count}"

    async def results(self, task: Task) -> list[Result]:
        id = await self.send(task)
        answer = await self.bench.result()
        assert answer.id == id
        return list(answer.results)

    async def do(self, task: Task) -> str | None:
        """The details of a success."""
        (result,) = await self.results(task)
        assert result.status == "success", result.details
        return result.details

    async def error_of(self, task: Task) -> str:
        """The text of an error."""
        (result,) = await self.results(task)
        assert result.status == "error", result
        assert result.details is not None
        assert "Error" not in result.details, "a sentence, not an exception"
        return result.details

    async def domains(self) -> dict[str, str]:
        """The domains and their states, by `query node`."""
        return {each.name: each.state for each in (await self.node()).domains}

    async def node(self) -> NodeReport:
        (result,) = await self.results(Query())
        assert isinstance(result, NodeResult)
        assert result.node is not None
        return result.node

    async def recover(self, task: Task, cancelled: bool = False, **notes: Any) -> Any:
        """Return the hypervisor's answer for a task that ran when the daemon was killed.

        With `cancelled` the cancellation comes before the hypervisor has looked.
        """
        cancellation = Cancellation()
        if cancelled:
            cancellation.cancel()
        context = Context(
            HOST,
            saved_state=notes,
            measurement=TimeMeasurement(),
            cancellation=cancellation,
        )
        return await patiently(asyncio.to_thread(self.hypervisor.recover, task, context))

    async def until(self, condition: Callable[[], Any]) -> None:
        await wait_until_async(condition)


def run_check(check: Check, **options: Any) -> None:
    """Run a check with a separate parent group, and remove that group."""
    parent = parent_name(os.urandom(3).hex())

    async def main(directory: Path) -> None:
        async with Bench(directory) as bench:
            runner = PonciRunner(bench, directory, parent)
            await runner.open(**options)
            try:
                await check(runner)
            finally:
                runner.trees.clear()
                Workload.wait_for_killed()

    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(main(Path(directory)))
