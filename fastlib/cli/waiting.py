"""Sending containers to a host, and printing the results as they come."""

import argparse
import queue
import secrets
import shlex
import sys
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec

from fastlib.codec.errors import ValidationError
from fastlib.message import ResultContainer, TaskContainer
from fastlib.message.topics import check_name

from .connection import complain, guarded, opened, seconds, words_of
from .exit_status import FAILED, TOO_LATE
from .json_lines import write_line
from .phrases import further, phrase_of_result, row
from .progress import Display, make_display
from .terminal import painter, printable

if TYPE_CHECKING:
    from fastlib.client import Handle, MigfraClient

RESULT_SECONDS: Final = 600.0
SILENCE_SECONDS: Final = 3.0
"""After so long without an answer it is said if the host has no daemon that shows itself."""


def add_waiting(group: Any) -> None:
    """Adds how long results are waited for, and how they are printed."""
    group.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=seconds,
        default=RESULT_SECONDS,
        help=f"how long to wait for a result (default: {RESULT_SECONDS:g})",
    )
    group.add_argument(
        "--format",
        choices=("text", "json"),
        default="text",
        help="results as lines of text or as JSON, one object a line (default: text)",
    )


def host_name(text: str) -> str:
    """A host's name, for argparse."""
    try:
        return check_name(text, "host")
    except ValidationError as error:
        raise argparse.ArgumentTypeError(printable(error.problems[0].message)) from None


def execute(options: argparse.Namespace, containers: Sequence[TaskContainer]) -> int:
    """Sends containers to `options.host`; prints results, or ids, as `options.wait` says.

    Returns the exit status.
    """
    return guarded(options, partial(_execute, options, containers))


def _execute(options: argparse.Namespace, containers: Sequence[TaskContainer]) -> int:
    named = [container if container.id else _with_new_id(container) for container in containers]
    with opened(options) as client:
        if options.wait:
            return _Waiting(options, client).run(named)
        for container in named:
            client.submit(options.host, container)
    for container in named:  # the broker has confirmed them by now
        _print_sent(options, container.id)
    return 0


def _with_new_id(container: TaskContainer) -> TaskContainer:
    return msgspec.structs.replace(container, id=secrets.token_hex(8))


def _print_sent(options: argparse.Namespace, id: str | None) -> None:
    if options.format == "json":
        write_line({"host": options.host, "id": id})
    else:
        print(printable(str(id)))


class _Waiting:
    """Tasks that are sent and whose results are waited for."""

    def __init__(self, options: argparse.Namespace, client: "MigfraClient") -> None:
        self._options = options
        self._client = client
        self._answered: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._open: dict[str, TaskContainer] = {}
        """What is not answered yet, by id."""
        self._statuses: set[int] = {0}
        self._told = False

    def run(self, containers: Sequence[TaskContainer]) -> int:
        try:
            with make_display() as display:
                for container in containers:
                    self._send(container, display)
                while self._open:
                    handle = self._next(display)
                    del self._open[handle.id]
                    display.end(handle.host, handle.id)
                    with display.aside():
                        self._statuses.add(self._print(handle))
        except KeyboardInterrupt:
            for container in self._open.values():
                self._say_that_it_goes_on(container)
            raise
        return FAILED if FAILED in self._statuses else max(self._statuses)

    def _next(self, display: Display) -> "Handle[ResultContainer]":
        """What is answered next."""
        handle: Handle[ResultContainer]
        try:
            handle = self._answered.get(timeout=None if self._told else SILENCE_SECONDS)
        except queue.Empty:
            self._told = True
            with display.aside():
                self._tell_of_silence()
            handle = self._answered.get()
        return handle

    def _tell_of_silence(self) -> None:
        host = self._options.host
        presence = self._client.presences.get(host)
        if presence is not None and presence.status == "online":
            return
        seen = "is offline" if presence else "has not shown itself, as C++ daemons do not"
        print(printable(f"waiting; the daemon of {host} {seen}"), file=sys.stderr, flush=True)

    def _send(self, container: TaskContainer, display: Display) -> None:
        options = self._options
        assert container.id is not None
        self._open[container.id] = container  # before it is sent: an interrupt tells of it
        display.begin(options.host, container)
        handle = self._client.submit(
            options.host,
            container,
            timeout=options.timeout,
            on_progress=lambda progress: display.report(options.host, progress),
        )
        handle.add_done_callback(self._answered.put)

    def _print(self, handle: "Handle[ResultContainer]") -> int:
        """Prints what came of a task. Returns the exit status of it."""
        from fastlib.client import ClientError, NoResultError

        try:
            results = handle.result()
        except NoResultError as error:
            complain(self._options, str(error))
            return TOO_LATE
        except ClientError as error:
            complain(self._options, str(error))
            return FAILED
        if self._options.format == "json":
            write_line(row(datetime.now().astimezone(), handle.host, "result", results))
        else:
            _print_results(handle.host, results)
        return 0 if all(result.status == "success" for result in results.results) else FAILED

    def _say_that_it_goes_on(self, container: TaskContainer) -> None:
        host, id = self._options.host, container.id or ""
        about = shlex.join([*words_of(self._options), "--host", host])
        lines = [
            f"'{container.task}' on {host!r} goes on, its id is {id}",
            f"  to see its result: fastlib watch {about}",
            f"  to end it: fastlib cancel {shlex.quote(id)} {about}",
        ]
        for line in lines:
            print(printable(line), file=sys.stderr)


def _print_results(host: str, results: ResultContainer) -> None:
    """A line a result: host, id, title, domain, status, details."""
    paint = painter(sys.stdout)
    for result in results.results:
        style = "mark" if result.status == "success" else "error"
        head = printable(f"{host} {results.id} {results.result}: ")
        print(f"{head}{paint(phrase_of_result(result), style)}")
        for line in further(result):
            print(f"  {line}")
    if not results.results:
        print(printable(f"{host} {results.id} {results.result}: no results"))
    sys.stdout.flush()
