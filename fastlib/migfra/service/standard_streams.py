"""The standard streams of the process, which may be closed, full or without a reader."""

import os
import sys
from contextlib import suppress

from fastlib.codec.printable import printable_lines


def open_standard_streams() -> None:
    """Open the null device in place of standard streams that are closed.

    Otherwise the next file that is opened, such as the journal, gets the number 2, and libraries
    would write their messages to it.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is the closed one
            os.set_inheritable(descriptor, True)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115


def print_safely(text: str) -> None:
    """Print a text on standard error. Errors of the stream are ignored."""
    with suppress(OSError, ValueError):
        print(printable_lines(text), file=sys.stderr, flush=True)


def finish_streams() -> None:
    """Write buffered output. A failure must not change the exit status."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError), open(os.devnull, "w", encoding="utf-8") as null:
                os.dup2(null.fileno(), stream.fileno())
