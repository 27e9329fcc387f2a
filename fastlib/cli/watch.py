"""`fastlib watch`: what passes between schedulers and daemons."""

import argparse
import signal
import sys
import time
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from fastlib.extras import MissingExtraError, needs_extra

from .connection import add_connection, complain, guarded, opened, seconds
from .exit_status import TOO_LATE
from .json_lines import write_line
from .options import load_types
from .phrases import phrase, row
from .terminal import is_plain, is_terminal, printable
from .waiting import host_name

if TYPE_CHECKING:
    from fastlib.client import ObservedMessage, Watch

    from .live import View

_EPILOG = """\
examples:
  fastlib watch
  fastlib watch --host node01 --host node02 --tasks --progress
  fastlib watch --format json --count 10 | jq .message

On a terminal it is a live table of the daemons, the tasks under way and the last results, if rich
is installed (pip install 'fastlib[terminal]'). Elsewhere, and without rich, each message is a line:
time, host, kind, id and what it says; with --format json an object with the keys time, host, kind,
id, message and error. What cannot be read is told with its error.

It ends with Ctrl-C, with exit status 0. The exit status is 2 for wrong usage or no broker, 3 if
--timeout was over before --count messages had come.
"""

REFRESH_SECONDS: Final = 0.25


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    parser.usage = "%(prog)s [--host HOST] [--tasks] [--progress] [--presence] [OPTION ...]"
    group = parser.add_argument_group("what is seen, beside results")
    group.add_argument(
        "--host",
        metavar="HOST",
        dest="hosts",
        action="append",
        type=host_name,
        help="only this host, or these if it is repeated (default: all)",
    )
    group.add_argument("--tasks", action="store_true", help="the tasks that are sent, too")
    group.add_argument("--progress", action="store_true", help="reports of progress, too")
    group.add_argument(
        "--presence", action="store_true", help="what daemons say of themselves, too"
    )
    end = parser.add_argument_group("form and end")
    end.add_argument(
        "--format",
        choices=("text", "json"),
        default="text",
        help="a live table or lines of text, or JSON, one object a line (default: text)",
    )
    end.add_argument("--count", metavar="N", type=_count, help="end after so many messages")
    end.add_argument("--timeout", metavar="SECONDS", type=seconds, help="end after this time")
    add_connection(parser)


def _count(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 1; got {printable(repr(text))}")
    return number


def run(options: argparse.Namespace) -> int:
    load_types(options)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # to be ended as by Ctrl-C
    return guarded(options, partial(_run, options))


def _run(options: argparse.Namespace) -> int:
    # What the client warns of is seen here anyway.
    with opened(options, quiet="fastlib.client") as client:
        try:
            view = _view(options)
            everything = view is not None
            with client.watch(
                tasks=options.tasks or everything,
                progress=options.progress or everything,
                presence=options.presence or everything,
            ) as watch:
                if view is None:
                    return _print(options, watch)
                return _show(options, watch, view)
        except KeyboardInterrupt:
            return 0


def _view(options: argparse.Namespace) -> "View | None":
    """A live table if a person looks, the terminal can show one and rich is installed."""
    if options.format == "json" or not is_terminal(sys.stdout) or is_plain():
        return None
    try:
        with needs_extra("the live table", "rich"):
            from .cluster import Cluster
            from .live import View
    except MissingExtraError as error:
        complain(options, str(error), "note")
        return None
    return View(Cluster())


class _Taker:
    """Yields the messages of the chosen hosts, as many and as long as the options say."""

    def __init__(self, options: argparse.Namespace, watch: "Watch[Any]") -> None:
        self._watch = watch
        self._hosts = None if options.hosts is None else frozenset(options.hosts)
        self._wanted: int | None = options.count
        timeout = options.timeout
        self._deadline = None if timeout is None else time.monotonic() + timeout

    def take(self, patience: float | None = None) -> "Iterator[ObservedMessage[Any] | None]":
        """The messages; None after `patience` seconds without one."""
        while self._wanted != 0:
            rest = None if self._deadline is None else self._deadline - time.monotonic()
            if rest is not None and rest <= 0:
                return
            waits = [wait for wait in (rest, patience) if wait is not None]
            observed = self._watch.get(min(waits, default=None))
            if observed is None:
                if self._watch.ended:
                    return
                yield None
            elif self._hosts is None or observed.host in self._hosts:
                if self._wanted is not None:
                    self._wanted -= 1
                yield observed
            else:
                yield None

    @property
    def status(self) -> int:
        """The exit status."""
        return TOO_LATE if self._wanted else 0


def _print(options: argparse.Namespace, watch: "Watch[Any]") -> int:
    from .cluster import kind_of

    taker = _Taker(options, watch)
    for observed in taker.take():
        if observed is None:
            continue
        kind, message = kind_of(observed), observed.message
        if options.format == "json":
            write_line(row(observed.time, observed.host, kind, message, observed.error))
            continue
        text = f"cannot be read: {observed.error}" if message is None else phrase(message)
        when = observed.time.isoformat(timespec="milliseconds")
        id = getattr(message, "id", None) or "-"
        print(printable(f"{when} {observed.host} {kind} {id} {text}"), flush=True)
    return taker.status


def _show(options: argparse.Namespace, watch: "Watch[Any]", view: "View") -> int:
    taker = _Taker(options, watch)
    shown = time.monotonic()
    with view:
        view.show()
        for observed in taker.take(REFRESH_SECONDS):
            if observed is not None:
                view.cluster.see(observed)
            if time.monotonic() - shown >= REFRESH_SECONDS:
                view.show()
                shown = time.monotonic()
        view.show()
    return taker.status
