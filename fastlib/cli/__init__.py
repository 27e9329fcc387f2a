"""The command line: `fastlib validate`, `fastlib send`, `fastlib migrate` and so on.

Each command is a module in `commands` with `add_arguments(parser)` and `run(options)`, which
returns the exit status: 0 fine, 1 problems in the input, 2 wrong usage or unreadable input. A run
imports only the module of its command. Every declared task also has a command. These commands share
the module `commands.task`.

`arguments` has shared arguments, and `output` the shared output of commands. `connection`
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
from typing import TYPE_CHECKING, Any, Final

from fastlib import __version__
from fastlib.codec.compiled import is_compiled, outdated_files

from .arguments.parser import ArgumentParser

if TYPE_CHECKING:
    from fastlib.message.task import TaskDeclaration

COMMAND_GROUPS = {
    "tasks": {
        "send": "send the tasks of files to the daemon of a host",
    },
    "the cluster": {
        "query": "show the hosts, their domains and the tasks in progress",
        "log": "show the history of an order or of a domain",
        "watch": "watch the daemons of the cluster",
        "dashboard": "serve a web page that shows the cluster",
        "forget": "remove a dead host from the lists of hosts",
    },
    "messages": {
        "validate": "report problems of messages in YAML",
        "convert": "write messages in their canonical spelling",
        "describe": "explain the messages and their fields",
        "schema": "print or write JSON Schemas and examples of the messages",
    },
    "compatibility": {
        "compat": "check whether two versions of the messages are compatible",
        "conformance": "test another implementation of the protocol",
    },
    "experiments": {
        "demo": "run the whole system on a simulated cluster",
        "broker": "run an MQTT broker for experiments",
    },
    "installation": {
        "completion": "print a script for shell completion of the commands",
        "man": "print or write manual pages",
        "files": "copy the systemd unit, the access list, a configuration and the schemas",
    },
}
"""Commands and their summaries, in the groups of the help.

The commands of tasks are derived from declarations. They join the first group.
"""
COMMANDS = {name: text for group in COMMAND_GROUPS.values() for name, text in group.items()}
"""Commands and their summaries without the groups."""

USAGE_ERROR: Final = 2
"""The exit status for wrong usage, like argparse's."""

_EPILOG = """\
examples:
  fastlib validate task.yaml
  fastlib convert task.yaml --to json
  fastlib describe 'start vm'

'fastlib COMMAND --help' shows the help of a command, with examples.

The exit status is 0 if all is fine, 1 if there are problems in the messages or a task failed, 2 for
wrong usage (also if there is no command) or for a file or a broker that cannot be read or reached,
3 if an answer did not come in time. A command that Ctrl-C ends has the status of the signal.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line, by default the process's own, and return its exit status.

    Raises SystemExit for `--help`, `--version` and wrong usage, like argparse. After Ctrl-C and for
    a closed pipe, it does not return: a signal ends the process, which shells expect.
    """
    if arguments is None:
        gc.freeze()  # imported modules stay, so no collection needs to check them
    try:
        try:
            return _run(sys.argv[1:] if arguments is None else arguments)
        finally:
            if arguments is None:
                gc.freeze()  # otherwise Python checks all objects again when the process ends
            if sys.stdout is not None:
                sys.stdout.flush()  # now, because a failing flush at exit prints a traceback
    except KeyboardInterrupt as error:
        return exit_by_signal(getattr(error, "signal_name", "SIGINT"))
    except BrokenPipeError:
        return exit_by_signal("SIGPIPE")
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
    if not arguments:
        # The status of wrong usage: a script whose variable is empty must not continue.
        _parser(arguments).print_help()
        return USAGE_ERROR
    options = _parser(arguments).parse_args(arguments)
    status: int = options.run(options)
    return status


def complete_parser() -> ArgumentParser:
    """Return the parser of all commands with all their options. It imports all their modules."""
    return _parser([], complete=True)


def _parser(arguments: Sequence[str], *, complete: bool = False) -> ArgumentParser:
    """Return the parser: of all commands, or of the one that the arguments begin with.

    Only that one gets its own arguments, unless `complete`, because this imports its module.
    """
    parser = ArgumentParser(
        prog="fastlib",
        usage="%(prog)s COMMAND [OPTION ...]",
        description="Send tasks to migration daemons, watch the cluster, and check messages.",
        epilog=_EPILOG,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=_version(arguments))
    commands = parser.add_subparsers(metavar="COMMAND", required=True, prog="fastlib")
    chosen = set(arguments[:1]) & COMMANDS.keys()
    for name in chosen or COMMANDS:  # the others would only cost time
        _add(commands, name, COMMANDS[name], complete or name in chosen)
    if chosen:
        return parser
    from .arguments.message_files import load_types
    from .arguments.task_names import summary_of, task_commands

    load_types(argparse.Namespace(parser=parser))
    tasks = task_commands(COMMANDS)
    for name, declared in tasks.items():
        _add(commands, name, summary_of(declared), complete or arguments[:1] == [name], declared)
    first, *others = ((title, [*names]) for title, names in COMMAND_GROUPS.items())
    parser.command_groups = dict([(first[0], [*tasks, *first[1]]), *others])
    return parser


def _add(
    commands: Any,
    name: str,
    summary: str,
    with_arguments: bool,
    declared: "TaskDeclaration | None" = None,
) -> None:
    """Add a command, with its arguments or only for the help of all."""
    command = commands.add_parser(
        name,
        help=summary.replace("%", "%%"),
        description=f"{summary[0].upper()}{summary[1:]}.",
        allow_abbrev=False,
    )
    if with_arguments:
        module = import_module(f".commands.{'task' if declared else name}", __name__)
        module.add_arguments(command, *([declared] if declared else []))
        command.set_defaults(run=module.run)


def _version(arguments: Sequence[str]) -> str:
    version = f"fastlib {__version__}"
    if "--version" not in arguments:
        return version
    build = "compiled" if is_compiled() else "pure Python"
    if outdated_files():
        build += "; compiled modules of another version are not used"
    return f"{version} ({build})"


def exit_by_signal(name: str) -> int:
    """End the process as if it had not caught the signal."""
    import signal  # slow to import, and only needed here

    number = signal.Signals[name]
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    return 128 + number
