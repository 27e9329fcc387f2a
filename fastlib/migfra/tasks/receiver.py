"""Takes messages from the broker: written down first, acknowledged then."""

import asyncio
from itertools import chain
from logging import getLogger
from typing import Final

from fastlib.message import Query, ResultContainer, TaskContainer
from fastlib.migfra.errors import JournalError
from fastlib.migfra.journal.journal import Journal
from fastlib.migfra.telemetry.counters import Counters
from fastlib.migfra.telemetry.logs import About, about
from fastlib.transport import AsyncCommunicator, ReceivedMessage

from .decoding import Unreadable, digest, read
from .dispatcher import Dispatcher
from .executor import Executor
from .jobs import Job
from .publisher import Publisher
from .results import NO_DOMAIN, answer_to, failure, vm_name_of, write

log = getLogger("fastlib.migfra")

READ_ASIDE: Final = 1 << 16
"""Bytes from which on a message is read in a thread, so that nothing else waits for that."""


class Receiver:
    """Where tasks come in."""

    def __init__(
        self,
        communicator: AsyncCommunicator,
        topic: str,
        largest: int,
        *,
        journal: Journal,
        dispatcher: Dispatcher,
        publisher: Publisher,
        executor: Executor,
        counters: Counters,
    ) -> None:
        """`largest` is the size of the largest payload that is read, in bytes."""
        self._communicator = communicator
        self._topic = topic
        self._largest = largest
        self._journal = journal
        self._dispatcher = dispatcher
        self._publisher = publisher
        self._executor = executor
        self._counters = counters
        self._taking: set[asyncio.Task[None]] = set()
        self._worker: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Take messages from now on. Raises TransportError."""
        await self._communicator.subscribe(self._topic, manual_ack=True)
        self._worker = asyncio.create_task(self._receive())

    async def end(self) -> None:
        """Take no more; the broker keeps what was not acknowledged."""
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.wait((self._worker,))
        for task in tuple(self._taking):
            task.cancel()
        if self._taking:
            await asyncio.wait(tuple(self._taking))

    async def _receive(self) -> None:
        async for message in self._communicator.messages(self._topic):
            if message.retain:  # it was executed when it was sent, and comes at each reconnect
                log.warning("a retained message is not executed: %.100r", message.payload)
                message.ack()
                continue
            if READ_ASIDE < len(message.payload) <= self._largest:
                found = await asyncio.to_thread(self._read, message.payload)
            else:
                found = self._read(message.payload)
            # Tasks run in the order in which they are made, and the journal keeps that order.
            task = asyncio.create_task(self._take(message, found))
            self._taking.add(task)
            task.add_done_callback(self._taken)

    def _read(self, payload: bytes) -> TaskContainer | Unreadable:
        try:
            return read(payload, self._largest)
        except Exception as error:  # a mistake in here must not keep out what comes next
            log.exception("a message could not be read: %.100r", payload)
            return Unreadable(None, f"the daemon failed to read it: {type(error).__name__}")

    def _taken(self, task: "asyncio.Task[None]") -> None:
        self._taking.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, JournalError):
            log.warning("a message is left to the broker: %s", error)
        elif error is not None:
            log.error("a message is left to the broker", exc_info=error)

    async def _take(self, message: ReceivedMessage, found: TaskContainer | Unreadable) -> None:
        about.set(About(found.id, None))
        if isinstance(found, Unreadable):
            log.warning("a message that cannot be read: %s", found.reason)
            self._counters.messages["unreadable"] += 1
            await self._reply(message, found.id, write(found.answer()))
        elif found.tasks and isinstance(found.tasks[0], Query):
            self._counters.messages["query"] += 1
            await self._reply(message, found.id, write(await self._asked(found)))
        else:
            await self._accept(message, found)

    async def _accept(self, message: ReceivedMessage, container: TaskContainer) -> None:
        acceptance = await self._journal.accept(
            container.id, digest(container), message.payload, redelivered=message.duplicate
        )
        if acceptance.kind == "new":
            message.ack()
            if container.id is None:
                self._journal.acknowledged(acceptance.number)
            self._counters.messages["accepted"] += 1
            log.info("accepted: %s, %d members", container.task, len(container.tasks))
            self._dispatcher.put(Job(acceptance.number, container.id, container))
        elif acceptance.kind == "under way":
            message.ack()
            if container.id is None:
                self._journal.acknowledged(acceptance.number)
            self._counters.messages["repeated"] += 1
            log.info("accepted before; it is answered when it has ended: %s", container.task)
        elif acceptance.kind == "answered":
            assert acceptance.answer is not None
            self._counters.messages["repeated"] += 1
            log.info("executed before; its answer is sent again: %s", container.task)
            await self._reply(message, container.id, acceptance.answer)
        else:
            self._counters.messages["refused"] += 1
            log.warning("refused, as the id was used for something else: %s", container.task)
            await self._reply(message, container.id, write(_refusal(container)))

    async def _asked(self, container: TaskContainer) -> ResultContainer:
        """The answer to a query. It changes nothing, so it may be asked for again."""
        job = Job(None, container.id, container)
        for member in job.members:
            await self._executor.execute(job, member)
        results = chain.from_iterable(member.results for member in job.members)
        return answer_to(container, results)

    async def _reply(self, message: ReceivedMessage, id: str | None, answer: bytes) -> None:
        """Send what is not in the journal; acknowledged only when it has got through."""
        if await self._publisher.put(None, id, answer):
            message.ack()


def _refusal(container: TaskContainer) -> ResultContainer:
    reason = (
        f"the id {container.id!r} was used for another task already, so this one is not executed; "
        "give it an id of its own"
    )
    names = [vm_name_of(task) for task in container.tasks] or [NO_DOMAIN]
    return answer_to(container, [failure(name, reason) for name in names])
