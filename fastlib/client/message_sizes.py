"""Limit the sizes of messages that a client reads, so no host can delay another one.

Presence and progress are small. A larger one is dropped before it is read. Results may be large.
Large results are read in a thread, in order for each host, and the hosts take turns.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from logging import getLogger
from typing import Final

from fastlib.codec.limits import Limits
from fastlib.message.topics import PRESENCE, PROGRESS, RESULT, TASK, Topic
from fastlib.transport import ReceivedMessage

from .limited_warnings import LimitedWarnings

log = getLogger("fastlib.client")

LARGEST: Final = {PRESENCE: 1 << 14, PROGRESS: 1 << 16, RESULT: 4 << 20, TASK: 4 << 20}
"""The maximum size in bytes of a message that is read, by topic."""
LIMITS: Final = Limits(max_bytes=max(LARGEST.values()), max_nodes=300_000)
READ_AT_ONCE: Final = 1 << 15
"""Bytes. A larger result is read in a thread."""
MAX_QUEUED: Final = 16 << 20
"""The maximum number of bytes of one host's results that wait to be read."""


class SizeCheck:
    """Finds messages that are too large, and warns once for each host and topic."""

    def __init__(self) -> None:
        self._warned: set[tuple[Topic, str]] = set()

    def is_too_large(self, topic: Topic, host: str, received: ReceivedMessage) -> bool:
        """Return whether a message must be dropped without reading it."""
        if received.size <= LARGEST[topic]:
            return False
        if (topic, host) not in self._warned:
            self._warned.add((topic, host))
            log.warning(
                "%s: a message of %d bytes is dropped, because the limit is %d bytes; further "
                "large messages of this host are dropped without a warning",
                received.topic,
                received.size,
                LARGEST[topic],
            )
        return True


class ResultReader:
    """Reads the results of each host in order: small ones at once, large ones in a thread."""

    def __init__(
        self,
        read: Callable[[ReceivedMessage], Callable[[], None]],
        deliver: Callable[[Callable[[], None]], None],
        warnings: LimitedWarnings | None = None,
    ) -> None:
        """`read` decodes a result, in any thread, and returns a function that handles it.

        `deliver` is called in the thread, and calls its argument where results are handled.
        """
        self._warnings = warnings or LimitedWarnings(time.monotonic)
        self._read = read
        self._deliver = deliver
        self._lock = threading.Lock()
        self._queues: dict[str, deque[ReceivedMessage]] = {}
        """Results to read by host; the hosts take turns in this order."""
        self._left: dict[str, int] = {}
        """The number of results of a host that are not handled yet."""
        self._queued: dict[str, int] = {}
        """The number of bytes of these results."""
        self._thread: threading.Thread | None = None
        self._closed = False

    def put(self, host: str, received: ReceivedMessage) -> None:
        """Read a result and have it handled, after the earlier ones of this host."""
        size = len(received.payload)
        with self._lock:
            if self._closed:
                return
            at_once = size <= READ_AT_ONCE and host not in self._left
            if not at_once:
                queued = self._queued.get(host, 0) + size
                if queued > MAX_QUEUED:
                    self._warnings.warn(
                        "%s: a result is dropped, because %d bytes of this host are waiting to be "
                        "parsed",
                        received.topic,
                        queued - size,
                    )
                    return
                self._queued[host] = queued
                self._left[host] = self._left.get(host, 0) + 1
                self._queues.setdefault(host, deque()).append(received)
                if self._thread is None:
                    self._thread = threading.Thread(
                        target=self._run, name="fastlib results", daemon=True
                    )
                    self._thread.start()
        if at_once:
            self._read(received)()

    def close(self) -> None:
        """Stop reading."""
        with self._lock:
            self._closed = True
            self._queues.clear()

    def _run(self) -> None:
        while (turn := self._next()) is not None:
            host, received = turn
            try:
                handle = self._read(received)
            except Exception:
                log.exception("%s: the result could not be read", received.topic)
                handle = _nothing
            self._deliver(partial(self._handle, host, received, handle))

    def _next(self) -> tuple[str, ReceivedMessage] | None:
        """Take the next result of the host whose turn it is; None ends the thread."""
        with self._lock:
            if not self._queues:
                self._thread = None
                return None
            host = next(iter(self._queues))
            queue = self._queues.pop(host)
            received = queue.popleft()
            if queue:
                self._queues[host] = queue  # at the end of the queue
            return host, received

    def _handle(self, host: str, received: ReceivedMessage, handle: Callable[[], None]) -> None:
        try:
            handle()
        finally:
            with self._lock:
                self._queued[host] -= len(received.payload)
                self._left[host] -= 1
                if not self._left[host]:
                    del self._left[host], self._queued[host]


def _nothing() -> None:
    """Log a result that could not be read."""
