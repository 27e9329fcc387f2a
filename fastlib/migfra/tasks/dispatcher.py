"""Which container is executed when: in order, so many at once, and their members together.

PROTOCOL.md section 3: the members of a container start together, but for those without
`concurrent-execution`, of which each ends before the next one starts; behind a container without
it, the next one waits.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from itertools import chain
from logging import getLogger
from typing import Any, Final

from fastlib.message import Cancel, Quit, ResultContainer, TaskReport
from fastlib.migfra.config.sections import LimitsSection
from fastlib.migfra.errors import JournalError
from fastlib.migfra.journal.journal import Journal
from fastlib.migfra.telemetry.logs import About, about

from .decoding import Unreadable, read
from .executor import Executor
from .jobs import Job, Member
from .publisher import Publisher
from .results import NO_DOMAIN, answer_to, failure, quit_answer, store, write

log = getLogger("fastlib.migfra")

HELD: Final = 1000
"""So many waiting containers are held in memory; the journal has the rest."""
REPORTED: Final = 1000
"""So many tasks under way are told in a report."""


class Dispatcher:
    """The containers that are accepted and not answered."""

    def __init__(
        self,
        executor: Executor,
        journal: Journal,
        publisher: Publisher,
        limits: LimitsSection,
        quit: Callable[[Job], object],
    ) -> None:
        """`quit` is called when it is a quit's turn; what comes behind it stays in the journal."""
        self._executor = executor
        self._journal = journal
        self._publisher = publisher
        self._limits = limits
        self._quit = quit
        self._queue: deque[Job] = deque()
        self._more = asyncio.Event()
        self._containers = asyncio.Semaphore(limits.containers)
        self._members = asyncio.Semaphore(limits.members)
        self._under_way: dict[int | None, Job] = {}
        self._by_id: dict[str, Job] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._worker: asyncio.Task[None] | None = None

    @property
    def queued(self) -> int:
        """Containers that wait for their turn."""
        return len(self._queue)

    @property
    def at_work(self) -> int:
        """Containers that are executed."""
        return len(self._running)

    def find(self, id: str) -> Job | None:
        """The container of an id, if it is under way."""
        return self._by_id.get(id)

    def reports(self) -> list[TaskReport]:
        """The tasks under way, the oldest first, of very many not all."""
        jobs = list(self._under_way.values())[:REPORTED]
        return list(chain.from_iterable(job.reports() for job in jobs))[:REPORTED]

    def put(self, job: Job) -> None:
        """A container that is in the journal; it is executed when it is its turn."""
        self._under_way[job.number] = job
        if job.id is not None:
            self._by_id[job.id] = job
        if job.container is not None and isinstance(next(iter(job.container.tasks), None), Cancel):
            self._begin(job, self._execute(job))  # it waits behind nothing, least of all its aim
            return
        if len(self._queue) >= HELD:
            job.drop()
        self._queue.append(job)
        self._more.set()

    def start(self) -> None:
        """Begin to execute."""
        self._worker = asyncio.create_task(self._run())
        self._worker.add_done_callback(self._worked)

    @staticmethod
    def _worked(worker: "asyncio.Task[None]") -> None:
        error = None if worker.cancelled() else worker.exception()
        if isinstance(error, JournalError):
            log.warning("what waits is left to the next run: %s", error)
        elif error is not None:
            log.critical("nothing more is begun until the daemon is restarted", exc_info=error)

    async def _run(self) -> None:
        """Begins one container after the other."""
        while True:
            while not self._queue:
                self._more.clear()
                await self._more.wait()
            await self._containers.acquire()
            job = self._queue.popleft() if self._queue else None
            if job is None or job.begun or not await self.load(job):
                self._containers.release()
                continue
            assert job.container is not None
            if job.members and isinstance(job.members[0].task, Quit):
                if not job.recovered:
                    self._quit(job)
                    return
                self._containers.release()
                await self.answer(job, quit_answer(job.container))  # it has ended meanwhile
                continue
            task = self._begin(job, self._execute_within(job))
            if job.container.concurrent_execution is False:
                await asyncio.wait((task,))

    async def load(self, job: Job) -> bool:
        """Take a container into memory; False if it need not be begun any more.

        One that cannot be read any more is answered.
        """
        if job.container is not None:
            return True
        assert job.number is not None
        payload = await self._journal.payload(job.number)
        if job.begun or job.container is not None:  # `cancel` was faster, or begins it now
            return not job.begun
        assert payload is not None
        container = read(payload, max(len(payload), 1))
        if isinstance(container, Unreadable):
            job.begun = True
            log.error(
                "a container of the journal cannot be read any more: %s",
                container.reason,
                extra={"about": About(job.id, None)},
            )
            await self.answer(job, container.answer())
            return False
        job.hold(container)
        return True

    def _begin(self, job: Job, coroutine: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        job.begun = True
        task = asyncio.create_task(coroutine)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def _execute_within(self, job: Job) -> None:
        try:
            await self._execute(job)
        finally:
            self._containers.release()

    async def _execute(self, job: Job) -> None:
        assert job.container is not None
        about.set(About(job.id, None))
        try:
            if not job.members:
                reason = f"there is nothing to do: the list of {job.title} is empty"
                await self.answer(job, answer_to(job.container, (failure(NO_DOMAIN, reason),)))
                return
            async with asyncio.TaskGroup() as together:
                for member in job.members:
                    task = together.create_task(self._member(job, member))
                    if member.task.concurrent_execution is False:
                        await asyncio.wait((task,))
            results = chain.from_iterable(member.results for member in job.members)
            await self.answer(job, answer_to(job.container, results))
        except* JournalError as errors:
            log.warning("%s (%s) is left to the next run: %s", job.title, job.id, errors)
        except* Exception:  # a mistake in here; the journal still has the container
            log.exception("%s (%s) is left to the next run", job.title, job.id)

    async def _member(self, job: Job, member: Member) -> None:
        if isinstance(member.task, Cancel):
            await self._executor.execute(job, member)
            return
        if member.cancellation.cancelled:  # it needs no place to be told so
            await self._executor.execute(job, member)
        else:
            placed = await self._place(member)
            try:
                await self._executor.execute(job, member)
            finally:
                if placed:
                    self._members.release()
        if len(job.members) > 1 and job.number is not None:
            await self._journal.done(job.number, member.position, store(member.results))

    async def _place(self, member: Member) -> bool:
        """Wait for a place among the members at work; False if it was cancelled before."""
        if not self._members.locked():
            await self._members.acquire()
            return True
        place = asyncio.create_task(self._members.acquire())
        cancelled = asyncio.create_task(member.cancellation.wait())
        try:
            await asyncio.wait((place, cancelled), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self._members.release()
            raise
        finally:
            cancelled.cancel()
            placed = place.done()
            if not placed:
                place.cancel()
        return placed

    async def answer(self, job: Job, answer: ResultContainer) -> None:
        """Write an answer down and send it."""
        payload = write(answer)
        assert job.number is not None
        await self._journal.answer(job.number, payload)
        self._publisher.put(job.number, job.id, payload)
        self._forget(job)

    def _forget(self, job: Job) -> None:
        self._under_way.pop(job.number, None)
        if job.id is not None and self._by_id.get(job.id) is job:
            del self._by_id[job.id]
        job.ended.set()

    async def cancel(self, job: Job) -> None:
        """Let a container end; one that has not begun ends at once."""
        assert job.number is not None
        await self._journal.cancel(job.number)
        job.cancel()
        if not job.begun and await self.load(job) and not job.begun:
            self._begin(job, self._execute(job))

    def stop(self) -> None:
        """Begin nothing more."""
        if self._worker is not None:
            self._worker.cancel()

    async def finish(self, timeout: float, stop_now: asyncio.Event) -> list[Job]:
        """Wait until what runs has ended, at most `timeout` seconds or until `stop_now` is set.

        Returns what is left.
        """
        self.stop()
        if self._running:
            stopped_now = asyncio.create_task(stop_now.wait())
            ended = asyncio.create_task(asyncio.wait(tuple(self._running)))
            either = asyncio.FIRST_COMPLETED
            await asyncio.wait((stopped_now, ended), timeout=timeout, return_when=either)
            ended.cancel()
            stopped_now.cancel()
        return [job for job in self._under_way.values() if job.begun]

    async def abandon(self) -> None:
        """Let go of what runs; the journal knows that it does."""
        tasks = [*self._running, *([self._worker] if self._worker else [])]
        for task in tasks:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)
