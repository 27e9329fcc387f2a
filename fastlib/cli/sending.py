"""Send task containers to a host, and print the results."""

import argparse
import queue
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec

from fastlib.cli.arguments.broker import broker_arguments
from fastlib.cli.arguments.questions import add_format_option
from fastlib.cli.arguments.values import NEVER, expiry, seconds
from fastlib.cli.output.task_progress import Display, make_display
from fastlib.cli.output.terminal import flush_output, painter, write_json_line
from fastlib.codec.instants import EXAMPLE
from fastlib.display.json_lines import message_row
from fastlib.display.message_text import (
    answered_from_journal,
    extra_result_lines,
    summarize_result,
)
from fastlib.display.text import age, plural, printable, word
from fastlib.message import ResultContainer, TaskContainer
from fastlib.message.node import Presence, Progress
from fastlib.message.result import names_without_result
from fastlib.message.task import named_domains
from fastlib.transport.errors import TransportError

from .connection import exit_status_of, open_client
from .errors import FAILED, TIMED_OUT, UNUSABLE, print_error
from .host_search import await_presences, similar_hosts
from .interrupts import interrupts_raised

if TYPE_CHECKING:
    from fastlib.client import Handle, MigfraClient
    from fastlib.client.options import SubmitOptions

RESULT_SECONDS: Final = 600.0
ABSENCE_SECONDS: Final = 1.0
"""Seconds without an answer after which a missing presence of the host's daemon is printed."""
SILENCE_SECONDS: Final = 2.0
"""Seconds after that until the state of a daemon with a presence is printed."""


def add_order_options(group: Any) -> None:
    """Add the options for the expiry, the recipient and the id of a task."""
    group.add_argument(
        "--expires",
        metavar="WHEN",
        type=expiry,
        help="latest time at which the daemon may begin it: a duration such as 90s, 15m or 2h, a "
        f"time such as {EXAMPLE}, or {NEVER} (default: the end of --timeout). C++ daemons "
        "begin it at any time",
    )
    group.add_argument(
        "--only-if-online",
        action="store_true",
        help="send nothing if the host's daemon is offline; a C++ daemon never reports that",
    )
    group.add_argument(
        "--idempotency-key",
        metavar="KEY",
        help="fastlib's daemon executes a key only once, and answers it again from its journal "
        "(default: the id that is given, else one that no other has)",
    )


def add_result_options(group: Any) -> None:
    """Add the options for the wait, the timeout and the format of results."""
    group.add_argument(
        "--no-wait",
        dest="wait",
        action="store_false",
        help="do not wait for the result; print the id as soon as the broker has confirmed the "
        "message",
    )
    group.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=seconds,
        default=RESULT_SECONDS,
        help="how long to wait for a result; later the daemon does not begin it (default: "
        f"{RESULT_SECONDS:g}, which is {age(RESULT_SECONDS)})",
    )
    add_format_option(group, "results as lines of text or as JSON, one object a line")


def send_containers(options: argparse.Namespace, containers: Sequence[TaskContainer]) -> int:
    """Send containers to `options.host`; print their results, or their ids with `--no-wait`.

    Returns the exit status.
    """
    with interrupts_raised():
        return exit_status_of(options, partial(_send_containers, options, containers))


def _send_containers(options: argparse.Namespace, containers: Sequence[TaskContainer]) -> int:
    from fastlib.client import HostOfflineError  # here, because its import is slow

    named = [
        _known_by_its_id(container) if container.id else _with_new_id(container)
        for container in containers
    ]
    try:
        with open_client(options) as client:
            if options.wait:
                return _ResultPrinter(options, client).run(named)
            handles = [
                client.submit(options.host, container, **_submit_options(options))
                for container in named
            ]
    except HostOfflineError as error:
        print_error(
            options,
            f"the daemon of {error.host!r} is offline, so nothing was sent; start it, or leave out "
            "--only-if-online to let the order wait until it expires",
        )
        return UNUSABLE
    # Closing the client has waited until the broker confirmed the messages.
    return max([_print_sent(options, handle) for handle in handles], default=0)


def _submit_options(options: argparse.Namespace) -> "SubmitOptions":
    """Return the client's options for the options of `add_order_options`."""
    given: SubmitOptions = {"timeout": options.timeout, "only_if_online": options.only_if_online}
    if options.expires is not None:
        given["expires"] = None if options.expires == NEVER else options.expires
    if options.idempotency_key:
        given["idempotency_key"] = options.idempotency_key
    return given


def _known_by_its_id(container: TaskContainer) -> TaskContainer:
    """Return the container with its id as its idempotency key, if it has none.

    An id on a command line identifies the order, also if the command is repeated.
    """
    return msgspec.structs.replace(
        container, idempotency_key=container.idempotency_key or container.id
    )


def _with_new_id(container: TaskContainer) -> TaskContainer:
    from fastlib.client.ids import new_id

    return msgspec.structs.replace(container, id=new_id())


def _print_sent(options: argparse.Namespace, handle: "Handle[ResultContainer]") -> int:
    """Print the id of a container that was sent, or the error. Return the exit status."""
    from fastlib.client import ClientError, NoResultError

    with suppress(ClientError):  # the client was closed: this ends the wait for the result
        try:
            handle.result()
        except NoResultError as error:  # it expired before it could be sent
            print_error(options, str(error))
            return TIMED_OUT
    if options.format == "json":
        write_json_line({"host": options.host, "id": handle.id})
    else:
        print(printable(handle.id))
    return 0


class _ResultPrinter:
    """Sends tasks, and prints progress and results until every task has a result."""

    def __init__(self, options: argparse.Namespace, client: "MigfraClient") -> None:
        self._options = options
        self._client = client
        self._done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._pending: dict[str, TaskContainer] = {}
        """Containers without a result, by id."""
        self._statuses: set[int] = {0}
        self._silence_reported = False
        self._reported = False
        """Whether a daemon has reported progress."""

    def run(self, containers: Sequence[TaskContainer]) -> int:
        try:
            with make_display() as display:
                for container in containers:
                    self._send(container, display)
                while self._pending:
                    handle = self._next(display)
                    del self._pending[handle.id]
                    display.end(handle.host, handle.id)
                    with display.paused():
                        self._statuses.add(self._print(handle))
        except KeyboardInterrupt:
            for container in self._pending.values():
                self._print_how_to_continue(container)
            raise
        return FAILED if FAILED in self._statuses else max(self._statuses)

    def _next(self, display: Display) -> "Handle[ResultContainer]":
        """Return the next handle that has a result."""
        handle: Handle[ResultContainer]
        if not self._silence_reported:
            with suppress(queue.Empty):
                handle = self._done.get(timeout=ABSENCE_SECONDS)
                return handle
            with suppress(queue.Empty):
                handle = self._done.get(timeout=SILENCE_SECONDS if self._has_presence() else 0)
                return handle
            self._silence_reported = True
            with display.paused():
                self._report_silence()
        handle = self._done.get()
        return handle

    def _has_presence(self) -> bool:
        """Return True if the host's daemon has reported its presence."""
        host = self._options.host
        if self._client.presence(host) is None:
            with suppress(TransportError):  # the broker refuses it, or does not answer now
                await_presences(self._client, [host], SILENCE_SECONDS)
        return self._client.presence(host) is not None

    def _report_silence(self) -> None:
        """Print how long the command waits, the state of the daemon, and how to find out more."""
        host, limit = self._options.host, self._options.timeout
        container = next(iter(self._pending.values()))
        more = f" and {plural(len(self._pending) - 1, 'other')}" if len(self._pending) > 1 else ""
        lines = [
            f"waiting for '{container.task}' (id {container.id}){more} on {host}, at most "
            f"{limit:g} s (--timeout)"
        ]
        presence = self._client.presence(host)
        at = shlex.join(broker_arguments(self._options))
        if presence is None:
            lines += [
                f"  no daemon of {host} has a presence (C++ daemons have none); check the name"
                f"{similar_hosts(self._client, host)}",
                f"  to see the hosts with a presence: fastlib query {at}".rstrip(),
            ]
        elif presence.status == "offline":
            lines.append(f"  the daemon of {host} is offline{self._since(presence)}")
        elif presence.degraded:
            lines.append(f"  the daemon of {host} is degraded: {presence.degraded}")
        elif self._reported:
            return  # it is online and reports its work
        else:
            lines.append(f"  the daemon of {host} is online, and has reported no progress yet")
        for line in lines:
            print(printable(line), file=sys.stderr, flush=True)

    def _since(self, presence: Presence) -> str:
        """Return since when the daemon is offline, and what happens if it returns."""
        ago = ""
        if presence.time is not None:
            ago = f" for {age((datetime.now().astimezone() - presence.time).total_seconds())}"
        return f"{ago}; it executes the order if it returns before that expires"

    def _send(self, container: TaskContainer, display: Display) -> None:
        options = self._options
        assert container.id is not None
        self._pending[container.id] = container  # before sending, because an interrupt lists it
        display.begin(options.host, container)
        given = _submit_options(options)

        def report(progress: Progress) -> None:
            self._reported = True
            display.report(options.host, progress)

        given["on_progress"] = report
        handle = self._client.submit(options.host, container, **given)
        handle.add_done_callback(self._done.put)

    def _print(self, handle: "Handle[ResultContainer]") -> int:
        """Print the results of a container. Return its exit status."""
        from fastlib.client import ClientError, NoResultError

        try:
            results = handle.result()
        except NoResultError as error:
            print_error(self._options, str(error))
            return TIMED_OUT
        except ClientError as error:
            print_error(self._options, str(error))
            return FAILED
        if self._options.format == "json":
            write_json_line(
                message_row(datetime.now().astimezone(), handle.host, "result", results)
            )
        else:
            _print_results(handle.host, results)
        if any(result.status != "success" for result in results.results):
            return FAILED
        missing = names_without_result(named_domains(handle.container.tasks), results.results)
        if missing:
            print_error(
                self._options,
                f"{printable(handle.host)} answered without a result for "
                f"{', '.join(map(printable, missing))}; check the domains of the host: "
                f"fastlib query --host {printable(handle.host)}",
            )
            return FAILED
        return 0

    def _print_how_to_continue(self, container: TaskContainer) -> None:
        host, id = self._options.host, container.id or ""
        arguments = shlex.join([*broker_arguments(self._options), "--host", host])
        lines = [
            f"'{container.task}' on {host!r} continues, its id is {id}",
            f"  to see its result: fastlib watch {arguments}",
            f"  to end it: fastlib cancel {shlex.quote(id)} {arguments}",
        ]
        for line in lines:
            print(printable(line), file=sys.stderr)


def _print_results(host: str, results: ResultContainer) -> None:
    """Print one line for each result: host, id, title, domain, status, details."""
    paint = painter(sys.stdout)
    for result in results.results:
        style = "mark" if result.status == "success" else "error"
        head = printable(f"{host} {_id(results)} {results.result}: ")
        print(f"{head}{paint(summarize_result(result), style)}")
        for line in extra_result_lines(result):
            print(f"  {line}")
    if not results.results:
        print(printable(f"{host} {_id(results)} {results.result}: no results"))
    if (repeated := answered_from_journal(results)) is not None:
        print(f"  {repeated}")
    flush_output()


def _id(results: ResultContainer) -> str:
    return "-" if results.id is None else word(results.id)
