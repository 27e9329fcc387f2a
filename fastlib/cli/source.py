"""Where messages are read from: a file, or standard input."""

import errno
import sys
from functools import cached_property
from typing import BinaryIO

from fastlib.codec.errors import MessageError
from fastlib.codec.limits import DEFAULT_LIMITS
from fastlib.codec.text import decode

STDIN = "-"
"""Standard input on the command line."""


def title(name: str) -> str:
    """What a file on the command line is called in messages."""
    return "<stdin>" if name == STDIN else name


class Source:
    """The bytes of a file, and its lines for who shows them."""

    def __init__(self, name: str, data: bytes) -> None:
        self.name = name
        self.data = data

    @cached_property
    def _lines(self) -> list[str]:
        """The lines as the codec counts them."""
        try:
            text = decode(self.data, DEFAULT_LIMITS, self.name)
        except MessageError:
            text = self.data[: DEFAULT_LIMITS.max_bytes].decode("utf-8", "replace")
        return text.split("\n")

    def line(self, number: int) -> str:
        """A line, from 1, without its end; empty if there is none."""
        return self._lines[number - 1].removesuffix("\r") if number <= len(self._lines) else ""


def read(name: str) -> Source:
    """The source of a name on the command line. Raises OSError.

    No more is read than the codec takes, and one byte for it to see that there is more.
    """
    size = DEFAULT_LIMITS.max_bytes + 1
    if name != STDIN:
        with open(name, "rb") as file:
            return Source(title(name), file.read(size))
    if sys.stdin is None:
        raise OSError(errno.EBADF, "it is closed")
    stdin: BinaryIO = sys.stdin.buffer
    return Source(title(name), stdin.read(size))
