"""`fastlib send`: the tasks of a file to the daemon of a host."""

import argparse
import sys
from collections.abc import Iterable

from fastlib.codec.errors import Problem, Report
from fastlib.message import TaskContainer, validate_all

from .connection import add_connection
from .exit_status import FAILED, UNUSABLE, WORDS
from .options import load_types, print_unreadable
from .problems import print_text
from .source import STDIN, read
from .waiting import add_waiting, execute, host_name

_EPILOG = f"""\
examples:
  fastlib send node01 task.yaml
  fastlib send node01 task.yaml --wait --timeout 60
  fastlib convert old-task.yaml | fastlib send node01 - --wait --format json

A file may hold several documents, each a task container; each is sent. What has errors is not sent,
nor are the others of the file; they are told as by 'fastlib validate'. A container without an id
gets one. Without --wait the ids are printed once the broker has confirmed the messages.

{WORDS}"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    parser.usage = "%(prog)s HOST FILE [--wait] [OPTION ...]"
    parser.add_argument("host", metavar="HOST", type=host_name, help="whose daemon is meant")
    parser.add_argument("file", metavar="FILE", help=f"task containers; {STDIN} is standard input")
    group = parser.add_argument_group("the results")
    group.add_argument("--wait", action="store_true", help="wait for the results and print them")
    add_waiting(group)
    add_connection(parser)


def run(options: argparse.Namespace) -> int:
    load_types(options)
    try:
        source = read(options.file)
    except OSError as error:
        print_unreadable(options, options.file, error)
        return UNUSABLE
    reports = validate_all(source.data)
    if all(report.ok for report in reports) and not all(map(_is_task, reports)):
        reports = validate_all(source.data, TaskContainer)  # it knows where the title stands
    print_text(source, _problems(reports), sys.stderr)
    if not all(report.ok for report in reports):
        return FAILED
    containers = [r.message for r in reports if isinstance(r.message, TaskContainer)]
    twice = _twice(containers)
    if twice is not None:
        print_text(source, [_taken(twice)], sys.stderr)
        return FAILED
    return execute(options, containers)


def _problems(reports: Iterable[Report]) -> list[Problem]:
    return [problem for report in reports for problem in report.problems]


def _is_task(report: Report) -> bool:
    return isinstance(report.message, TaskContainer)


def _twice(containers: Iterable[TaskContainer]) -> str | None:
    """An id that two containers have."""
    seen: set[str] = set()
    for container in containers:
        if container.id in seen:
            return container.id
        if container.id is not None:
            seen.add(container.id)
    return None


def _taken(id: str) -> Problem:
    message = f"two containers have the id {id!r}; their results could not be told apart"
    return Problem(code="value", message=message, path="id")
