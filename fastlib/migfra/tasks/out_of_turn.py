"""Execute the jobs that end before their turn because they were cancelled or have expired."""

from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from .jobs import Job

AT_ONCE: Final = 8
"""Maximum number of jobs that run at the same time. Many orders may expire in one second."""


class OutOfTurn:
    """A separate queue for jobs that need no place and must not wait for one."""

    def __init__(
        self,
        execute: Callable[[Job], Awaitable[None]],
        start: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        """`execute` loads and executes a job; `start` starts a coroutine."""
        self._execute = execute
        self._start = start
        self._jobs: deque[Job] = deque()
        self._workers = 0

    def add(self, job: Job) -> None:
        """Execute a job soon."""
        self._jobs.append(job)
        if self._workers < AT_ONCE:
            self._workers += 1
            self._start(self._work())

    async def _work(self) -> None:
        try:
            while self._jobs:
                await self._execute(self._jobs.popleft())
        finally:
            self._workers -= 1
