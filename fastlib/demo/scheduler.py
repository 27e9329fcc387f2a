"""The scheduler of the story: sends tasks, and knows where each VM is, because it has asked."""

import asyncio
import random
from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeVar

from fastlib.client import AsyncHandle, AsyncMigfraClient
from fastlib.message import Migrate, Result, ResultContainer, Task
from fastlib.message.node import NodeReport

from .errors import StoryError
from .settings import Settings

T = TypeVar("T")


def expect(condition: Any, text: str) -> None:
    """Raises StoryError unless the condition holds; the text says what was expected and came."""
    if not condition:
        raise StoryError(text)


class Scheduler:
    """Sends tasks with ids that say in which step they were sent."""

    def __init__(self, client: AsyncMigfraClient, hosts: Sequence[str], settings: Settings) -> None:
        self.client: Final = client
        self.hosts: Final = hosts
        self.step = 0
        self.where: dict[str, str] = {}
        """The host of each active VM, by the last roll call."""
        self.states: dict[str, str] = {}
        """What each active VM does, by the last roll call."""
        self._count = 0
        # Not the chance of the scenery, so that one can change without the other.
        self._chance = random.Random(f"scheduler {settings.seed}")  # noqa: S311 - no secret
        self._taken: set[str] = set()

    def begin_step(self) -> None:
        """The next step begins: ids change, and every VM can be picked again."""
        self.step += 1
        self._count = 0
        self._taken.clear()

    async def send(self, host: str, *tasks: Task) -> AsyncHandle[ResultContainer]:
        """Send tasks in one container."""
        self._count += 1
        id = f"task-{self.step}.{self._count}"
        return await self.client.submit(host, tasks, id=id)

    async def ask(self, host: str, *tasks: Task) -> tuple[Result, ...]:
        """Send tasks in one container; their results, once they are there."""
        return tuple((await (await self.send(host, *tasks))).results)

    async def succeed(self, host: str, *tasks: Task) -> tuple[Result, ...]:
        """Send tasks that all succeed. Raises StoryError if one does not."""
        results = await self.ask(host, *tasks)
        bad = [result for result in results if result.status != "success"]
        if bad:
            title = tasks[0].declaration.task
            raise StoryError(f"'{title}' of {bad[0].vm_name} on {host} failed: {bad[0].details}")
        return results

    def pick(self, host: str) -> str:
        """A running VM of a host that was not picked in this step. Raises StoryError."""
        free = [
            name
            for name, place in self.where.items()
            if place == host and self.states[name] == "running" and name not in self._taken
        ]
        expect(free, f"expected a running VM on {host}; there is none left")
        found = self._chance.choice(free)
        self._taken.add(found)
        return found

    async def roll_call(self) -> None:
        """Ask every daemon for its VMs. Raises StoryError if two have the same one."""
        reports = await together(self._report(host) for host in self.hosts)
        where: dict[str, str] = {}
        states: dict[str, str] = {}
        for report in reports:
            for domain in report.domains:
                if domain.state == "shut off":
                    continue
                other = where.get(domain.name)
                expect(other is None, f"{domain.name} is on {other} and on {report.host}")
                where[domain.name] = report.host
                states[domain.name] = domain.state
        self.where = dict(sorted(where.items()))
        self.states = states

    async def _report(self, host: str) -> NodeReport:
        self._count += 1
        handle = await self.client.query(host, id=f"query-{self.step}.{self._count}")
        result = await handle
        expect(result.node is not None, f"{host} does not say what it has: {result.details}")
        assert result.node is not None
        return result.node


def live(vm_name: str, destination: str, **parameter: Any) -> Migrate:
    """A live migration, measured; a VM that writes too fast is slowed down."""
    from fastlib.message import MigrateParameter

    known: dict[str, Any] = {"migration_type": "live", "auto_converge": True}
    return Migrate(
        vm_name=vm_name,
        destination=destination,
        parameter=MigrateParameter(**(known | parameter)),
        time_measurement=True,
    )


async def together(coroutines: Iterable[Any]) -> list[Any]:
    """What coroutines return that run at the same time; the first error ends the others."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(coroutine) for coroutine in coroutines]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]
