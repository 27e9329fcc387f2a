"""`fastlib compat`: check whether two versions of the messages understand each other."""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from itertools import groupby
from typing import get_args

import msgspec

from fastlib.cli.arguments.values import positive_integer
from fastlib.cli.errors import print_error
from fastlib.cli.output.terminal import painter, write_data
from fastlib.codec.errors import FastlibError
from fastlib.display.json_lines import encode_json
from fastlib.display.text import printable
from fastlib.schema import (
    CompatibilityReport,
    Level,
    MessageReport,
    SchemaFolder,
    compare_all,
    find_released,
    find_version,
)

_EPILOG = """\
examples:
  fastlib compat schemas/released/0.1.0.dev0 schemas
  fastlib compat git:HEAD~1 schemas --level backward
  fastlib compat installed python:/opt/new/bin/python
  fastlib compat --transitive schemas/released schemas

OLD and NEW are each a folder that 'fastlib schema --write' has made; git:REVISION, for the folder
schemas/ of a revision of the repository here; python:INTERPRETER, for the fastlib of another
Python; or 'installed', for the running fastlib. With --transitive, NEW is compared with all earlier
versions; a folder of released versions means all of them.

The exit status is 0 if no message breaks, 1 if a message breaks (with --strict also if a message is
unproven, or a key is ignored), 2 for wrong usage or a version that cannot be read.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    parser.add_argument("versions", metavar="OLD", nargs="+", help="the earlier version")
    parser.add_argument("new", metavar="NEW", help="the later version")
    parser.add_argument(
        "--level",
        choices=get_args(Level),
        default="full",
        help="backward: NEW reads the messages of OLD; forward: OLD reads the messages of NEW; "
        "full: both (default: full)",
    )
    parser.add_argument("--transitive", action="store_true", help="compare with more than one OLD")
    parser.add_argument(
        "--searches",
        metavar="N",
        type=positive_integer,
        default=500,
        help="maximum number of messages to try if there is no proof (default: 500)",
    )
    parser.add_argument("--strict", action="store_true", help="unproven and ignored messages fail")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    parser.set_defaults(parser=parser)


def run(options: argparse.Namespace) -> int:
    if len(options.versions) > 1 and not options.transitive:
        options.parser.error("more than one OLD needs --transitive")
    try:
        with tempfile.TemporaryDirectory(prefix="fastlib-compat-") as folder:
            versions = list(_versions(options, folder))
            reports = compare_all(versions, options.level, searches=options.searches)
    except FastlibError as error:
        print_error(options, str(error))
        return 2
    if options.format == "json":
        rows = [_row(report) for report in reports]
        write_data(msgspec.json.format(encode_json(rows)) + b"\n")
    else:
        for report in reports:
            _print(report)
    fine = all(r.proven if options.strict else r.compatible for r in reports)
    return 0 if fine else 1


def _versions(options: argparse.Namespace, folder: str) -> Iterator[SchemaFolder]:
    for name in options.versions:
        released = find_released(name) if options.transitive else []
        yield from released or [find_version(name, folder)]
    yield find_version(options.new, folder)


def _row(report: CompatibilityReport) -> dict[str, object]:
    facts = {"compatible": report.compatible, "proven": report.proven}
    return facts | msgspec.structs.asdict(report)


def _print(report: CompatibilityReport) -> None:
    paint = painter(sys.stdout)
    for direction, messages in (("backward", report.backward), ("forward", report.forward)):
        if not messages:
            continue
        writer, reader = (printable(name) for name in (messages[0].writer, messages[0].reader))
        head = f"{direction}: {reader} reads the messages of {writer}"
        counts = [f"{len([*group])} {status}" for status, group in _by_status(messages)]
        print(f"{paint(head, 'bold')}: {', '.join(counts)}")
        for message in messages:
            name = printable(message.message)
            if message.status == "incompatible":
                _print_break(message)
            elif message.status == "unproven":
                said = "; ".join(message.reasons) or f"none of {message.searched} messages broke"
                print(f"  {name}: {paint('unproven', 'warning')}: {printable(said)}")
            elif message.status == "new":
                print(f"  {name}: new, so {reader} does not know it")
            for key in message.ignored:
                words = f"is read, but {reader} ignores the key '{printable(key)}'"
                print(f"  {name}: {paint('warning', 'warning')}: {words}")


def _print_break(message: MessageReport) -> None:
    paint = painter(sys.stdout)
    for sender, receiver in message.sides or (("any sender", "any receiver"),):
        whom = f"{sender} on {message.writer} -> {receiver} on {message.reader}"
        print(f"  {printable(message.message)}: {paint('breaks', 'error')}: {printable(whom)}")
    for reason in message.reasons:
        print(f"    {printable(reason)}")
    for line in (message.counterexample or "").splitlines():
        print(f"    | {printable(line)}")


def _by_status(messages: tuple[MessageReport, ...]) -> Iterator[tuple[str, Iterator[str]]]:
    order = ["compatible", "incompatible", "unproven", "new"]
    states = sorted((message.status for message in messages), key=order.index)
    return ((status, iter([*group])) for status, group in groupby(states))
