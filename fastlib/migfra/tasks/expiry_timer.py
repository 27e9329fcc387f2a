"""Watch the jobs that wait for their turn, and report each that expires."""

import asyncio
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Final

from fastlib.clock import Clock
from fastlib.migfra.plugin_api.expiry import timer_seconds

from .jobs import Job

SPARE_ENTRIES: Final = 1000
"""Maximum number of entries of removed jobs, in addition to the number of waiting jobs."""
SET_SECONDS: Final = 0.001
"""Seconds of deviation between wall clock and monotonic clock after which all jobs are checked.
"""


class ExpiryTimer:
    """One timer for all waiting jobs that have an expiry."""

    def __init__(self, clock: Clock, on_expired: Callable[[Job], object]) -> None:
        """`on_expired` is called in the event loop with each job that has expired."""
        self._clock = clock
        self._on_expired = on_expired
        self._waiting: dict[int, Job] = {}
        self._heap: list[tuple[float, int]] = []
        """Latest times of expiry by the monotonic clock, with the jobs' numbers.

        Entries of jobs that no longer wait are removed later.
        """
        self._lead = clock.now() - clock.monotonic()
        """Seconds between wall clock and monotonic clock at the last check of all jobs.
        """
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, job: Job) -> None:
        """Watch a job. Does nothing if it cannot expire."""
        if self._stopped or not job.can_expire:
            return
        assert job.number is not None
        self._waiting[job.number] = job
        job.deadline.look()
        heappush(self._heap, (job.deadline.latest, job.number))
        if self._heap[0][1] == job.number:
            self._arm()

    def remove(self, job: Job) -> None:
        """Stop watching a job that begins."""
        if job.number is None or self._waiting.pop(job.number, None) is None:
            return
        if len(self._heap) > SPARE_ENTRIES + 2 * len(self._waiting):
            self._heap = [entry for entry in self._heap if entry[1] in self._waiting]
            heapify(self._heap)

    def stop(self) -> None:
        """Stop all reports."""
        self._stopped = True
        self._waiting.clear()
        self._heap.clear()
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._heap:
            seconds = timer_seconds(self._heap[0][0] - self._clock.monotonic())
            self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look_at_all(self) -> None:
        """Sort again after the wall clock was set: some jobs may expire earlier now."""
        self._lead = self._clock.now() - self._clock.monotonic()
        for job in self._waiting.values():
            job.deadline.look()
        self._heap = [(job.deadline.latest, number) for number, job in self._waiting.items()]
        heapify(self._heap)

    def _look(self) -> None:
        self._timer = None
        now = self._clock.monotonic()
        if abs(self._clock.now() - now - self._lead) > SET_SECONDS:
            self._look_at_all()
        expired = []
        while self._heap and self._heap[0][0] <= now:
            job = self._waiting.pop(heappop(self._heap)[1], None)
            if job is not None:
                expired.append(job)
        self._arm()
        for job in expired:
            self._on_expired(job)
