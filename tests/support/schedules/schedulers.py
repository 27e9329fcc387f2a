"""A scheduler: it sends orders with the real client, and waits for their results."""

import asyncio
from contextlib import suppress
from contextvars import Context
from typing import Any, Final

from fastlib import Task, TaskContainer
from fastlib.client import AsyncMigfraClient, ClientError, NoResultError
from fastlib.transport import TransportError, connect_async

from .environment import Environment
from .process import CLOCK, PROCESS, Process
from .record import Sent
from .settings import connection

AGAIN_SECONDS: Final = 1.0
"""After so many seconds a scheduler that could not begin is started again."""


class Scheduler:
    """A scheduler. Its process is replaced when it starts again, with the ids of before."""

    def __init__(self, number: int, environment: Environment, clock_error: float) -> None:
        """`clock_error` is the number of seconds that its clock is ahead."""
        self.number: Final = number
        self.process = Process(f"s{number}", clock_error)
        self._environment = environment
        self._client: AsyncMigfraClient | None = None
        """None until it is open."""
        self._start()

    # What a schedule does.

    def submit(self, sent: Sent, work: Task | TaskContainer, **options: Any) -> None:
        """Send an order, or its container again, and wait for the result."""
        if self.process.dead:
            sent.over = sent.lost = True
            return
        self.process.start(self._submit(sent, work, **options), self._environment.loop)

    def cancel(self, sent: Sent) -> None:
        """Cancel an order."""
        self.process.start(self._cancel(sent), self._environment.loop)

    def quit(self, host: str) -> None:
        """End a daemon, which finishes running tasks."""
        if self._client is not None:
            self.process.start(self._quit(self._client, host), self._environment.loop)

    def crash(self, down: float) -> None:
        """Crash. It starts again after some seconds."""
        if not self.process.dead:
            self.process.crash()
            self._client = None
            self._environment.loop.call_later(down, self.restart, context=Context())

    def restart(self) -> None:
        """Start again if it does not run."""
        if self.process.dead:
            self.process = Process(self.process.name, self.process.clock_error)
            self._start()

    def waits_for(self, sent: Sent) -> bool:
        """Return True if it has sent an order, and can cancel it."""
        return not sent.over and sent.handle is not None and self._client is not None

    # Its life.

    def _start(self) -> None:
        self.process.start(self._run(), self._environment.loop)

    async def _run(self) -> None:
        options = connection(self.process.name, self._environment.protocol)
        try:
            communicator = await connect_async(options)
            client = await AsyncMigfraClient(communicator, clock=CLOCK).open()
        except TransportError:  # it ends, as a program does that cannot begin, and is started again
            self.crash(AGAIN_SECONDS)
            return
        self._client = client
        for sent in self._environment.record.sent:
            if sent.scheduler == self.number and not sent.over:
                self._ask_again(sent)
        await asyncio.Event().wait()

    def _ask_again(self, sent: Sent) -> None:
        """Ask for the result of an order that it has sent before a crash."""
        if sent.handle is None:
            sent.over = sent.lost = True
        else:
            self.submit(sent, sent.handle.container)

    async def _submit(self, sent: Sent, work: Task | TaskContainer, **options: Any) -> None:
        client = self._client
        if client is None:  # not open yet: the same as a scheduler that comes later
            sent.over = sent.lost = True
            return
        process = PROCESS.get()
        try:
            sent.handle = await client.submit(sent.host, work, timeout=sent.timeout, **options)
            await sent.handle
        except NoResultError as error:
            sent.error = error
            sent.begun_then = bool(self._environment.domains.begins(sent.order))
        except Exception as error:
            if not process.dead:
                self._environment.record.errors.append(
                    f"the client failed at {sent.order}: {error!r}"
                )
        finally:
            if not process.dead:
                sent.over = True

    async def _cancel(self, sent: Sent) -> None:
        client = self._client
        assert client is not None
        assert sent.handle is not None
        assert sent.handle.container.id is not None
        record = self._environment.record
        with suppress(ClientError):
            result = await (await client.cancel(sent.host, sent.handle.container.id))
            if result.status == "success":
                record.cancelled.setdefault(sent.order, self._environment.loop.time())

    async def _quit(self, client: AsyncMigfraClient, host: str) -> None:
        with suppress(ClientError):
            await (await client.quit(host, timeout=20.0))
