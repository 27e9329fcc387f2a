"""Decides whether there is room for another order or query. What is refused is answered."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

from fastlib.message import Cancel, TaskContainer
from fastlib.migfra.config.sections import LimitsSection

from .jobs import JOB_SIZE, JobTable
from .publisher import Publisher

MAX_CANCELS: Final = 256
"""`cancel task` at work, at most."""
MAX_QUERIES: Final = 1000
"""Queries that wait for their turn, at most."""


class OrderRoom:
    """Counts the bytes of orders that wait or run or are being accepted, and of their answers."""

    def __init__(self, jobs: JobTable, publisher: Publisher, limits: LimitsSection) -> None:
        self._jobs = jobs
        self._publisher = publisher
        self._bound = limits.waiting
        self._reserved = 0
        self._cancels = 0

    @contextmanager
    def reserve(self, container: TaskContainer, size: int) -> Iterator[str | None]:
        """Count an order of `size` bytes while it is accepted. Give why there is no room, or None.

        A `cancel task` makes room, so it has a bound of its own.
        """
        if container.tasks and isinstance(container.tasks[0], Cancel):
            yield self._why_no_cancel()
            return
        answers = self._publisher.size
        if self._jobs.size + answers + self._reserved + size + JOB_SIZE > self._bound:
            yield (
                "there is no room for it among the orders that wait or run and the answers that "
                f"the broker has not confirmed, which take {self._jobs.size + answers} of "
                f"{self._bound} bytes; send it again later, or raise 'limits: {{waiting: ...}}' in "
                "the daemon's configuration"
            )
            return
        self._reserved += size + JOB_SIZE
        try:
            yield None
        finally:
            self._reserved -= size + JOB_SIZE

    def _why_no_cancel(self) -> str | None:
        if self._jobs.cancels < MAX_CANCELS:
            return None
        return f"{MAX_CANCELS} cancel tasks are under way; send it again later"


class QueryQueue:
    """Lets a bounded number of queries run at the same time, and a bounded number wait."""

    def __init__(self, at_once: int) -> None:
        self._places = asyncio.Semaphore(at_once)
        self._waiting = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[str | None]:
        """Wait for a turn. Give why there is none, or None."""
        if self._waiting >= MAX_QUERIES:
            yield f"{self._waiting} queries wait for their answers already; send it again later"
            return
        self._waiting += 1
        try:
            await self._places.acquire()
        finally:
            self._waiting -= 1
        try:
            yield None
        finally:
            self._places.release()
