"""mypy understands the package: correct code passes, wrong code is flagged where it is wrong."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mypy")

HERE = Path(__file__).parent
ROOT = HERE.parent


@pytest.fixture(scope="module")
def mypy(tmp_path_factory):
    """Runs mypy --strict over one file, as a user would: by no configuration but its own."""
    cache = tmp_path_factory.mktemp("mypy")

    def run(path):
        return subprocess.run(
            [
                sys.executable,
                "-m",
                "mypy",
                "--strict",
                "--config-file=",
                "--follow-imports=silent",
                f"--cache-dir={cache}",
                "--show-error-codes",
                "--no-error-summary",
                "--no-pretty",
                str(path),
            ],
            cwd=cache,
            env=os.environ | {"MYPYPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


@pytest.mark.parametrize("name", ["typing_user.py", "typing_client.py"])
def test_typical_code_is_typed(mypy, name):
    done = mypy(HERE / name)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


def test_typical_code_runs():
    # In a process of its own, as it declares tasks.
    done = subprocess.run(
        [sys.executable, "typing_user.py"], cwd=HERE, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


def test_wrong_code_is_flagged(mypy):
    path = HERE / "typing_wrong.py"
    expected = {
        (line, code)
        for line, text in enumerate(path.read_text("utf-8").splitlines(), 1)
        for codes in re.findall(r"# E: (.*)$", text)
        for code in codes.split(", ")
    }
    done = mypy(path)
    found = {
        (int(line), code)
        for line, code in re.findall(r":(\d+): error: .*\[([a-z-]+)\]$", done.stdout, re.MULTILINE)
    }
    assert found == expected, done.stdout + done.stderr
    assert len(expected) > 40


def test_the_package_says_that_it_is_typed():
    assert (ROOT / "fastlib" / "py.typed").is_file()
