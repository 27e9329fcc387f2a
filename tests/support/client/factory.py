"""Clients for threads and coroutines with the same methods, and a fake daemon."""

import asyncio
import threading
from collections.abc import Callable, Iterable
from typing import Any, Literal

import pytest

from fastlib import Result, ResultContainer, TaskContainer
from fastlib.client import AsyncHandle, AsyncMigfraClient, AsyncWatch, MigfraClient
from fastlib.message.node import Presence
from fastlib.message.topics import PRESENCE, PROGRESS, RESULT, TASK
from fastlib.transport import Communicator, ReceivedMessage, connect

PATIENCE = 180
"""Seconds until something that must come is given up."""

IN_MEMORY = pytest.mark.parametrize("options", ["memory"], indirect=True)
"""For a test of the fixture `clients` that shows the same with each transport."""


class BlockingProxy:
    """Offers the methods of an async object to a thread: the coroutines run in the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, inner: Any) -> None:
        self._loop = loop
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, name)
        if not callable(found):
            return found

        def call(*arguments: Any, **named: Any) -> Any:
            async def run() -> Any:
                value = found(*arguments, **named)
                return await value if asyncio.iscoroutine(value) else value

            value = asyncio.run_coroutine_threadsafe(run(), self._loop).result(PATIENCE * 2)
            if isinstance(value, AsyncHandle | AsyncWatch):
                return BlockingProxy(self._loop, value)
            return value

        return call

    def __iter__(self) -> "BlockingProxy":
        return self

    def __next__(self) -> Any:
        try:
            return self.__anext__()
        except StopAsyncIteration:
            raise StopIteration from None


class ClientFactory:
    """Makes clients for threads or for coroutines over one broker."""

    def __init__(self, options: Callable[..., Any], loop: asyncio.AbstractEventLoop | None) -> None:
        self.options = options
        self._loop = loop
        self._made: list[Any] = []

    @property
    def is_async(self) -> bool:
        return self._loop is not None

    def client(
        self,
        *,
        timeout: float | None = PATIENCE,
        clock_tolerance: float = 0.0,
        **options: Any,
    ) -> Any:
        """Make a client. By default it does not wait longer than its timeout."""
        made: Any
        named: dict[str, Any] = {"timeout": timeout, "clock_tolerance": clock_tolerance}
        if self._loop is None:
            made = MigfraClient.connect(self.options(**options), **named)
        else:
            opening = AsyncMigfraClient.connect(self.options(**options), **named)
            opened = asyncio.run_coroutine_threadsafe(opening, self._loop).result(PATIENCE)
            made = BlockingProxy(self._loop, opened)
        self._made.append(made)
        return made

    def daemon(self, host: str = "hostA", **options: Any) -> "Daemon":
        made = Daemon(host, connect(self.options(**options)))
        self._made.append(made)
        return made

    def close(self) -> None:
        for made in self._made:
            made.close()


class Daemon:
    """Replaces the daemon of a host: keeps the received tasks, and answers on request."""

    def __init__(self, host: str, communicator: Communicator) -> None:
        self.host = host
        self.communicator = communicator
        self.received: list[TaskContainer] = []
        self._present = False
        self._new = threading.Condition()
        self._answer: Callable[[TaskContainer], ResultContainer | None] = lambda container: None
        communicator.subscribe(TASK(host), self._take)

    def _take(self, message: ReceivedMessage) -> None:
        container = TaskContainer.from_yaml(message.payload)
        with self._new:
            self.received.append(container)
            self._new.notify_all()
        results = self._answer(container)
        if results is not None:
            self.send(results)

    def answers(
        self, answer: Callable[[TaskContainer], ResultContainer | None] | None = None
    ) -> None:
        """Answer further tasks at once: with success, or by the function."""
        self._answer = answer or success

    def wait(self, number: int = 1) -> list[TaskContainer]:
        """Wait for a number of tasks; return all received ones."""
        with self._new:
            assert self._new.wait_for(lambda: len(self.received) >= number, PATIENCE)
            return list(self.received)

    def send(self, results: ResultContainer) -> None:
        self.communicator.send(results.to_yaml().encode(), RESULT(self.host))

    def say(self, text: str) -> None:
        """Send any text as a result."""
        self.communicator.send(text.encode(), RESULT(self.host)).wait(PATIENCE)

    def progress(self, text: str) -> None:
        self.communicator.send(text.encode(), PROGRESS(self.host)).wait(PATIENCE)

    def presence(
        self, status: Literal["online", "offline"], *, retain: bool = True, **more: Any
    ) -> None:
        """Publish a presence: of an older daemon, or with `instance=…` of one of today."""
        self._present = retain
        started = 1.0 if status == "online" else None
        text = Presence(status=status, **({"started": started} | more)).to_yaml()
        self.communicator.send(text.encode(), PRESENCE(self.host), retain=retain).wait(PATIENCE)

    def close(self) -> None:
        if self._present:  # the broker serves other tests, too
            self.communicator.send(b"", PRESENCE(self.host), retain=True)
        self.communicator.close()


def success(container: TaskContainer) -> ResultContainer:
    """Every member a success."""
    names: Iterable[str] = (getattr(task, "vm_name", None) or "n/a" for task in container.tasks)
    kind = container.declaration.result_type
    return ResultContainer.answer(
        container, [kind(vm_name=name, status="success") for name in names]
    )


def failure(container: TaskContainer) -> ResultContainer:
    """Every member an error."""
    kind: type[Result] = container.declaration.result_type
    failed = kind(vm_name="vm1", status="error", details="no such domain")
    return ResultContainer.answer(container, [failed for _ in container.tasks])
