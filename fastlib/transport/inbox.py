"""The messages of one subscription, until somebody receives them."""

import threading
from collections import deque
from concurrent.futures import Future
from logging import getLogger

from .errors import TransportError
from .messages import ReceivedMessage

log = getLogger("fastlib.transport")

WORTH_A_WARNING = 10_000
"""Waiting messages at which a warning is logged, then again at each doubling."""


class Inbox:
    """A queue whose readers wait by future, so that threads and coroutines can share it.

    It has no bound: what it does not hold, the broker would have to, and brokers drop what goes
    over their bound (mosquitto: `max_queued_messages`).
    """

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self._lock = threading.Lock()
        self._messages: deque[ReceivedMessage] = deque()
        self._readers: deque[Future[ReceivedMessage]] = deque()
        self._closed: TransportError | None = None
        self._warn_at = WORTH_A_WARNING

    def put(self, message: ReceivedMessage) -> None:
        """Hand a message to the reader who has waited longest, or keep it."""
        with self._lock:
            reader = self._next_reader()
            if reader is None:
                self._messages.append(message)
                self._warn()
        if reader is not None:
            reader.set_result(message)

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
        """The next message if there is one: the short cut past `take`."""
        try:
            return self._messages.popleft()
        except IndexError:
            return None

    def take(self) -> "Future[ReceivedMessage]":
        """A future for the next message. After `close`, for what is left and then the error."""
        future: Future[ReceivedMessage] = Future()
        with self._lock:
            if self._messages:
                message = self._messages.popleft()
            elif self._closed is not None:
                future.set_exception(self._closed)
                return future
            else:
                self._readers.append(future)
                return future
        future.set_result(message)
        return future

    def give_up(self, future: "Future[ReceivedMessage]") -> None:
        """Stop waiting; a message that came at the last moment goes back to the front."""
        if future.cancel():
            with self._lock:
                if future in self._readers:
                    self._readers.remove(future)
        elif not future.exception():
            with self._lock:
                reader = self._next_reader()
                if reader is None:
                    self._messages.appendleft(future.result())
            if reader is not None:
                reader.set_result(future.result())

    def close(self, error: TransportError) -> None:
        """Let every reader, waiting or to come, have the error."""
        with self._lock:
            self._closed = error
            readers, self._readers = self._readers, deque()
        for reader in readers:
            if reader.set_running_or_notify_cancel():
                reader.set_exception(error)

    def __len__(self) -> int:
        return len(self._messages)
