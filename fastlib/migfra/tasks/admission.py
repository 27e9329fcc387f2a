"""Decides what becomes of a message: it is accepted, known already, refused, or answered at once.

A container is written to the journal before it is acknowledged to the broker.
"""

import asyncio
import logging
from itertools import chain
from logging import getLogger

import msgspec

from fastlib.clock import SYSTEM_CLOCK, Clock
from fastlib.message import ResultContainer, TaskContainer
from fastlib.message.tasks import QUERIES
from fastlib.migfra.config.sections import LimitsSection
from fastlib.migfra.errors import JournalError
from fastlib.migfra.failures import describe
from fastlib.migfra.journal.acceptance import Acceptance
from fastlib.migfra.journal.journal import Journal
from fastlib.migfra.journal.repetition import Origin
from fastlib.migfra.plugin_api.expiry import Deadline
from fastlib.migfra.telemetry.counters import Counters
from fastlib.migfra.telemetry.logs import About, about
from fastlib.transport import ReceivedMessage

from .container_bounds import waiting_memory
from .decoding import Unreadable, digest
from .descriptions import describe_container, only_domain
from .dispatcher import Dispatcher, Execution
from .executor import Executor
from .jobs import Job, JobTable, seconds_of
from .late_acks import LateAcks
from .publisher import Publisher
from .results import (
    NO_DOMAIN,
    answer_to,
    domains_of,
    executed_before,
    failure,
    vm_name_of,
    without_order,
    write,
)
from .room import OrderRoom, QueryQueue
from .turns import Turn

log = getLogger("fastlib.migfra")


class Admission:
    """Gives new containers to the dispatcher, and answers every other message."""

    def __init__(
        self,
        journal: Journal,
        dispatcher: Dispatcher,
        executor: Executor,
        publisher: Publisher,
        acks: LateAcks,
        counters: Counters,
        *,
        host: str,
        jobs: JobTable,
        limits: LimitsSection,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """`jobs` are those under way, of which `limits` says how much may wait."""
        self._room = OrderRoom(jobs, publisher, limits)
        self._queries = QueryQueue(limits.queries)
        self._journal = journal
        self._dispatcher = dispatcher
        self._executor = executor
        self._publisher = publisher
        self._acks = acks
        self._counters = counters
        self._host = host
        self._clock = clock

    async def admit(
        self, message: ReceivedMessage, found: TaskContainer | Unreadable
    ) -> Execution | None:
        """Accept or answer a message, and acknowledge it. Raises JournalError.

        Return the execution of an order that has begun with its acceptance. The current task must
        await it at once.
        """
        about.set(About(found.id, None if isinstance(found, Unreadable) else only_domain(found)))
        if isinstance(found, Unreadable):
            log.warning("a message that cannot be read: %s", found.reason)
            self._counters.messages["unreadable"] += 1
            self._journal.came_between(found.id)
            answer = without_order(found.answer(), message)
            await self._reply(message, found.id, write(answer))
        elif found.tasks and isinstance(found.tasks[0], QUERIES):
            self._counters.messages["query"] += 1
            self._journal.came_between(found.id)
            # A long report takes long to write, and the daemon must go on meanwhile.
            async with self._queries.turn() as refused:
                report = _refusal(found, refused) if refused else await self._query(found)
                report = without_order(report, message)
                payload = await asyncio.to_thread(write, report)
                # The reports that the broker has not confirmed count as well.
                await self._reply(message, found.id, payload)
        else:
            return await self._admit_container(message, found)
        return None

    async def _admit_container(
        self, message: ReceivedMessage, container: TaskContainer
    ) -> Execution | None:
        # Before the journal, which may have to wait for its disk.
        deadline = Deadline(seconds_of(container.expires), self._clock)
        memory = waiting_memory(message.payload, len(container.tasks))
        turn = self._dispatcher.turn(container, deadline, memory)
        try:
            acceptance = await self._accept(message, container, deadline, turn)
            if isinstance(acceptance, Acceptance) and acceptance.kind == "new":
                return self._begin(message, container, acceptance.number, deadline, memory, turn)
        finally:
            turn.end()
        if isinstance(acceptance, str):
            await self._refuse(message, container, acceptance)
        else:
            await self._answer_known(message, container, acceptance)
        return None

    async def _accept(
        self, message: ReceivedMessage, container: TaskContainer, deadline: Deadline, turn: Turn
    ) -> Acceptance | str:
        """Write an order to the journal. Return why it is refused, or what the journal says.

        Raises JournalError.
        """
        try:
            vm_names, any_domain = domains_of(container)
            with self._room.reserve(container, len(message.payload)) as refused:
                acceptance = await self._journal.accept(
                    container.id,
                    digest(container),
                    message.payload,
                    key=container.idempotency_key,
                    origin=Origin(
                        message.packet_id,
                        message.duplicate,
                        message.connection,
                        message.session_start,
                    ),
                    task=container.task,
                    vm_names=vm_names,
                    any_domain=any_domain,
                    expires=deadline.expires,
                    has_room=refused is None,
                    turn=turn,
                )
        except JournalError:
            raise
        except Exception as error:  # nothing was written, so the container is not executed
            log.exception("not accepted: %s", describe_container(container))
            return f"the daemon failed to accept it, and it is not executed: {describe(error)}"
        return f"{refused}; this one is not executed" if acceptance.kind == "full" else acceptance

    def _begin(
        self,
        message: ReceivedMessage,
        container: TaskContainer,
        number: int,
        deadline: Deadline,
        memory: int,
        turn: Turn,
    ) -> Execution | None:
        """Acknowledge an order that was accepted, and let it begin when its turn comes."""
        if turn.begins is None:
            self._acks.flush()  # the broker expects them in order
            message.ack()
        else:
            self._acks.add(number, message.ack)
        self._counters.messages["accepted"] += 1
        job = self._job(number, container, deadline, len(message.payload))
        job.memory = memory
        job.came_as(message.payload)
        about.set(About(container.id, job.domain))
        if log.isEnabledFor(logging.INFO):
            domains = [member.domain for member in job.members]
            log.info("accepted: %s", describe_container(container, domains))
        return self._dispatcher.begin(job, turn)

    async def _answer_known(
        self, message: ReceivedMessage, container: TaskContainer, acceptance: Acceptance
    ) -> None:
        """Answer an order that came before, now or when it has ended."""
        if acceptance.kind == "under way":
            message.ack()
            self._dispatcher.came_again(acceptance.number)
            self._counters.messages["repeated"] += 1
            log.info(
                "accepted before; it is answered when it has ended: %s",
                describe_container(container),
            )
        elif acceptance.kind == "answered":
            assert acceptance.answer is not None
            assert acceptance.executed is not None
            self._counters.messages["repeated"] += 1
            log.info("answered before; its answer is sent again: %s", describe_container(container))
            answer = executed_before(acceptance.answer, acceptance.executed)
            await self._reply(message, container.id, answer)
        else:
            await self._refuse(message, container, _key_is_taken(container, acceptance))

    async def _refuse(
        self, message: ReceivedMessage, container: TaskContainer, reason: str
    ) -> None:
        """Answer a container that is not accepted."""
        self._counters.messages["refused"] += 1
        log.warning("refused: %s: %s", describe_container(container), reason)
        answer = without_order(_refusal(container, reason), message)
        await self._reply(message, container.id, write(answer))

    async def _query(self, container: TaskContainer) -> ResultContainer:
        """Return the answer to a query. It changes nothing, so the journal need not know it.

        It does not expire: who asks, for example, because clocks differ must get an answer.
        """
        job = self._job(None, msgspec.structs.replace(container, expires=None))
        for member in job.members:
            about.set(About(job.id, member.domain))
            await self._executor.execute(job, member)
        results = chain.from_iterable(member.results for member in job.members)
        return answer_to(container, results)

    def _job(
        self,
        number: int | None,
        container: TaskContainer,
        deadline: Deadline | None = None,
        size: int = 0,
    ) -> Job:
        return Job(
            number,
            container.id,
            container,
            host=self._host,
            clock=self._clock,
            deadline=deadline,
            size=size,
        )

    async def _reply(self, message: ReceivedMessage, id: str | None, answer: bytes) -> None:
        """Send an answer that the journal does not have; acknowledge once the broker has it."""
        if await self._publisher.deliver(id, answer):
            message.ack()


def _key_is_taken(container: TaskContainer, acceptance: Acceptance) -> str:
    """Say which order has the idempotency key of a container, and what differs."""
    known = acceptance.other_id
    other = None if known is None else known.decode(errors="replace")
    if other == container.id:
        differs = f"the order with the id {other!r}, which says something else"
    else:
        differs = f"an order with {'no id' if other is None else f'the id {other!r}'}"
    return (
        f"the idempotency key {container.idempotency_key!r} was used by {differs}, so this one is "
        "not executed; an order that is sent again must be the same, its id included. Give another "
        "order a key of its own, as 'fastlib send --new-id' does"
    )


def _refusal(container: TaskContainer, reason: str) -> ResultContainer:
    names = [vm_name_of(task) for task in container.tasks] or [NO_DOMAIN]
    return answer_to(container, [failure(name, reason) for name in names])
