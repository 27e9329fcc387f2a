"""Write to standard output and terminals: colours, widths, binary data, JSON lines."""

import os
import sys
from collections.abc import Callable
from typing import Any, TextIO

from fastlib.codec.printable import is_visible
from fastlib.display.json_lines import encode_json

_CODES = {"bold": "1", "error": "1;31", "warning": "1;35", "mark": "1;32"}


def is_terminal(stream: TextIO | None) -> bool:
    """Return whether a stream is an open terminal."""
    return stream is not None and not stream.closed and stream.isatty()


def is_dumb() -> bool:
    """Return whether the terminal named by TERM can only print lines."""
    return os.environ.get("TERM", "dumb") in ("", "dumb", "unknown")


def painter(stream: TextIO | None) -> Callable[[str, str], str]:
    """Return a function of a text and a style, `bold`, `error`, `warning` or `mark`.

    It colours the text on a terminal, unless NO_COLOR is set (https://no-color.org).
    """
    if is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb":
        return lambda text, style: f"\033[{_CODES[style]}m{text}\033[m"
    return lambda text, style: text


def width_of(stream: TextIO | None) -> int:
    """Return the number of columns of a terminal; 80 if it is unknown or closed."""
    if stream is None:
        return 80
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def cell(char: str) -> str:
    """Return a character for an excerpt: a tab as spaces, a non-printable one as U+XXXX."""
    if char == "\t":
        return "    "
    return char if is_visible(char) else f"<U+{ord(char):04X}>"


def flush_output() -> None:
    """Flush standard output, unless it is closed."""
    if sys.stdout is not None:
        sys.stdout.flush()


def write_data(data: bytes, *, flush: bool = False) -> None:
    """Write bytes to standard output, with any locale."""
    if sys.stdout is not None:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        if flush:
            sys.stdout.buffer.flush()


def write_json_line(tree: Any) -> None:
    """Write a plain tree to standard output as one line of JSON, and flush it at once."""
    write_data(encode_json(tree) + b"\n", flush=True)
