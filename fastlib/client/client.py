"""The scheduler's client for threads."""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, suppress
from functools import partial
from logging import getLogger
from types import TracebackType
from typing import Self, Unpack, overload

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
    ClosedError,
    Communicator,
    MemoryOptions,
    MqttOptions,
    ReceivedMessage,
    RefusedError,
    TransportError,
    UndeliveredError,
    WaitTimeoutError,
    connect,
)
from fastlib.transport.core import CONFIRM_SECONDS
from fastlib.transport.futures import call_when_done, wait

from . import task_requests
from .arguments import check_communicator, options_of
from .base import ClientBase
from .core import RESULT_SECONDS, TASK_QOS, ClientCore
from .deadline_thread import DeadlineThread
from .handle import Handle, R, callback_thread
from .keywords import shows_keywords
from .observed import Watch
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


class MigfraClient(ClientBase, AbstractContextManager["MigfraClient"]):
    """Sends tasks to the migration daemons of a cluster and gets their results.

    Every method may be called from any thread. Any number of tasks may be in flight: each call
    returns a `Handle` as soon as the message is accepted for sending.
    """

    @checks_names
    def __init__(
        self,
        communicator: Communicator,
        *,
        timeout: float | None = RESULT_SECONDS,
        clock_tolerance: float = CLOCK_TOLERANCE,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """Use a communicator. It stays open when the client is closed.

        `timeout` is the time in seconds after which the client stops waiting for a result; None is
        endless. A fastlib daemon does not begin the order after this time: see
        `SubmitOptions.expires`.

        `clock_tolerance` is in seconds. The client decides what happened to an order on the
        assumption that its clock and the daemon's differ by less than that, including the time that
        a message takes. If a fastlib daemon has not begun the order, the client waits for the
        timeout and this tolerance.

        Raises TypeError. The client sends nothing to the broker before the first order or watch.
        """
        check_communicator(communicator, Communicator, "MigfraClient")
        self._communicator = communicator
        self._owns_communicator = False
        self._core = ClientCore(
            timeout,
            is_connected=lambda: communicator.is_connected,
            deliver=self._deliver,
            clock_tolerance=clock_tolerance,
            clock=clock,
        )
        callbacks = {
            PRESENCE: self._on_presence,
            RESULT: self._core.on_result,
            PROGRESS: self._core.on_progress,
            TASK: self._core.on_task,
        }
        self._subscriptions = ClientSubscriptions(
            self._core,
            communicator,
            {topic: self._in_callback_thread(call) for topic, call in callbacks.items()},
        )
        self._deadlines = DeadlineThread(self._core, self._expire, communicator)
        self._remove_callbacks: list[Callable[[], None]] = []
        try:
            self._remove_callbacks.append(communicator.on_close(self._communicator_closed))
            self._remove_callbacks.append(communicator.on_reconnect(self._core.on_reconnect))
            self._remove_callbacks.append(communicator.on_refused(self._subscriptions.refused))
            self._subscriptions.forget_earlier()
        except BaseException:
            self.close()
            raise

    @classmethod
    @checks_names
    def connect(
        cls,
        broker: str | MqttOptions | MemoryOptions,
        *,
        timeout: float | None = RESULT_SECONDS,
        clock_tolerance: float = CLOCK_TOLERANCE,
        connect_timeout: float = 30.0,
    ) -> Self:
        """Return a client with its own communicator, which `close` also closes.

        `broker` is a host, `host:port`, a URL such as `mqtts://user@broker:8883`, or options: the
        port, the user and TLS belong there, such as `MqttOptions(host=…, port=…)`.

        `connect_timeout` is the time in seconds after which a ConnectError is raised if no broker
        accepts. Until then the client tries again, and logs each kind of failure. `timeout` and
        `clock_tolerance` are those of the constructor. Raises the errors of
        `fastlib.transport.connect`.
        """
        options = options_of(broker, connect_timeout)
        communicator = connect(options, timeout=connect_timeout)
        try:
            client = cls(communicator, timeout=timeout, clock_tolerance=clock_tolerance)
        except BaseException:
            communicator.close()
            raise
        client._owns_communicator = True
        return client

    @shows_keywords
    def submit(
        self,
        host: str,
        work: TaskContainer | Task | Iterable[Task],
        **options: Unpack[SubmitOptions],
    ) -> Handle[ResultContainer]:
        """Send a container, a task or several of one type to the daemon of a host.

        A container without an id or an idempotency key gets a unique one. To request the result of
        an earlier container again from a fastlib daemon, submit `handle.container`, also from a
        later program. The daemon does not execute its idempotency key twice.

        Raises ValidationError, IdTakenError, HostOfflineError, ClientClosedError, and the errors of
        `Communicator.send`. Nothing was sent in these cases.
        """
        return self._submit(task_requests.submit(host, work, options))

    @shows_keywords
    def start(
        self, host: str, vm_name: str | None = None, **options: Unpack[StartOptions]
    ) -> Handle[Result]:
        """Start a domain, given by its name or by `xml=…`."""
        return self._submit(task_requests.start(host, vm_name, options))

    @overload
    def stop(self, host: str, vm_name: str, **options: Unpack[StopOptions]) -> Handle[Result]: ...

    @overload
    def stop(
        self, host: str, *, regex: str, **options: Unpack[StopOptions]
    ) -> Handle[tuple[Result, ...]]: ...

    @shows_keywords
    def stop(
        self,
        host: str,
        vm_name: str | None = None,
        *,
        regex: str | None = None,
        **options: Unpack[StopOptions],
    ) -> Handle[Result] | Handle[tuple[Result, ...]]:
        """Stop a domain, or every active one whose whole name matches `regex`."""
        if vm_name is not None and regex is None:
            return self._submit(task_requests.stop(host, vm_name, options))
        if regex is None or vm_name is not None:
            raise TypeError("stop takes either a name or a regex")
        return self._submit(task_requests.stop_matching(host, regex, options))

    @shows_keywords
    def suspend(self, host: str, vm_name: str, **options: Unpack[TaskOptions]) -> Handle[Result]:
        """Pause a domain."""
        return self._submit(task_requests.suspend(host, vm_name, options))

    @shows_keywords
    def resume(self, host: str, vm_name: str, **options: Unpack[TaskOptions]) -> Handle[Result]:
        """Resume a paused domain."""
        return self._submit(task_requests.resume(host, vm_name, options))

    @shows_keywords
    def repin(
        self,
        host: str,
        vm_name: str,
        vcpu_map: Sequence[Sequence[int]],
        **options: Unpack[TaskOptions],
    ) -> Handle[Result]:
        """Change the CPU affinity of a domain: entry i lists the CPUs of vCPU i."""
        return self._submit(task_requests.repin(host, vm_name, vcpu_map, options))

    @shows_keywords
    def migrate(
        self, vm_name: str, source: str, destination: str, **options: Unpack[MigrateOptions]
    ) -> Handle[MigrationResult]:
        """Migrate a domain from one host to another; `swap_with` swaps it with another domain."""
        return self._submit(task_requests.migrate(vm_name, source, destination, options))

    @shows_keywords
    def evacuate(
        self, host: str, destinations: Sequence[str], **options: Unpack[EvacuateOptions]
    ) -> Handle[tuple[MigrationResult, ...]]:
        """Migrate all active domains of a host to other hosts, with one result for each."""
        return self._submit(task_requests.evacuate(host, destinations, options))

    @shows_keywords
    def query(self, host: str, **options: Unpack[TaskOptions]) -> Handle[NodeResult]:
        """Query a host for its domains, capacity and running tasks. C++ peers do not support it."""
        return self._submit(task_requests.query(host, options))

    @shows_keywords
    def history(self, host: str, **options: Unpack[HistoryOptions]) -> Handle[HistoryResult]:
        """Query a host for its orders: when each arrived, began and ended, and the answer.

        `order_id`, `key` and `vm_name` select the orders that fit one of them. Without any, the
        newest orders are reported, at most `limit` (20 by default). C++ peers do not support it.
        """
        return self._submit(task_requests.history(host, options))

    @checks_names
    def cancel(self, host: str, id: str, *, timeout: float | None = 60.0) -> Handle[Result]:
        """Ask a host to end the container with an id. C++ peers do not support it."""
        return self._submit(task_requests.cancel(host, id, {"timeout": timeout}))

    @shows_keywords
    def quit(self, host: str, **options: Unpack[SubmitOptions]) -> Handle[Result]:
        """End the daemon of a host after its running tasks have finished."""
        return self._submit(task_requests.quit_daemon(host, options))

    @property
    def communicator(self) -> Communicator:
        """The communicator that the client uses."""
        return self._communicator

    @overload
    def watch(self, *, hosts: Iterable[str] | None = None) -> Watch[ResultContainer]: ...

    @overload
    def watch(
        self,
        *,
        hosts: Iterable[str] | None = None,
        results: bool = True,
        tasks: bool = False,
        progress: bool = False,
        presence: bool = False,
    ) -> Watch[Message]: ...

    @checks_names
    def watch(
        self,
        *,
        hosts: Iterable[str] | None = None,
        results: bool = True,
        tasks: bool = False,
        progress: bool = False,
        presence: bool = False,
    ) -> Watch[ResultContainer] | Watch[Message]:
        """Observe all results of the cluster from now on, also those for other clients::

            for observed in client.watch():
                print(observed.host, observed.message)

        `hosts` limits it to some hosts. The other options add the tasks that clients send, the
        reports of progress, and the presence of the daemons, and leave out the results. The watch
        starts with the last presence of each daemon. It also gives the messages that cannot be
        read, with their `error`, and with `presence=True` a message that `is_forgotten` for each
        host whose presence was deleted. The broker sends all this until the watch is closed.

        Raises the errors of `Communicator.subscribe`.
        """
        self._communicator.check_process()
        chosen = {"results": results, "tasks": tasks, "progress": progress, "presence": presence}
        with self._new_watch(Watch[Message], hosts, **chosen) as (watch, confirmed):
            self._wait_for(confirmed)
        return watch

    def listen_to_progress(self) -> None:
        """Receive the reports of progress of all hosts until the client is closed.

        Without this, a client receives only those of the hosts to which it sends orders.
        """
        self._wait_for([self._subscriptions.hold_for_good(PROGRESS)])

    def _wait_for(self, confirmed: Iterable["Future[None]"]) -> None:
        until = time.monotonic() + CONFIRM_SECONDS
        for future in confirmed:
            wait(future, until - time.monotonic(), "the confirmation of the subscriptions")

    def close(self, timeout: float | None = None) -> None:
        """Close the client; its pending handles get a ClientClosedError. May be called again.

        A client with its own communicator waits until the broker has confirmed its orders. By
        default it waits for at most 30 s, and only while the broker is reachable and not silent for
        5 s. With `timeout` (seconds) it also waits for a broker that is unreachable or silent.

        Raises UndeliveredError if not all orders were delivered. The handles of these orders also
        get an UndeliveredError. Its `messages[0].sent` says whether the order may have arrived.
        In a forked process it does nothing, because the client belongs to the other process.
        """
        check_seconds("timeout", timeout)
        if not self._communicator.is_of_this_process:
            return
        self._core.refuse_requests()
        self._deadlines.close()
        for remove in self._remove_callbacks:
            remove()
        self._subscriptions.close()
        try:
            if self._owns_communicator and timeout is None:
                self._communicator.close()
            elif self._owns_communicator:
                self._communicator.close(timeout)
        finally:
            self._core.close()

    def _communicator_closed(self, reason: ClosedError) -> None:
        # The done callbacks of the pending handles run in this thread.
        callback_thread.communicator = self._communicator
        self._core.close(reason)
        self._deadlines.close()

    def _submit(self, task_request: TaskRequest[R]) -> Handle[R]:
        return Handle(self, self._start(task_request), task_request.extract)

    def _start(self, task_request: TaskRequest[R]) -> PendingRequest:
        self._communicator.check_process()
        host = check_name(task_request.host, "host")
        confirmed = self._subscriptions.use(host)
        if confirmed is not None and not self._in_callback():
            self._wait_for([confirmed])
        if self._core.needs_presence(task_request) and not self._in_callback():
            self._await_presence(host)
        request = self._core.add(task_request)
        try:
            self._subscriptions.check(host)
            self._send(request)
        except BaseException:
            self._core.pending.remove(request)
            raise
        self._deadlines.schedule(request.deadline)
        return request

    def _await_presence(self, host: str) -> None:
        """Wait until the daemon's presence has come, or too long for a daemon that reports one."""
        with suppress(WaitTimeoutError, RefusedError):  # a C++ daemon reports none
            try:
                self._wait_for(self._subscriptions.presence_confirmed(host))
            except ClosedError:  # the host's results are refused: `_start` checks that
                return
            wait(*self._core.presences.await_first(host), "the presence")

    def _in_callback(self) -> bool:
        """Return True in a thread that must not wait for messages, because it handles them."""
        return getattr(callback_thread, "communicator", None) is self._communicator

    def _send(self, request: PendingRequest) -> None:
        topic = TASK(host=request.host)
        delivery = self._communicator.send(
            request.payload, topic, qos=TASK_QOS, expiry=self._core.seconds_left(request)
        )
        self._core.sent(request, delivery)

    def _expire(self) -> None:
        unclear = self._core.unanswered.expire()
        for host, requests in unclear.looks.items():
            self._look(host, requests)
        for request in unclear.questions:
            try:
                question = self._start(self._core.unanswered.question_about(request))
            except FastlibError as error:
                log.debug("%s: its daemon could not be queried: %s", request, error)
            else:
                answered = partial(self._core.unanswered.on_answer, request)
                call_when_done(question.future, answered)

    def _look(self, host: str, requests: list[PendingRequest]) -> None:
        """Let the broker send the presence of a host again, and wait for it."""
        came = threading.Event()

        def look() -> None:
            came.set()
            self._core.unanswered.on_look(requests)

        self._core.presences.expect_look(host, look)
        try:
            if self._core.presences.may_look:
                self._communicator.resend_retained(PRESENCE(host=host))
                came.wait(LOOK_SECONDS)
        except FastlibError as error:
            log.debug("the presence of %s is not known: %s", host, error)
        self._core.presences.end_look(host, look)
        if not came.is_set():
            self._core.unanswered.look_failed(requests)

    def _deliver(self, handle: Callable[[], None]) -> None:
        """Handle a result in the current thread, in which no callback may wait."""
        callback_thread.communicator = self._communicator
        handle()

    def _on_presence(self, received: ReceivedMessage) -> None:
        repeated = self._core.on_presence(received)
        for request in repeated:
            try:
                self._send(request)
            except TransportError as error:  # the next connection brings the presence again
                log.warning("%s: the request could not be sent again: %s", request, error)

    def _in_callback_thread(
        self, callback: Callable[[ReceivedMessage], object]
    ) -> Callable[[ReceivedMessage], None]:
        def call(received: ReceivedMessage) -> None:
            callback_thread.communicator = self._communicator
            callback(received)

        return call

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except UndeliveredError as undelivered:
            if error is None:
                raise
            log.error("%s", undelivered)  # must not hide the error of the block

    def __repr__(self) -> str:
        return f"<MigfraClient over {self._communicator!r}, {len(self._core.pending)} waiting>"
