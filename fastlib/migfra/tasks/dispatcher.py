"""Start jobs in order, a bounded number at the same time, and the members of each together.

See docs/reference/protocol.md, "Keys of every member". The members of a container start together. A
member without `concurrent-execution` ends before the next one starts. A container without it ends
before the next container starts.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from functools import partial
from itertools import chain
from logging import getLogger
from typing import Any, Final

from fastlib.clock import SYSTEM_CLOCK, Clock
from fastlib.message import Quit, Result, TaskContainer
from fastlib.migfra.config.sections import LimitsSection
from fastlib.migfra.errors import ClaimError, JournalError, TaskExpiredError
from fastlib.migfra.failures import OnFailure
from fastlib.migfra.journal.journal import Journal
from fastlib.migfra.plugin_api.expiry import Deadline
from fastlib.migfra.telemetry.logs import About, about

from .answerer import Answerer
from .container_bounds import MEMBERS_TOGETHER, running_memory
from .container_loader import ContainerLoader
from .executor import Executor
from .expiry_timer import ExpiryTimer
from .jobs import Job, JobTable
from .late_acks import LateAcks
from .member_execution import MemberExecution
from .memory_budget import MemoryBudget
from .order_queue import OrderQueue
from .out_of_turn import OutOfTurn
from .publisher import Publisher
from .results import NO_DOMAIN, answer_to, failure, quit_answer
from .turns import Place, Places, Situation, Taken, Turn, may_begin_at_once

log = getLogger("fastlib.migfra")

HELD_SHARE: Final = 0.25
"""Largest share of the containers' memory that waiting containers may take."""
Execution = Coroutine[Any, Any, None]
"""Executes a job and answers it. It raises nothing but a cancellation."""
TURNS_TO_BEGIN: Final = 2
"""Turns of the loop until members with tasks of their own have called the journal.

With fewer turns, the next order, which may need no such task, would overtake them.
"""
QUIT_SECONDS: Final = 1.0
"""Seconds that a quit waits for the journal, which may be unable to write."""


class Dispatcher:
    """Executes and answers the accepted jobs."""

    def __init__(
        self,
        executor: Executor,
        jobs: JobTable,
        journal: Journal,
        publisher: Publisher,
        acks: LateAcks,
        limits: LimitsSection,
        *,
        quit: Callable[[Job], object],
        on_failure: OnFailure,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """`quit` is called when the turn of a quit comes; later jobs stay in the journal.

        `on_failure` is called for an error after which the daemon cannot continue.
        """
        self._executor = executor
        self._jobs = jobs
        self._journal = journal
        self._quit = quit
        self._on_failure = on_failure
        self._expiries = ExpiryTimer(clock, self._begin_out_of_turn)
        held = int(limits.parsed * HELD_SHARE)
        self._queue = OrderQueue(held)
        self._running_memory = MemoryBudget(limits.parsed - held)
        self._accepting = 0
        """Orders that are being accepted and will wait for their turn."""
        self._together = max(MEMBERS_TOGETHER, limits.members)
        self.answerer: Final = Answerer(jobs, journal, publisher, acks, self._queue)
        self.loader: Final = ContainerLoader(
            journal, self._expiries, limits.container_members, self.answerer.answer
        )
        self._out_of_turn = OutOfTurn(self._load_and_execute, self._track)
        self._containers = Places(limits.containers)
        self._members = MemberExecution(
            executor,
            journal,
            limits.members,
            self._together,
            on_wait=self._has_waiting_member,
            on_end=self._give_up_place,
        )
        self._container_places: dict[Job, Place] = {}
        """The places of the containers that are executed."""
        self._waiting: set[Job] = set()
        """Jobs with their place that have had a member waiting in the hypervisor."""
        self._at_work: set[Job] = set()
        """Those that have begun, until their execution ends."""
        self._running: set[asyncio.Task[None]] = set()
        self._worker: asyncio.Task[None] | None = None

    @property
    def queued(self) -> int:
        """Containers that wait for their turn."""
        return len(self._queue.jobs)

    @property
    def running(self) -> int:
        """Containers that are executed and not answered. Any thread may ask."""
        return sum(not job.is_answered for job in tuple(self._at_work))

    def turn(self, container: TaskContainer, deadline: Deadline, memory: int) -> Turn:
        """Return the turn of an order that is about to be accepted; the caller ends it.

        `memory` is what the container takes while it waits, in bytes.
        """
        take = partial(self._take, container, deadline, memory)
        return Turn(take, self._give_back, self._is_full)

    def _is_full(self) -> bool:
        """Return whether an order without a place would be the first one that waits."""
        full = self._containers.is_full or self._members.places.is_full
        return full and self._queue.is_idle and not self._accepting and not self._queue.jobs

    def _take(self, container: TaskContainer, deadline: Deadline, memory: int) -> Taken | None:
        """Take what an order needs that can begin at once. Count one that must wait."""
        situation = Situation(
            accepting=self._accepting,
            waiting=len(self._queue.jobs),
            beginning=len(self._members.beginning),
            is_idle=self._queue.is_idle,
            has_expired=deadline.over,
        )
        begins = None
        if may_begin_at_once(container, situation):
            begins = self._executor.begins_at_once(container.tasks[0])
        memory = running_memory(memory, 1, self._together)
        if begins is not None and self._containers.take(1):
            places = self._members.places
            if places.take(1):
                if self._running_memory.take(memory):
                    return Taken(begins, Place(self._containers), Place(places), memory)
                places.give_back(1)
            self._containers.give_back(1)
        self._accepting += 1
        return None

    def _give_back(self, taken: Taken | None) -> None:
        if taken is None:
            self._accepting -= 1
        else:
            taken.member_place.give_up()
            taken.container_place.give_up()
            self._running_memory.give_back(taken.memory)

    def begin(self, job: Job, turn: Turn) -> Execution | None:
        """Return the execution of a job whose turn has come with its acceptance.

        The journal knows that it begins. The current task counts as running, and must await the
        execution at once. A job that waits is put behind the others, and None is returned.
        """
        taken = turn.taken
        if taken is None:
            self.put(job)
            return None
        turn.use()
        self._jobs.add(job)
        job.members[0].begin_is_noted = True
        self._has_begun(job)
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        return self._execute_within(
            job, taken.memory, taken.container_place, taken.member_place, task
        )

    def put(self, job: Job) -> None:
        """Take over a job that is in the journal, and execute it in its turn."""
        self._jobs.add(job)
        if job.is_cancel:
            self._has_begun(job)
            self._track(self._execute(job))  # it must not wait for the end of its target
            return
        job.on_cancel(self._begin_out_of_turn)
        self._expiries.add(job)
        self._queue.put(job)

    def start(self) -> None:
        """Begin to execute."""
        self._worker = asyncio.create_task(self._run())
        self._worker.add_done_callback(self._ended)

    def _ended(self, worker: "asyncio.Task[None]") -> None:
        error = None if worker.cancelled() else worker.exception()
        if isinstance(error, JournalError):
            log.warning("the journal failed; the next run executes the waiting orders: %s", error)
        elif error is not None:
            self._on_failure("the dispatcher", error)

    async def _run(self) -> None:
        """Begin one job after the other."""
        while True:
            if not self._queue.jobs:
                await self._queue.wait()
            if not self._containers.take(1):
                await self._containers.wait(1)
            job = self._queue.jobs.popleft() if self._queue.jobs else None
            if job is None or job.begun or not await self.loader.load(job):
                self._containers.give_back(1)
                continue
            assert job.container is not None
            if job.members and isinstance(job.members[0].task, Quit):
                member = job.members[0]
                if not job.recovered and await self._begin_quit(job):
                    self._quit(job)
                    return
                if not member.expiry.expired:  # the daemon has ended since
                    self._containers.give_back(1)
                    self._expiries.remove(job)
                    await self.answerer.answer(job, quit_answer(job.container))
                    continue
            memory = running_memory(job.memory, len(job.members), self._together)
            if not self._running_memory.take(memory):
                await self._running_memory.wait(memory)
            if job.begun:  # it was cancelled or has expired meanwhile
                self._running_memory.give_back(memory)
                self._containers.give_back(1)
                continue
            task = self._begin_within(job, memory, Place(self._containers))
            if job.container.concurrent_execution is False:
                await asyncio.wait((task,))
            elif len(job.members) > 1:
                for _ in range(TURNS_TO_BEGIN):
                    await asyncio.sleep(0)

    async def _begin_quit(self, job: Job) -> bool:
        """Note in the journal that a quit has begun: a later run must not say that it expired.

        Return False if it has expired.
        """
        assert job.number is not None
        try:
            job.members[0].expiry.begin()
        except TaskExpiredError:
            return False
        self._expiries.remove(job)
        with suppress(TimeoutError):
            async with asyncio.timeout(QUIT_SECONDS):
                await self._journal.begin(job.number, 0)
        return True

    def _begin_out_of_turn(self, job: Job) -> None:
        """Execute a job that was cancelled or has expired, to answer it at once."""
        if not job.begun:
            self._out_of_turn.add(job)

    async def _load_and_execute(self, job: Job) -> None:
        try:
            wanted = await self.loader.load(job) and not job.begun
        except JournalError as error:
            log.warning(
                "the journal failed; the next run answers a cancelled or expired order: %s", error
            )
            return
        if wanted and not all(member.ends_at_once for member in job.members):
            self._expiries.add(job)  # the clock was set back in this moment
        elif wanted:
            self._has_begun(job)
            await self._execute(job)

    def _has_begun(self, job: Job) -> None:
        """Note that the execution of a job begins. It must be executed at once."""
        job.begun = True
        self._at_work.add(job)
        self._queue.let_go(job)
        self._expiries.remove(job)

    def _begin_within(self, job: Job, memory: int, place: Place) -> "asyncio.Task[None]":
        self._has_begun(job)
        if job.members:
            self._members.is_beginning(job.members[0])
        task = asyncio.create_task(self._execute_within(job, memory, place))
        self._running.add(task)
        return task

    def _track(self, coroutine: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(coroutine)
        self._running.add(task)
        task.add_done_callback(self._executed)
        return task

    def _executed(self, task: "asyncio.Task[None]") -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_failure("the execution of a container", error)

    async def _execute_within(
        self,
        job: Job,
        memory: int,
        place: Place,
        member_place: Place | None = None,
        task: "asyncio.Task[None] | None" = None,
    ) -> None:
        """Execute a job within the limits; `memory` and the places were taken for it.

        `member_place` is that of its only member, if there is one already. `task` is the current
        task, if the caller knows it.
        """
        self._container_places[job] = place
        try:
            await self._execute(job, member_place)
        except (Exception, BaseExceptionGroup) as error:
            self._on_failure("the execution of a container", error)
        finally:
            task = task or asyncio.current_task()
            assert task is not None
            self._running.discard(task)  # a callback of the task would take longer
            del self._container_places[job]
            self._waiting.discard(job)
            place.give_up()
            self._running_memory.give_back(memory)

    def _has_waiting_member(self, job: Job) -> None:
        """Note that a member of a job waits in the hypervisor."""
        if job in self._container_places:
            self._waiting.add(job)
        self._give_up_place(job)

    def _give_up_place(self, job: Job) -> None:
        """Let another container begin if this one only waits for turns in the hypervisor."""
        if job in self._waiting and job.only_waits:
            self._waiting.remove(job)
            self._container_places[job].give_up()

    async def _execute(self, job: Job, member_place: Place | None = None) -> None:
        """Execute the members of a job, and answer it.

        If the journal fails, the next run continues it. Raises all unexpected errors.
        """
        assert job.container is not None
        try:
            if not job.members:
                about.set(About(job.id, None))
                reason = f"the list of {job.title} is empty; expected at least one member"
                log.warning("%s ended with error: %s", job.title, reason)
                await self.answerer.answer(
                    job, answer_to(job.container, (failure(NO_DOMAIN, reason),))
                )
                return
            if len(job.members) == 1:  # the usual case, which needs no task of its own
                await self._members.execute(job, job.members[0], member_place)
            else:
                about.set(About(job.id, None))
                await self._members.execute_all(job)
            if not self._members.placing and job in self._container_places:
                # The next one need not wait until this answer is written, unless it would overtake
                # a member that waits for its place.
                self._container_places[job].give_up()
            if len(job.members) == 1:
                results: Iterable[Result] = job.members[0].results
            else:
                results = chain.from_iterable(member.results for member in job.members)
            await self.answerer.answer(job, answer_to(job.container, results))
        except* (ClaimError, JournalError) as errors:
            reasons = {str(error): None for error in errors.exceptions}
            log.warning(
                "%s was not finished; the next run continues it: %s", job.title, "; ".join(reasons)
            )
        finally:
            self._at_work.discard(job)

    def stop(self) -> None:
        """Begin no more jobs. Expired jobs are still answered, until `abandon`."""
        self._queue.is_idle = False
        if self._worker is not None:
            self._worker.cancel()

    async def finish(self, timeout: float, stop_now: asyncio.Event) -> list[Job]:
        """Wait for the running jobs, at most `timeout` seconds or until `stop_now` is set.

        Return the jobs that have not ended.
        """
        self.stop()
        if self._running:
            stopped_now = asyncio.create_task(stop_now.wait())
            ended = asyncio.create_task(asyncio.wait(tuple(self._running)))
            either = asyncio.FIRST_COMPLETED
            await asyncio.wait((stopped_now, ended), timeout=timeout, return_when=either)
            ended.cancel()
            stopped_now.cancel()
        return [job for job in self._jobs if job.begun]

    async def abandon(self) -> None:
        """Cancel the running jobs; the journal has noted that they have begun."""
        self._expiries.stop()
        tasks = [*self._running, *([self._worker] if self._worker else [])]
        for task in tasks:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)
