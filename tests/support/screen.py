"""Run commands on an emulated terminal, and compare its screen with stored frames."""

import re
from pathlib import Path
from typing import Any

import pyte

from tests.support.shell import Environment, Running

FRAMES = Path(__file__).parents[1] / "display" / "frames"
SIZES = ((80, 24), (100, 30), (120, 40))
"""Columns and lines of the terminals that the live views are tested on."""
REDRAWING = re.compile(rb"\r\033\[2K(?:\033\[1A\033\[2K)+")
"""The beginning of each frame but the first: the lines of the one before are erased."""


class Screen(Running):
    """A running command, and the screen of its terminal."""

    def __init__(self, *arguments: object, env: Environment, size: tuple[int, int], **more: Any):
        """`size` is columns and lines."""
        columns, lines = size
        super().__init__(
            *arguments, env=env, size=(lines, columns), terminal=("stdout", "stderr"), **more
        )
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self._fed = 0

    def frame(self) -> str:
        """Return the text of the screen, without blanks at the ends of lines."""
        return self._frame_at(len(self.read["terminal"]))

    def _frame_at(self, end: int) -> str:
        """Return the text of the screen after this number of bytes."""
        self._stream.feed(self.read["terminal"][self._fed : end])
        self._fed = end
        lines = [line.rstrip() for line in self._screen.display]
        return "\n".join(lines).rstrip() + "\n"

    def until_frame(self, *patterns: str) -> str:
        """Read until the screen shows all patterns; return its text.

        On a busy machine several frames come at once. It looks at each of them.
        """

        def shown() -> str | None:
            read = self.read["terminal"]
            ends = [found.start() for found in REDRAWING.finditer(read, self._fed)]
            for end in (*ends, len(read)):
                frame = self._frame_at(end)
                if all(re.search(pattern, frame) for pattern in patterns):
                    return frame
            return None

        return self.until_value(shown, lambda: f"{patterns} in\n{self.frame()}")


def check_frame(name: str, frame: str, *, write: bool) -> None:
    """Compare a frame with the stored one of that name, or store it."""
    file = FRAMES / f"{name}.txt"
    normal = normalise(frame)
    if write:
        file.parent.mkdir(exist_ok=True)
        file.write_text(normal)
    stored = file.read_text()
    assert normal == stored, f"{file.name}, renew it by --write-pictures:\n{normal}"


def normalise(frame: str) -> str:
    """Replace times and durations, keeping their width."""
    frame = re.sub(r"\b\d:\d\d:\d\d\b", "H:MM:SS", frame)
    return re.sub(r"\b\d\d:\d\d:\d\d\b", "HH:MM:SS", frame)
