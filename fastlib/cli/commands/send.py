"""`fastlib send`: send the tasks of a file to the daemon of a host."""

import argparse
import sys
from collections.abc import Iterable

from msgspec.structs import replace

from fastlib.cli.arguments.broker import add_broker_options
from fastlib.cli.arguments.message_files import STDIN, load_types, print_unreadable, read_source
from fastlib.cli.arguments.values import host_name
from fastlib.cli.errors import EXIT_STATUS_HELP, FAILED, UNUSABLE
from fastlib.cli.output.problems import print_problems
from fastlib.cli.sending import add_order_options, add_result_options, send_containers
from fastlib.codec.errors import Problem, Report
from fastlib.message import TaskContainer, validate_all

_EPILOG = f"""\
examples:
  fastlib send node01 task.yaml
  fastlib send node01 task.yaml --wait --timeout 60
  fastlib send node01 task.yaml --new-id --expires 15m --only-if-online
  fastlib convert old-task.yaml | fastlib send node01 - --wait --format json

A file may hold several documents, each a task container; each is sent. If one has errors, they are
reported as by 'fastlib validate' and nothing of the file is sent. A container without an id gets
a new one, so it is executed each time it is sent. One with an id is executed once: sent again, it
is answered from the daemon's journal. If it has an idempotency-key as well, that counts instead.
--new-id makes it a new order. Without --wait the ids are printed once the broker has confirmed the
messages.

{EXIT_STATUS_HELP}"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    parser.usage = "%(prog)s HOST FILE [--wait] [OPTION ...]"
    parser.add_argument("host", metavar="HOST", type=host_name, help="whose daemon is meant")
    parser.add_argument("file", metavar="FILE", help=f"task containers; {STDIN} is standard input")
    group = parser.add_argument_group("the results")
    group.add_argument("--wait", action="store_true", help="wait for the results and print them")
    add_result_options(group)
    order = parser.add_argument_group("the order")
    ids = order.add_mutually_exclusive_group()
    ids.add_argument(
        "--id", metavar="ID", help="the id to send it with, instead of the file's; for one task"
    )
    ids.add_argument(
        "--new-id",
        action="store_true",
        help="replace the ids and the idempotency keys of the file by new ones, so that each task "
        "is executed (again)",
    )
    add_order_options(order)
    add_broker_options(parser)


def run(options: argparse.Namespace) -> int:
    load_types(options)
    try:
        source = read_source(options.file)
    except OSError as error:
        print_unreadable(options, options.file, error)
        return UNUSABLE
    reports = validate_all(source.data)
    if all(report.ok for report in reports) and not all(map(_is_task, reports)):
        reports = validate_all(source.data, TaskContainer)  # reports the place of the title
    print_problems(source, _problems(reports), sys.stderr)
    if not all(report.ok for report in reports):
        return FAILED
    containers = [r.message for r in reports if isinstance(r.message, TaskContainer)]
    for option in ("--id", "--idempotency-key"):
        if getattr(options, option[2:].replace("-", "_")) and len(containers) != 1:
            options.parser.error(
                f"{option} is for a file with one task container; {options.file} has "
                f"{len(containers)}"
            )
    if options.id:
        containers = [replace(container, id=options.id) for container in containers]
    if options.new_id:
        containers = [replace(one, id=None, idempotency_key=None) for one in containers]
    duplicate = _duplicate_id(containers)
    if duplicate is not None:
        print_problems(source, [_duplicate_problem(duplicate)], sys.stderr)
        return FAILED
    return send_containers(options, containers)


def _problems(reports: Iterable[Report]) -> list[Problem]:
    return [problem for report in reports for problem in report.problems]


def _is_task(report: Report) -> bool:
    return isinstance(report.message, TaskContainer)


def _duplicate_id(containers: Iterable[TaskContainer]) -> str | None:
    """Return an id that two containers have."""
    seen: set[str] = set()
    for container in containers:
        if container.id in seen:
            return container.id
        if container.id is not None:
            seen.add(container.id)
    return None


def _duplicate_problem(id: str) -> Problem:
    message = f"two containers have the id {id!r}; their results could not be told apart"
    return Problem(code="value", message=message, path="id")
