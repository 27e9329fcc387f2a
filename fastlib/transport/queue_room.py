"""The room for received messages that wait for the program."""

import threading
from logging import getLogger

from .messages import ReceivedMessage

log = getLogger("fastlib.transport")

MESSAGE_SIZE = 512
"""Bytes of memory of a queued message besides its payload."""


class DropCount:
    """The number of messages that were dropped by all queues of a communicator."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.total = 0

    def add(self) -> None:
        """Count one dropped message."""
        with self._lock:
            self.total += 1


class QueueRoom:
    """Counts the bytes that wait in one subscription, and drops messages with QoS 0 beyond a bound.

    It has no bound for messages with QoS 1 and 2. With a bound, the broker would have to queue the
    rest, and brokers drop messages above their own bound (mosquitto: `max_queued_messages`). See
    `max_unacknowledged` of the options for a broker that sends them without an acknowledgement.
    """

    def __init__(self, pattern: str, most: int, drops: DropCount) -> None:
        """`most` is the bound in bytes, `pattern` the filter of the subscription."""
        self._pattern = pattern
        self._most = most
        self._drops = drops
        self._dropped = 0
        self._lock = threading.Lock()
        self._queued = 0

    def add(self, message: ReceivedMessage) -> bool:
        """Count a message that will wait. Return False if it has no room and must be dropped."""
        size = len(message.payload) + MESSAGE_SIZE
        with self._lock:
            queued = self._queued
            if message.qos or queued + size <= self._most:
                self._queued += size
                return True
            self._dropped += 1
            dropped = self._dropped
        self._drops.add()
        if dropped & (dropped - 1) == 0:  # 1, 2, 4, …
            log.warning(
                "%d messages with QoS 0 to %r were dropped: those that wait take %d bytes",
                dropped,
                self._pattern,
                queued,
            )
        return False

    def add_again(self, message: ReceivedMessage) -> None:
        """Count a message that returns to the queue."""
        with self._lock:
            self._queued += len(message.payload) + MESSAGE_SIZE

    def remove(self, message: ReceivedMessage) -> None:
        """Stop counting a message: the program has it."""
        with self._lock:
            self._queued -= len(message.payload) + MESSAGE_SIZE
