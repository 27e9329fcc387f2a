"""Argument types for argparse that several commands share."""

import argparse
import re
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from fastlib.codec.errors import ValidationError
from fastlib.codec.instants import EXAMPLE, parse_instant
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


NEVER: Final = "never"
_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
"""Seconds in each unit of a duration."""
_DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smhd]?)", re.ASCII)


def expiry(text: str) -> datetime | timedelta | Literal["never"]:
    """Return a duration (`90`, `90s`, `15m`, `2h` or `1d`), a time with a zone, or `never`."""
    if text == NEVER:
        return "never"
    match = _DURATION.fullmatch(text)
    if match is None:
        time = parse_instant(text)
        if time is not None:
            return time
    elif 0 < (length := float(match[1]) * _UNITS[match[2]]) <= MAX_SECONDS:
        return timedelta(seconds=length)
    raise argparse.ArgumentTypeError(
        f"expected a duration above 0 such as 90s, 15m, 2h or 1d, a time with a zone such as "
        f"{EXAMPLE}, or {NEVER}; got {printable(repr(text))}"
    )


def positive_integer(text: str) -> int:
    """Return an integer from 1."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 1; got {printable(repr(text))}")
    return number


def port_number(text: str) -> int:
    """Return the number of a TCP port."""
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(
            f"expected a port from 1 to 65535; got {printable(repr(text))}"
        )
    return int(text)


def host_name(text: str) -> str:
    """Return the name of a host that is valid in a topic."""
    try:
        return check_name(text, "host")
    except ValidationError as error:
        raise argparse.ArgumentTypeError(printable(error.problems[0].message)) from None


class StoreOnce(argparse.Action):
    """Store a value. Refuse a second, different one.

    argparse would use the last one. `--host` of other commands may be repeated, so a user who
    repeats it for an order expects that both hosts get the order.
    """

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Set the attribute. Raises ArgumentError for a second value."""
        before = getattr(namespace, self.dest, None)
        if before is not None and before != values:
            raise argparse.ArgumentError(self, "given twice with different values; give it once")
        setattr(namespace, self.dest, values)
