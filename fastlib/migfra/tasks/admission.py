"""Decide for each message: accept it, refuse it, answer it at once, or answer it again.

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
from .decoding import Unreadable
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
        """`jobs` has the accepted jobs without an answer. `limits` bounds those that wait."""
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
        self, message: ReceivedMessage, found: TaskContainer | Unreadable, texts: int
    ) -> Execution | None:
        """Accept or answer a message, and acknowledge it. Raises JournalError.

        `texts` is the `text_memory` of its payload.

        Return the execution of an order that has begun with its acceptance. The current task must
        await it at once.
        """
        about.set(About(found.id, None if isinstance(found, Unreadable) else only_domain(found)))
        if isinstance(found, Unreadable):
            log.warning("refused: the message cannot be read: %s", found.reason)
            self._counters.messages["unreadable"] += 1
            self._journal.came_between(found.id)
            answer = without_order(found.answer(), message)
            await self._reply(message, found.id, write(answer))
        elif found.tasks and isinstance(found.tasks[0], QUERIES):
            self._counters.messages["query"] += 1
            self._journal.came_between(found.id)
            # Writing a long report takes long, and the loop must not wait for it.
            async with self._queries.turn() as refused:
                report = _refusal(found, refused) if refused else await self._query(found)
                report = without_order(report, message)
                payload = await asyncio.to_thread(write, report)
                # The reports that the broker has not confirmed count as well.
                await self._reply(message, found.id, payload)
        else:
            return await self._admit_container(message, found, texts)
        return None

    async def _admit_container(
        self, message: ReceivedMessage, container: TaskContainer, texts: int
    ) -> Execution | None:
        # Taken before the journal is called, because that may wait for its disk.
        deadline = Deadline(seconds_of(container.expires), self._clock)
        memory = waiting_memory(texts, len(container.tasks))
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
                    None,
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
            log.exception("accepting failed: %s", describe_container(container))
            return (
                f"the daemon failed to accept the order and does not execute it: {describe(error)}"
            )
        return (
            f"{refused}; the daemon does not execute it"
            if acceptance.kind == "full"
            else acceptance
        )

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
        """Answer an order that the daemon has accepted earlier, now or when it has ended."""
        if acceptance.kind == "unanswered":
            message.ack()
            self._dispatcher.answerer.came_again(acceptance.number)
            self._counters.messages["repeated"] += 1
            log.info(
                "received again, accepted earlier; the answer follows when the order has ended: %s",
                describe_container(container),
            )
        elif acceptance.kind == "answered":
            assert acceptance.answer is not None
            assert acceptance.executed is not None
            self._counters.messages["repeated"] += 1
            log.info(
                "received again, answered earlier; the stored answer is sent again: %s",
                describe_container(container),
            )
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

        A query does not expire: a person who looks for different clocks needs an answer in any
        case.
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
        differs = f"the order with the id {other!r}, whose content differs"
    else:
        differs = f"an order with {'no id' if other is None else f'the id {other!r}'}"
    return (
        f"the idempotency key {container.idempotency_key!r} was used by {differs}, so the daemon "
        "does not execute it; an order that is sent again must be identical, including its id. "
        "Give a new order a new key, for example by 'fastlib send --new-id'"
    )


def _refusal(container: TaskContainer, reason: str) -> ResultContainer:
    names = [vm_name_of(task) for task in container.tasks] or [NO_DOMAIN]
    return answer_to(container, [failure(name, reason) for name in names])
