"""Answer a job: store its answer in the journal, send it, and end the job."""

import msgspec

from fastlib.message import ResultContainer
from fastlib.migfra.journal.journal import Journal

from .jobs import Job, JobTable
from .late_acks import LateAcks
from .order_queue import OrderQueue
from .publisher import Publisher
from .results import write


class Answerer:
    """Answers the jobs of the table."""

    def __init__(
        self,
        jobs: JobTable,
        journal: Journal,
        publisher: Publisher,
        acks: LateAcks,
        queue: OrderQueue,
    ) -> None:
        self._jobs = jobs
        self._journal = journal
        self._publisher = publisher
        self._acks = acks
        self._queue = queue

    async def answer(self, job: Job, answer: ResultContainer) -> None:
        """Write an answer to the journal and send it. Raises JournalError."""
        if answer.request_digest != job.request_digest:
            answer = msgspec.structs.replace(answer, request_digest=job.request_digest)
        payload = write(answer)
        number = job.number
        assert number is not None
        early = self._publisher.early(payload, job.came_to)

        def send() -> bool:
            self._acks.send(number)
            self._jobs.answered(job, early.send)
            # If no other order waits, the end of this one is in no hurry: until the broker has
            # confirmed the answer, the loop leaves the interpreter to the thread that sends it.
            is_in_flight = early.delivery is not None and not early.delivery.done
            return is_in_flight and self._queue.is_idle and not self._queue.jobs

        await self._journal.answer(number, payload, send, outcome=job.outcome)
        self._jobs.remove(job)
        self._acks.send(number)
        self._publisher.put(number, job.id, payload, job.came_to, vm_name=job.domain, early=early)
        if job.repeated_here:
            self._publisher.put(None, job.id, payload, vm_name=job.domain)

    def came_again(self, number: int) -> None:
        """Note that an unanswered container came again, to the present name of this host."""
        job = self._jobs.find_number(number)
        if job is not None and not self._publisher.is_own(job.came_to):
            job.repeated_here = True
