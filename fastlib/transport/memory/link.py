"""The link to a broker in this process."""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from uuid import uuid4

from fastlib.transport.delivery import Delivery
from fastlib.transport.errors import (
    ClientIdTakenError,
    ClosedError,
    ConnectError,
    MessageTooLargeError,
    QueueFullError,
    RefusedError,
    TransportError,
    Undelivered,
    UndeliveredError,
    closed_by_failed_open,
    closed_by_program,
)
from fastlib.transport.futures import call_when_done
from fastlib.transport.link import CLOSE_SECONDS
from fastlib.transport.messages import InboundMessage
from fastlib.transport.options import MemoryOptions
from fastlib.transport.packet_size import publish_size

from .broker import PublishedMessage, Session


class MemoryLink:
    """A `Link` to a MemoryBroker. It delivers at once, or after `mend` when cut off."""

    def __init__(self, options: MemoryOptions) -> None:
        self._options = options
        self._broker = options.broker
        self._client_id = options.client_id or f"memory-{uuid4().hex[:12]}"
        self._session: Session | None = None
        self._connection = 0
        self._session_start = 0
        self._subscriptions: dict[str, int] = {}
        self._queue: deque[Delivery] = deque()
        self._on_message: Callable[[InboundMessage], None] | None = None
        self._on_end: Callable[[ClosedError], None] | None = None
        self._on_reconnect: Callable[[], None] | None = None
        self._opened: Future[None] = Future()
        self._confirmations: list[Future[None]] = []
        self._timer: threading.Timer | None = None
        self._closed = False
        self._publish_will = False
        self._last_error: TransportError | None = None

    @property
    def name(self) -> str:
        """The client id."""
        return self._client_id

    @property
    def resumes(self) -> bool:
        """True if the session is persistent."""
        return self._options.persistent

    @property
    def session_start(self) -> int:
        """The connection that began the session; 0 if it is older."""
        return self._session_start

    @property
    def is_connected(self) -> bool:
        """True unless cut off, taken over or closed."""
        return self._session is not None

    @property
    def last_error(self) -> TransportError | None:
        """The reason of a cut or a takeover; None while connected."""
        return self._last_error

    def open(
        self,
        on_message: Callable[[InboundMessage], None],
        on_end: Callable[[ClosedError], None],
        on_reconnect: Callable[[], None],
        timeout: float,
    ) -> "Future[None]":
        """Connect at once, or after `mend`."""
        self._on_message, self._on_end, self._on_reconnect = on_message, on_end, on_reconnect
        self._connect()
        if not self._opened.done():
            self._timer = threading.Timer(timeout, self._open_timed_out, [timeout])
            self._timer.daemon = True
            self._timer.start()
        return self._opened

    def _open_timed_out(self, timeout: float) -> None:
        with self._broker.lock:
            if not self._opened.done():
                self._closed = True
                self._opened.set_exception(
                    ConnectError(
                        f"{self.name}: no connection within {timeout:g} s", self._last_error
                    )
                )

    def _connect(self) -> None:
        with self._broker.lock:
            if self._closed:
                return
            session = self._broker.attach(self, self._client_id, self._options.persistent)
            if session is None:
                self._last_error = ConnectError(f"{self.name} is cut off from the broker")
                return
            self._session, self._last_error = session, None
            self._connection += 1
            if session.connections == 1:
                self._session_start = self._connection
            session.place = (self._connection, self._session_start)
            if self._opened.done() and self._on_reconnect is not None:
                self._on_reconnect()
            session.resume()
            for pattern, qos in self._subscriptions.items():
                self._broker.subscribe(session, pattern, qos)
            while self._queue:
                self._publish(self._queue.popleft())
            confirmations, self._confirmations = self._confirmations, []
        if not self._opened.done():
            self._opened.set_result(None)
        for confirmation in confirmations:
            confirmation.set_result(None)

    def send(self, delivery: Delivery) -> None:
        """Deliver a message at once, or queue it while cut off."""
        with self._broker.lock:
            if self._closed:
                raise self._closed_error()
            self._check_size(delivery)
            delivery.sent_qos = min(delivery.qos, self._options.qos)
            if self._session is not None:
                self._publish(delivery)
            elif len(self._queue) < self._options.max_pending:
                self._queue.append(delivery)
                self._drop_when_expired(delivery)
            else:
                raise QueueFullError(
                    f"{len(self._queue)} messages wait for the broker already: {self._last_error}"
                )

    def _check_size(self, delivery: Delivery) -> None:
        size = publish_size(delivery.topic, len(delivery.payload), delivery.qos)
        option, broker = self._options.largest_packet, self._broker.largest_packet
        if option is not None and size > option:
            raise MessageTooLargeError(delivery.undelivered(False), size, option, "option")
        if broker is not None and size > broker:
            raise MessageTooLargeError(delivery.undelivered(False), size, broker, "broker")

    def _drop_when_expired(self, delivery: Delivery) -> None:
        seconds = delivery.seconds_left()
        if seconds is not None:
            timer = threading.Timer(max(0.0, seconds), self._drop_expired, [delivery])
            timer.daemon = True
            call_when_done(delivery.future, lambda _: timer.cancel())
            timer.start()

    def _drop_expired(self, delivery: Delivery) -> None:
        with self._broker.lock:
            if delivery not in self._queue:
                return
            self._queue.remove(delivery)
        delivery.expire(sent=False, last_error=self._last_error)

    def _publish(self, delivery: Delivery) -> None:
        seconds = delivery.seconds_left()
        if seconds is not None and seconds <= 0:
            delivery.expire(sent=False)
            return
        self._broker.publish(
            PublishedMessage(
                delivery.topic,
                delivery.payload,
                delivery.sent_qos,
                delivery.retain,
                delivery.latest,
            )
        )
        delivery.future.set_result(None)

    def room(self) -> "Future[None]":
        """Return a future that is done: there is room while the link is connected."""
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def subscribe(self, pattern: str, qos: int, retained: bool = True) -> "Future[None]":
        """Subscribe at once, or after `mend`."""
        confirmed: Future[None] = Future()
        with self._broker.lock:
            self._subscriptions[pattern] = qos
            if self._session is None:
                self._confirmations.append(confirmed)
                return confirmed
            self._broker.subscribe(self._session, pattern, qos, retained)
        confirmed.set_result(None)
        return confirmed

    def listen_for_refusals(self, on_refused: Callable[[str, RefusedError], None]) -> None:
        """Do nothing: this broker refuses no filter."""

    def call_each_second(self, tick: Callable[[], None]) -> None:
        """Do nothing: this broker does not wait for acknowledgements."""

    def unsubscribe(self, pattern: str) -> None:
        """Unsubscribe at once."""
        with self._broker.lock:
            self._subscriptions.pop(pattern, None)
            if self._session is not None:
                self._broker.unsubscribe(self._session, pattern)

    def forget(self, pattern: str) -> None:
        """Withdraw a filter of an earlier program, unless this one has it."""
        with self._broker.lock:
            if pattern not in self._subscriptions:
                self.unsubscribe(pattern)

    def close(
        self, timeout: float | None, publish_will: bool = False
    ) -> "Future[tuple[Undelivered, ...]]":
        """Disconnect. While cut off with queued messages, wait `timeout` seconds for `mend`.

        None is `CLOSE_SECONDS`: a call of `mend` is always possible.
        """
        timeout = CLOSE_SECONDS if timeout is None else timeout
        self._publish_will = publish_will
        closed: Future[tuple[Undelivered, ...]] = Future()
        with self._broker.lock:
            queued = list(self._queue)
            waits = self._session is None and queued and timeout > 0
            if waits:
                waiting = threading.Timer(timeout, self._finish, [closed])
                waiting.daemon = True
                waiting.start()

                def left_the_queue(_: Future[None]) -> None:
                    if not self._queue:
                        waiting.cancel()
                        self._finish(closed)

                for delivery in queued:
                    call_when_done(delivery.future, left_the_queue)
        if not waits:
            self._finish(closed)
        return closed

    def _finish(self, closed: "Future[tuple[Undelivered, ...]]") -> None:
        with self._broker.lock:
            if closed.done():
                return
            self._closed = True
            session, self._session = self._session, None
            if session is not None:
                self._broker.detach(session, self, self._publish_will)
            left, self._queue = self._queue, deque()
        undelivered = tuple(delivery.undelivered(sent=False) for delivery in left)
        closed.set_result(undelivered)
        for delivery, facts in zip(left, undelivered, strict=True):
            delivery.future.set_exception(UndeliveredError([facts], "closed"))
        if self._on_end is not None:
            self._on_end(self._closed_error())

    def _closed_error(self) -> ClosedError:
        """Return the error of a closed link, with the reason."""
        if self._opened.done() and (failure := self._opened.exception()) is not None:
            return closed_by_failed_open(self.name, failure)
        return closed_by_program(self.name)

    def on_message(self, message: InboundMessage) -> None:
        """See `Client`."""
        assert self._on_message is not None
        self._on_message(message)

    def on_taken_over(self) -> None:
        """See `Client`. This link does not connect again."""
        self._session = None
        self._last_error = ClientIdTakenError(self._client_id, certain=True)

    def on_cut(self) -> None:
        """See `Client`."""
        self._session = None
        self._last_error = ConnectError(f"{self.name} is cut off from the broker")

    def on_mend(self) -> None:
        """See `Client`."""
        self._connect()

    def will(self) -> PublishedMessage | None:
        """See `Client`."""
        will = self._options.will
        if will is None:
            return None
        return PublishedMessage(will.topic, will.payload, will.qos, will.retain)
