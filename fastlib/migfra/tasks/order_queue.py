"""The jobs that wait for their turn. A bounded part of their containers is in memory."""

import asyncio
from collections import deque

from .jobs import Job
from .memory_budget import MemoryBudget


class OrderQueue:
    """The accepted jobs whose turn has not come, in their order."""

    def __init__(self, memory: int) -> None:
        """Waiting containers may take `memory` bytes; the journal has the others."""
        self.jobs: deque[Job] = deque()
        self.is_idle = False
        """Whether the dispatcher waits for an order."""
        self._more = asyncio.Event()
        self._memory = MemoryBudget(memory)
        self._held: set[Job] = set()
        """The waiting jobs whose container is in memory."""

    def put(self, job: Job) -> None:
        """Append a job. Drop its container if there is no memory for it."""
        if job.container is not None and self._memory.take(job.memory):
            self._held.add(job)
        else:
            job.drop()
        self.jobs.append(job)
        self._more.set()

    async def wait(self) -> None:
        """Wait until there is a job."""
        while not self.jobs:
            self._more.clear()
            self.is_idle = True
            try:
                await self._more.wait()
            finally:
                self.is_idle = False

    def let_go(self, job: Job) -> None:
        """Remove a job that begins from those that wait in memory."""
        if job in self._held:
            self._held.remove(job)
            self._memory.give_back(job.memory)
