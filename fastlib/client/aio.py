"""The scheduler's client for coroutines. It has the methods of the client for threads."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from logging import getLogger
from types import TracebackType
from typing import Any, Self, Unpack, overload

from fastlib.argument_checks import check_seconds, checks_names
from fastlib.clock import SYSTEM_CLOCK, Clock
from fastlib.codec.errors import FastlibError
from fastlib.message import (
    HistoryResult,
    Message,
    MigrationResult,
    Result,
    ResultContainer,
    Task,
    TaskContainer,
)
from fastlib.message.node import NodeResult
from fastlib.message.topics import PRESENCE, PROGRESS, RESULT, TASK, check_name
from fastlib.transport import (
    AsyncCommunicator,
    ClosedError,
    MemoryOptions,
    MqttOptions,
    ReceivedMessage,
    RefusedError,
    TransportError,
    UndeliveredError,
    WaitTimeoutError,
    connect_async,
)
from fastlib.transport.core import CONFIRM_SECONDS
from fastlib.transport.futures import call_when_done, wait_async
from fastlib.transport.opening import Opening

from . import task_requests
from .arguments import check_communicator, options_of
from .base import ClientBase
from .core import RESULT_SECONDS, TASK_QOS, ClientCore
from .errors import ClientError
from .handle import AsyncHandle, R
from .keywords import shows_keywords
from .observed import AsyncWatch
from .options import (
    EvacuateOptions,
    HistoryOptions,
    MigrateOptions,
    StartOptions,
    StopOptions,
    SubmitOptions,
    TaskOptions,
)
from .outcome import CLOCK_TOLERANCE
from .request import PendingRequest
from .subscriptions import ClientSubscriptions
from .task_requests import TaskRequest
from .unanswered import LOOK_SECONDS

log = getLogger("fastlib.client")


class AsyncMigfraClient(ClientBase, AbstractAsyncContextManager["AsyncMigfraClient"]):
    """`MigfraClient` for coroutines. It belongs to one event loop.

    `handle = await client.migrate(…)` sends the task, `await handle` returns its result.
    """

    @checks_names
    def __init__(
        self,
        communicator: AsyncCommunicator,
        *,
        timeout: float | None = RESULT_SECONDS,
        clock_tolerance: float = CLOCK_TOLERANCE,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """Use a communicator, from `open` or `async with` on. See `MigfraClient`.

        The monotonic time of `clock` must be the event loop's.
        """
        check_communicator(communicator, AsyncCommunicator, "AsyncMigfraClient")
        self._communicator = communicator
        self._owns_communicator = False
        self._core = ClientCore(
            timeout,
            is_connected=lambda: communicator.is_connected,
            deliver=self._deliver,
            clock_tolerance=clock_tolerance,
            clock=clock,
        )
        self._opened = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._remove_callbacks: list[Callable[[], None]] = []
        self._subscriptions = ClientSubscriptions(
            self._core,
            communicator,
            {
                PRESENCE: self._on_presence,
                RESULT: self._as_coroutine(self._core.on_result),
                PROGRESS: self._as_coroutine(self._core.on_progress),
                TASK: self._as_coroutine(self._core.on_task),
            },
        )
        self._expiry: asyncio.TimerHandle | None = None
        self._finding_out: set[asyncio.Task[None]] = set()

    async def open(self) -> Self:
        """Start the client. `async with` and `connect` call it. May be called again."""
        self._loop = asyncio.get_running_loop()
        try:
            if not self._remove_callbacks:
                on_close = self._communicator.on_close(self._communicator_closed)
                on_reconnect = self._communicator.on_reconnect(self._on_reconnect)
                on_refused = self._communicator.on_refused(self._on_refused)
                self._remove_callbacks = [on_close, on_reconnect, on_refused]
            self._core.check_open()
            self._subscriptions.forget_earlier()
            self._opened = True
        except BaseException:
            await self.close()
            raise
        return self

    @classmethod
    @checks_names
    def connect(
        cls,
        broker: str | MqttOptions | MemoryOptions,
        *,
        timeout: float | None = RESULT_SECONDS,
        clock_tolerance: float = CLOCK_TOLERANCE,
        connect_timeout: float = 30.0,
    ) -> Opening[Self]:
        """See `MigfraClient.connect`.

        `async with AsyncMigfraClient.connect(...) as client` closes the client at the end of the
        block. `await AsyncMigfraClient.connect(...)` returns one that the caller closes.
        """
        return Opening(cls._connect(broker, timeout, clock_tolerance, connect_timeout))

    @classmethod
    async def _connect(
        cls,
        broker: str | MqttOptions | MemoryOptions,
        timeout: float | None,
        clock_tolerance: float,
        connect_timeout: float,
    ) -> Self:
        options = options_of(broker, connect_timeout)
        communicator = await connect_async(options, timeout=connect_timeout)
        try:
            client = cls(communicator, timeout=timeout, clock_tolerance=clock_tolerance)
        except BaseException:
            await communicator.close()
            raise
        client._owns_communicator = True
        return await client.open()

    @shows_keywords
    async def submit(
        self,
        host: str,
        work: TaskContainer | Task | Iterable[Task],
        **options: Unpack[SubmitOptions],
    ) -> AsyncHandle[ResultContainer]:
        """See `MigfraClient.submit`."""
        return await self._submit(task_requests.submit(host, work, options))

    @shows_keywords
    async def start(
        self, host: str, vm_name: str | None = None, **options: Unpack[StartOptions]
    ) -> AsyncHandle[Result]:
        """See `MigfraClient.start`."""
        return await self._submit(task_requests.start(host, vm_name, options))

    @overload
    async def stop(
        self, host: str, vm_name: str, **options: Unpack[StopOptions]
    ) -> AsyncHandle[Result]: ...

    @overload
    async def stop(
        self, host: str, *, regex: str, **options: Unpack[StopOptions]
    ) -> AsyncHandle[tuple[Result, ...]]: ...

    @shows_keywords
    async def stop(
        self,
        host: str,
        vm_name: str | None = None,
        *,
        regex: str | None = None,
        **options: Unpack[StopOptions],
    ) -> AsyncHandle[Result] | AsyncHandle[tuple[Result, ...]]:
        """See `MigfraClient.stop`."""
        if vm_name is not None and regex is None:
            return await self._submit(task_requests.stop(host, vm_name, options))
        if regex is None or vm_name is not None:
            raise TypeError("stop takes either a name or a regex")
        return await self._submit(task_requests.stop_matching(host, regex, options))

    @shows_keywords
    async def suspend(
        self, host: str, vm_name: str, **options: Unpack[TaskOptions]
    ) -> AsyncHandle[Result]:
        """See `MigfraClient.suspend`."""
        return await self._submit(task_requests.suspend(host, vm_name, options))

    @shows_keywords
    async def resume(
        self, host: str, vm_name: str, **options: Unpack[TaskOptions]
    ) -> AsyncHandle[Result]:
        """See `MigfraClient.resume`."""
        return await self._submit(task_requests.resume(host, vm_name, options))

    @shows_keywords
    async def repin(
        self,
        host: str,
        vm_name: str,
        vcpu_map: Sequence[Sequence[int]],
        **options: Unpack[TaskOptions],
    ) -> AsyncHandle[Result]:
        """See `MigfraClient.repin`."""
        return await self._submit(task_requests.repin(host, vm_name, vcpu_map, options))

    @shows_keywords
    async def migrate(
        self, vm_name: str, source: str, destination: str, **options: Unpack[MigrateOptions]
    ) -> AsyncHandle[MigrationResult]:
        """See `MigfraClient.migrate`."""
        return await self._submit(task_requests.migrate(vm_name, source, destination, options))

    @shows_keywords
    async def evacuate(
        self, host: str, destinations: Sequence[str], **options: Unpack[EvacuateOptions]
    ) -> AsyncHandle[tuple[MigrationResult, ...]]:
        """See `MigfraClient.evacuate`."""
        return await self._submit(task_requests.evacuate(host, destinations, options))

    @shows_keywords
    async def query(self, host: str, **options: Unpack[TaskOptions]) -> AsyncHandle[NodeResult]:
        """See `MigfraClient.query`."""
        return await self._submit(task_requests.query(host, options))

    @shows_keywords
    async def history(
        self, host: str, **options: Unpack[HistoryOptions]
    ) -> AsyncHandle[HistoryResult]:
        """See `MigfraClient.history`."""
        return await self._submit(task_requests.history(host, options))

    @checks_names
    async def cancel(
        self, host: str, id: str, *, timeout: float | None = 60.0
    ) -> AsyncHandle[Result]:
        """See `MigfraClient.cancel`."""
        return await self._submit(task_requests.cancel(host, id, {"timeout": timeout}))

    @shows_keywords
    async def quit(self, host: str, **options: Unpack[SubmitOptions]) -> AsyncHandle[Result]:
        """See `MigfraClient.quit`."""
        return await self._submit(task_requests.quit_daemon(host, options))

    @property
    def communicator(self) -> AsyncCommunicator:
        """The communicator that the client uses."""
        return self._communicator

    @overload
    async def watch(self, *, hosts: Iterable[str] | None = None) -> AsyncWatch[ResultContainer]: ...

    @overload
    async def watch(
        self,
        *,
        hosts: Iterable[str] | None = None,
        results: bool = True,
        tasks: bool = False,
        progress: bool = False,
        presence: bool = False,
    ) -> AsyncWatch[Message]: ...

    @checks_names
    async def watch(
        self,
        *,
        hosts: Iterable[str] | None = None,
        results: bool = True,
        tasks: bool = False,
        progress: bool = False,
        presence: bool = False,
    ) -> AsyncWatch[ResultContainer] | AsyncWatch[Message]:
        """See `MigfraClient.watch`: `async for observed in await client.watch()`."""
        self._check_opened()
        chosen = {"results": results, "tasks": tasks, "progress": progress, "presence": presence}
        with self._new_watch(AsyncWatch[Message], hosts, **chosen) as (watch, confirmed):
            await self._wait_for(confirmed)
        return watch

    async def listen_to_progress(self) -> None:
        """See `MigfraClient.listen_to_progress`."""
        await self._wait_for([self._subscriptions.hold_for_good(PROGRESS)])

    def _listen_to_presences(self) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(super()._listen_to_presences)

    async def _wait_for(self, confirmed: Iterable["Future[None]"]) -> None:
        until = time.monotonic() + CONFIRM_SECONDS
        for future in confirmed:
            left = until - time.monotonic()
            await wait_async(future, left, "the confirmation of the subscriptions")

    async def close(self, timeout: float | None = None) -> None:
        """See `MigfraClient.close`."""
        check_seconds("timeout", timeout)
        if not self._communicator.is_of_this_process:
            return
        self._core.refuse_requests()
        for remove in self._remove_callbacks:
            remove()
        self._subscriptions.close()
        try:
            if self._owns_communicator and timeout is None:
                await self._communicator.close()
            elif self._owns_communicator:
                await self._communicator.close(timeout)
        finally:
            self._end()

    def _communicator_closed(self, reason: ClosedError) -> None:
        self._end(reason)

    async def _on_refused(self, topic: str, error: RefusedError) -> None:
        self._subscriptions.refused(topic, error)

    async def _on_reconnect(self) -> None:
        self._core.on_reconnect()

    def _end(self, reason: ClosedError | None = None) -> None:
        self._core.close(reason)
        if self._expiry is not None:
            self._expiry.cancel()
        for task in self._finding_out:
            task.cancel()

    def _check_opened(self) -> None:
        """Raise an error if the client could not receive results in this loop and process."""
        self._communicator.check_process()
        if not self._opened:
            raise ClientError(
                "the client is not open yet, so it would receive no result: use it as "
                "`async with client:`, or await its `open()` first"
            )
        if asyncio.get_running_loop() is not self._loop:
            raise ClientError(
                "the client was opened in another event loop, so it would receive no result in "
                "this one: open a client in each event loop"
            )

    async def _submit(self, task_request: TaskRequest[R]) -> AsyncHandle[R]:
        return AsyncHandle(self, await self._start(task_request), task_request.extract)

    async def _start(self, task_request: TaskRequest[R]) -> PendingRequest:
        self._check_opened()
        host = check_name(task_request.host, "host")
        confirmed = self._subscriptions.use(host)
        if confirmed is not None:
            await self._wait_for([confirmed])
        if self._core.needs_presence(task_request):
            await self._await_presence(host)
        request = self._core.add(task_request)
        try:
            self._subscriptions.check(host)
            await self._send(request)
        except BaseException:
            self._core.pending.remove(request)
            raise
        if request.deadline is not None:
            self._schedule_expiry(request.deadline)
        return request

    async def _await_presence(self, host: str) -> None:
        """Wait until the daemon's presence has come, or too long for a daemon that reports one."""
        with suppress(WaitTimeoutError, RefusedError):  # a C++ daemon reports none
            try:
                await self._wait_for(self._subscriptions.presence_confirmed(host))
            except ClosedError:  # the host's results are refused: `_start` checks that
                return
            await wait_async(*self._core.presences.await_first(host), "the presence")

    async def _send(self, request: PendingRequest) -> None:
        topic = TASK(host=request.host)
        delivery = await self._communicator.send(
            request.payload, topic, qos=TASK_QOS, expiry=self._core.seconds_left(request)
        )
        self._core.sent(request, delivery)

    def _schedule_expiry(self, deadline: float) -> None:
        """Expire requests at a monotonic time, which is also the loop's time."""
        if self._expiry is not None:
            if not self._expiry.cancelled() and self._expiry.when() <= deadline:
                return
            self._expiry.cancel()
        self._expiry = asyncio.get_running_loop().call_at(deadline, self._expire)

    def _expire(self) -> None:
        self._expiry = None
        unclear = self._core.unanswered.expire()
        finding_out: list[Coroutine[Any, Any, None]] = [
            *(self._look(host, requests) for host, requests in unclear.looks.items()),
            *(self._ask_about(request) for request in unclear.questions),
        ]
        for coroutine in finding_out:
            task = asyncio.create_task(coroutine)
            self._finding_out.add(task)
            task.add_done_callback(self._finding_out.discard)
        deadline = self._core.pending.next_deadline
        if deadline is not None:
            self._schedule_expiry(deadline)

    async def _ask_about(self, request: PendingRequest) -> None:
        try:
            question = await self._start(self._core.unanswered.question_about(request))
        except FastlibError as error:
            log.debug("%s: its daemon could not be queried: %s", request, error)
        else:
            answered = partial(self._core.unanswered.on_answer, request)
            call_when_done(question.future, answered)

    async def _look(self, host: str, requests: list[PendingRequest]) -> None:
        """Let the broker send the presence of a host again, and wait for it."""
        came = asyncio.Event()

        def look() -> None:
            came.set()
            self._core.unanswered.on_look(requests)

        self._core.presences.expect_look(host, look)
        try:
            if self._core.presences.may_look:
                self._communicator.resend_retained(PRESENCE(host=host))
                with suppress(TimeoutError):
                    await asyncio.wait_for(came.wait(), LOOK_SECONDS)
        except FastlibError as error:
            log.debug("the presence of %s is not known: %s", host, error)
        finally:
            self._core.presences.end_look(host, look)
        if not came.is_set():
            self._core.unanswered.look_failed(requests)

    async def _on_presence(self, received: ReceivedMessage) -> None:
        repeated = self._core.on_presence(received)
        for request in repeated:
            try:
                await self._send(request)
            except TransportError as error:  # the next connection brings the presence again
                log.warning("%s: the request could not be sent again: %s", request, error)

    def _deliver(self, handle: Callable[[], None]) -> None:
        """Handle a result in the loop."""
        assert self._loop is not None  # since the subscription
        with suppress(RuntimeError):  # the loop is closed: nothing in it waits any more
            self._loop.call_soon_threadsafe(handle)

    @staticmethod
    def _as_coroutine(
        callback: Callable[[ReceivedMessage], None],
    ) -> Callable[[ReceivedMessage], Awaitable[None]]:
        async def call(received: ReceivedMessage) -> None:
            callback(received)

        return call

    async def __aenter__(self) -> Self:
        return await self.open()

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

    def __repr__(self) -> str:
        return f"<AsyncMigfraClient over {self._communicator!r}, {len(self._core.pending)} waiting>"
