"""The queue of messages of one subscription."""

import threading
from collections import deque
from concurrent.futures import Future
from logging import getLogger

from .errors import TransportError
from .messages import ReceivedMessage

log = getLogger("fastlib.transport")

WARNING_LENGTH = 10_000
"""The number of queued messages at which a warning is logged, and again at each doubling."""
MESSAGE_SIZE = 512
"""Bytes of memory of a queued message beside its payload."""


class Inbox:
    """A queue whose readers wait for futures, so it serves threads and coroutines.

    It has no bound for messages with QoS 1 and 2. With one, the broker would have to queue the
    rest, and brokers drop messages above their own bound (mosquitto: `max_queued_messages`). The
    broker bounds the number of those that are not acknowledged, but not of those with QoS 0.
    """

    def __init__(self, pattern: str, max_queued: int | None = None) -> None:
        """Messages with QoS 0 are dropped while `max_queued` bytes wait."""
        self._max_queued = max_queued
        self._queued = 0
        """Bytes that wait, counted if there is a bound."""
        self._dropped = 0
        self.pattern = pattern
        self._lock = threading.Lock()
        self._messages: deque[ReceivedMessage] = deque()
        self._readers: deque[Future[ReceivedMessage]] = deque()
        self._closed: TransportError | None = None
        self._warn_at = WARNING_LENGTH

    def put(self, message: ReceivedMessage) -> None:
        """Give a message to the reader that has waited longest, or queue it."""
        with self._lock:
            reader = self._next_reader()
            if reader is None and self._count(message):
                self._messages.append(message)
                self._warn()
        if reader is not None:
            reader.set_result(message)

    def _count(self, message: ReceivedMessage) -> bool:
        """Count a message that will wait. Return False if it has no room and is dropped."""
        if self._max_queued is None:
            return True
        size = len(message.payload) + MESSAGE_SIZE
        if message.qos == 0 and self._queued + size > self._max_queued:
            self._dropped += 1
            if self._dropped & (self._dropped - 1) == 0:  # 1, 2, 4, …
                log.warning(
                    "%d messages with QoS 0 to %r were dropped: those that wait take %d bytes",
                    self._dropped,
                    self.pattern,
                    self._queued,
                )
            return False
        self._queued += size
        return True

    def _pop(self) -> ReceivedMessage:
        """Remove the next message. Raises IndexError."""
        message = self._messages.popleft()
        if self._max_queued is not None:
            self._queued -= len(message.payload) + MESSAGE_SIZE
        return message

    def _next_reader(self) -> "Future[ReceivedMessage] | None":
        while self._readers:
            reader = self._readers.popleft()
            if reader.set_running_or_notify_cancel():
                return reader
        return None

    def _warn(self) -> None:
        if len(self._messages) >= self._warn_at:
            self._warn_at *= 2
            log.warning(
                "%d messages wait in the subscription to %r: its consumer is slower than its "
                "senders",
                len(self._messages),
                self.pattern,
            )

    def poll(self) -> ReceivedMessage | None:
        """Return the next message if there is one: a faster `take`."""
        try:
            if self._max_queued is None:
                return self._messages.popleft()
            with self._lock:  # it counts as well
                return self._pop()
        except IndexError:
            return None

    def take(self) -> "Future[ReceivedMessage]":
        """Return a future of the next message. After `close` it gives the rest, then the error."""
        future: Future[ReceivedMessage] = Future()
        with self._lock:
            if self._messages:
                message = self._pop()
            elif self._closed is not None:
                future.set_exception(self._closed)
                return future
            else:
                self._readers.append(future)
                return future
        future.set_result(message)
        return future

    def cancel(self, future: "Future[ReceivedMessage]") -> None:
        """Cancel a `take`. A message that arrived at the last moment returns to the front."""
        if future.cancel():
            with self._lock:
                if future in self._readers:
                    self._readers.remove(future)
        elif not future.exception():
            with self._lock:
                reader = self._next_reader()
                if reader is None:
                    message = future.result()
                    self._messages.appendleft(message)
                    self._queued += len(message.payload) + MESSAGE_SIZE
            if reader is not None:
                reader.set_result(future.result())

    def close(self, error: TransportError) -> None:
        """Raise the error in all waiting readers, and in later ones when the queue is empty."""
        with self._lock:
            self._closed = error
            readers, self._readers = self._readers, deque()
        for reader in readers:
            if reader.set_running_or_notify_cancel():
                reader.set_exception(error)

    def __len__(self) -> int:
        return len(self._messages)
