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
    QueueFullError,
    TransportError,
    Undelivered,
    UndeliveredError,
)
from fastlib.transport.messages import InboundMessage
from fastlib.transport.options import MemoryOptions

from .broker import Post, Session


class MemoryLink:
    """A `Link` to a MemoryBroker: delivery is immediate, or when the broker can be reached."""

    def __init__(self, options: MemoryOptions) -> None:
        self._options = options
        self._broker = options.broker
        self._client_id = options.client_id or f"memory-{uuid4().hex[:12]}"
        self._session: Session | None = None
        self._wanted: dict[str, int] = {}
        self._kept: deque[Delivery] = deque()
        self._arrived: Callable[[InboundMessage], None] | None = None
        self._ended: Callable[[TransportError], None] | None = None
        self._reconnected: Callable[[], None] | None = None
        self._opened: Future[None] = Future()
        self._confirmations: list[Future[None]] = []
        self._timer: threading.Timer | None = None
        self._closed = False
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
    def is_connected(self) -> bool:
        """True unless cut off, taken over or closed."""
        return self._session is not None

    @property
    def last_error(self) -> TransportError | None:
        """Cut off or taken over."""
        return self._last_error

    def open(
        self,
        arrived: Callable[[InboundMessage], None],
        ended: Callable[[TransportError], None],
        reconnected: Callable[[], None],
        timeout: float,
    ) -> "Future[None]":
        """Connect at once, or when the broker is mended."""
        self._arrived, self._ended, self._reconnected = arrived, ended, reconnected
        self._connect()
        if not self._opened.done():
            self._timer = threading.Timer(timeout, self._too_late, [timeout])
            self._timer.daemon = True
            self._timer.start()
        return self._opened

    def _too_late(self, timeout: float) -> None:
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
            session.resume()
            for pattern, qos in self._wanted.items():
                self._broker.subscribe(session, pattern, qos)
            while self._kept:
                self._publish(self._kept.popleft())
            confirmations, self._confirmations = self._confirmations, []
        if not self._opened.done():
            self._opened.set_result(None)
        elif self._reconnected is not None:
            self._reconnected()
        for confirmation in confirmations:
            confirmation.set_result(None)

    def send(self, delivery: Delivery) -> None:
        """Deliver, or keep while cut off."""
        with self._broker.lock:
            if self._closed:
                raise ClosedError(f"{self.name} is closed")
            if self._session is not None:
                self._publish(delivery)
            elif len(self._kept) < self._options.max_pending:
                self._kept.append(delivery)
            else:
                raise QueueFullError(
                    f"{len(self._kept)} messages wait for the broker already: {self._last_error}"
                )

    def _publish(self, delivery: Delivery) -> None:
        self._broker.publish(Post(delivery.topic, delivery.payload, delivery.qos, delivery.retain))
        delivery.future.set_result(None)

    def room(self) -> "Future[None]":
        """At once: while connected nothing ever waits."""
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def subscribe(self, pattern: str, qos: int) -> "Future[None]":
        """Subscribe at once, or when the broker can be reached again."""
        confirmed: Future[None] = Future()
        with self._broker.lock:
            self._wanted[pattern] = qos
            if self._session is None:
                self._confirmations.append(confirmed)
                return confirmed
            self._broker.subscribe(self._session, pattern, qos)
        confirmed.set_result(None)
        return confirmed

    def unsubscribe(self, pattern: str) -> None:
        """Unsubscribe at once."""
        with self._broker.lock:
            self._wanted.pop(pattern, None)
            if self._session is not None:
                self._broker.unsubscribe(self._session, pattern)

    def close(self, timeout: float) -> "Future[tuple[Undelivered, ...]]":
        """Say goodbye; without a connection, wait `timeout` seconds for one if messages wait."""
        closed: Future[tuple[Undelivered, ...]] = Future()
        with self._broker.lock:
            connected = self._session is not None
        if connected or not self._kept or timeout <= 0:
            self._finish(closed)
        else:
            waiting = threading.Timer(timeout, self._finish, [closed])
            waiting.daemon = True
            last = self._kept[-1].future

            def delivered(_: Future[None]) -> None:
                waiting.cancel()
                self._finish(closed)

            waiting.start()
            last.add_done_callback(delivered)
        return closed

    def _finish(self, closed: "Future[tuple[Undelivered, ...]]") -> None:
        with self._broker.lock:
            if closed.done():
                return
            self._closed = True
            session, self._session = self._session, None
            if session is not None:
                self._broker.detach(session, self)
            left, self._kept = self._kept, deque()
        undelivered = tuple(delivery.undelivered(sent=False) for delivery in left)
        closed.set_result(undelivered)
        for delivery, facts in zip(left, undelivered, strict=True):
            delivery.future.set_exception(UndeliveredError([facts], "closed"))
        if self._ended is not None:
            self._ended(ClosedError(f"{self.name} is closed"))

    def arrived(self, arrival: InboundMessage) -> None:
        """From the broker."""
        assert self._arrived is not None
        self._arrived(arrival)

    def taken_over(self) -> None:
        """From the broker: a newer client has the id, and this one does not fight for it."""
        self._session = None
        self._last_error = ClientIdTakenError(self._client_id, certain=True)

    def cut_off(self) -> None:
        """From the broker."""
        self._session = None
        self._last_error = ConnectError(f"{self.name} is cut off from the broker")

    def mended(self) -> None:
        """From the broker."""
        self._connect()

    def last_will(self) -> Post | None:
        """From the options."""
        will = self._options.will
        return None if will is None else Post(will.topic, will.payload, will.qos, will.retain)
