"""`fastlib describe`: explain the messages and their fields."""

import argparse
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from fastlib.cli.arguments.message_files import load_types
from fastlib.cli.errors import print_error
from fastlib.cli.output.terminal import is_terminal, painter, width_of, write_data
from fastlib.codec.printable import printable
from fastlib.codec.records import Record
from fastlib.display.json_lines import encode_json
from fastlib.message.describe import (
    FieldDescription,
    Group,
    MessageDescription,
    UnknownNameError,
    describe,
    find,
    find_field,
    groups,
)

_EPILOG = """\
examples:
  fastlib describe
  fastlib describe 'migrate vm'
  fastlib describe Migrate parameter.swap-with
  fastlib describe agent.Init --format json

MESSAGE is the name of a type or the title of a task, of a result or of another message; FIELD is a
path as in the problems that 'fastlib validate' reports.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    parser.add_argument("message", metavar="MESSAGE", nargs="?", help="(default: list them all)")
    parser.add_argument("field", metavar="FIELD", nargs="?", help="one of its fields")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    parser.set_defaults(parser=parser)


def run(options: argparse.Namespace) -> int:
    load_types(options)
    found: list[Group] | MessageDescription | FieldDescription
    try:
        if options.message is None:
            found = groups()
        elif options.field is None:
            found = describe(find(options.message))
        else:
            found = find_field(find(options.message), options.field)
    except UnknownNameError as error:
        print_error(options, str(error))
        return 2
    if options.format == "json":
        write_data(msgspec.json.format(encode_json(found)) + b"\n")
        return 0
    printer = _Printer()
    if isinstance(found, list):
        printer.groups(found)
    elif isinstance(found, MessageDescription):
        printer.message(found)
    else:
        printer.field(found)
        if found.message is not None:
            held = describe(find(found.message))
            print()
            printer.message(held)
    return 0


class _Printer:
    """Prints descriptions, wrapped to the width of the terminal."""

    def __init__(self) -> None:
        self.paint = painter(sys.stdout)
        wraps = is_terminal(sys.stdout)
        self.width = max(40, width_of(sys.stdout)) if wraps else None

    def groups(self, groups: Sequence[Group]) -> None:
        rows = [_row(message) for group in groups for message in group.messages]
        titles = max(len(title) for title, _, _ in rows)
        names = max(len(name) for _, name, _ in rows)
        for group in groups:
            heading = self.paint(f"{printable(group.name)}:", "bold")
            print(f"{heading} {printable(group.doc)}")
            for title, name, summary in map(_row, group.messages):
                start = f"  {title:{titles}}  {name:{names}}  "
                self.wrapped(start, summary, len(start))
            print()
        print("'fastlib describe MESSAGE' shows one, by its title or its type.")

    def message(self, message: MessageDescription) -> None:
        print(self.paint(printable(message.name), "bold"))
        for paragraph in message.doc.split("\n\n") if message.doc else ():
            self.wrapped("  ", " ".join(paragraph.split()), 2)
        for name, value in _facts(message):
            self.wrapped(f"  {name}: ", value, 4)
        if message.members:
            print(f"\n{self.paint('members', 'bold')}")
        for place in message.members:
            self.wrapped("  ", f"{place.title}: {place.type}, {place.words}", 4)
        if message.fields:
            print(f"\n{self.paint('fields', 'bold')}")
        for field in message.fields:
            self.field(field)
        if message.rules:
            print(f"\n{self.paint('rules', 'bold')}")
        for rule in message.rules:
            self.wrapped("  ", rule, 4)

    def field(self, field: FieldDescription) -> None:
        unit = f", in {field.unit}" if field.unit else ""
        need = "required" if field.required else "optional"
        key = self.paint(printable(field.key), "bold")
        print(f"  {key}: {printable(f'{field.type}{unit}; {need}')}")
        for line in _details(field):
            self.wrapped("      ", line, 6)

    def wrapped(self, start: str, text: str, indent: int) -> None:
        """Print a text of a declaration, which any package may have made."""
        start, text = printable(start), printable(text)
        if self.width is None or not text:
            print(f"{start}{text}".rstrip())
            return
        print(
            textwrap.fill(
                text,
                self.width,
                initial_indent=start,
                subsequent_indent=" " * indent,
                break_on_hyphens=False,
                break_long_words=False,
            )
        )


def _row(message: MessageDescription) -> tuple[str, str, str]:
    return ", ".join(message.titles), message.name, message.summary


def _facts(message: MessageDescription) -> Iterator[tuple[str, str]]:
    if message.titles:
        titles = " or ".join(f"'task: {title}'" for title in message.titles)
        yield "title", titles if message.title_is_written else f"{titles}, read but never written"
    if message.container is not None:
        yield "in a container", message.container.words
    if message.result is not None:
        own = "" if message.result.type == "Result" else f"{message.result.type}, "
        yield "result", f"'result: {message.result.title}', {own}{message.result.words}"
    if message.form != Record.expected:
        yield "on the wire", message.form


def _details(field: FieldDescription) -> Iterable[str]:
    if field.doc:
        yield field.doc
    if field.aliases:
        keys = " and ".join(f"'{key}'" for key in field.aliases)
        yield f"Also read as {keys}."
    yield from field.notes
    if field.extension is not None:
        yield f"Part of the extension {field.extension}."
    for remedy in field.old.values():
        yield f"{'Refused' if field.refuses_old else 'Not read'}: {remedy}."
