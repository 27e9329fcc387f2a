"""The communicator for coroutines. It has the methods of the communicator for threads."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from logging import getLogger
from types import TracebackType
from typing import Final, ParamSpec, Self

from fastlib.argument_checks import check_callable, check_seconds

from .communicator import GRACE_SECONDS
from .core import (
    CONFIRM_SECONDS,
    CONNECT_SECONDS,
    ROOM_SECONDS,
    CommunicatorBase,
    CommunicatorCore,
)
from .delivery import Delivery
from .errors import (
    ClosedError,
    LoopError,
    QueueFullError,
    RefusedError,
    SubscriptionError,
    UndeliveredError,
    WaitTimeoutError,
)
from .futures import bounded, wait_async
from .inbox import Inbox
from .link import CLOSE_SECONDS, Link
from .messages import ReceivedMessage

log = getLogger("fastlib.transport")

MESSAGES_IN_A_ROW: Final = 16
"""The maximum number of waiting messages that are received until other tasks run."""

OTHER_LOOP: Final = (
    "it belongs to another event loop, in which its callbacks run; connect in each event loop"
)

P = ParamSpec("P")

AsyncCallback = Callable[[ReceivedMessage], Awaitable[None]]


class AsyncCommunicator(CommunicatorBase, AbstractAsyncContextManager["AsyncCommunicator"]):
    """`Communicator` for coroutines; `connect_async` makes one. It belongs to one event loop."""

    def __init__(
        self,
        link: Link,
        *,
        publish_topic: str | None = None,
        subscribe_topic: str | None = None,
        max_queued: int | None = None,
    ) -> None:
        """`open` connects. Users call `connect_async`, which makes the link."""
        self._core = CommunicatorCore(link, publish_topic, subscribe_topic, max_queued)
        self._calls: asyncio.Queue[Callable[[], Awaitable[None]]] = asyncio.Queue()
        self._caller: asyncio.Task[None] | None = None
        self._in_a_row = 0
        """The number of messages that were received since other tasks could run."""

    async def open(self, timeout: float = CONNECT_SECONDS) -> Self:
        """Connect, as `connect_async` does."""
        link = self._core.link
        try:
            core = self._core
            opened = link.open(core.on_message, core.on_end, core.on_reconnect, timeout)
            await wait_async(opened, timeout + GRACE_SECONDS, f"the connection of {link.name}")
            if self._core.subscribe_topic is not None:
                await self.subscribe(self._core.subscribe_topic)
        except BaseException:
            self._core.stop_arrivals()
            link.close(0)
            raise
        return self

    async def send(
        self,
        payload: bytes,
        topic: str | None = None,
        qos: int = 1,
        retain: bool = False,
        *,
        expiry: float | None = None,
        timeout: float = ROOM_SECONDS,
    ) -> Delivery:
        """See `Communicator.send`. Await the delivery to wait for the broker."""
        check_seconds("timeout", timeout, optional=False)
        delivery = self._core.delivery(payload, topic, qos, retain, expiry)
        deadline = time.monotonic() + (timeout if expiry is None else min(timeout, expiry))
        while True:
            try:
                self._core.link.send(delivery)
            except QueueFullError:
                rest = deadline - time.monotonic()
                if rest <= 0 or not self.is_connected:
                    raise
                try:
                    await wait_async(self._core.link.room(), rest, "room")
                except TimeoutError:
                    continue  # includes a last try
            else:
                return delivery

    def send_now(
        self,
        payload: bytes,
        topic: str | None = None,
        qos: int = 1,
        retain: bool = False,
        *,
        expiry: float | None = None,
    ) -> Delivery:
        """Do the same as `send`, but raise QueueFullError at once if there is no room."""
        delivery = self._core.delivery(payload, topic, qos, retain, expiry)
        self._core.link.send(delivery)
        return delivery

    async def subscribe(
        self,
        topic: str,
        callback: AsyncCallback | None = None,
        qos: int = 2,
        *,
        manual_ack: bool = False,
        timeout: float | None = CONFIRM_SECONDS,
    ) -> None:
        """See `Communicator.subscribe`. A callback is a coroutine function, run in the loop.

        Without a timeout it continues to wait when the connection is lost.
        """
        check_seconds("timeout", timeout)
        sink = None
        if callback is not None:
            sink = self._core.callback_sink(topic, callback, self._sink)
        confirmed = self._core.subscribe(topic, qos, sink, manual_ack)
        try:
            await wait_async(confirmed, timeout, f"the confirmation of the subscription {topic!r}")
        except BaseException:
            with suppress(SubscriptionError):
                self._core.unsubscribe(topic)
            raise

    def _sink(self, callback: Callable[P, Awaitable[None]]) -> Callable[P, None]:
        loop = asyncio.get_running_loop()
        if self._caller is None:
            self._caller = loop.create_task(self._call())
        elif self._caller.get_loop() is not loop:
            raise LoopError(f"{self._core.link.name}: {OTHER_LOOP}")

        def enqueue(*arguments: P.args, **named: P.kwargs) -> None:
            call = partial(callback, *arguments, **named)
            try:
                loop.call_soon_threadsafe(self._calls.put_nowait, call)
            except RuntimeError:
                raise LoopError(
                    "its event loop has ended without `close`, so no callback can run; it is "
                    "closed; close it in its loop, for example by `async with`"
                ) from None

        return enqueue

    async def _call(self) -> None:
        while True:
            call = await self._calls.get()
            try:
                await call()
            except Exception:
                log.exception("the callback %r failed", call)
            finally:
                self._calls.task_done()

    def subscribe_now(
        self, topic: str, callback: AsyncCallback, qos: int = 2, *, retained: bool = True
    ) -> "Future[None]":
        """See `Communicator.subscribe_now`. The future's own callbacks may run in any thread."""
        sink = self._core.callback_sink(topic, callback, self._sink)
        return self._core.subscribe(topic, qos, sink, False, retained)

    async def wait_for_callbacks(self, timeout: float | None = CONFIRM_SECONDS) -> None:
        """See `Communicator.wait_for_callbacks`."""
        check_seconds("timeout", timeout)
        if self._caller is None or self._caller.done() or self._caller is asyncio.current_task():
            return
        returned = asyncio.Event()

        async def note() -> None:
            returned.set()

        # The network thread gives calls to the loop in the same way, so they stay in order.
        asyncio.get_running_loop().call_soon(self._calls.put_nowait, note)
        try:
            async with asyncio.timeout(bounded(timeout)):
                await returned.wait()
        except TimeoutError:
            text = f"the callbacks have not returned within {timeout:g} s"
            raise WaitTimeoutError(text) from None

    async def unsubscribe(self, topic: str) -> None:
        """See `Communicator.unsubscribe`."""
        self.unsubscribe_now(topic)

    def on_reconnect(self, callback: Callable[[], Awaitable[None]]) -> Callable[[], None]:
        """See `Communicator.on_reconnect`. A coroutine function, run in the loop."""
        check_callable("callback", callback)
        return self._core.add_reconnect_listener(self._sink(callback))

    def on_refused(
        self, callback: Callable[[str, RefusedError], Awaitable[None]]
    ) -> Callable[[], None]:
        """See `Communicator.on_refused`. A coroutine function, run in the loop."""
        check_callable("callback", callback)
        return self._core.add_refusal_listener(self._sink(callback))

    def on_close(self, callback: Callable[[ClosedError], None]) -> Callable[[], None]:
        """See `Communicator.on_close`. A plain function, called in the loop."""
        loop = asyncio.get_running_loop()

        check_callable("callback", callback)

        def ended(error: ClosedError) -> None:
            with suppress(RuntimeError):  # the loop is closed: nothing in it waits any more
                loop.call_soon_threadsafe(callback, error)

        return self._core.add_close_listener(ended)

    async def receive(
        self, topic: str | None = None, timeout: float | None = None
    ) -> ReceivedMessage:
        """See `Communicator.receive`. A message is not lost when this is cancelled."""
        check_seconds("timeout", timeout)
        return await self._receive(self._core.inbox(topic), timeout)

    async def _receive(self, inbox: Inbox, timeout: float | None) -> ReceivedMessage:
        if self._in_a_row >= MESSAGES_IN_A_ROW:
            self._in_a_row = 0
            await asyncio.sleep(0)  # other tasks must run even if there is always a message
        if (message := inbox.poll()) is not None:
            self._in_a_row += 1
            return message
        self._in_a_row = 0
        future = inbox.take()
        try:
            return await wait_async(future, timeout, f"a message to {inbox.pattern!r}")
        except BaseException:
            inbox.cancel(future)
            raise

    async def messages(self, topic: str | None = None) -> AsyncIterator[ReceivedMessage]:
        """Iterate over a subscription, until `close`: `async for message in c.messages(topic)`.

        Raises ClosedError if the communicator ends without `close`.
        """
        inbox = self._core.inbox(topic)
        while True:
            try:
                message = await self._receive(inbox, None)
            except ClosedError as error:
                if error.failure is not None:
                    raise
                return
            yield message

    async def close(self, timeout: float | None = None, *, publish_will: bool = False) -> None:
        """See `Communicator.close`."""
        check_seconds("timeout", timeout)
        if not self._core.begin_close():
            return
        start = time.monotonic()
        most = CLOSE_SECONDS if timeout is None else timeout
        with self._core.closing():
            try:
                await self._finish_calls(most)
            finally:
                rest = None if timeout is None else max(0.0, start + timeout - time.monotonic())
                closed = self._core.link.close(rest, publish_will)
                undelivered = await wait_async(closed, most + GRACE_SECONDS, "the end")
        if undelivered:
            raise self._core.undelivered_error(undelivered, timeout)

    async def _finish_calls(self, timeout: float) -> None:
        if self._caller is None or self._caller is asyncio.current_task():
            return
        if self._caller.done():  # the program has cancelled all tasks
            return
        loop = self._caller.get_loop()
        if loop is not asyncio.get_running_loop():
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._caller.cancel)
            return
        try:
            async with asyncio.timeout(timeout):
                await asyncio.sleep(0)  # the last calls of the network thread must enter the queue
                await self._calls.join()
        except TimeoutError:
            if left := self._calls.qsize():
                log.warning("closed before callbacks have seen %d messages", left)
        finally:
            self._caller.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self.close()
        except UndeliveredError as undelivered:
            if error is None:
                raise
            log.error("%s", undelivered)  # must not hide the error of the block
