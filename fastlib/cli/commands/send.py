"""`fastlib send`: send the tasks of a file to the daemon of a host."""

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from fastlib.cli.arguments.broker import add_broker_options
from fastlib.cli.arguments.message_files import STDIN, Source, load_types, read_sources
from fastlib.cli.arguments.values import host_name
from fastlib.cli.errors import EXIT_STATUS_HELP, FAILED, UNUSABLE
from fastlib.cli.output.problems import print_problems
from fastlib.cli.sending import add_order_options, add_result_options, send_containers
from fastlib.codec.errors import Problem, Report
from fastlib.display.text import join_names
from fastlib.message import ResultContainer, TaskContainer, validate_all

_EPILOG = f"""\
examples:
  fastlib send node01 task.yaml
  fastlib send node01 start.yaml migrate.yaml --timeout 60
  fastlib send node01 task.yaml --no-wait --new-id --expires 15m --only-if-online
  fastlib convert old-task.yaml | fastlib send node01 - --format json

A file may hold several documents, each a task container; each is sent. If a file has errors, they
are reported as by 'fastlib validate', and nothing of any file is sent. A container without an id
gets a new one, so it is executed each time it is sent. One with an id is executed once: sent again,
it is answered from the daemon's journal. If it also has an idempotency-key, that counts instead.
--new-id makes it a new order. With --no-wait the ids are printed once the broker has confirmed the
messages.

{EXIT_STATUS_HELP}"""

_FILE_NAME_ENDS: Final = (".yaml", ".yml", ".json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    parser.usage = "%(prog)s HOST FILE [FILE ...] [OPTION ...]"
    parser.add_argument(
        "host", metavar="HOST", type=host_name, help="the host whose daemon gets the tasks"
    )
    parser.add_argument(
        "files", metavar="FILE", nargs="+", help=f"task containers; {STDIN} is standard input"
    )
    group = parser.add_argument_group("the results")
    add_result_options(group)
    order = parser.add_argument_group("the order")
    ids = order.add_mutually_exclusive_group()
    ids.add_argument(
        "--id", metavar="ID", help="the id to send it with, instead of the file's; for one task"
    )
    ids.add_argument(
        "--new-id",
        action="store_true",
        help="replace the ids and the idempotency keys of the files by new ones; each task is "
        "then executed, also again",
    )
    add_order_options(order)
    add_broker_options(parser)


def run(options: argparse.Namespace) -> int:
    load_types(options)
    if options.host.endswith(_FILE_NAME_ENDS) and Path(options.host).is_file():
        # The host was forgotten: the first file would be the name of a host without a daemon.
        options.parser.error(f"{options.host} is a file; the host comes before the files")
    sources = read_sources(options)
    if sources is None:
        if Path(options.host).is_file():
            options.parser.error(f"{options.host} is a file; the host comes before the files")
        return UNUSABLE
    read = [(source, container) for source in sources for container in _read(source)]
    containers = [container for _, container in read if container is not None]
    if len(containers) < len(read):
        return FAILED
    for option in ("--id", "--idempotency-key"):
        if getattr(options, option[2:].replace("-", "_")) and len(containers) != 1:
            options.parser.error(
                f"{option} is for one task container; {join_names(options.files)} "
                f"{'have' if len(sources) > 1 else 'has'} {len(containers)}"
            )
    if options.id:
        containers = [replace(container, id=options.id) for container in containers]
    if options.new_id:
        containers = [replace(one, id=None, idempotency_key=None) for one in containers]
    duplicate = _duplicate_id(containers)
    if duplicate is not None:
        source = next(source for source, one in reversed(read) if one and one.id == duplicate)
        print_problems(source, [_duplicate_problem(duplicate)], sys.stderr)
        return FAILED
    return send_containers(options, containers)


def _read(source: Source) -> Iterator[TaskContainer | None]:
    """Print the problems of a file. Yield its containers, and None for each other document."""
    reports = validate_all(source.data)
    if all(report.ok for report in reports) and not all(map(_is_task, reports)):
        # Read as tasks, the documents have problems with the place of the title.
        as_tasks = validate_all(source.data, TaskContainer)
        reports = list(map(_as_task, reports, as_tasks))
    print_problems(source, _problems(reports), sys.stderr)
    for report in reports:
        yield report.message if isinstance(report.message, TaskContainer) else None


def _as_task(report: Report, as_task: Report) -> Report:
    """Return the report of a document as a task. For a result, it names the right command."""
    if not isinstance(report.message, ResultContainer):
        return as_task
    problem = replace(
        as_task.problems[0],
        path="result",
        message=f"this is a result, {report.message.result!r}, which a daemon sends; expected a "
        "task. 'fastlib validate' checks a result, and 'fastlib convert' prints it",
    )
    return Report(None, [problem])


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
    message = f"two containers have the id {id!r}; their results could not be distinguished"
    return Problem(code="value", message=message, path="id")
