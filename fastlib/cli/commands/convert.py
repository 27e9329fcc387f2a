"""`fastlib convert`: write the messages of files in their canonical spelling."""

import argparse
import sys
from collections.abc import Sequence

import msgspec

from fastlib.cli.arguments.message_files import (
    STDIN,
    add_type_option,
    find_type,
    load_types,
    read_sources,
)
from fastlib.cli.output.problems import print_problems
from fastlib.cli.output.terminal import is_terminal, write_data
from fastlib.display.json_lines import encode_json
from fastlib.message import Message, validate_all

_EPILOG = """\
examples:
  fastlib convert old-task.yaml
  fastlib convert --to flow messages/*.yaml
  fastlib convert task.yaml --to json | jq '."vm-configurations"[]."vm-name"'
  fastlib convert task.yaml --to flow | mosquitto_pub -q 2 -l -t fast/migfra/node1/task

yaml has the layout of the C++ peers, one document after the other, but several lines of text are a
literal block. flow has each message on one line. json also has one line for each message. Problems
of the input are reported as by 'fastlib validate', on standard error. After an error in any file
nothing is written, and the exit status is 1; it is 2 if a file cannot be read.
"""

_OPENING = "---\n"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    parser.add_argument(
        "files", metavar="FILE", nargs="+", help=f"a file of messages; {STDIN} is standard input"
    )
    parser.add_argument(
        "--to", choices=("yaml", "json", "flow"), default="yaml", help="(default: yaml)"
    )
    add_type_option(parser)


def run(options: argparse.Namespace) -> int:
    load_types(options)
    cls = find_type(options)
    sources = read_sources(options)
    if sources is None:
        return 2
    reports = []
    for source in sources:
        found = validate_all(source.data, cls)
        print_problems(source, [p for report in found for p in report.problems], sys.stderr)
        reports += found
    if not all(report.ok for report in reports):
        return 1
    messages = [report.message for report in reports if isinstance(report.message, Message)]
    if options.to == "json":
        write_data(_json(messages))
    elif options.to == "flow":
        write_data(_lines([message.to_yaml(style="flow") for message in messages]))
    else:
        write_data(_blocks([message.to_yaml(style="literal") for message in messages]))
    return 0


def _blocks(texts: Sequence[str]) -> bytes:
    """Join documents in block style; one `---` separates two documents."""
    joined = f"{texts[0]}\n"
    for text in texts[1:]:
        if not joined.endswith(_OPENING):
            joined += _OPENING
        joined += f"{text.removeprefix(_OPENING)}\n"
    return joined.encode()


def _lines(texts: Sequence[str]) -> bytes:
    """Join documents in flow style, one line each."""
    opening = "--- " if len(texts) > 1 else ""
    return "".join(f"{opening}{text}\n" for text in texts).encode()


def _json(messages: Sequence[Message]) -> bytes:
    lines = [encode_json(message.emit()) for message in messages]
    if is_terminal(sys.stdout):
        lines = [msgspec.json.format(line) for line in lines]
    return b"".join(line + b"\n" for line in lines)
