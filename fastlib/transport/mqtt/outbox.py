"""Messages that were accepted for sending, until the broker has confirmed them."""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final

from fastlib.transport.delivery import Delivery
from fastlib.transport.errors import (
    QueueFullError,
    RefusedError,
    Undelivered,
    UndeliveredError,
    reason,
)

NOT_FOUND: Final = 0x92
"""MQTT 5, PUBCOMP: the broker has completed this message before. That is as good as a success."""


class Outbox:
    """Waiting messages in order, and those on their way by packet number.

    `accept` and `room` are for any thread, the rest for the network's.
    """

    def __init__(self, bound: int, window: int) -> None:
        self.bound: Final = bound
        self.window = window
        """How many messages with QoS 1 and 2 may be on their way."""
        self._lock = threading.Lock()
        self._waiting: deque[Delivery] = deque()
        self._on_way: dict[int, Delivery] = {}
        self._for_room: list[Future[None]] = []

    def accept(self, delivery: Delivery, connected: bool, why: object) -> None:
        """Take a message. Raises QueueFullError; `why` then says why it goes so slowly."""
        with self._lock:
            if len(self) >= self.bound:
                trouble = f": {why}" if why and not connected else ""
                raise QueueFullError(f"{self.bound} messages wait for the broker already{trouble}")
            self._waiting.append(delivery)

    def room(self) -> "Future[None]":
        """Done when there is room, or when nobody can say when there will be."""
        future: Future[None] = Future()
        with self._lock:
            if len(self) < self.bound:
                future.set_result(None)
            else:
                self._for_room.append(future)
        return future

    def tell_room(self) -> None:
        """Wake up those who wait for room."""
        if not self._for_room:
            return
        with self._lock:
            waiting, self._for_room = self._for_room, []
        for future in waiting:
            if future.set_running_or_notify_cancel():
                future.set_result(None)

    @property
    def hungry(self) -> bool:
        """True if `feed` has something to do."""
        return bool(self._waiting) and len(self._on_way) < self.window

    def feed(self, publish: Callable[[Delivery], int | None]) -> None:
        """Send as many messages as the window allows.

        `publish` returns the packet number, or None if the message cannot be taken just now.
        """
        while self.hungry:
            delivery = self._waiting[0]
            mid = publish(delivery)
            if mid is None:
                return
            self._on_way[mid] = delivery
            self._waiting.popleft()

    def confirmed(self, mid: int, code: int) -> None:
        """The broker, or for QoS 0 the socket, has a message. `code` is MQTT 5's reason."""
        delivery = self._on_way.pop(mid, None)
        if delivery is None:
            return
        if code >= 0x80 and code != NOT_FOUND:
            text = f"the broker refuses a message to {delivery.topic}: {reason(code)}"
            delivery.future.set_exception(RefusedError(text, code))
        else:
            delivery.future.set_result(None)
        if self._for_room and len(self) < self.bound:
            self.tell_room()

    def connection_lost(self) -> None:
        """QoS 0 is sent once and not again."""
        for mid, delivery in list(self._on_way.items()):
            if delivery.qos == 0:
                del self._on_way[mid]
                delivery.future.set_exception(
                    UndeliveredError([delivery.undelivered(sent=True)], "the connection broke")
                )
        self.tell_room()

    def give_up(self, why: str) -> tuple[Undelivered, ...]:
        """End everything that is not confirmed."""
        left = [(delivery, True) for delivery in self._on_way.values()]
        with self._lock:
            left += [(delivery, False) for delivery in self._waiting]
            self._waiting.clear()
            self._on_way.clear()
        for delivery, sent in left:
            delivery.future.set_exception(UndeliveredError([delivery.undelivered(sent)], why))
        self.tell_room()
        return tuple(delivery.undelivered(sent) for delivery, sent in left)

    def __len__(self) -> int:
        return len(self._waiting) + len(self._on_way)
