"""`fastlib demo`: run the whole system on a simulated cluster."""

import argparse
import asyncio
import logging
import signal
import sys
from typing import TYPE_CHECKING, Final

from fastlib.cli.arguments.broker import add_broker_options, broker_arguments, mqtt_options
from fastlib.cli.connection import exit_status_of, with_remedy
from fastlib.cli.errors import FAILED, print_error
from fastlib.cli.output.logs import logs_on_stderr
from fastlib.cli.output.terminal import is_dumb, is_terminal, write_data
from fastlib.display.text import printable
from fastlib.extras import MissingExtraError, needs_extra

if TYPE_CHECKING:
    from fastlib.demo import Settings, View

_EPILOG: Final = """\
examples:
  fastlib demo
  fastlib demo --hosts 100 --vms 2000
  fastlib demo --broker mqtt://broker.example.org

A scheduler starts VMs, migrates, swaps, repins, suspends and resumes them, evacuates a host under
load, and cancels a running migration. A daemon is killed during a migration and restarts. At the
end all VMs stop and all daemons quit. The hosts are simulated; the daemons, their journals and the
messages are real. The demo checks that every VM was on exactly one host all the time, that every
task has exactly one result, and that no task was executed twice.

It needs no broker: without --broker, all messages stay in this process. With --broker they pass
over a real broker. The hosts then have names of the form fastlib-demo-0a1b2c-a with random digits,
so no real daemon receives a task. The demo leaves nothing at the broker.

On a terminal it is a live view, if rich is installed (extra: terminal), and time
passes slowly enough to follow it. Elsewhere, each event is a line, and time passes faster.

The exit status is 0 if every step and every check succeeded, 1 if not, 2 for wrong usage or no
broker. Ctrl-C ends all daemons in order, and says so.
"""
WATCHED_SPEED: Final = 4.0
"""Speed of the live view."""
WATCHED_PAUSE: Final = 0.5
"""Seconds between two steps in the live view."""


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
        help=f"seconds of the cluster in a real second (default: {WATCHED_SPEED:g} on a terminal, "
        "else 30)",
    )
    group.add_argument(
        "--seed",
        metavar="N",
        type=int,
        default=1,
        help="start value of the random choices: the VMs' sizes, and the VMs that are moved "
        "(default: 1)",
    )
    group.add_argument(
        "--format",
        choices=("text", "json"),
        default="text",
        help="a live view or lines of text, or JSON, one object a line (default: text)",
    )
    add_broker_options(parser, "one in this process")


def run(options: argparse.Namespace) -> int:
    from fastlib.demo import SettingsError

    if options.broker is None and (words := broker_arguments(options)):
        options.parser.error(f"{words[0]} belongs to --broker, which is missing")
    watched = options.format == "text" and is_terminal(sys.stdout)

    def work() -> int:
        try:
            settings = _settings(options, watched)
        except SettingsError as error:
            options.parser.error(printable(str(error)))
        return run_demo(settings, _view(options, watched), options)

    return exit_status_of(options, work)


def run_demo(settings: "Settings", view: "View", options: argparse.Namespace) -> int:
    """Run the demo and return the exit status. Raises TransportError if there is no broker."""
    from fastlib.demo import run
    from fastlib.transport import ConnectError

    async def main() -> bool:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return (await run(settings, view)).ok

    try:
        with logs_on_stderr(options, _is_unexpected):
            return 0 if asyncio.run(main()) else FAILED
    except asyncio.CancelledError:
        _print_what_the_end_did(settings)
        return 128 + signal.SIGTERM
    except KeyboardInterrupt:
        _print_what_the_end_did(settings)
        raise
    except ConnectError as error:
        if settings.broker is None:
            raise
        raise with_remedy(error, settings.broker, options, "--broker") from error


def _print_what_the_end_did(settings: "Settings") -> None:
    """Print what a signal has ended. The cluster is already closed."""
    left = "" if settings.broker is None else ", and nothing of it is left at the broker"
    text = (
        f"interrupted: the demo has ended before its last step. All its {settings.hosts} daemons "
        f"and {settings.vms} simulated VMs have ended{left}."
    )
    print(text, file=sys.stderr, flush=True)


def _is_unexpected(record: logging.LogRecord) -> bool:
    """Accept errors, and warnings of the demo. The scenario provokes warnings of daemons."""
    return record.levelno >= logging.ERROR or record.name == "fastlib.demo"


def _settings(options: argparse.Namespace, watched: bool) -> "Settings":
    """Return the settings. Raises SettingsError and OptionsError."""
    from fastlib.demo import Settings

    speed = WATCHED_SPEED if options.speed is None and watched else options.speed
    return Settings(
        hosts=options.hosts,
        vms=options.hosts * 8 // 3 if options.vms is None else options.vms,
        speed=Settings().speed if speed is None else speed,
        pause=WATCHED_PAUSE if watched else 0.0,
        seed=options.seed,
        broker=None if options.broker is None else mqtt_options(options),
        connect_timeout=options.connect_timeout,
    )


def _view(options: argparse.Namespace, watched: bool) -> "View":
    from fastlib.demo import JsonView, TextView

    if options.format == "json":
        return JsonView(_write)
    if watched and not is_dumb():
        try:
            with needs_extra("the live view", "rich"):
                from fastlib.demo.live_view import LiveView
        except MissingExtraError as error:
            print_error(options, str(error), "note")
        else:
            return LiveView()
    return TextView(_write)


def _write(line: str) -> None:
    write_data(line.encode(errors="backslashreplace") + b"\n", flush=True)
