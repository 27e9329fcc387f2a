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
from fastlib.migfra.config.sections import Limits
from fastlib.migfra.errors import JournalError
from fastlib.migfra.journal.journal import Journal
from fastlib.migfra.telemetry.logs import About, about

from .decoding import Unreadable, read
from .executor import Executor
from .jobs import Member, Work
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
        limits: Limits,
        quit: Callable[[Work], object],
    ) -> None:
        """`quit` is called when it is a quit's turn; what comes behind it stays in the journal."""
        self._executor = executor
        self._journal = journal
        self._publisher = publisher
        self._limits = limits
        self._quit = quit
        self._queue: deque[Work] = deque()
        self._more = asyncio.Event()
        self._containers = asyncio.Semaphore(limits.containers)
        self._members = asyncio.Semaphore(limits.members)
        self._under_way: dict[int | None, Work] = {}
        self._by_id: dict[str, Work] = {}
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

    def find(self, id: str) -> Work | None:
        """The container of an id, if it is under way."""
        return self._by_id.get(id)

    def reports(self) -> list[TaskReport]:
        """The tasks under way, the oldest first, of very many not all."""
        works = list(self._under_way.values())[:REPORTED]
        return list(chain.from_iterable(work.reports() for work in works))[:REPORTED]

    def put(self, work: Work) -> None:
        """A container that is in the journal; it is executed when it is its turn."""
        self._under_way[work.number] = work
        if work.id is not None:
            self._by_id[work.id] = work
        if work.container is not None and isinstance(
            next(iter(work.container.tasks), None), Cancel
        ):
            self._begin(work, self._execute(work))  # it waits behind nothing, least of all its aim
            return
        if len(self._queue) >= HELD:
            work.drop()
        self._queue.append(work)
        self._more.set()

    def start(self) -> None:
        """Begin to execute."""
        self._worker = asyncio.create_task(self._work())
        self._worker.add_done_callback(self._worked)

    @staticmethod
    def _worked(worker: "asyncio.Task[None]") -> None:
        error = None if worker.cancelled() else worker.exception()
        if isinstance(error, JournalError):
            log.warning("what waits is left to the next run: %s", error)
        elif error is not None:
            log.critical("nothing more is begun until the daemon is restarted", exc_info=error)

    async def _work(self) -> None:
        """Begins one container after the other."""
        while True:
            while not self._queue:
                self._more.clear()
                await self._more.wait()
            await self._containers.acquire()
            work = self._queue.popleft() if self._queue else None
            if work is None or work.begun or not await self.load(work):
                self._containers.release()
                continue
            assert work.container is not None
            if work.members and isinstance(work.members[0].task, Quit):
                if not work.recovered:
                    self._quit(work)
                    return
                self._containers.release()
                await self.answer(work, quit_answer(work.container))  # it has ended meanwhile
                continue
            task = self._begin(work, self._execute_within(work))
            if work.container.concurrent_execution is False:
                await asyncio.wait((task,))

    async def load(self, work: Work) -> bool:
        """Take a container into memory; False if it need not be begun any more.

        One that cannot be read any more is answered.
        """
        if work.container is not None:
            return True
        assert work.number is not None
        payload = await self._journal.payload(work.number)
        if work.begun or work.container is not None:  # `cancel` was faster, or begins it now
            return not work.begun
        assert payload is not None
        container = read(payload, max(len(payload), 1))
        if isinstance(container, Unreadable):
            work.begun = True
            log.error(
                "a container of the journal cannot be read any more: %s",
                container.reason,
                extra={"about": About(work.id, None)},
            )
            await self.answer(work, container.answer())
            return False
        work.hold(container)
        return True

    def _begin(self, work: Work, coroutine: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        work.begun = True
        task = asyncio.create_task(coroutine)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def _execute_within(self, work: Work) -> None:
        try:
            await self._execute(work)
        finally:
            self._containers.release()

    async def _execute(self, work: Work) -> None:
        assert work.container is not None
        about.set(About(work.id, None))
        try:
            if not work.members:
                reason = f"there is nothing to do: the list of {work.title} is empty"
                await self.answer(work, answer_to(work.container, (failure(NO_DOMAIN, reason),)))
                return
            async with asyncio.TaskGroup() as together:
                for member in work.members:
                    task = together.create_task(self._member(work, member))
                    if member.task.concurrent_execution is False:
                        await asyncio.wait((task,))
            results = chain.from_iterable(member.results for member in work.members)
            await self.answer(work, answer_to(work.container, results))
        except* JournalError as errors:
            log.warning("%s (%s) is left to the next run: %s", work.title, work.id, errors)
        except* Exception:  # a mistake in here; the journal still has the container
            log.exception("%s (%s) is left to the next run", work.title, work.id)

    async def _member(self, work: Work, member: Member) -> None:
        if isinstance(member.task, Cancel):
            await self._executor.execute(work, member)
            return
        if member.cancellation.cancelled:  # it needs no place to be told so
            await self._executor.execute(work, member)
        else:
            placed = await self._place(member)
            try:
                await self._executor.execute(work, member)
            finally:
                if placed:
                    self._members.release()
        if len(work.members) > 1 and work.number is not None:
            await self._journal.done(work.number, member.position, store(member.results))

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

    async def answer(self, work: Work, answer: ResultContainer) -> None:
        """Write an answer down and send it."""
        payload = write(answer)
        assert work.number is not None
        await self._journal.answer(work.number, payload)
        self._publisher.put(work.number, work.id, payload)
        self._forget(work)

    def _forget(self, work: Work) -> None:
        self._under_way.pop(work.number, None)
        if work.id is not None and self._by_id.get(work.id) is work:
            del self._by_id[work.id]
        work.ended.set()

    async def cancel(self, work: Work) -> None:
        """Let a container end; one that has not begun ends at once."""
        assert work.number is not None
        await self._journal.cancel(work.number)
        work.cancel()
        if not work.begun and await self.load(work) and not work.begun:
            self._begin(work, self._execute(work))

    def stop(self) -> None:
        """Begin nothing more."""
        if self._worker is not None:
            self._worker.cancel()

    async def finish(self, timeout: float, hurry: asyncio.Event) -> list[Work]:
        """Wait until what runs has ended, at most `timeout` seconds or until `hurry` is set.

        Returns what is left.
        """
        self.stop()
        if self._running:
            hurried = asyncio.create_task(hurry.wait())
            ended = asyncio.create_task(asyncio.wait(tuple(self._running)))
            either = asyncio.FIRST_COMPLETED
            await asyncio.wait((hurried, ended), timeout=timeout, return_when=either)
            ended.cancel()
            hurried.cancel()
        return [work for work in self._under_way.values() if work.begun]

    async def abandon(self) -> None:
        """Let go of what runs; the journal knows that it does."""
        tasks = [*self._running, *([self._worker] if self._worker else [])]
        for task in tasks:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)
