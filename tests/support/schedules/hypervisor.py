"""The domains of a simulated host, and a hypervisor that records what each order does to them."""

import asyncio
import random
from collections import defaultdict
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from fastlib import Migrate, Start, Stop, Task
from fastlib.migfra import Context, Hypervisor, HypervisorError
from fastlib.migfra.plugin_api.hypervisor import NodeContext, NoOptions

from .orders import Order
from .process import PROCESS, Process


@dataclass(slots=True)
class Begin:
    """A call of the hypervisor for an order."""

    order: Order
    host: str
    attempt: int
    now: float
    """Seconds since 1970 by the clock of the host."""
    process: Process
    time: float = 0.0
    """The time of the loop."""
    done: bool = False
    """True once the domain has changed."""


class Domains:
    """The effects of all orders of a schedule on domains. They survive crashes of the daemons."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._begins: Final[defaultdict[Order, list[Begin]]] = defaultdict(list)
        self.work_seconds = 0.0
        """How long an order takes."""
        self.failures: Final[dict[Order, int]] = {}
        """How many of the first attempts of an order fail."""
        self.over: Final[set[Order]] = set()
        """The orders of earlier schedules, none of which may begin any more."""

    def begin_again(self, orders: set[Order]) -> None:
        """Forget what was done. `orders` are all of the schedule, also those that never began."""
        self.over.update(orders)
        self._begins.clear()
        self.failures.clear()
        self.work_seconds = 0.0

    @property
    def begun(self) -> dict[Order, list[Begin]]:
        """All calls, by order."""
        return dict(self._begins)

    def begins(self, order: Order) -> list[Begin]:
        """Return the calls for an order."""
        return self._begins.get(order, [])

    def done(self, order: Order) -> int:
        """Return how often the order has been done."""
        return sum(begin.done for begin in self.begins(order))

    def first_begins(self, order: Order) -> list[Begin]:
        """Return the calls with which an order was begun, without retries."""
        return [begin for begin in self.begins(order) if begin.attempt == 0]

    async def work(self, order: Order, host: str, context: Context) -> None:
        """Execute an order. If the daemon dies in this time, the order is done or not."""
        process = PROCESS.get()
        if not process.goes_on("before work"):
            raise asyncio.CancelledError
        attempt = context.attempt
        begin = Begin(order, host, attempt, process.now(), process, process.monotonic())
        self._begins[order].append(begin)
        if self.work_seconds:
            try:
                await context.sleep(self.work_seconds)
            except asyncio.CancelledError:
                begin.done = process.dead and self._dice.random() < 0.5
                raise
        if attempt < self.failures.get(order, 0):
            raise HypervisorError(f"attempt {attempt} failed")
        begin.done = True
        process.goes_on("after work")


class ScheduleHypervisor(Hypervisor):
    """Executes `start`, `stop` and `migrate` on simulated domains, and reports their ends."""

    name: ClassVar[str] = "schedule"

    def __init__(self, domains: Domains, host: str) -> None:
        super().__init__(NoOptions(), NodeContext(host))
        self._domains = domains

    async def start(self, task: Start, context: Context) -> None:
        await self._work(task, context)

    async def stop(self, task: Stop, context: Context) -> None:
        await self._work(task, context)

    async def migrate(self, task: Migrate, context: Context) -> None:
        await self._work(task, context)

    async def _work(self, task: Any, context: Context) -> None:
        order = order_of(task)
        await self._domains.work(order, self.node.host, context)

    async def recover(self, task: Task, context: Context) -> None:
        """Look at the domain: was the order done before the daemon died?"""
        order = order_of(task)
        begins = self._domains.begins(order)
        if not begins:
            raise HypervisorError("the order was not done: it had not begun")
        if not begins[-1].done:
            raise HypervisorError("the order was not done: it was interrupted")


def order_of(task: Any) -> Order:
    """Return the identity of an order."""
    return task.declaration.task, str(task.vm_name)
