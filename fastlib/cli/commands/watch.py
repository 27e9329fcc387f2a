"""`fastlib watch`: show the messages between schedulers and daemons."""

import argparse
import sys
import time
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from fastlib.cli.arguments.broker import add_broker_options
from fastlib.cli.arguments.message_files import load_types
from fastlib.cli.arguments.questions import (
    add_format_option,
    add_hosts_option,
    add_timeout_option,
)
from fastlib.cli.arguments.values import positive_integer
from fastlib.cli.connection import exit_status_of, open_client
from fastlib.cli.errors import TIMED_OUT, print_error
from fastlib.cli.interrupts import interrupts_raised
from fastlib.cli.output.terminal import (
    is_dumb,
    is_terminal,
    write_json_line,
)
from fastlib.display.json_lines import message_row
from fastlib.display.message_text import summarize
from fastlib.display.text import printable, word
from fastlib.extras import MissingExtraError, needs_extra

if TYPE_CHECKING:
    from fastlib.cli.output.cluster_table import ClusterTable
    from fastlib.client import ObservedMessage, Watch

_EPILOG = """\
examples:
  fastlib watch
  fastlib watch --host node01 --host node02 --tasks --progress
  fastlib watch --format json --count 10 | jq .message

On a terminal it is a live table of the daemons, the tasks in progress and the last results, if rich
is installed (extra: terminal). Elsewhere, and without rich, each message is a line:
time, host, kind, id and what it says; with --format json an object with the keys time, host, kind,
id, message and error. An unreadable message is shown with its error. For a host that 'fastlib
forget' removes, message and error of its presence are null; the live table then drops the host.

It ends with Ctrl-C, with exit status 0. The exit status is 2 for wrong usage or no broker, 3 if
--timeout ended before --count messages had arrived.
"""

REFRESH_SECONDS: Final = 0.25
FORGOTTEN: Final = "forgotten: its presence was deleted"
"""The text about a host whose presence was deleted."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    parser.usage = "%(prog)s [--host HOST] [--tasks] [--progress] [--presence] [OPTION ...]"
    group = parser.add_argument_group("messages to show, besides results")
    add_hosts_option(group, "only", "all")
    group.add_argument("--tasks", action="store_true", help="also the tasks that are sent")
    group.add_argument("--progress", action="store_true", help="also reports of progress")
    group.add_argument("--presence", action="store_true", help="also the presence of daemons")
    end = parser.add_argument_group("form and end")
    add_format_option(end, "a live table or lines of text, or JSON, one object a line")
    end.add_argument("--count", metavar="N", type=positive_integer, help="end after N messages")
    add_timeout_option(end, "end after this time")
    add_broker_options(parser)


def run(options: argparse.Namespace) -> int:
    load_types(options)
    with interrupts_raised():
        return exit_status_of(options, partial(_run, options))


def _run(options: argparse.Namespace) -> int:
    # The command prints the client's warnings itself, so they would appear twice.
    with open_client(options, silent_logger="fastlib.client") as client:
        try:
            view = _view(options)
            everything = view is not None
            with client.watch(
                hosts=options.hosts,
                tasks=options.tasks or everything,
                progress=options.progress or everything,
                presence=options.presence or everything,
            ) as watch:
                if view is None:
                    return _print(options, watch)
                return _show(options, watch, view)
        except KeyboardInterrupt:
            return 0


def _view(options: argparse.Namespace) -> "ClusterTable | None":
    """Return a live table if standard output is a terminal that can show one."""
    if options.format == "json" or not is_terminal(sys.stdout) or is_dumb():
        return None
    try:
        with needs_extra("the live table", "rich"):
            from fastlib.cli.output.cluster_table import ClusterTable
            from fastlib.display.cluster_state import ClusterState
    except MissingExtraError as error:
        print_error(options, str(error), "note")
        return None
    return ClusterTable(ClusterState())


class _MessageFilter:
    """Yields the messages of the hosts in `--host`, until `--count` or `--timeout` is reached."""

    def __init__(self, options: argparse.Namespace, watch: "Watch[Any]") -> None:
        self._watch = watch
        self._hosts = None if options.hosts is None else frozenset(options.hosts)
        self._remaining: int | None = options.count
        timeout = options.timeout
        self._deadline = None if timeout is None else time.monotonic() + timeout

    def messages(self, max_wait: float | None = None) -> "Iterator[ObservedMessage[Any] | None]":
        """Yield the messages, and None after `max_wait` seconds without one."""
        while self._remaining != 0:
            rest = None if self._deadline is None else self._deadline - time.monotonic()
            if rest is not None and rest <= 0:
                return
            waits = [wait for wait in (rest, max_wait) if wait is not None]
            message = self._watch.get(min(waits, default=None))
            if message is None:
                if self._watch.ended:
                    return
                yield None
            elif self._hosts is None or message.host in self._hosts:
                if self._remaining is not None:
                    self._remaining -= 1
                yield message
            else:
                yield None

    @property
    def exit_status(self) -> int:
        """The exit status of the command."""
        return TIMED_OUT if self._remaining else 0


def _print(options: argparse.Namespace, watch: "Watch[Any]") -> int:
    from fastlib.display.cluster_state import message_kind

    filtered = _MessageFilter(options, watch)
    for observed in filtered.messages():
        if observed is None:
            continue
        kind, message = message_kind(observed), observed.message
        if options.format == "json":
            write_json_line(
                message_row(observed.time, observed.host, kind, message, observed.error)
            )
            continue
        if observed.is_forgotten:
            text = FORGOTTEN
        else:
            text = f"cannot be read: {observed.error}" if message is None else summarize(message)
        when = observed.time.isoformat(timespec="milliseconds")
        id = getattr(message, "id", None)
        shown = "-" if id is None else word(id)
        print(f"{when} {word(observed.host)} {kind} {shown} {printable(text)}", flush=True)
    return filtered.exit_status


def _show(options: argparse.Namespace, watch: "Watch[Any]", view: "ClusterTable") -> int:
    filtered = _MessageFilter(options, watch)
    shown = time.monotonic()
    with view:
        view.show()
        for observed in filtered.messages(REFRESH_SECONDS):
            if observed is not None:
                view.state.add(observed)
            if time.monotonic() - shown >= REFRESH_SECONDS:
                view.show()
                shown = time.monotonic()
        view.show()
    return filtered.exit_status
