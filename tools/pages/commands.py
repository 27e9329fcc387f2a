"""The help of every command, as the commands print it."""

import contextlib
import io
import os
from collections.abc import Callable, Iterator, Sequence

from fastlib.cli import COMMANDS, main
from fastlib.cli.arguments.task_names import task_commands
from fastlib.cli.migfra import main as migfra

_COLUMNS = "100"


def text() -> str:
    """Return a section for each command."""
    return "\n\n".join(_lines())


def _lines() -> Iterator[str]:
    yield "## fastlib"
    yield _help(main)
    for name in [*COMMANDS, *task_commands(COMMANDS)]:
        yield f"### fastlib {name}"
        yield _help(main, name)
    yield "## migfra"
    yield _help(migfra)


def _help(program: Callable[[Sequence[str]], int], *words: str) -> str:
    """Return what a command prints for `--help`, as a block."""
    shown = io.StringIO()
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = _COLUMNS
    try:
        with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
            program([*words, "--help"])
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before
    return f"```\n{shown.getvalue().strip()}\n```"
