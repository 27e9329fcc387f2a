"""`./dev check` and `./dev fix`: style, types, import contracts, derived pages and wording."""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

from .processes import ROOT, Job, require, run_side_by_side

LIMIT_SECONDS = 600


def jobs() -> list[Job]:
    """Return a job for each check."""
    python = sys.executable
    contracts = str(Path(python).parent / "lint-imports")
    commands = {
        "ruff check": [python, "-m", "ruff", "check", "."],
        "ruff format": [python, "-m", "ruff", "format", "--check", "."],
        "mypy": [python, "-m", "mypy", "--strict"],
        "import contracts": [contracts],
        "derived pages": [python, "-m", "tools.pages"],
        "wording": [python, "-m", "tools.wording"],
    }
    return [Job(name, command, LIMIT_SECONDS) for name, command in commands.items()]


def report(found: list[Job]) -> None:
    """Print a line for each check, and the output of those that failed."""
    for job in found:
        if job.status:
            print(job.log.read_text(errors="replace").rstrip())
        outcome = "failed" if job.status else "passed"
        print(f"{job.name}: {outcome} ({job.seconds:.0f} s)", flush=True)


def check(_: argparse.Namespace) -> int:
    require("ruff", "mypy", "importlinter")
    found = jobs()
    passed = run_side_by_side(found)
    report(found)
    return 0 if passed else 1


def fix(_: argparse.Namespace) -> int:
    require("ruff")
    for command in (["check", "--fix", "."], ["format", "."]):
        done = subprocess.run([sys.executable, "-m", "ruff", *command], cwd=ROOT, check=False)
    return done.returncode


def add_commands(commands: Any) -> None:
    parser = commands.add_parser(
        "check", help="check style, types, import contracts, derived pages and wording"
    )
    parser.set_defaults(run=check)
    parser = commands.add_parser("fix", help="format all files, apply automatic corrections")
    parser.set_defaults(run=fix)
