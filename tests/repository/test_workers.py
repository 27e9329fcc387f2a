"""Parallel workers: tests of one group share a worker, so that a guest boots once for them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

GROUPED = """
import os
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.parametrize("number", range(12))
def test_write_worker(number, request):
    (HERE / f"{number}.worker").write_text(os.environ["PYTEST_XDIST_WORKER"])
"""
CONFTEST = """
import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        item.add_marker(pytest.mark.xdist_group("one"))
"""


@pytest.mark.parametrize(("conftest", "workers"), [(CONFTEST, 1), ("", 2)])
@pytest.mark.load
def test_group_of_tests_stays_in_one_worker(tmp_path: Path, conftest: str, workers: int) -> None:
    """Without the group, the same tests are spread over both workers."""
    (tmp_path / "conftest.py").write_text(conftest)
    (tmp_path / "test_grouped.py").write_text(GROUPED)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "xdist", "-n", "2", "--dist", "loadgroup"],
        cwd=tmp_path,
        env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len({path.read_text() for path in tmp_path.glob("*.worker")}) == workers
