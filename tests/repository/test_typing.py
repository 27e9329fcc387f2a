"""mypy understands fastlib: correct code passes, wrong code is flagged at the right line.

One run of mypy checks all three files `typing_*.py` as a user would, without this project's
configuration. Its cache stays in `.mypy_cache`, so that only the first run is slow.
"""

import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

pytest.importorskip("mypy")

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
Errors = dict[str, set[tuple[int, str]]]


@pytest.fixture(scope="module")
def errors() -> Errors:
    """Lines and codes of the errors, by file."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--config-file=", "--show-error-codes"),
            *("--follow-imports=silent", "--no-error-summary", "--no-pretty"),
            f"--cache-dir={ROOT / '.mypy_cache' / 'typing'}",
            *sorted(str(path) for path in HERE.glob("typing_*.py")),
        ],
        cwd=HERE,
        env=os.environ | {"MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert not done.stderr
    found: Errors = defaultdict(set)
    for line in done.stdout.splitlines():
        if ": note: " not in line:
            match = re.fullmatch(r"(\w+\.py):(\d+): error: .*\[([a-z-]+)\]", line)
            assert match is not None, line
            found[match[1]].add((int(match[2]), match[3]))
    return found


@pytest.mark.parametrize("name", ["typing_user.py", "typing_client.py"])
@pytest.mark.load
def test_typical_code_passes(errors: Errors, name: str) -> None:
    assert not errors[name]


def test_typical_code_runs() -> None:
    """The code runs in a separate process, because it declares tasks."""
    done = subprocess.run(
        [sys.executable, "typing_user.py"], cwd=HERE, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


@pytest.mark.load
def test_wrong_code_is_flagged(errors: Errors) -> None:
    expected = {
        (line, code)
        for line, text in enumerate((HERE / "typing_wrong.py").read_text("utf-8").splitlines(), 1)
        for codes in re.findall(r"# E: (.*)$", text)
        for code in codes.split(", ")
    }
    assert errors["typing_wrong.py"] == expected
    assert len(expected) > 40


def test_package_has_marker_of_typed_packages() -> None:
    assert (ROOT / "fastlib" / "py.typed").is_file()
