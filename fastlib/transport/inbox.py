"""The queue of messages of one subscription."""

import threading
from collections import deque
from concurrent.futures import Future
from logging import getLogger

from .errors import TransportError
from .messages import ReceivedMessage
from .queue_room import QueueRoom

log = getLogger("fastlib.transport")

WARNING_LENGTH = 10_000
"""The number of queued messages at which a warning is logged. Each doubling logs another one."""


class Inbox:
    """A queue whose readers wait for futures, so it serves threads and coroutines."""

    def __init__(self, pattern: str, room: QueueRoom | None = None) -> None:
        """`room` bounds the waiting messages. None: no bound."""
        self._room = room
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
            if reader is None and (self._room is None or self._room.add(message)):
                self._messages.append(message)
                self._warn()
        if reader is not None:
            reader.set_result(message)

    def _pop(self) -> ReceivedMessage:
        """Remove the next message. Raises IndexError."""
        message = self._messages.popleft()
        if self._room is not None:
            self._room.remove(message)
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
        """Return the next message if there is one. It is faster than `take`."""
        try:
            with self._lock:
                return self._pop()
        except IndexError:
            return None

    def take(self) -> "Future[ReceivedMessage]":
        """Return a future of the next message. After `close`: first the rest, then the error."""
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
                    if self._room is not None:
                        self._room.add_again(message)
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
