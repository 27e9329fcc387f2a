"""Detect a blocked event loop, and log the time and the place.

An `async` method of a plug-in must not block, because no other part of the daemon can run, neither
tasks nor the presence. A thread requests a heartbeat of the loop. If none comes in time, the thread
reads the stack of the loop's thread.
"""

import asyncio
import sys
import threading
import time
from logging import getLogger
from types import FrameType
from typing import Final, NamedTuple

from fastlib.plugin_place import is_foreign, place_in

from .logs import context_without_task

log = getLogger("fastlib.migfra")

LOOK_SECONDS: Final = 0.5
"""Seconds between a heartbeat and the request of the next one."""
BLOCKED_SECONDS: Final = 1.0
"""Seconds that a heartbeat may take."""
HANGS_SECONDS: Final = 30.0
"""Seconds after which a block is logged before it has ended."""
REPEAT_SECONDS: Final = 60.0
"""Seconds in which later blocks at the same place are only counted."""


class Place(NamedTuple):
    """The code that the loop's thread executes."""

    function: str
    """Name of the method of a plug-in, if there is one; else of the innermost function."""
    where: str
    """`file:line, in function` of the innermost line of the plug-in, or of the innermost line."""
    is_foreign: bool
    """Whether it is in a plug-in."""

    def __str__(self) -> str:
        return f"{self.function} ({self.where})"


class LoopWatch:
    """Watches the running event loop until `end`."""

    def __init__(
        self,
        *,
        look: float = LOOK_SECONDS,
        blocked: float = BLOCKED_SECONDS,
        hangs: float = HANGS_SECONDS,
        repeat: float = REPEAT_SECONDS,
    ) -> None:
        """Begin. Call it in the thread of the loop. The times are in seconds."""
        self._loop = asyncio.get_running_loop()
        self._thread_id = threading.get_ident()
        self._look, self._blocked, self._hangs, self._repeat = look, blocked, hangs, repeat
        self._logged: dict[Place, float] = {}
        """Time of the last log line about a place, by the monotonic clock."""
        self._counts: dict[Place, int] = {}
        """Blocks at a place that were not logged."""
        self._ended = threading.Event()
        context = context_without_task()
        self._thread = threading.Thread(
            target=context.run, args=(self._run,), name="watch of the loop", daemon=True
        )
        self._thread.start()

    def end(self) -> None:
        """End the watch. Call it in the thread of the loop."""
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.wait(self._look):
            alive = threading.Event()
            asked = time.monotonic()
            try:
                self._loop.call_soon_threadsafe(alive.set)
            except RuntimeError:  # the loop is closed
                return
            if not alive.wait(self._blocked):
                self._wait_for_end(alive, asked)

    def _wait_for_end(self, alive: threading.Event, asked: float) -> None:
        """Wait until a block has ended, and log it."""
        place = self._place()
        if not alive.wait(max(0.0, self._hangs - self._blocked)):
            hanging = self._place() or place
            log.error(
                "the event loop has been blocked for %.0f s in %s; no other part of the daemon "
                "can run", time.monotonic() - asked, hanging,
            )  # fmt: skip
            while not alive.wait(self._look):
                if self._ended.is_set():
                    return
        if place is not None:
            self._report(place, time.monotonic() - asked)

    def _report(self, place: Place, seconds: float) -> None:
        now = time.monotonic()
        if now - self._logged.get(place, -self._repeat) < self._repeat:
            self._counts[place] = self._counts.get(place, 0) + 1
            return
        self._logged[place] = now
        earlier = self._counts.pop(place, 0)
        log.warning(
            "the event loop was blocked for %.1f s in %s%s%s", seconds, place,
            "; an async method must not block: make it a plain method, or run the blocking call "
            "by asyncio.to_thread" if place.is_foreign else "",
            f"; {earlier} more times since it was last logged" if earlier else "",
        )  # fmt: skip

    def _place(self) -> Place | None:
        """Return the place that the loop's thread executes now."""
        frame = sys._current_frames().get(self._thread_id)
        return None if frame is None else place_of_frame(frame)


def place_of_frame(innermost: FrameType) -> Place:
    """Return the place of a thread, given its innermost frame."""
    foreign: list[FrameType] = []
    frame: FrameType | None = innermost
    while frame is not None:
        if is_foreign(frame.f_code.co_filename):
            foreign.append(frame)
        elif foreign:
            break  # outer frames have called the plug-in
        frame = frame.f_back
    inner, outer = (foreign[0], foreign[-1]) if foreign else (innermost, innermost)
    return Place(outer.f_code.co_name, place_in(inner.f_code, inner.f_lineno), bool(foreign))
