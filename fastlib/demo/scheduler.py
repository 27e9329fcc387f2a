"""The scheduler of the demo: send tasks, and query the location of each VM."""

import asyncio
import random
from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeVar

from fastlib.client import AsyncHandle, AsyncMigfraClient
from fastlib.message import Migrate, Result, ResultContainer, Task
from fastlib.message.node import NodeReport

from .errors import ScenarioError
from .settings import Settings

T = TypeVar("T")


def expect(condition: Any, text: str) -> None:
    """Raise ScenarioError with the text unless the condition holds."""
    if not condition:
        raise ScenarioError(text)


class Scheduler:
    """Sends tasks, whose ids contain the number of the step."""

    def __init__(self, client: AsyncMigfraClient, hosts: Sequence[str], settings: Settings) -> None:
        self.client: Final = client
        self.hosts: Final = hosts
        self.step = 0
        self.locations: dict[str, str] = {}
        """The host of each active VM, from the last `locate_vms`."""
        self.states: dict[str, str] = {}
        """The state of each active VM, from the last `locate_vms`."""
        self._count = 0
        # A seed of its own: changes of the layout do not change the choices here.
        self._rng = random.Random(f"scheduler {settings.seed}")  # noqa: S311 - no secret
        self._picked: set[str] = set()

    def begin_step(self) -> None:
        """Begin the next step: use new ids, and allow to pick every VM again."""
        self.step += 1
        self._count = 0
        self._picked.clear()

    async def send(self, host: str, *tasks: Task) -> AsyncHandle[ResultContainer]:
        """Send tasks in one container."""
        self._count += 1
        id = f"task-{self.step}.{self._count}"
        # Orders wait for a daemon that is killed, however long its restart takes.
        return await self.client.submit(host, tasks, id=id, expires=None)

    async def execute(self, host: str, *tasks: Task) -> tuple[Result, ...]:
        """Send tasks in one container, and return their results."""
        return tuple((await (await self.send(host, *tasks))).results)

    async def execute_successfully(self, host: str, *tasks: Task) -> tuple[Result, ...]:
        """Send tasks, and return their results. Raises ScenarioError if one fails."""
        results = await self.execute(host, *tasks)
        bad = [result for result in results if result.status != "success"]
        if bad:
            title = tasks[0].declaration.task
            raise ScenarioError(f"'{title}' of {bad[0].vm_name} on {host} failed: {bad[0].details}")
        return results

    def pick(self, host: str) -> str:
        """Return a running VM of a host, once in a step. Raises ScenarioError if there is none."""
        free = [
            name
            for name, location in self.locations.items()
            if location == host and self.states[name] == "running" and name not in self._picked
        ]
        expect(free, f"expected a running VM on {host}; there is none left")
        found = self._rng.choice(free)
        self._picked.add(found)
        return found

    async def locate_vms(self) -> None:
        """Query the VMs of every daemon. Raises ScenarioError if two have the same one."""
        reports = await gather(self._report(host) for host in self.hosts)
        locations: dict[str, str] = {}
        states: dict[str, str] = {}
        for report in reports:
            for domain in report.domains:
                if domain.state == "shut off":
                    continue
                other = locations.get(domain.name)
                expect(other is None, f"{domain.name} is on {other} and on {report.host}")
                locations[domain.name] = report.host
                states[domain.name] = domain.state
        self.locations = dict(sorted(locations.items()))
        self.states = states

    async def _report(self, host: str) -> NodeReport:
        self._count += 1
        handle = await self.client.query(host, id=f"query-{self.step}.{self._count}")
        result = await handle
        expect(result.node is not None, f"{host} does not say what it has: {result.details}")
        assert result.node is not None
        return result.node


def live_migration(vm_name: str, destination: str, **parameter: Any) -> Migrate:
    """Return a live migration with time measurement and auto-convergence."""
    from fastlib.message import MigrateParameter

    known: dict[str, Any] = {"migration_type": "live", "auto_converge": True}
    return Migrate(
        vm_name=vm_name,
        destination=destination,
        parameter=MigrateParameter(**(known | parameter)),
        time_measurement=True,
    )


async def gather(coroutines: Iterable[Any]) -> list[Any]:
    """Run coroutines at the same time, and return their results; an error cancels the others."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(coroutine) for coroutine in coroutines]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]
