"""`fastlib query`: show the hosts' resources, their domains and the tasks in progress."""

import argparse
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from fastlib.cli.arguments.broker import add_broker_options
from fastlib.cli.arguments.questions import (
    add_format_option,
    add_hosts_option,
    add_timeout_option,
)
from fastlib.cli.connection import exit_status_of, open_client
from fastlib.cli.errors import FAILED, TIMED_OUT, print_error
from fastlib.cli.host_search import (
    NO_DAEMON,
    find_hosts,
    ignorance_reason,
    offline_reason,
    silence_reason,
)
from fastlib.cli.output.host_table import host_row, print_hosts, print_report
from fastlib.cli.output.terminal import flush_output, write_data, write_json_line
from fastlib.display.json_lines import message_row
from fastlib.display.text import natural_key
from fastlib.message import NodeReport, NodeResult, Query, ResultContainer
from fastlib.message.node import Presence
from fastlib.transport.errors import RefusedError

if TYPE_CHECKING:
    from fastlib.client import Handle, MigfraClient

_EPILOG: Final = """\
examples:
  fastlib query
  fastlib query --host node01
  fastlib query --host node01 --host node02 --format yaml
  fastlib query --format json | jq '.message.list[0].node."free-memory"'

All hosts, and several, are a table. One host is shown with its domains and its tasks in progress.
Sizes are rounded. '-' is a value that the daemon does not know.

--format yaml and json are exact, with memory in KiB: the result of each host, as YAML documents, or
as one JSON object a line with the keys time, host, kind, id, message and error.

The exit status is 0 if all daemons that are online answered, and those of --host; 1 if one answered
an error, 2 for wrong usage or no broker, 3 if one did not answer, if one of --host is offline, or
if no daemon has a presence. Without --host, offline hosts do not count.
"""

ANSWER_SECONDS: Final = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    parser.usage = "%(prog)s [--host HOST] [OPTION ...]"
    group = parser.add_argument_group("the question")
    add_hosts_option(group, "query the daemon of")
    add_timeout_option(group, "how long to wait for the daemons", ANSWER_SECONDS)
    add_format_option(
        group, "text for people, or the exact results as JSON or YAML", ("text", "json", "yaml")
    )
    add_broker_options(parser)


def run(options: argparse.Namespace) -> int:
    return exit_status_of(options, partial(_run, options))


class _Answer(msgspec.Struct, frozen=True):
    """The answer of one host, or the reason why there is none."""

    host: str
    presence: Presence | None
    results: ResultContainer | None = None
    error: str | None = None
    status: int = 0
    """The exit status for it."""

    @property
    def report(self) -> NodeReport | None:
        for result in () if self.results is None else self.results.results:
            if isinstance(result, NodeResult):
                return result.node
        return None


def _run(options: argparse.Namespace) -> int:
    with open_client(options) as client:
        answers = _ask(options, client)
    now = datetime.now().astimezone()
    if options.format == "json":
        for answer in answers:
            row = message_row(now, answer.host, "result", answer.results)
            write_json_line({**row, "error": answer.error})
    elif options.format == "yaml":
        texts = [f"{a.results.to_yaml()}\n" for a in answers if a.results is not None]
        write_data("".join(texts).encode())
    else:
        _print(options, answers, now)
    if options.format != "json":
        _print_problems(options, answers)
    if not answers:
        print_error(options, NO_DAEMON)
        return TIMED_OUT
    statuses = {answer.status for answer in answers}
    return FAILED if FAILED in statuses else max(statuses)


def _ask(options: argparse.Namespace, client: "MigfraClient") -> list[_Answer]:
    """Query the daemons at the same time, and wait for their answers."""
    answers: dict[str, _Answer] = {}
    handles: dict[str, Handle[ResultContainer]] = {}
    for host, presence, _ in find_hosts(client, options.hosts):
        if presence is not None and presence.status == "offline":
            status = 0 if options.hosts is None else TIMED_OUT
            error = offline_reason(presence)
            answers[host] = _Answer(host, presence, error=error, status=status)
            continue
        try:
            # The query changes nothing, and a daemon whose clock is ahead must also answer.
            handles[host] = client.submit(host, Query(), timeout=options.timeout, expires=None)
        except RefusedError as refusal:
            answers[host] = _Answer(host, presence, error=str(refusal), status=TIMED_OUT)
    for host, handle in handles.items():
        answers[host] = _answer(options, client, host, handle)
    return [answers[host] for host in sorted(answers, key=natural_key)]


def _answer(
    options: argparse.Namespace,
    client: "MigfraClient",
    host: str,
    handle: "Handle[ResultContainer]",
) -> _Answer:
    from fastlib.client import ClientError, NoResultError, NotUnderstoodError

    try:
        results = handle.result()
    except NoResultError:
        presence = client.presence(host)
        error = silence_reason(options, presence)
        return _Answer(host, presence, error=error, status=TIMED_OUT)
    except NotUnderstoodError as problem:
        error = ignorance_reason("query node", problem.details)
        return _Answer(host, client.presence(host), error=error, status=FAILED)
    except RefusedError as problem:
        return _Answer(host, client.presence(host), error=str(problem), status=TIMED_OUT)
    except ClientError as problem:
        return _Answer(host, client.presence(host), error=str(problem), status=FAILED)
    errors = [result.details or "error" for result in results.results if result.status == "error"]
    error_text = "; ".join(errors) or None
    return _Answer(host, client.presence(host), results, error_text, status=FAILED if errors else 0)


def _print(options: argparse.Namespace, answers: Sequence[_Answer], now: datetime) -> None:
    if options.hosts is not None and len(answers) == 1:
        if (report := answers[0].report) is not None:
            print_report(report, now)
    elif answers:
        print_hosts([host_row(answer.host, answer.presence, answer.report) for answer in answers])
    flush_output()


def _print_problems(options: argparse.Namespace, answers: Sequence[_Answer]) -> None:
    for answer in answers:
        if answer.status:
            print_error(options, f"{answer.host}: {answer.error}")
        degraded = answer.presence.degraded if answer.presence is not None else None
        if answer.report is not None:
            degraded = answer.report.degraded or degraded
        if degraded:
            print_error(options, f"{answer.host} is degraded: {degraded}", "warning")
