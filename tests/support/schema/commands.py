"""The commands of fastlib in a folder, without declarations of other tests."""

import contextlib
import subprocess
from collections.abc import Iterable
from pathlib import Path

from tests.support.on_path import on_path
from tests.support.shell import run


def fastlib(
    *arguments: object, cwd: Path, status: int = 0, path: Iterable[Path] = ()
) -> "subprocess.CompletedProcess[str]":
    """Run `fastlib …` in a folder; `path` are folders with further modules. Return its output.

    Relative entries of the path, such as the current folder, are not searched for modules.
    """
    with contextlib.chdir(cwd), on_path(*path):
        done = run(*arguments)
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done
