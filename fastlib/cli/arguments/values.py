"""Argument types for argparse that several commands share."""

import argparse
from typing import Final

from fastlib.codec.errors import ValidationError
from fastlib.display.text import printable
from fastlib.message.topics import check_name

MAX_SECONDS: Final = 1e9


def seconds(text: str) -> float:
    """Return a number of seconds above 0 and up to `MAX_SECONDS`."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= MAX_SECONDS:
        raise argparse.ArgumentTypeError(
            f"expected a number of seconds above 0; got {printable(repr(text))}"
        )
    return value


def positive_integer(text: str) -> int:
    """Return an integer from 1."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 1; got {printable(repr(text))}")
    return number


def host_name(text: str) -> str:
    """Return the name of a host that can stand in a topic."""
    try:
        return check_name(text, "host")
    except ValidationError as error:
        raise argparse.ArgumentTypeError(printable(error.problems[0].message)) from None
