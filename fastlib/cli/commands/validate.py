"""`fastlib validate`: print every problem of every message in files."""

import argparse
import sys
from collections.abc import Iterable
from typing import Any

from fastlib.cli.arguments.message_files import (
    STDIN,
    Source,
    add_type_option,
    check_stdin_once,
    find_type,
    load_types,
    print_unreadable,
    read_source,
)
from fastlib.cli.output.problems import github_annotation, print_problems
from fastlib.cli.output.terminal import is_terminal, write_data
from fastlib.codec.errors import Problem, Report
from fastlib.display.json_lines import encode_json
from fastlib.display.text import plural
from fastlib.message import validate_all

_EPILOG = """\
examples:
  fastlib validate task.yaml results/*.yaml
  mosquitto_sub -C 1 -t 'fast/migfra/+/task' | fastlib validate -
  fastlib validate --strict --format github messages/*.yaml
  fastlib validate --type mmbwmon.Reply reply.yaml

Each problem is one line, FILE:LINE:COLUMN: error: PATH: what is wrong. A file may hold several
documents, each a message; lines count from the beginning of the file. Warnings are about what can
be read, but is probably not meant, such as an unknown key.

The exit status is 0 if there is no error (with --strict: no warning either), 1 if there is, 2 if a
file cannot be read.
"""

_FIELDS = (
    "line", "column", "severity", "code", "path", "message", "expected", "got", "suggestion",
)  # fmt: skip
"""Keys of each problem in JSON; an absent value is null."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    parser.add_argument(
        "files", metavar="FILE", nargs="+", help=f"a file of messages; {STDIN} is standard input"
    )
    parser.add_argument(
        "--format",
        choices=("text", "json", "github"),
        default="text",
        help="text for people and editors, json for programs, github for annotations in its "
        "workflows (default: text)",
    )
    parser.add_argument("--strict", action="store_true", help="warnings also fail")
    add_type_option(parser)


def run(options: argparse.Namespace) -> int:
    check_stdin_once(options)
    load_types(options)
    cls = find_type(options)
    messages = errors = warnings = 0
    unreadable = False
    rows: list[dict[str, Any]] = []
    for name in options.files:
        try:
            source = read_source(name)
        except OSError as error:
            print_unreadable(options, name, error)
            unreadable = True
            continue
        reports = validate_all(source.data, cls)
        if options.format == "text":
            print_problems(source, _problems(reports), sys.stdout)
        elif options.format == "github":
            for problem in _problems(reports):
                print(github_annotation(source, problem))
        else:
            rows += _rows(source, reports)
        messages += len(reports)
        errors += sum(len(report.errors) for report in reports)
        warnings += sum(len(report.warnings) for report in reports)
    if options.format == "json":
        _print_json(rows)
    elif options.format == "text" and is_terminal(sys.stdout):
        print(_summary(messages, errors, warnings))
    if unreadable:
        return 2
    return 1 if errors or (options.strict and warnings) else 0


def _problems(reports: Iterable[Report]) -> list[Problem]:
    return [problem for report in reports for problem in report.problems]


def _rows(source: Source, reports: Iterable[Report]) -> list[dict[str, Any]]:
    # A file name may be any bytes, but JSON is text.
    file = source.name.encode("utf-8", "backslashreplace").decode()
    return [
        {"file": file, "document": number} | {field: getattr(problem, field) for field in _FIELDS}
        for number, report in enumerate(reports, 1)
        for problem in report.problems
    ]


def _print_json(rows: list[dict[str, Any]]) -> None:
    lines = [encode_json(row) for row in rows]
    write_data(b"[" + b",".join(b"\n  " + line for line in lines) + b"\n]\n" if lines else b"[]\n")


def _summary(messages: int, errors: int, warnings: int) -> str:
    counts = [plural(errors, "error")] if errors else []
    counts += [plural(warnings, "warning")] if warnings else []
    return f"{plural(messages, 'message')}: {', '.join(counts) or 'no problems'}"
