"""A daemon and a scheduler at one broker in memory."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self, TypeVar

from fastlib import ResultContainer, Start, Task, TaskContainer
from fastlib.clock import SYSTEM_CLOCK, Clock
from fastlib.message import topics
from fastlib.migfra import Configuration, Daemon, Hypervisor
from fastlib.transport import (
    AsyncCommunicator,
    MemoryBroker,
    MemoryOptions,
    ReceivedMessage,
    connect_async,
)
from tests.support.migfra.scripted import Scripted, choice, gate

T = TypeVar("T")
PATIENCE = 180
"""Seconds until something that must come is given up."""
HOST = "node01"


async def patiently(awaitable: Awaitable[T]) -> T:
    async with asyncio.timeout(PATIENCE):
        return await awaitable


def configuration(**parts: Any) -> Configuration:
    defaults: dict[str, Any] = {"hostname": HOST, "hypervisor": choice()}
    return Configuration(**(defaults | parts))


def order(*tasks: Task, expires: float, id: str | None = None, **more: Any) -> TaskContainer:
    """Return a container that expires in a number of seconds."""
    instant = datetime.now(UTC) + timedelta(seconds=expires)
    return TaskContainer(tasks=tasks, expires=instant, id=id, **more)


class Bench:
    """Starts daemons of node01, sends tasks and receives results."""

    def __init__(self, directory: Path) -> None:
        self.broker = MemoryBroker()
        self.journal = directory / "journal"
        self.scheduler: AsyncCommunicator
        self.daemons: list[Daemon] = []
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        opening = connect_async(
            MemoryOptions(broker=self.broker, client_id="scheduler", persistent=True)
        )
        self.scheduler = await self._stack.enter_async_context(await opening)
        await self.scheduler.subscribe(topics.RESULT(HOST))
        await self.scheduler.subscribe(topics.PROGRESS(HOST))
        await self.scheduler.subscribe(topics.PRESENCE(HOST))
        return self

    async def __aexit__(self, *_: object) -> None:
        for daemon in self.daemons:
            if not daemon.ended.is_set():
                await patiently(daemon.close())
        await self._stack.aclose()

    async def daemon(
        self, hypervisor: Hypervisor | None = None, *, clock: Clock = SYSTEM_CLOCK, **parts: Any
    ) -> Daemon:
        daemon = Daemon(
            configuration(**parts),
            communicator=self.broker,
            hypervisor=hypervisor or Scripted(),
            journal=self.journal,
            clock=clock,
        )
        await patiently(daemon.open())
        self.daemons.append(daemon)
        return daemon

    async def busy(
        self, hypervisor: Scripted, order: TaskContainer | None = None, **parts: Any
    ) -> tuple[Daemon, asyncio.Event]:
        """A daemon that works at vm1 until the event is set, by `order` or by one with the id 1."""
        hypervisor.plan["vm1"], begun, go = gate()
        daemon = await self.daemon(hypervisor, **parts)
        await self.send(order or TaskContainer(tasks=[Start(vm_name="vm1")], id="1"))
        await patiently(begun.wait())
        return daemon, go

    async def send(
        self, message: TaskContainer | Task | str | bytes, id: str | None = None
    ) -> None:
        if isinstance(message, Task):
            message = TaskContainer(tasks=[message], id=id)
        if isinstance(message, TaskContainer):
            message = message.to_yaml()
        payload = message.encode() if isinstance(message, str) else message
        await self.scheduler.send(payload, topics.TASK(HOST))

    async def received(self, topic: str) -> ReceivedMessage:
        return await patiently(self.scheduler.receive(topic))

    async def result(self) -> ResultContainer:
        message = await self.received(topics.RESULT(HOST))
        return ResultContainer.from_yaml(message.payload)

    async def ask(
        self, message: TaskContainer | Task | str | bytes, id: str | None = None
    ) -> ResultContainer:
        await self.send(message, id)
        return await self.result()

    async def no_result(self) -> None:
        """Nothing more has come: a query is answered, and nothing before it."""
        answer = await self.ask("task: query node\nid: anything else")
        assert answer.id == "anything else", answer


Play = Callable[[Callable[[Bench], Coroutine[Any, Any, None]]], None]
"""Plays a scene at a bench; the fixture `play` gives one."""
