"""Arguments of commands that read messages: files, and the type of their messages."""

import argparse
import errno
import sys
from functools import cached_property
from typing import BinaryIO, Final

from fastlib.cli.errors import print_error
from fastlib.codec.errors import MessageError
from fastlib.codec.limits import DEFAULT_LIMITS
from fastlib.codec.text import decode
from fastlib.display.text import printable
from fastlib.message import Message
from fastlib.message.entry_points import load_entry_points

STDIN: Final = "-"
"""Standard input on the command line."""


# --- files ----------------------------------------------------------------------------------------


class Source:
    """The bytes of a file, and its lines."""

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
        """Return a line, counted from 1, without its end; empty if there is none."""
        return self._lines[number - 1].removesuffix("\r") if number <= len(self._lines) else ""


def read_source(name: str) -> Source:
    """Read a file, or standard input. Raises OSError.

    Reads at most one byte more than the codec accepts, so the codec can report an excess.
    """
    size = DEFAULT_LIMITS.max_bytes + 1
    if name != STDIN:
        with open(name, "rb") as file:
            return Source(name, file.read(size))
    if sys.stdin is None:
        raise OSError(errno.EBADF, "it is closed")
    stdin: BinaryIO = sys.stdin.buffer
    return Source(_display_name(name), stdin.read(size))


def read_sources(options: argparse.Namespace) -> list[Source] | None:
    """Read `options.files`. Print each unreadable file. Return None if there is one.

    Standard input twice is wrong usage and ends the process.
    """
    check_stdin_once(options)
    sources: list[Source] = []
    for name in options.files:
        try:
            sources.append(read_source(name))
        except OSError as error:
            print_unreadable(options, name, error)
    return sources if len(sources) == len(options.files) else None


def check_stdin_once(options: argparse.Namespace) -> None:
    """Check that `options.files` has standard input at most once; else end the process."""
    if options.files.count(STDIN) > 1:
        parser: argparse.ArgumentParser = options.parser
        parser.error(f"standard input, {STDIN}, can be read only once")


def print_unreadable(options: argparse.Namespace, name: str, error: OSError) -> None:
    """Print that a file cannot be read, with the reason."""
    print_error(options, f"{_display_name(name)}: {error.strerror or error}")


def _display_name(name: str) -> str:
    return "<stdin>" if name == STDIN else name


# --- types ----------------------------------------------------------------------------------------


def load_types(options: argparse.Namespace) -> None:
    """Import the messages of installed packages; warn about broken ones."""
    for broken in load_entry_points():
        print_error(options, str(broken), "warning")


def add_type_option(parser: argparse.ArgumentParser) -> None:
    """Add `--type`."""
    parser.add_argument(
        "--type",
        metavar="NAME",
        help="the type of messages without a title, such as mmbwmon.Reply or Stop; 'fastlib "
        "describe' lists them",
    )
    parser.set_defaults(parser=parser)


def find_type(options: argparse.Namespace) -> type[Message] | None:
    """Return the type that `--type` names. An unknown name is wrong usage and ends the process."""
    if options.type is None:
        return None
    from fastlib.message.describe import UnknownNameError, find

    parser: argparse.ArgumentParser = options.parser
    try:
        return find(options.type, by_title=False)
    except UnknownNameError as error:
        parser.error(f"argument --type: {printable(str(error))}")
