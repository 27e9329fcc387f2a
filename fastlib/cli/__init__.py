"""The command line: `fastlib validate`, `fastlib send`, `fastlib migrate` and so on.

Each command is a module in `commands` with `add_arguments(parser)` and `run(options)`, which
returns the exit status: 0 fine, 1 problems in the input, 2 wrong usage or unreadable input. A run
imports only the module of its command. Every declared task has a command, too; these commands share
the module `commands.task`.

`arguments` has arguments that several commands share, and `output` what they print. `connection`
connects to the broker, `sending` sends tasks and waits for their results. `migfra` is the daemon's
own program.
"""

import argparse
import gc
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING

from fastlib import __version__
from fastlib.codec.compiled import is_compiled, outdated_files

from .arguments.parser import ArgumentParser

if TYPE_CHECKING:
    from fastlib.message.task import TaskDeclaration

COMMANDS = {
    "demo": "see the whole system at work on a simulated cluster",
    "validate": "say what is wrong with messages in YAML",
    "convert": "write messages in their canonical spelling",
    "describe": "explain the messages and their fields",
    "schema": "print or write JSON Schemas and examples of the messages",
    "compat": "say whether two versions of the messages understand each other",
    "conformance": "prove that another implementation understands the same",
    "send": "send the tasks of a file to the daemon of a host",
    "log": "say what became of an order, or of a domain",
    "watch": "see what the daemons of the cluster do",
    "broker": "run an MQTT broker for trying things out",
}
"""Commands and their summaries. The commands of tasks are derived from declarations."""

_EPILOG = """\
examples:
  fastlib validate task.yaml
  fastlib convert task.yaml --to json
  fastlib describe 'start vm'

'fastlib COMMAND --help' says more. The exit status is 0 if all is fine, 1 if there are problems in
the messages or a task failed, 2 for wrong usage or what cannot be read or reached, 3 if what was
waited for did not come in time.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line, by default the process's own, and return its exit status.

    Raises SystemExit for `--help`, `--version` and wrong usage, as argparse does. Does not return
    after Ctrl-C and for a closed pipe: a signal ends the process then, as shells expect.
    """
    if arguments is None:
        gc.freeze()  # what is imported stays, so no collection needs to look at it
    try:
        try:
            return _run(sys.argv[1:] if arguments is None else arguments)
        finally:
            if arguments is None:
                gc.freeze()  # Python looks at everything once more when the process ends
            if sys.stdout is not None:
                sys.stdout.flush()  # now, because a failing flush at exit prints a traceback
    except KeyboardInterrupt:
        return _exit_by_signal("SIGINT")
    except BrokenPipeError:
        return _exit_by_signal("SIGPIPE")
    except OSError as error:  # while writing; commands report unreadable files
        with suppress(OSError):
            print(f"fastlib: error: cannot write: {error.strerror}", file=sys.stderr)
        if sys.stdout is not None:  # the flush at exit must not fail again
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 2


def _run(arguments: Sequence[str]) -> int:
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    parser = ArgumentParser(
        prog="fastlib",
        description="Messages of the FaST cluster: check, rewrite and explain them.",
        epilog=_EPILOG,
        allow_abbrev=False,
    )
    version = f"fastlib {__version__}"
    if "--version" in arguments:
        build = "compiled" if is_compiled() else "pure Python"
        if outdated_files():
            build += "; compiled modules of another version are not used"
        version = f"{version} ({build})"
    parser.add_argument("--version", action="version", version=version)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, summary: str, declared: "TaskDeclaration | None" = None) -> None:
        command = commands.add_parser(
            name,
            help=summary.replace("%", "%%"),
            description=f"{summary[0].upper()}{summary[1:]}.",
            allow_abbrev=False,
        )
        if arguments[:1] == [name]:
            module = import_module(f".commands.{'task' if declared else name}", __name__)
            module.add_arguments(command, *([declared] if declared else []))
            command.set_defaults(run=module.run)

    chosen = set(arguments[:1]) & COMMANDS.keys()
    for name in chosen or COMMANDS:  # the others would only take time
        add(name, COMMANDS[name])
    if not chosen:
        from .arguments.message_files import load_types
        from .arguments.task_names import summary_of, task_commands

        load_types(argparse.Namespace(parser=parser))
        for name, declared in task_commands(COMMANDS).items():
            add(name, summary_of(declared), declared)
    options = parser.parse_args(arguments)
    status: int = options.run(options)
    return status


def _exit_by_signal(name: str) -> int:
    """End the process as if it had not caught the signal."""
    import signal  # which takes long to import, and is needed here only

    number = signal.Signals[name]
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    return 128 + number
