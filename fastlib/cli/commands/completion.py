"""`fastlib completion`: print a script for shell completion of the commands."""

import argparse
import re
from collections.abc import Iterator
from typing import Final

from fastlib.cli.connection import exit_status_of
from fastlib.cli.output.terminal import write_data
from fastlib.extras import needs_extra

_EPILOG: Final = """\
examples:
  fastlib completion bash > ~/.local/share/bash-completion/completions/fastlib
  fastlib completion bash migfra > ~/.local/share/bash-completion/completions/migfra
  fastlib completion zsh > ~/.zfunc/_fastlib
  fastlib completion fish > ~/.config/fish/completions/fastlib.fish

The shell then completes commands, options, their fixed values, and names of files. The script also
has the tasks of installed packages, so print it again after such a package was installed.

zsh looks for scripts in the folders of its variable fpath: in .zshrc, 'fpath=(~/.zfunc $fpath)'
must come before 'compinit'. It needs the package shtab, which the extra 'completion' installs.
"""
SHELLS: Final = ("bash", "zsh", "fish")
FILE_METAVARS: Final = ("FILE", "FOLDER", "DIR")
"""Values in the usage that are names of files."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    shells = ", ".join(SHELLS)
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help=f"one of {shells}")
    parser.add_argument(
        "program",
        metavar="PROGRAM",
        nargs="?",
        choices=("fastlib", "migfra"),
        default="fastlib",
        help="fastlib or migfra (default: fastlib)",
    )
    parser.set_defaults(parser=parser)


def run(options: argparse.Namespace) -> int:
    return exit_status_of(options, lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    with needs_extra("the completion of commands", "shtab"):
        import shtab

    from fastlib.cli import complete_parser
    from fastlib.cli.migfra import make_parser

    program = complete_parser() if options.program == "fastlib" else make_parser()
    for parser in _parsers(program):
        for action in parser._actions:
            if action.metavar in FILE_METAVARS:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
            elif action.choices is None and (words := _words(action)):
                action.choices = words
    write_data(f"{shtab.complete(program, options.shell)}\n".encode())
    return 0


def _words(action: argparse.Action) -> list[str]:
    """Return the values of a message's field that has only fixed words."""
    shown = action.metavar if isinstance(action.metavar, str) else ""
    return shown[1:-1].split(",") if re.fullmatch(r"\{.+\}", shown) else []


def _parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yield a parser and the parsers of its commands."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _parsers(command)
