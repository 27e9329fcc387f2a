"""The thread that runs the user's callbacks, which must not block the network."""

import threading
import time
from collections.abc import Callable
from functools import partial
from logging import getLogger
from queue import SimpleQueue
from typing import ParamSpec

from .futures import bounded

log = getLogger("fastlib.transport")

P = ParamSpec("P")


class CallbackThread:
    """Runs callbacks one after the other, in the order of their messages."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._idle = threading.Condition()
        self._left = 0
        self._done = 0
        """The number of calls that have returned."""

    def sink(self, callback: Callable[P, None]) -> Callable[P, None]:
        """Return a function that queues a call of the callback."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()

        def enqueue(*arguments: P.args, **named: P.kwargs) -> None:
            with self._idle:
                self._left += 1
            self._queue.put(partial(callback, *arguments, **named))

        return enqueue

    def _run(self) -> None:
        while call := self._queue.get():
            try:
                call()
            except Exception:
                log.exception("the callback %r failed", call)
            finally:
                with self._idle:
                    self._left -= 1
                    self._done += 1
                    self._idle.notify_all()

    @property
    def _is_inside(self) -> bool:
        """True in a callback."""
        return threading.current_thread() is self._thread

    def wait(self, timeout: float | None) -> bool:
        """Wait until all calls that are queued now have returned. Return False after `timeout`.

        Returns at once in a callback, because the later calls wait for that one.
        """
        with self._idle:
            until = self._done + self._left
            if self._is_inside:
                return True
            return self._idle.wait_for(lambda: self._done >= until, bounded(timeout))

    def finish(self, timeout: float) -> None:
        """Run the queued calls for at most `timeout` seconds. Log the number of remaining calls."""
        if self._thread is None:
            return
        inside = self._is_inside
        deadline = time.monotonic() + timeout
        with self._idle:
            while self._left > inside and (rest := deadline - time.monotonic()) > 0:
                if inside:  # a callback calls `close`, so the later calls wait for it to return
                    break
                self._idle.wait(bounded(rest))
            left = self._left - inside
        if left:
            log.warning("%s: closed before callbacks have seen %d messages", self._name, left)
        self._queue.put(None)
