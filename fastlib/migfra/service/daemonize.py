"""Run in the background: a separate process without a terminal."""

import os
import select
from contextlib import suppress
from typing import Final

from .standard_streams import print_safely

_WORKS: Final = b"+"
QUIET_SECONDS: Final = 5.0


class Daemonizer:
    """Moves to the background.

    The process in the foreground waits until the daemon works, or prints the error.
    """

    def __init__(self) -> None:
        self._pipe = -1

    def enter(self, waiting: str) -> int | None:
        """Continue in the background. Return None there, and the exit status in the foreground.

        The foreground prints `waiting` if the daemon does not work within `QUIET_SECONDS`.
        """
        reading, writing = os.pipe()
        if os.fork():
            os.close(writing)
            with os.fdopen(reading, "rb") as pipe:
                if not select.select([pipe], [], [], QUIET_SECONDS)[0]:
                    print_safely(waiting)
                said = pipe.read()
            if said == _WORKS:
                return 0
            text = said.decode(errors="replace") or (
                "migfra: error: the daemon ended and reported no reason"
            )
            print_safely(text)
            return 1
        os.close(reading)
        os.setsid()
        if os.fork():  # then it leads no session and cannot get a terminal
            os._exit(0)
        # The directory stays the same: relative paths must mean the same as in the foreground.
        self._pipe = writing
        return None

    def works(self) -> None:
        """End the foreground with success, and release the terminal."""
        if self._pipe < 0:
            return
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nothing, stream)
        os.close(nothing)
        self._say(_WORKS)

    def failed(self, text: str) -> None:
        """End the foreground with an error."""
        self._say(text.encode(errors="replace"))

    def _say(self, said: bytes) -> None:
        if self._pipe >= 0:
            with suppress(BrokenPipeError):  # the foreground was killed
                os.write(self._pipe, said)
            os.close(self._pipe)
            self._pipe = -1
