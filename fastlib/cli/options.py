"""What commands that read messages have in common."""

import argparse
import sys

from fastlib.message import Message
from fastlib.message.extensions import load_extensions

from .source import title
from .terminal import printable


def load_types(options: argparse.Namespace) -> None:
    """Makes the messages of other packages known; warns of those that are broken."""
    for broken in load_extensions():
        print(f"{options.parser.prog}: warning: {printable(str(broken))}", file=sys.stderr)


def add_type(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--type",
        metavar="NAME",
        help="the type of the messages, where no title tells it, such as mmbwmon.Reply or Stop; "
        "'fastlib describe' lists them",
    )
    parser.set_defaults(parser=parser)


def find_type(options: argparse.Namespace) -> type[Message] | None:
    """The type that was asked for. Ends the process with wrong usage if there is none such."""
    if options.type is None:
        return None
    from fastlib.message.describe import UnknownNameError, find

    parser: argparse.ArgumentParser = options.parser
    try:
        return find(options.type, by_title=False)
    except UnknownNameError as error:
        parser.error(f"argument --type: {printable(str(error))}")


def print_unreadable(options: argparse.Namespace, name: str, error: OSError) -> None:
    """Says that a file cannot be read, as other commands do."""
    program = options.parser.prog
    reason = error.strerror or error
    print(f"{program}: error: {printable(title(name))}: {reason}", file=sys.stderr)
