"""The parser of command lines."""

import argparse
import sys
from typing import Any, NoReturn

from fastlib.codec.printable import printable, printable_lines


class ArgumentParser(argparse.ArgumentParser):
    """Prints help and errors without characters that a terminal obeys.

    Messages of other packages have titles and docstrings in the help.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        if sys.version_info >= (3, 14):  # its colours would be escaped as well
            named.setdefault("color", False)
        super().__init__(*arguments, **named)

    def format_usage(self) -> str:
        """Return the usage."""
        return printable_lines(super().format_usage())

    def format_help(self) -> str:
        """Return the help."""
        return printable_lines(super().format_help())

    def error(self, message: str) -> NoReturn:
        """Print usage and message, and end the process with status 2."""
        super().error(printable(message))
