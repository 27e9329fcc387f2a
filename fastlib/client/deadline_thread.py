"""The thread of a client that fails expired requests."""

import threading
from collections.abc import Callable

from fastlib.transport import Communicator

from .core import ClientCore
from .handle import callback_thread


class DeadlineThread:
    """Calls a function at the deadlines of requests. Its thread starts with the first deadline."""

    def __init__(
        self, core: ClientCore, expire: Callable[[], None], communicator: Communicator
    ) -> None:
        self._core = core
        self._expire = expire
        self._communicator = communicator
        self._condition = threading.Condition()
        self._thread: threading.Thread | None = None
        self._next: float | None = None
        self._closed = False

    def schedule(self, deadline: float | None) -> None:
        """Expire requests at this monotonic time or earlier."""
        if deadline is None or (self._next is not None and deadline >= self._next):
            return
        with self._condition:
            if self._closed:
                return
            self._next = deadline
            if self._thread is None:
                name = "fastlib client deadlines"
                self._thread = threading.Thread(target=self._run, name=name, daemon=True)
                self._thread.start()
            self._condition.notify()

    def _run(self) -> None:
        callback_thread.communicator = self._communicator  # it runs done callbacks
        while True:
            with self._condition:
                if self._closed:
                    return
                self._next = None
            self._expire()
            with self._condition:
                if self._closed:
                    return
                if self._next is None:
                    # Must not be read earlier: `schedule` ignores deadlines after `_next`.
                    self._next = self._core.pending.next_deadline
                    self._condition.wait(_seconds_until(self._next, self._core.clock.monotonic()))

    def close(self) -> None:
        """End the thread."""
        with self._condition:
            self._closed = True
            self._condition.notify()


def _seconds_until(deadline: float | None, now: float) -> float | None:
    """Return the remaining seconds."""
    return None if deadline is None else max(0.0, deadline - now)
