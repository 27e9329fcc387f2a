"""Load the containers that waited in the journal, when their turn comes."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from logging import getLogger
from typing import Final

from fastlib.message import ResultContainer
from fastlib.migfra.journal.journal import Journal
from fastlib.migfra.telemetry.logs import About

from .container_bounds import text_memory, waiting_memory
from .decoding import Unreadable, read
from .expiry_timer import ExpiryTimer
from .jobs import Job

log = getLogger("fastlib.migfra")

LOAD_IN_THREAD: Final = 1 << 16
"""Bytes above which a payload is decoded in a thread, because the loop must not wait for it."""


class ContainerLoader:
    """Loads containers from the journal into memory."""

    def __init__(
        self,
        journal: Journal,
        expiries: ExpiryTimer,
        most_members: int,
        answer: Callable[[Job, ResultContainer], Awaitable[None]],
    ) -> None:
        """`most_members` bounds the members of a container; `answer` answers a job."""
        self._journal = journal
        self._expiries = expiries
        self._most_members = most_members
        self._answer = answer

    async def load(self, job: Job) -> bool:
        """Load a container into memory; return False if it must not begin.

        Answers a container that this version cannot read. Raises JournalError.
        """
        if job.container is not None:
            return True
        assert job.number is not None
        payload = await self._journal.payload(job.number)
        if job.begun or job.container is not None:  # a cancellation was faster
            return not job.begun
        assert payload is not None
        # A container that has begun must be finished, also if it exceeds the present bounds.
        decode = partial(
            read,
            payload,
            max(len(payload), 1),
            most_members=None if job.begun_before else self._most_members,
        )
        if len(payload) > LOAD_IN_THREAD:
            container = await asyncio.to_thread(decode)
            if job.begun or job.container is not None:
                return not job.begun
        else:
            container = decode()
        if isinstance(container, Unreadable):
            await self._answer_unreadable(job, payload, container)
            return False
        job.hold(container)
        job.came_as(payload)
        job.memory = waiting_memory(text_memory(payload), len(container.tasks))
        return True

    async def _answer_unreadable(self, job: Job, payload: bytes, found: Unreadable) -> None:
        job.begun = True
        self._expiries.remove(job)
        if not job.begun_before:  # else the answer would prove to the sender that nothing happened
            job.came_as(payload)
        log.error(
            "a container in the journal cannot be read: %s",
            found.reason,
            extra={"about": About(job.id, None)},
        )
        await self._answer(job, found.answer())
