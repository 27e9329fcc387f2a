"""Execute the members of a job, a bounded number of all jobs at the same time."""

import asyncio
from collections.abc import Callable
from functools import partial
from logging import getLogger

from fastlib.message import Cancel
from fastlib.migfra.errors import ClaimError, JournalError
from fastlib.migfra.failures import describe
from fastlib.migfra.journal.journal import Journal
from fastlib.migfra.telemetry.logs import About, about

from .executor import Executor
from .jobs import Job, Member
from .results import failure, store
from .turns import Place, Places

log = getLogger("fastlib.migfra")


class MemberExecution:
    """Gives members their results, each in a place."""

    def __init__(
        self,
        executor: Executor,
        journal: Journal,
        most: int,
        together: int,
        *,
        on_wait: Callable[[Job], object],
        on_end: Callable[[Job], object],
    ) -> None:
        """At most `most` members run, and `together` of a single job are begun.

        `on_wait` is called with the job of a member that waits in the hypervisor, `on_end` with
        that of a member that has ended.
        """
        self._executor = executor
        self._journal = journal
        self._together = together
        self._on_wait = on_wait
        self._on_end = on_end
        self.places = Places(most)
        self.placing = 0
        """Members that wait for a place, or have got one just now."""
        self.beginning: set[Member] = set()
        """Members whose turn has come, and that have not called the journal yet.

        An order that begins with its acceptance must not overtake them.
        """

    def is_beginning(self, member: Member) -> None:
        """Keep other orders from overtaking a member until it has called the journal."""
        self.beginning.add(member)
        member.before_begin(partial(self.beginning.discard, member))

    async def execute_all(self, job: Job) -> None:
        """Execute several members, together as far as they may. Raises a group of errors."""
        window = asyncio.Semaphore(self._together)
        async with asyncio.TaskGroup() as together:
            for member in job.members:
                await window.acquire()
                self.is_beginning(member)
                task = together.create_task(self.execute(job, member))
                task.add_done_callback(lambda _: window.release())
                if member.task.concurrent_execution is False:
                    await asyncio.wait((task,))

    async def execute(self, job: Job, member: Member, place: Place | None = None) -> None:
        """Give a member its results. Raises JournalError and ClaimError.

        `place` is its place if it has one already.
        """
        try:
            about.set(About(job.id, member.domain))
            await self._execute_in_place(job, member, place)
            self._on_end(job)
            if len(job.members) > 1 and job.number is not None:
                await self._journal.done(job.number, member.position, store(member.results))
        except (ClaimError, JournalError):
            raise
        except Exception as error:  # a defect of the daemon; the other members continue
            log.exception("%s failed because of an error in the daemon", job.title)
            if not member.results:
                reason = f"the daemon failed; check the state of the domain: {describe(error)}"
                member.results = (failure(member.vm_name, reason),)

    async def _execute_in_place(self, job: Job, member: Member, place: Place | None) -> None:
        """Execute a member within the limit.

        A `cancel`, and members that end at once, do not count.
        """
        if place is None:
            needs_place = not isinstance(member.task, Cancel) and not member.ends_at_once
            if needs_place and await self._place(member):
                place = Place(self.places)

        def give_up_places() -> None:
            if place is not None:
                place.give_up()
            self._on_wait(job)

        member.on_wait(give_up_places)
        try:
            await self._executor.execute(job, member)
        finally:
            member.begins_now()  # if it has already ended
            if place is not None:
                place.give_up()

    async def _place(self, member: Member) -> bool:
        """Wait for a place among the running members.

        Return False if it was cancelled before, or has expired.
        """
        # Without the first condition, it would overtake a member that waits.
        if not self.placing and self.places.take(1):
            return True
        self.placing += 1
        place = asyncio.create_task(self.places.wait(1))
        cancelled = asyncio.create_task(member.cancellation.wait())
        expired = asyncio.create_task(member.expiry.wait())
        try:
            ends = (place, cancelled, expired)
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.places.give_back(1)
            raise
        finally:
            self.placing -= 1
            cancelled.cancel()
            expired.cancel()
            placed = place.done()
            if not placed:
                place.cancel()
        return placed
