"""Decide whether there is room for another order or query. The caller answers refused ones."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from fastlib.message import Cancel, TaskContainer
from fastlib.migfra.config.sections import LimitsSection

from .jobs import JOB_SIZE, JobTable
from .publisher import Publisher

MAX_CANCELS: Final = 256
"""Maximum number of running `cancel task`."""
MAX_QUERIES: Final = 1000
"""Maximum number of queries that wait for their turn."""


class OrderRoom:
    """Counts the bytes of orders that are being accepted, wait or run, and of their answers."""

    def __init__(self, jobs: JobTable, publisher: Publisher, limits: LimitsSection) -> None:
        self._jobs = jobs
        self._publisher = publisher
        self._bound = limits.waiting
        self._reserved = 0

    def reserve(self, container: TaskContainer, size: int) -> "Reservation":
        """Return a context manager that counts an order of `size` bytes while it is accepted.

        A `cancel task` makes room, so it has a bound of its own.
        """
        if container.tasks and isinstance(container.tasks[0], Cancel):
            return Reservation(self, 0, self._why_no_cancel())
        size += JOB_SIZE
        taken = self._jobs.size + self._publisher.size
        if taken + self._reserved + size <= self._bound:
            return Reservation(self, size, None)
        refused = (
            "the daemon has too many orders: those that wait or run and the answers that the "
            f"broker has not confirmed take {taken} of {self._bound} bytes; send it again later, "
            "or raise 'limits: {waiting: ...}' in the daemon's configuration"
        )
        return Reservation(self, 0, refused)

    def take(self, size: int) -> None:
        """Count bytes of an order that is being accepted. A negative size gives them back."""
        self._reserved += size

    def _why_no_cancel(self) -> str | None:
        if self._jobs.cancels < MAX_CANCELS:
            return None
        return f"{MAX_CANCELS} cancel tasks are running; send it again later"


class Reservation:
    """The room of one order while it is accepted: a context manager."""

    __slots__ = ("_refused", "_room", "_size")

    def __init__(self, room: OrderRoom, size: int, refused: str | None) -> None:
        """`size` is in bytes. `refused` is the reason for a refusal, None if there is room."""
        self._room: Final = room
        self._size: Final = size
        self._refused: Final = refused

    def __enter__(self) -> str | None:
        """Take the room. Return the reason for a refusal, or None."""
        self._room.take(self._size)
        return self._refused

    def __exit__(self, *_: object) -> None:
        """Give the room back: the order is counted among the jobs by now, or was refused."""
        self._room.take(-self._size)


class QueryQueue:
    """Lets a bounded number of queries run at the same time, and a bounded number wait."""

    def __init__(self, at_once: int) -> None:
        self._places = asyncio.Semaphore(at_once)
        self._waiting = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[str | None]:
        """Wait for a turn. Yield the reason for a refusal, or None."""
        if self._waiting >= MAX_QUERIES:
            yield f"{self._waiting} queries are waiting for their answers; send it again later"
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
