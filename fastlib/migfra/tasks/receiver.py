"""Receive messages from the broker, and decode them in order of arrival."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from logging import getLogger
from typing import Final

from fastlib.codec.errors import Problem
from fastlib.message import TaskContainer
from fastlib.migfra.config.sections import LimitsSection
from fastlib.migfra.errors import ClaimError, JournalError
from fastlib.migfra.failures import OnFailure, report_failure
from fastlib.migfra.telemetry.counters import Counters
from fastlib.transport import AsyncCommunicator, ClosedError, ReceivedMessage

from .container_bounds import text_memory
from .decoding import Unreadable, read
from .dispatcher import Execution
from .ignored_parts import IgnoredPartsLog
from .memory_budget import MemoryBudget
from .order_subscription import OrderSubscription

log = getLogger("fastlib.migfra")

READ_IN_THREAD: Final = 1 << 16
"""Bytes above which a message is decoded in a thread, because the loop must not wait for it."""

MESSAGE_MEMORY: Final = 8192
"""Bytes of memory of a message without its text, until it is accepted or its answer is confirmed.
"""

Admit = Callable[[ReceivedMessage, TaskContainer | Unreadable, int], Awaitable[Execution | None]]
"""Admits a message. The number is the `text_memory` of its payload."""


class Receiver:
    """Receives the messages of a topic."""

    def __init__(
        self,
        communicator: AsyncCommunicator,
        topic: str,
        limits: LimitsSection,
        admit: Admit,
        on_failure: OnFailure,
        counters: Counters,
        *,
        is_ready: Callable[[int], bool],
        ready: Callable[[int], Awaitable[object]],
        on_refusal: Callable[[], object],
    ) -> None:
        """Messages are decoded and admitted within `limits`.

        `admit` is called with each message, in order, and acknowledges it. It may return the
        execution of an order, which the same task runs. `on_failure` is called for an error that
        ends the receiver. `ready` waits until this daemon may take the messages of a connection,
        and raises ClaimError if it must not. `is_ready` returns whether it need not wait.
        `on_refusal` is called when `refusal` has changed.
        """
        self._communicator = communicator
        self._topic = topic
        self._subscription = OrderSubscription(communicator, topic, on_refusal)
        self._largest = limits.payload
        self._most_members = limits.container_members
        self._memory = MemoryBudget(limits.inbox)
        """Memory of the messages that are not admitted yet."""
        self._admit = admit
        self._on_failure = on_failure
        self._counters = counters
        self._ignored_parts = IgnoredPartsLog()
        self._is_ready = is_ready
        self._ready = ready
        self._admitting: dict[int, asyncio.Task[None]] = {}
        """By the number of the message."""
        self._count = 0
        """Number of messages that were decoded."""
        self._worker: asyncio.Task[None] | None = None

    @property
    def refusal(self) -> str | None:
        """The reason why the broker delivers no messages, with the remedy; None if it does."""
        return self._subscription.refusal

    async def begin(self) -> None:
        """Subscribe and receive messages from now on. Raises RefusedError."""
        await self._subscription.begin()
        self._worker = asyncio.create_task(self._run())
        report_failure(self._worker, "the receiver", self._on_failure)

    async def end(self) -> None:
        """Stop receiving; the broker keeps the unacknowledged messages."""
        self._subscription.end()
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.wait((self._worker,))
        admitting = tuple(self._admitting.values())
        for task in admitting:
            task.cancel()
        if admitting:
            await asyncio.wait(admitting)
            self._admitting.clear()  # tasks that were cancelled before their first step

    async def _run(self) -> None:
        with suppress(ClosedError):  # `BrokerConnection` reports it
            await self._receive()

    async def _receive(self) -> None:
        async for message in self._communicator.messages(self._topic):
            if not self._is_ready(message.connection):
                try:
                    await self._ready(message.connection)
                except ClaimError:
                    return  # the broker keeps what is not acknowledged
            if message.retain:  # it was executed when it was sent, and comes at each reconnect
                log.warning("a retained message is not executed: %.100r", message.payload)
                self._counters.messages["retained"] += 1
                message.ack()
                continue
            texts = text_memory(message.payload)
            memory = MESSAGE_MEMORY + len(message.payload) + texts
            if not self._memory.take(memory):
                await self._memory.wait(memory)
            if READ_IN_THREAD < len(message.payload) <= self._largest:
                found = await asyncio.to_thread(self._decode, message)
            else:
                found = self._decode(message)
            # Tasks run in the order in which they are made, and the journal keeps that order.
            self._count += 1
            admitting = self._admit_one(self._count, message, found, memory, texts)
            self._admitting[self._count] = asyncio.create_task(admitting)

    def _decode(self, message: ReceivedMessage) -> TaskContainer | Unreadable:
        payload = message.payload
        try:
            ignored: list[Problem] = []
            found = read(
                payload,
                self._largest,
                most_members=self._most_members,
                size=message.size,
                ignored=ignored,
            )
            if ignored and isinstance(found, TaskContainer):
                self._ignored_parts.report(found, ignored)
            return found
        except Exception as error:  # a defect of the daemon must not block the next message
            log.exception("reading a message failed: %.100r", payload)
            return Unreadable(
                None, f"the daemon failed to read the message: {type(error).__name__}"
            )

    async def _admit_one(
        self,
        number: int,
        message: ReceivedMessage,
        found: TaskContainer | Unreadable,
        memory: int,
        texts: int,
    ) -> None:
        execution = None
        try:
            execution = await self._admit(message, found, texts)
        except JournalError as error:
            log.warning(
                "the journal failed; a message is not acknowledged, and the broker sends "
                "it again: %s",
                error,
            )
        except Exception as error:
            self._on_failure("the receiver", error)  # the broker sends the message to the next run
        finally:
            self._memory.give_back(memory)
            self._admitting.pop(number, None)  # `end` may have removed it
        if execution is not None:
            await execution
