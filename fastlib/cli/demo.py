"""`fastlib demo`: the whole system at work on a simulated cluster."""

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from fastlib.extras import MissingExtraError, needs_extra

from .connection import (
    add_connection,
    broker_options,
    complain,
    explained,
    guarded,
    words_of,
)
from .exit_status import FAILED
from .terminal import is_plain, is_terminal, printable, write_data

if TYPE_CHECKING:
    from fastlib.demo import Settings, View

_EPILOG: Final = """\
examples:
  fastlib demo
  fastlib demo --hosts 100 --vms 2000
  fastlib demo --broker mqtt://broker.example.org

A scheduler starts VMs, migrates, swaps, repins, suspends and resumes them, evacuates a host under
load, cancels a migration half-way, and loses a daemon that is killed at work and comes back; then
all VMs stop and all daemons quit. The hosts are simulated; the daemons, their journals and the
messages are real. At the end it is checked that every VM was on exactly one host all the time, that
every task has exactly one result, and that none was executed twice.

Nothing else is needed: without --broker, all messages stay in this process. With it they pass over
a real broker, on topics of hosts with names of the form fastlib-demo-0a1b2c-a, where the digits are
random, so that no real daemon hears them; nothing is left there at the end.

On a terminal it is a live view, if rich is installed (pip install 'fastlib[terminal]'), and time
passes slowly enough to be followed. Elsewhere, each event is a line, and time passes faster.

The exit status is 0 if the story went as told, 1 if not, 2 for wrong usage or no broker. Ctrl-C
ends everything in order.
"""
WATCHED_SPEED: Final = 4.0
"""The speed for a person who looks."""
WATCHED_PAUSE: Final = 0.5
"""Seconds between two steps for a person who looks."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    parser.usage = "%(prog)s [--hosts N] [--vms N] [--broker URL] [OPTION ...]"
    group = parser.add_argument_group("the cluster")
    group.add_argument(
        "--hosts", metavar="N", type=int, default=3, help="how many hosts (default: 3)"
    )
    group.add_argument(
        "--vms",
        metavar="N",
        type=int,
        help="how many VMs, at least two for each host (default: 8 for three hosts)",
    )
    group.add_argument(
        "--speed",
        metavar="FACTOR",
        type=float,
        help=f"seconds of the cluster in one of ours (default: {WATCHED_SPEED:g} on a terminal, "
        "else 30)",
    )
    group.add_argument(
        "--seed",
        metavar="N",
        type=int,
        default=1,
        help="of the VMs' sizes, and of which of them are moved (default: 1)",
    )
    group.add_argument(
        "--format",
        choices=("text", "json"),
        default="text",
        help="a live view or lines of text, or JSON, one object a line (default: text)",
    )
    add_connection(parser, "one in this process")


def run(options: argparse.Namespace) -> int:
    from fastlib.demo.errors import SettingsError

    if options.broker is None and (words := words_of(options)):
        options.parser.error(f"{words[0]} belongs to --broker, which is missing")
    watched = options.format == "text" and is_terminal(sys.stdout)

    def work() -> int:
        try:
            settings = _settings(options, watched)
        except SettingsError as error:
            options.parser.error(printable(str(error)))
        return tell(settings, _view(options, watched), options)

    return guarded(options, work)


def tell(settings: "Settings", view: "View", options: argparse.Namespace) -> int:
    """Plays the story; the exit status. Raises TransportError if there is no broker."""
    from fastlib.demo import play
    from fastlib.transport import ConnectError

    async def main() -> bool:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return (await play(settings, view)).ok

    try:
        with _hearing(options):
            return 0 if asyncio.run(main()) else FAILED
    except asyncio.CancelledError:
        return 128 + signal.SIGTERM
    except ConnectError as error:
        if settings.broker is None:
            raise
        raise explained(error, settings.broker, options, "--broker") from error


def _settings(options: argparse.Namespace, watched: bool) -> "Settings":
    """Raises SettingsError and OptionsError."""
    from fastlib.demo import Settings

    speed = WATCHED_SPEED if options.speed is None and watched else options.speed
    return Settings(
        hosts=options.hosts,
        vms=options.hosts * 8 // 3 if options.vms is None else options.vms,
        speed=Settings().speed if speed is None else speed,
        pause=WATCHED_PAUSE if watched else 0.0,
        seed=options.seed,
        broker=None if options.broker is None else broker_options(options),
        connect_timeout=options.connect_timeout,
    )


def _view(options: argparse.Namespace, watched: bool) -> "View":
    from fastlib.demo import JsonLines, Lines

    if options.format == "json":
        return JsonLines(_write)
    if watched and not is_plain():
        try:
            with needs_extra("the live view", "rich"):
                from fastlib.demo.live import LiveView
        except MissingExtraError as error:
            complain(options, str(error), "note")
        else:
            return LiveView()
    return Lines(_write)


def _write(line: str) -> None:
    write_data(line.encode(errors="backslashreplace") + b"\n", flush=True)


# --- what the libraries log -----------------------------------------------------------------------


class _Trouble(logging.Handler):
    """Errors on standard error, a line each; what daemons warn of is part of the story."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(logging.WARNING)
        self._options = options

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR or record.name == "fastlib.demo":
            complain(self._options, record.getMessage(), record.levelname.lower())


@contextmanager
def _hearing(options: argparse.Namespace) -> Iterator[None]:
    """What the libraries log is told as the commands tell things, and by nobody else."""
    logger = logging.getLogger("fastlib")
    before = logger.propagate, logger.handlers[:]
    logger.propagate, logger.handlers[:] = False, [_Trouble(options)]
    try:
        yield
    finally:
        logger.propagate, logger.handlers[:] = before
