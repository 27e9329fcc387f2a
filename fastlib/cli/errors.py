"""Exit statuses, and error messages on standard error."""

import argparse
import sys
from typing import Final

from fastlib.display.text import printable

FAILED: Final = 1
"""A task failed, or a message has an error."""
UNUSABLE: Final = 2
"""Wrong usage, a file that cannot be read, no broker, or a daemon that is offline."""
TIMED_OUT: Final = 3
"""A result or a confirmation did not arrive in time."""

EXIT_STATUS_HELP: Final = """\
The exit status is 0 if every result is a success, 1 if one is an error or a message is not sent
because it has one, 2 for wrong usage, a file that cannot be read, no broker or a daemon that is
offline (--only-if-online), 3 if a result, or the broker's confirmation, did not come in time. After
Ctrl-C the task continues.
"""


def print_error(options: argparse.Namespace, text: str, severity: str = "error") -> None:
    """Print one line on standard error: the command's name, the severity and the text."""
    print(f"{options.parser.prog}: {severity}: {printable(text)}", file=sys.stderr)
