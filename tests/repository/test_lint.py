"""The checks of the source itself: types, lint, and which room may import from which."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*command):
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)


def test_mypy():
    # Strictly, over the packages that pyproject.toml names.
    pytest.importorskip("mypy")
    done = run(sys.executable, "-m", "mypy", "--strict")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("Success")


def test_ruff():
    pytest.importorskip("ruff")
    done = run(sys.executable, "-m", "ruff", "check", "--no-cache", ".")
    assert done.returncode == 0, done.stdout + done.stderr


def test_rooms():
    pytest.importorskip("importlinter")
    # It has no `python -m`, so it is looked for beside the interpreter first.
    beside = str(Path(sys.executable).parent)
    program = shutil.which("lint-imports", path=beside) or shutil.which("lint-imports")
    assert program is not None
    done = run(program, "--no-cache")
    assert done.returncode == 0, done.stdout + done.stderr
    assert ", 0 broken" in done.stdout
