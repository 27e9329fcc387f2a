"""Sends answers in order, and tells the journal when the broker has them."""

import asyncio
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from logging import getLogger

from ..transport import AsyncCommunicator, ClosedError, Delivery, QueueFullError, TransportError
from .journal import Journal

log = getLogger("fastlib.migfra")


class Publisher:
    """The answers on their way to the broker."""

    def __init__(
        self, communicator: AsyncCommunicator, journal: Journal, topic: str, qos: int
    ) -> None:
        self._communicator = communicator
        self._journal = journal
        self._topic = topic
        self._qos = qos
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[int | None, bytes, asyncio.Future[bool]]] = deque()
        self._unconfirmed = 0
        self._worker: asyncio.Task[None] | None = None
        self._change = asyncio.Event()

    @property
    def unconfirmed(self) -> int:
        """Answers that the broker does not have yet."""
        return self._unconfirmed

    def put(self, number: int | None, answer: bytes) -> "asyncio.Future[bool]":
        """Send an answer; `number` is its container's in the journal if it is there.

        The future is True once the broker has it, False if it does not take it.
        """
        confirmed: asyncio.Future[bool] = self._loop.create_future()
        self._unconfirmed += 1
        self._waiting.append((number, answer, confirmed))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return confirmed

    async def _work(self) -> None:
        while self._waiting:
            number, answer, confirmed = self._waiting[0]
            try:
                delivery = await self._communicator.send(answer, self._topic, self._qos)
            except QueueFullError:
                await self._some_change()
                continue
            except ClosedError:
                return  # what the journal has of it, the next run sends
            except TransportError as error:  # no such is known; the next run may do better
                log.error("a result could not be sent: %s", error)
                self._waiting.popleft()
                self._settle(number, confirmed, False)
                continue
            self._waiting.popleft()
            self._watch(delivery, number, confirmed)

    async def _some_change(self) -> None:
        """Wait until the broker has confirmed something, so that there is room."""
        self._change.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(1):  # others may have made room, too
                await self._change.wait()

    def _watch(
        self, delivery: Delivery, number: int | None, confirmed: "asyncio.Future[bool]"
    ) -> None:
        if delivery.done:
            self._done(delivery.future, number, confirmed)
            return

        def done(future: "Future[None]") -> None:
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._done, future, number, confirmed)

        delivery.future.add_done_callback(done)

    def _done(
        self, future: "Future[None]", number: int | None, confirmed: "asyncio.Future[bool]"
    ) -> None:
        error = future.exception()
        if error is not None:
            log.error("the broker has not taken a result: %s", error)
        elif number is not None:
            self._journal.confirmed(number)
        self._settle(number, confirmed, error is None)

    def _settle(self, number: int | None, confirmed: "asyncio.Future[bool]", sent: bool) -> None:
        self._unconfirmed -= 1
        self._change.set()
        if not confirmed.done():
            confirmed.set_result(sent)

    async def flush(self, timeout: float) -> int:
        """Wait until the broker has everything, at most `timeout` seconds; what is left."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self._unconfirmed:
                    self._change.clear()
                    await self._change.wait()
        return self._unconfirmed

    def stop(self) -> None:
        """Send nothing more."""
        if self._worker is not None:
            self._worker.cancel()
