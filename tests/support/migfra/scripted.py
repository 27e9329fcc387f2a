"""A hypervisor with a plan of a test. It records its calls."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from fastlib import Migrate, Query, Result, Start, Stop, Task
from fastlib.codec import Wire
from fastlib.message import NodeReport
from fastlib.migfra import ConfigSection, Context, Hypervisor, HypervisorError, HypervisorSection
from fastlib.migfra.plugin_api.hypervisor import NodeContext
from fastlib.migfra.virt.migration_limits import MigrationLimits


class ScriptedOptions(ConfigSection):
    """Nothing that matters here."""

    note: Annotated[str | None, Wire("Anything.")] = None


class Scripted(Hypervisor):
    """`start` is async, `stop` blocks in a thread. Both execute the domain's entry in `plan`."""

    name = "scripted"
    Options = ScriptedOptions

    def __init__(self, options: Any = None, node: NodeContext | None = None) -> None:
        super().__init__(options or ScriptedOptions(), node or NodeContext("node01"))
        self.calls: list[tuple[str, str]] = []
        """Method and domain of each call."""
        self.contexts: list[Context] = []
        self.plan: dict[str, Callable[[Context], Any]] = {}
        """What is done for a domain: called with the context, awaited if it can be."""
        self.running = 0
        self.most_running = 0
        self.is_open = False
        self.limits: MigrationLimits | None = None
        self._lock = threading.Lock()

    async def open(self) -> None:
        self.is_open = True

    async def close(self) -> None:
        self.is_open = False

    def migration_limits(self) -> MigrationLimits | None:
        return self.limits

    def _plan_for(self, name: str) -> Callable[[Context], Any]:
        return self.plan.get(name, _do_nothing)

    async def _do(self, method: str, name: str, context: Context) -> Any:
        self.calls.append((method, name))
        self.contexts.append(context)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            outcome = self._plan_for(name)(context)
            return await outcome if asyncio.iscoroutine(outcome) else outcome
        finally:
            self.running -= 1

    async def start(self, task: Start, context: Context) -> Any:
        return await self._do("start", str(task.vm_name), context)

    async def migrate(self, task: Migrate, context: Context) -> Any:
        return await self._do("migrate", task.vm_name, context)

    def stop(self, task: Stop, context: Context) -> Any:
        with self._lock:
            self.calls.append(("stop", str(task.vm_name)))
            self.contexts.append(context)
        return self._plan_for(str(task.vm_name))(context)

    def query(self, task: Query, context: Context) -> NodeReport:
        return NodeReport(host=self.node.host, hypervisor=self.name, cpus=4)

    def capabilities(self) -> dict[str, Any]:
        return {"colour": "green"}


def _do_nothing(_: Context) -> None:
    """Succeed at once."""


class Recovering(Scripted):
    """A hypervisor that reports the end of a task in `recover`."""

    async def recover(self, task: Task, context: Context) -> Any:
        return await self._do("recover", str(getattr(task, "vm_name", "")), context)


def choice(kind: type[Hypervisor] = Scripted) -> HypervisorSection:
    return HypervisorSection(kind, kind.Options())


def fail(times: int) -> Callable[[Context], None]:
    """Return a plan that fails a number of times, and then succeeds."""

    def plan(context: Context) -> None:
        if context.attempt < times:
            raise HypervisorError(f"attempt {context.attempt} failed")

    return plan


def gate() -> tuple[Callable[[Context], Any], asyncio.Event, asyncio.Event]:
    """Return a plan that waits, the event of its begin, and the event that continues it."""
    begun, go = asyncio.Event(), asyncio.Event()

    async def plan(context: Context) -> None:
        begun.set()
        await go.wait()

    return plan, begun, go


def until_cancelled() -> tuple[Callable[[Context], Any], asyncio.Event]:
    """Return a plan that ends regularly when it is cancelled, and the event of its begin."""
    begun = asyncio.Event()

    async def plan(context: Context) -> None:
        begun.set()
        await context.wait_cancelled()
        context.check_cancelled()

    return plan, begun


def results(count: int) -> Sequence[Result]:
    return [Result(vm_name=f"vm{number}", status="success") for number in range(count)]
