"""How long `fastlib validate FILE` takes as a whole process, beside a bare import of its libraries.

All commands run in turns, so that other programs disturb each alike. Modules are compiled before.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

LIMIT = 1.5
"""Times as long as the bare import, at most: the target."""

BARE = "import msgspec, yaml"
RIGHT = "validate"
WRONG = "validate, with errors"
NOTHING = "python"

_RIGHT_TEXT = "task: stop vm\nlist:\n  - vm-name: vm1\n    force: true\n"
_WRONG_TEXT = "task: stop vm\nlist:\n  - vm-nam: vm1\n    force: maybe\nexpires: tomorrow\n"


Kind = Literal["wall", "cpu"]
KINDS: tuple[Kind, ...] = get_args(Kind)


class Times(NamedTuple):
    """The seconds of one process."""

    wall: float
    cpu: float


@dataclass
class Outcome:
    """The times of each command, one entry a round."""

    times: Mapping[str, list[Times]]

    def best(self, name: str, kind: Kind) -> float:
        """Return the seconds of the least disturbed round."""
        return min(self._seconds(name, kind))

    def median(self, name: str, kind: Kind) -> float:
        return statistics.median(self._seconds(name, kind))

    def ratio(self, name: str, kind: Kind) -> float:
        """Return the median of the rounds: how many times as long as the bare import it takes."""
        pairs = zip(self._seconds(name, kind), self._seconds(BARE, kind), strict=True)
        return statistics.median(one / bare for one, bare in pairs)

    def _seconds(self, name: str, kind: Kind) -> list[float]:
        return [times.wall if kind == "wall" else times.cpu for times in self.times[name]]


def run(rounds: int, show: Callable[[str], None]) -> Outcome:
    """Measure all commands. Raises CalledProcessError if one does not do what it should."""
    with tempfile.TemporaryDirectory() as folder:
        right, wrong = Path(folder, "right.yaml"), Path(folder, "wrong.yaml")
        right.write_text(_RIGHT_TEXT)
        wrong.write_text(_WRONG_TEXT)
        program = _program()
        commands = {
            NOTHING: ([sys.executable, "-c", "pass"], 0),
            BARE: ([sys.executable, "-c", BARE], 0),
            RIGHT: ([*program, "validate", str(right)], 0),
            WRONG: ([*program, "validate", str(wrong)], 1),
        }
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPYCACHEPREFIX"] = str(Path(folder, "compiled"))
        for command, status in commands.values():
            _time(command, status, environment)  # compiles the modules
        times: dict[str, list[Times]] = {name: [] for name in commands}
        for number in range(rounds):
            show(f"round {number + 1} of {rounds}")
            for name, (command, status) in commands.items():
                times[name].append(_time(command, status, environment))
    return Outcome(times)


def _program() -> list[str]:
    """Return the command as users start it; as a module where it is not installed."""
    script = Path(sys.executable).with_name("fastlib")
    return [str(script)] if script.exists() else [sys.executable, "-m", "fastlib"]


def _time(command: list[str], status: int, environment: Mapping[str, str]) -> Times:
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True)
    wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != status:
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
    user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
    return Times(wall, user + system)


def render(outcome: Outcome) -> str:
    """Return the outcome as a table."""
    lines = [f"{'':<24}{'wall, ms':>10}{'CPU, ms':>10}{'ratio':>8}{'CPU':>8}"]
    for name in outcome.times:
        wall, cpu = outcome.best(name, "wall") * 1e3, outcome.best(name, "cpu") * 1e3
        ratios = f"{outcome.ratio(name, 'wall'):>8.2f}{outcome.ratio(name, 'cpu'):>8.2f}"
        lines.append(f"{name:<24}{wall:>10.1f}{cpu:>10.1f}{ratios}")
    ratio = outcome.ratio(RIGHT, "wall")
    verdict = "met" if ratio <= LIMIT else "NOT met"
    return "\n".join(
        [*lines, "", f"target, at most {LIMIT}x of the import: {ratio:.2f}x - {verdict}"]
    )


def to_json(outcome: Outcome) -> str:
    """Return the outcome for programs."""
    tree: dict[str, Any] = {
        "benchmark": "start",
        "python": platform.python_version(),
        "machine": platform.machine(),
        "milliseconds": {
            kind: {
                name: {
                    "best": outcome.best(name, kind) * 1e3,
                    "median": outcome.median(name, kind) * 1e3,
                    "rounds": len(outcome.times[name]),
                }
                for name in outcome.times
            }
            for kind in KINDS
        },
        "ratio": {
            kind: {name: outcome.ratio(name, kind) for name in outcome.times} for kind in KINDS
        },
        "target": {
            "at-most": LIMIT,
            "value": outcome.ratio(RIGHT, "wall"),
            "met": outcome.ratio(RIGHT, "wall") <= LIMIT,
        },
    }
    return json.dumps(tree, indent=2)


def main(arguments: list[str]) -> int:
    """`python -m benchmarks start`."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks start", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--quick", action="store_true", help="some seconds, less exact")
    options = parser.parse_args(arguments)
    show = _show_progress if sys.stderr.isatty() else lambda text: None
    outcome = run(QUICK if options.quick else THOROUGH, show)
    print(to_json(outcome) if options.json else render(outcome))
    return 0


THOROUGH = 40
"""Rounds by default."""
QUICK = 8
"""Rounds with `--quick`."""


def _show_progress(text: str) -> None:
    print(text, file=sys.stderr)
