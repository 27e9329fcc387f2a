"""Messages that were accepted for sending, until the broker has confirmed them."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Final

from fastlib.transport.delivery import Delivery
from fastlib.transport.errors import (
    MessageTooLargeError,
    QueueFullError,
    RefusedError,
    TransportError,
    Undelivered,
    UndeliveredError,
    reason,
)
from fastlib.transport.packet_size import publish_size

NOT_FOUND: Final = 0x92
"""MQTT 5, PUBCOMP: the broker has completed this message before, so it was successful."""

TOO_LARGE: Final = frozenset({0x95})
"""MQTT 5: reason codes of a PUBACK or PUBREC for a message that is too large.

MQTT does not allow this code here. mosquitto sends it for its `message_size_limit`."""


class Outbox:
    """Queued messages in order, and the messages in flight by packet id.

    Any thread may call `accept` and `room`. The other methods are for the network thread.
    """

    def __init__(self, capacity: int, max_in_flight: int) -> None:
        self.capacity: Final = capacity
        self.max_in_flight = max_in_flight
        """The maximum number of messages in flight."""
        self._lock = threading.Lock()
        self._queue: deque[Delivery] = deque()
        self._in_flight: dict[int, Delivery] = {}
        self._room_futures: list[Future[None]] = []
        self._next_expiry = math.inf
        """The first monotonic time at which a queued message may expire."""

    def accept(self, delivery: Delivery, connected: bool, last_error: object) -> None:
        """Queue a message. Raises QueueFullError with the `last_error`."""
        with self._lock:
            if len(self) >= self.capacity:
                why = f": {last_error}" if last_error and not connected else ""
                raise QueueFullError(f"{self.capacity} messages wait for the broker already{why}")
            self._queue.append(delivery)
            if delivery.latest is not None:
                self._next_expiry = min(self._next_expiry, delivery.latest)

    def room(self) -> "Future[None]":
        """Return a future that is done when there is room, or when the connection is lost."""
        future: Future[None] = Future()
        with self._lock:
            if len(self) < self.capacity:
                future.set_result(None)
            else:
                self._room_futures.append(future)
        return future

    def _notify_room(self) -> None:
        if not self._room_futures:
            return
        with self._lock:
            futures, self._room_futures = self._room_futures, []
        for future in futures:
            if future.set_running_or_notify_cancel():
                future.set_result(None)

    def seconds_to_expiry(self, most: float) -> float:
        """Return the seconds until `drop_expired` may have something to do, at most `most`."""
        return max(0.0, min(most, self._next_expiry - time.monotonic()))

    def drop_expired(self, last_error: object) -> None:
        """Fail the queued messages that have expired. Their errors name the `last_error`."""
        now = time.monotonic()
        if now < self._next_expiry:
            return
        expired: list[Delivery] = []
        left: deque[Delivery] = deque()
        with self._lock:
            self._next_expiry = math.inf
            for delivery in self._queue:
                if delivery.latest is not None and delivery.latest <= now:
                    expired.append(delivery)
                    continue
                left.append(delivery)
                if delivery.latest is not None:
                    self._next_expiry = min(self._next_expiry, delivery.latest)
            self._queue = left
        for delivery in expired:
            delivery.expire(sent=False, last_error=last_error)
        if expired:
            self._notify_room()

    def expiring_in_flight(self) -> list[tuple[int, Delivery]]:
        """Return the messages in flight that have an expiry, with their packet ids."""
        return [(i, m) for i, m in self._in_flight.items() if m.latest is not None]

    def drop_in_flight(self, packet_id: int) -> None:
        """Fail an expired message in flight. It is not sent again."""
        self._in_flight.pop(packet_id).expire(sent=True)
        self._notify_room()

    @property
    def can_send(self) -> bool:
        """True if a message is queued and the number in flight allows another one."""
        return bool(self._queue) and len(self._in_flight) < self.max_in_flight

    def send_queued(self, publish: Callable[[Delivery], int | None]) -> None:
        """Send as many messages as may be in flight.

        `publish` returns the packet id, or None if the message cannot be sent now. It raises the
        error of a message that cannot be sent at all.
        """
        while self.can_send and self.send_next(publish):
            pass

    def send_next(self, publish: Callable[[Delivery], int | None]) -> bool:
        """Send the first queued message; see `send_queued`. Return False if it must wait."""
        delivery = self._queue[0]
        try:
            packet_id = publish(delivery)
        except TransportError as error:
            self._queue.popleft()
            delivery.future.set_exception(error)
            self._notify_room()
            return True
        if packet_id is None:
            return False
        self._in_flight[packet_id] = delivery
        self._queue.popleft()
        return True

    @property
    def first_queued(self) -> Delivery | None:
        """The next message to be sent for the first time."""
        return self._queue[0] if self._queue else None

    @property
    def in_flight(self) -> Mapping[int, Delivery]:
        """The messages in flight by packet id."""
        return self._in_flight

    def fail(self, packet_id: int, error: TransportError) -> None:
        """Fail a message in flight. It is not sent again."""
        self._in_flight.pop(packet_id).future.set_exception(error)
        self._notify_room()

    def queue_again(self, packet_id: int) -> None:
        """Put a message in flight back to the front of the queue."""
        with self._lock:
            self._queue.appendleft(self._in_flight.pop(packet_id))

    def confirm(self, packet_id: int, code: int, said: object = "") -> None:
        """Complete a message that the broker has confirmed, or for QoS 0 the socket has taken.

        `code` is the reason code of MQTT 5, `said` the broker's reason string.
        """
        delivery = self._in_flight.pop(packet_id, None)
        if delivery is None:
            return
        if code in TOO_LARGE:
            packet = publish_size(delivery.topic, len(delivery.payload), delivery.qos)
            why = f"; the broker refuses it: {reason(code, said)}"
            error = MessageTooLargeError(delivery.undelivered(True), packet, None, "broker", why)
            delivery.future.set_exception(error)
        elif code >= 0x80 and code != NOT_FOUND:
            text = f"the broker refuses a message to {delivery.topic}: {reason(code, said)}"
            delivery.future.set_exception(RefusedError(text, code))
        else:
            delivery.future.set_result(None)
        if self._room_futures and len(self) < self.capacity:
            self._notify_room()

    def connection_lost(self) -> None:
        """Fail the QoS 0 messages in flight. They are not sent again."""
        for packet_id, delivery in list(self._in_flight.items()):
            if delivery.sent_qos == 0:
                del self._in_flight[packet_id]
                delivery.future.set_exception(
                    UndeliveredError([delivery.undelivered(sent=True)], "the connection broke")
                )
        self._notify_room()

    def fail_all(self, why: str) -> tuple[Undelivered, ...]:
        """Fail and return all messages that are not confirmed, oldest first."""
        left = [(delivery, True) for delivery in self._in_flight.values()]
        with self._lock:
            left += [(delivery, False) for delivery in self._queue]
            self._queue.clear()
            self._in_flight.clear()
        for delivery, sent in left:
            delivery.future.set_exception(UndeliveredError([delivery.undelivered(sent)], why))
        self._notify_room()
        return tuple(delivery.undelivered(sent) for delivery, sent in left)

    def __len__(self) -> int:
        return len(self._queue) + len(self._in_flight)
