"""The thread that runs the callbacks of users, so that none of them holds up the network."""

import threading
import time
from collections.abc import Callable
from logging import getLogger
from queue import SimpleQueue

from .received import ReceivedMessage

log = getLogger("fastlib.transport")

Callback = Callable[[ReceivedMessage], None]


class Callbacks:
    """Runs callbacks one after the other, in the order in which their messages came."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._queue: SimpleQueue[tuple[Callback, ReceivedMessage] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._idle = threading.Condition()
        self._left = 0

    def sink(self, callback: Callback) -> Callback:
        """What enqueues messages for the callback."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()

        def enqueue(message: ReceivedMessage) -> None:
            with self._idle:
                self._left += 1
            self._queue.put((callback, message))

        return enqueue

    def _run(self) -> None:
        while item := self._queue.get():
            callback, message = item
            try:
                callback(message)
            except Exception:
                log.exception("the callback %r failed on a message to %s", callback, message.topic)
            finally:
                with self._idle:
                    self._left -= 1
                    self._idle.notify_all()

    def finish(self, timeout: float) -> None:
        """Let the callbacks see what has come, for at most `timeout` seconds; log what is left."""
        if self._thread is None:
            return
        inside = threading.current_thread() is self._thread
        deadline = time.monotonic() + timeout
        with self._idle:
            while self._left > inside and (rest := deadline - time.monotonic()) > 0:
                if inside:  # the callback itself closes: what waits behind it cannot run before
                    break
                self._idle.wait(rest)
            left = self._left - inside
        if left:
            log.warning("%s: closed before callbacks have seen %d messages", self._name, left)
        self._queue.put(None)
