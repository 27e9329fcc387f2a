"""The parser of command lines."""

import argparse
import os
import sys
from typing import Any, NoReturn

from fastlib.codec.printable import printable, printable_lines
from fastlib.redaction import hide_user_information


class ArgumentParser(argparse.ArgumentParser):
    """Prints help and errors without characters that a terminal obeys.

    Messages of other packages have titles and docstrings in the help.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        if sys.version_info >= (3, 14):  # its colours would be escaped as well
            named.setdefault("color", False)
        named.setdefault("formatter_class", HelpFormatter)
        super().__init__(*arguments, **named)

    def format_usage(self) -> str:
        """Return the usage."""
        return printable_lines(super().format_usage())

    def format_help(self) -> str:
        """Return the help."""
        return printable_lines(super().format_help())

    def error(self, message: str) -> NoReturn:
        """Print usage and message, and end the process with status 2.

        The message may quote an argument that is a broker's URL in the wrong place.
        """
        super().error(printable(hide_user_information(message)))


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Prints descriptions as they are.

    It looks at the width of the terminal itself. argparse makes a formatter for each argument, and
    would import `shutil` for the width, with the libraries for three kinds of compressed files.
    """

    def __init__(self, prog: str, **options: Any) -> None:
        super().__init__(prog, **{"width": _columns() - 2, **options})


def _columns() -> int:
    """Return the width of the terminal, as `shutil.get_terminal_size` does."""
    try:
        columns = int(os.environ["COLUMNS"])
    except (KeyError, ValueError):
        columns = 0
    if columns > 0:
        return columns
    if sys.__stdout__ is None:
        return 80
    try:
        return os.get_terminal_size(sys.__stdout__.fileno()).columns or 80
    except (ValueError, OSError):  # it is closed, or no terminal
        return 80
