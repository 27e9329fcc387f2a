"""What a terminal shows: colours, the width of characters, and nothing that could harm it."""

import os
import sys
from collections.abc import Callable
from typing import TextIO

_CODES = {"bold": "1", "error": "1;31", "warning": "1;35", "mark": "1;32"}


def is_terminal(stream: TextIO | None) -> bool:
    """True if a person is probably looking."""
    return stream is not None and not stream.closed and stream.isatty()


def is_plain() -> bool:
    """True if the terminals here can only print lines."""
    return os.environ.get("TERM", "dumb") in ("", "dumb", "unknown")


def painter(stream: TextIO) -> Callable[[str, str], str]:
    """A function of a text and `bold`, `error`, `warning` or `mark` that colours the text.

    On a terminal only, and not if NO_COLOR is set (https://no-color.org).
    """
    if is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb":
        return lambda text, style: f"\033[{_CODES[style]}m{text}\033[m"
    return lambda text, style: text


def width_of(stream: TextIO) -> int:
    """How many columns a terminal has."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def printable(text: str) -> str:
    """The text on one line, control characters and the like as Python would escape them."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def cell(char: str) -> str:
    """A character as an excerpt shows it: tabs as spaces, what is invisible by its number."""
    if char == "\t":
        return "    "
    return char if char.isprintable() else f"<U+{ord(char):04X}>"


def columns(text: str) -> int:
    """How many columns a terminal needs for a printable text."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def write_data(data: bytes, *, flush: bool = False) -> None:
    """Writes UTF-8 to standard output, whatever the locale."""
    if sys.stdout is not None:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        if flush:
            sys.stdout.buffer.flush()
