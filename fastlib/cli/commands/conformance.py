"""`fastlib conformance`: test whether another implementation understands every message."""

import argparse
import sys

from fastlib.cli.arguments.message_files import load_types, print_unreadable
from fastlib.cli.arguments.values import positive_integer, seconds
from fastlib.cli.errors import print_error
from fastlib.cli.output.terminal import is_terminal, width_of, write_data
from fastlib.display.text import printable
from fastlib.extras import MissingExtraError
from fastlib.message import Message
from fastlib.message.describe import UnknownNameError
from fastlib.testing.conformance import (
    AllowedError,
    CannotStartError,
    ConformanceReport,
    Progress,
    as_json,
    as_junit,
    as_text,
    read_allowed,
    serve,
)
from fastlib.testing.conformance import run as run_conformance
from fastlib.testing.conformance.protocol import type_of
from fastlib.testing.conformance.runner import EXAMPLES, TIMEOUT

_EPILOG = """\
examples:
  fastlib conformance -- ./my-peer --some-option
  fastlib conformance --types Stop,Result --examples 500 -- ./my-peer
  fastlib conformance --format junit --output report.xml --allow known.txt -- ./my-peer
  fastlib conformance -- fastlib conformance --serve

COMMAND reads a request a line on its standard input, {"type": "Stop", "yaml": "vm-name: a"}, and
answers each with a line, {"ok": true, "emit": TEXT}, TEXT being the YAML that it would send for
what it understood, or {"ok": false, "error": "why"}, or {"unsupported": NAME} for a type or an
option that it does not have. It is asked for each key with each kind of value, for each spelling
and each mistake, then for random messages, then for the golden vectors. Each difference has a name,
which is the same for every seed. A line NAME: WHY in the file of --allow allows it.

The exit status is 0 if the two agree, 1 if they do not, 2 for wrong usage or a COMMAND that cannot
be started.
"""

_WRITERS = {"text": as_text, "json": as_json, "junit": as_junit}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    parser.usage = "fastlib conformance [OPTION ...] -- COMMAND ...\n       %(prog)s --serve"
    parser.add_argument("command", metavar="COMMAND", nargs="*", help="questions")
    parser.add_argument("--serve", action="store_true", help="answer requests, like COMMAND")
    parser.add_argument(
        "--examples",
        metavar="N",
        type=positive_integer,
        default=EXAMPLES,
        help=f"random messages of each type (default: {EXAMPLES})",
    )
    parser.add_argument(
        "--seed",
        metavar="N",
        type=int,
        default=0,
        help="start value of the random choices; another one gives other messages",
    )
    parser.add_argument(
        "--types",
        metavar="A,B",
        help="only these types; 'fastlib describe' lists them (default: all)",
    )
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=seconds,
        default=TIMEOUT,
        help=f"for each answer (default: {TIMEOUT:g})",
    )
    parser.add_argument("--allow", metavar="FILE", help="known differences: lines of NAME: WHY")
    parser.add_argument(
        "--format",
        choices=tuple(_WRITERS),
        default="text",
        help="text for people, json for programs, junit for collectors of test results "
        "(default: text)",
    )
    parser.add_argument("--output", metavar="FILE", help="write there (default: standard output)")
    parser.set_defaults(parser=parser)


def run(options: argparse.Namespace) -> int:
    parser: argparse.ArgumentParser = options.parser
    if options.serve == bool(options.command):
        parser.error("give either -- COMMAND or --serve")
    load_types(options)
    if options.serve:
        if sys.stdin is None or sys.stdout is None:
            print_error(options, "--serve needs an open standard input and output")
            return 2
        serve(sys.stdin.buffer, sys.stdout.buffer)
        return 0
    types = _types(options)
    try:
        allowed = _allowed(options)
    except OSError as error:
        print_unreadable(options, options.allow, error)
        return 2
    progress = _print_progress if is_terminal(sys.stderr) else None
    try:
        report = run_conformance(
            options.command,
            types=types,
            examples=options.examples,
            seed=options.seed,
            timeout=options.timeout,
            allowed=allowed,
            progress=progress,
        )
    except (CannotStartError, MissingExtraError) as error:
        print_error(options, str(error))
        return 2
    finally:
        if progress is not None:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
    return _write(options, report)


def _write(options: argparse.Namespace, report: ConformanceReport) -> int:
    # The tested command may print a lone surrogate, which UTF-8 cannot encode.
    data = _WRITERS[options.format](report).encode("utf-8", "backslashreplace")
    if options.output is None:
        write_data(data)
    else:
        try:
            with open(options.output, "wb") as file:
                file.write(data)
        except OSError as error:
            print_error(options, f"cannot write {options.output}: {error.strerror}")
            return 2
        summary = as_text(report).rstrip("\n").rpartition("\n")[2]
        print(printable(f"{options.output}: {summary}"), file=sys.stderr)
    return 0 if report.ok else 1


def _types(options: argparse.Namespace) -> list[type[Message]] | None:
    parser: argparse.ArgumentParser = options.parser
    if options.types is None:
        return None
    try:
        return [type_of(name.strip()) for name in options.types.split(",")]
    except UnknownNameError as error:
        parser.error(f"argument --types: {printable(str(error))}")


def _allowed(options: argparse.Namespace) -> dict[str, str]:
    parser: argparse.ArgumentParser = options.parser
    if options.allow is None:
        return {}
    try:
        with open(options.allow, encoding="utf-8") as file:
            return read_allowed(file)
    except (AllowedError, UnicodeDecodeError) as error:
        parser.error(f"argument --allow: {printable(f'{options.allow}: {error}')}")


def _print_progress(progress: Progress) -> None:
    text = (
        f"{progress.number}/{progress.of} {progress.type}: {progress.requests} requests, "
        f"{progress.differences} differences"
    )
    text = text[: width_of(sys.stderr) - 1]
    print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
