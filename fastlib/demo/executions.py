"""Count how often the simulated hypervisor executes each task."""

from collections import Counter

from fastlib.message import Evacuate, Migrate, Repin, Resume, Start, Stop, Suspend, Task
from fastlib.migfra import Context, NodeContext, Outcome
from fastlib.migfra.hypervisors.simulated import SimulatedHypervisor, SimulatedOptions

Execution = tuple[str, str | None, str | None]
"""Host, id of the container, and name of the VM."""


class ExecutionCounter:
    """Counts how often each member of a container is executed."""

    def __init__(self) -> None:
        self.counts: Counter[Execution] = Counter()

    def add(self, task: Task, context: Context) -> None:
        """Count a task that a hypervisor is about to execute."""
        self.counts[context.host, context.id, getattr(task, "vm_name", None)] += 1

    def repeated(self) -> list[Execution]:
        """Return the tasks that were executed more than once."""
        return sorted((key for key, count in self.counts.items() if count > 1), key=str)


class CountingHypervisor(SimulatedHypervisor):
    """The simulated hypervisor; it counts each task before it executes it."""

    def __init__(
        self, options: SimulatedOptions, node: NodeContext, executions: ExecutionCounter
    ) -> None:
        super().__init__(options, node)
        self._executions = executions

    async def start(self, task: Start, context: Context) -> Outcome:
        self._executions.add(task, context)
        return await super().start(task, context)

    async def stop(self, task: Stop, context: Context) -> Outcome:
        self._executions.add(task, context)
        return await super().stop(task, context)

    async def suspend(self, task: Suspend, context: Context) -> Outcome:
        self._executions.add(task, context)
        return await super().suspend(task, context)

    async def resume(self, task: Resume, context: Context) -> Outcome:
        self._executions.add(task, context)
        return await super().resume(task, context)

    async def repin(self, task: Repin, context: Context) -> Outcome:
        self._executions.add(task, context)
        return await super().repin(task, context)

    async def migrate(self, task: Migrate, context: Context) -> Outcome:
        self._executions.add(task, context)
        return await super().migrate(task, context)

    async def evacuate(self, task: Evacuate, context: Context) -> Outcome:
        self._executions.add(task, context)
        return await super().evacuate(task, context)
