"""The parser of command lines."""

import argparse
from typing import NoReturn

from fastlib.display.text import printable


class ArgumentParser(argparse.ArgumentParser):
    """Prints what is wrong with the arguments without characters that a terminal obeys."""

    def error(self, message: str) -> NoReturn:
        """Print usage and message, and end the process with status 2."""
        super().error(printable(message))
