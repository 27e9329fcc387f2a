"""A peer in C++ with yaml-cpp, built from `tests/conformance/peer.cpp`, against fastlib.

What the two differ in are the faults of yaml-cpp that docs/reference/wire-compatibility.md lists.
"""

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from fastlib.message.describe import find
from fastlib.testing.conformance import as_text, read_allowed, run

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tests" / "conformance"
COMPATIBILITY = ROOT / "docs" / "reference" / "wire-compatibility.md"
TYPES = "Stop,Evacuate,agent.Init,agent.Kpis,mmbwmon.Reply,PciAddress,Query"

pytestmark = pytest.mark.load


@pytest.fixture(scope="session")
def cpp_peer(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Path:
    """The program, built once for all parallel workers."""
    if shutil.which("g++") is None:
        pytest.skip("there is no g++; tests/run installs it")
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if hasattr(pytestconfig, "workerinput") else own
    program = shared / "cpp-peer"
    with (shared / "cpp-peer.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            _build(program)
    return program


def _build(program: Path) -> None:
    source = FOLDER / "peer.cpp"
    probe = ["g++", "-std=c++17", "-fsyntax-only", "-x", "c++", "-"]
    has_yaml = subprocess.run(probe, input=b"#include <yaml-cpp/yaml.h>\n", capture_output=True)
    if has_yaml.returncode:
        pytest.skip("there is no yaml-cpp; as root: apt-get install libyaml-cpp-dev")
    made = program.with_suffix(f".{os.getpid()}")
    command = ["g++", "-std=c++17", "-o", str(made), str(source), "-lyaml-cpp"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    made.rename(program)


def known() -> dict[str, str]:
    return read_allowed((FOLDER / "known-differences.txt").read_text().splitlines())


def test_cpp_peer_differs_only_where_yaml_cpp_does(
    cpp_peer: Path, pytestconfig: pytest.Config
) -> None:
    long = pytestconfig.getoption("--long")
    types = None if long else [find(name, by_title=False) for name in TYPES.split(",")]
    for seed in range(3 if long else 1):
        report = run(
            [str(cpp_peer)],
            types=types,
            examples=50 if long else 10,
            seed=seed,
            timeout=60,
            allowed=known(),
        )
        assert report.ok, as_text(report)
        assert "Query" in report.unsupported
        assert report.requests > 3000
        assert len(report.differences) >= 5


def test_names_of_one_seed_explain_all_seeds(cpp_peer: Path, pytestconfig: pytest.Config) -> None:
    """The random messages of 2 and 3 once had two more names for `\\N` and `\\_`."""
    types = [find(name, by_title=False) for name in TYPES.split(",")]
    command = [str(cpp_peer)]
    first = run(command, types=types, examples=50, seed=1, timeout=60)
    allowed = {each.name: "found with seed 1" for each in first.differences}
    for escape in ("next-line", "no-break-space"):
        assert f"equal/any-text/changed-escape-{escape}" in allowed
    for seed in range(2, 32 if pytestconfig.getoption("--long") else 4):
        report = run(command, types=types, examples=50, seed=seed, timeout=60, allowed=allowed)
        assert report.ok, as_text(report)
        assert not report.unused, seed


def test_known_differences_are_in_the_compatibility_table() -> None:
    """Each line says which row, or which words, of docs/reference/wire-compatibility.md it is."""
    page = " ".join(COMPATIBILITY.read_text().split())
    for name, why in known().items():
        assert why in page or f"| `{why}` |" in page, name
