"""The command line: `fastlib validate`, `fastlib convert`, `fastlib describe`.

Each command is a module here with `add_arguments(parser)` and `run(options)`, which returns the
exit status: 0 fine, 1 problems in what was read, 2 wrong usage or what cannot be read. Only the
module of the command that was asked for is imported.
"""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module

from .. import __version__

COMMANDS = {
    "validate": "say what is wrong with messages in YAML",
    "convert": "write messages in their canonical spelling",
    "describe": "explain the messages and their fields",
}
"""Every command and what it is for."""

_EPILOG = """\
examples:
  fastlib validate task.yaml
  fastlib convert task.yaml --to json
  fastlib describe 'start vm'

'fastlib COMMAND --help' says more. The exit status is 0 if all is fine, 1 if there are problems in
the messages, 2 for wrong usage or a file that cannot be read.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line, by default the process's own, and returns its exit status.

    Raises SystemExit for `--help`, `--version` and wrong usage, as argparse does. An interrupt and
    a closed pipe end the process, by their signals, as a shell expects it.
    """
    try:
        try:
            return _run(sys.argv[1:] if arguments is None else arguments)
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # now, as Python's own flush at exit has no words for a failure
    except KeyboardInterrupt:
        return _end_by(signal.SIGINT)
    except BrokenPipeError:
        return _end_by(signal.SIGPIPE)
    except OSError as error:  # a file that cannot be read was already reported
        with suppress(OSError):
            print(f"fastlib: error: cannot write: {error.strerror}", file=sys.stderr)
        if sys.stdout is not None:  # what is left to write shall not fail again at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 2


def _run(arguments: Sequence[str]) -> int:
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    parser = argparse.ArgumentParser(
        prog="fastlib",
        description="Messages of the FaST cluster: check, rewrite and explain them.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"fastlib {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        if arguments[:1] == [name]:
            module = import_module(f".{name}", __name__)
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    options = parser.parse_args(arguments)
    status: int = options.run(options)
    return status


def _end_by(number: signal.Signals) -> int:
    """Ends the process as if it had not caught the signal."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    return 128 + number
