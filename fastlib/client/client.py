"""The scheduler's client for threads."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from logging import getLogger
from types import TracebackType
from typing import Self, Unpack, overload

from fastlib.message import Message, Result, ResultContainer, Task, TaskContainer
from fastlib.message.node import NodeResult, Presence
from fastlib.message.topics import PRESENCE, PROGRESS, RESULT, TASK, Topic
from fastlib.transport import (
    Communicator,
    MemoryOptions,
    MqttOptions,
    ReceivedMessage,
    TransportError,
    UndeliveredError,
    connect,
)

from . import task_requests
from .core import COMMUNICATOR_CLOSED, RESULT_SECONDS, TASK_QOS, Core
from .handle import Handle, R, inside
from .observed import Watch
from .options import (
    EvacuateOptions,
    MigrateOptions,
    StartOptions,
    StopOptions,
    SubmitOptions,
    TaskOptions,
)
from .request import Request
from .task_requests import Order

log = getLogger("fastlib.client")


class MigfraClient(AbstractContextManager["MigfraClient"]):
    """Sends tasks to the migration daemons of a cluster and gets their results.

    Every method may be called from any thread. As many tasks as you like may be on their way at
    once: each call returns a `Handle` as soon as the message is accepted for sending.
    """

    def __init__(
        self, communicator: Communicator, *, timeout: float | None = RESULT_SECONDS
    ) -> None:
        """Work over a communicator, which stays open when the client is closed.

        `timeout` is how many seconds a task may take until its result is given up; None never
        does. Raises what `Communicator.subscribe` raises.
        """
        self._communicator = communicator
        self._owns = False
        self._core = Core(timeout)
        self._subscribed: list[str] = []
        self._lock = threading.Lock()
        self._clock = _Clock(self._core, communicator)
        self._forget: Callable[[], None] = _nothing
        try:
            self._forget = communicator.on_close(self._communicator_closed)
            self._subscribe(PRESENCE, self._on_presence)
            self._subscribe(RESULT, self._core.on_result)
        except BaseException:
            self.close()
            raise

    @classmethod
    def connect(
        cls,
        broker: str | MqttOptions | MemoryOptions,
        *,
        timeout: float | None = RESULT_SECONDS,
        connect_timeout: float = 30.0,
    ) -> Self:
        """A client with a communicator of its own, which is closed with it.

        `broker` is a host, a URL such as `mqtts://user@broker:8883`, or options. Raises what
        `fastlib.transport.connect` raises.
        """
        options = MqttOptions.from_url(broker) if isinstance(broker, str) else broker
        communicator = connect(options, timeout=connect_timeout)
        try:
            client = cls(communicator, timeout=timeout)
        except BaseException:
            communicator.close()
            raise
        client._owns = True
        return client

    def submit(
        self,
        host: str,
        work: TaskContainer | Task | Iterable[Task],
        **options: Unpack[SubmitOptions],
    ) -> Handle[ResultContainer]:
        """Send a container, a task or several of one type to the daemon of a host.

        A container without an id gets one that no other has. To ask a fastlib daemon again for
        the result of an earlier container, also that of an earlier program, submit it with the
        same id: it is not executed twice.

        Raises ValidationError, IdTakenError, ClientClosedError, and what `Communicator.send`
        raises; nothing was sent then.
        """
        return self._place(task_requests.submit(host, work, options))

    def start(
        self, host: str, vm_name: str | None = None, **options: Unpack[StartOptions]
    ) -> Handle[Result]:
        """Start a domain by its name, or by `xml=…`."""
        return self._place(task_requests.start(host, vm_name, options))

    @overload
    def stop(self, host: str, vm_name: str, **options: Unpack[StopOptions]) -> Handle[Result]: ...

    @overload
    def stop(
        self, host: str, *, regex: str, **options: Unpack[StopOptions]
    ) -> Handle[tuple[Result, ...]]: ...

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
            return self._place(task_requests.stop(host, vm_name, options))
        if regex is None or vm_name is not None:
            raise TypeError("stop takes either a name or a regex")
        return self._place(task_requests.stop_matching(host, regex, options))

    def suspend(self, host: str, vm_name: str, **options: Unpack[TaskOptions]) -> Handle[Result]:
        """Pause a domain."""
        return self._place(task_requests.suspend(host, vm_name, options))

    def resume(self, host: str, vm_name: str, **options: Unpack[TaskOptions]) -> Handle[Result]:
        """Let a paused domain run on."""
        return self._place(task_requests.resume(host, vm_name, options))

    def repin(
        self,
        host: str,
        vm_name: str,
        vcpu_map: Sequence[Sequence[int]],
        **options: Unpack[TaskOptions],
    ) -> Handle[Result]:
        """Change the CPUs that a domain's vCPUs may use: entry i lists those of vCPU i."""
        return self._place(task_requests.repin(host, vm_name, vcpu_map, options))

    def migrate(
        self, vm_name: str, source: str, destination: str, **options: Unpack[MigrateOptions]
    ) -> Handle[Result]:
        """Move a domain from one host to another; with `swap_with` another one comes back."""
        return self._place(task_requests.migrate(vm_name, source, destination, options))

    def evacuate(
        self, host: str, destinations: Sequence[str], **options: Unpack[EvacuateOptions]
    ) -> Handle[tuple[Result, ...]]:
        """Move every active domain of a host to others; a result for each of them."""
        return self._place(task_requests.evacuate(host, destinations, options))

    def query(self, host: str, **options: Unpack[TaskOptions]) -> Handle[NodeResult]:
        """Ask a host for its domains, its capacity and what is under way. Not for C++ peers."""
        return self._place(task_requests.query(host, options))

    def cancel(self, host: str, id: str, *, timeout: float | None = 60.0) -> Handle[Result]:
        """Ask a host to end the container with an id. Not for C++ peers."""
        return self._place(task_requests.cancel(host, id, {"timeout": timeout}))

    def quit(self, host: str, **options: Unpack[SubmitOptions]) -> Handle[Result]:
        """End the daemon of a host, once what runs has finished."""
        return self._place(task_requests.quit_daemon(host, options))

    @property
    def communicator(self) -> Communicator:
        """What it works over."""
        return self._communicator

    @property
    def presences(self) -> Mapping[str, Presence]:
        """Host by host, what fastlib daemons last said of themselves."""
        return self._core.presences()

    @overload
    def watch(self) -> Watch[ResultContainer]: ...

    @overload
    def watch(
        self, *, tasks: bool = False, progress: bool = False, presence: bool = False
    ) -> Watch[Message]: ...

    def watch(
        self, *, tasks: bool = False, progress: bool = False, presence: bool = False
    ) -> Watch[ResultContainer] | Watch[Message]:
        """See all results of the cluster from now on, whoever asked for them::

            for observed in client.watch():
                print(observed.host, observed.message)

        On request also the tasks that are sent, reports of progress, and what daemons say of
        themselves, the last at once. What cannot be read is seen, too, with its `error`.
        """
        topics: list[Topic] = [RESULT]
        if tasks:
            self._subscribe(TASK, self._core.on_task)
            topics.append(TASK)
        if progress:
            self.listen_to_progress()
            topics.append(PROGRESS)
        if presence:
            topics.append(PRESENCE)
        watch: Watch[Message] = Watch(self._core.unwatch)
        self._core.watch(watch, topics)
        return watch

    def listen_to_progress(self) -> None:
        """Receive reports of progress from now on, for handles."""
        self._subscribe(PROGRESS, self._core.on_progress)

    def close(self) -> None:
        """End it; what waits for a result gets a ClientClosedError. Once is enough.

        Raises UndeliveredError if the communicator is its own and could not deliver everything.
        """
        self._core.close()
        self._clock.close()
        self._forget()
        with self._lock:
            topics, self._subscribed = self._subscribed, []
        for topic in topics:
            try:
                self._communicator.unsubscribe(topic)
            except TransportError as error:  # it is closed already, and that is all we want
                log.debug("unsubscribing from %s: %s", topic, error)
        if self._owns:
            self._communicator.close()

    def _communicator_closed(self) -> None:
        inside.communicator = self._communicator  # for callbacks of those whose wait this ends
        self._core.close(COMMUNICATOR_CLOSED)
        self._clock.close()

    def _place(self, order: Order[R]) -> Handle[R]:
        if order.on_progress is not None:
            self.listen_to_progress()
        request = self._core.place(order)
        try:
            self._send(request)
        except BaseException:
            self._core.book.drop(request)
            raise
        self._clock.wake(request.deadline)
        return Handle(self, request, order.pick)

    def _send(self, request: Request) -> None:
        topic = TASK(host=request.host)
        delivery = self._communicator.send(request.payload, topic, qos=TASK_QOS)
        self._core.sent(request, delivery)

    def _on_presence(self, received: ReceivedMessage) -> None:
        open = self._core.on_presence(received)
        try:
            for request in open:
                self._send(request)
        except TransportError as error:  # the next connection brings the presence again
            log.warning("%s: could not be asked for again: %s", request, error)

    def _subscribe(self, topic: Topic, callback: Callable[[ReceivedMessage], object]) -> None:
        def call(received: ReceivedMessage) -> None:
            inside.communicator = self._communicator
            callback(received)

        pattern = topic.pattern()
        with self._lock:
            self._core.check_open()
            if pattern in self._subscribed:
                return
            self._communicator.subscribe(pattern, call, qos=2)
            self._subscribed.append(pattern)

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
            log.error("%s", undelivered)  # the error on its way says more

    def __repr__(self) -> str:
        return f"<MigfraClient over {self._communicator!r}, {len(self._core.book)} waiting>"


class _Clock:
    """The thread that gives up what was not answered in time; it starts when it is needed."""

    def __init__(self, core: Core, communicator: Communicator) -> None:
        self._core = core
        self._communicator = communicator
        self._condition = threading.Condition()
        self._thread: threading.Thread | None = None
        self._next: float | None = None
        self._closed = False

    def wake(self, deadline: float | None) -> None:
        """There is a new deadline, in monotonic time."""
        if deadline is None or (self._next is not None and deadline >= self._next):
            return
        with self._condition:
            if self._closed:
                return
            self._next = deadline
            if self._thread is None:
                name = "fastlib client deadlines"
                self._thread = threading.Thread(target=self._run, name=name, daemon=True)
                self._thread.start()
            self._condition.notify()

    def _run(self) -> None:
        inside.communicator = self._communicator  # for those of `add_done_callback`
        while True:
            with self._condition:
                if self._closed:
                    return
                self._next = None
            self._core.expire()
            with self._condition:
                if self._closed:
                    return
                if self._next is None:
                    # Read here and not before, as `wake` does nothing for what we know already.
                    self._next = self._core.book.next_deadline
                    self._condition.wait(_until(self._next))

    def close(self) -> None:
        """End the thread."""
        with self._condition:
            self._closed = True
            self._condition.notify()


def _nothing() -> None:
    """Nothing is to be taken back yet."""


def _until(deadline: float | None) -> float | None:
    """The seconds that are left."""
    return None if deadline is None else max(0.0, deadline - time.monotonic())
