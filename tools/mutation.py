"""`./dev mutation`: mutation testing of the modules that decide, by mutmut.

mutmut changes one operator, constant or call at a time and runs the tests that execute the
function. A change that no test notices is a survivor. `accepted_survivors.txt` lists the survivors
that change no behaviour, each with its reason; any other survivor is a failure.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .processes import CACHE, ROOT, require

ACCEPTED = Path(__file__).with_name("accepted_survivors.txt")
_KILLED = ("killed", "timeout", "segfault", "caught by type check")
_SETTINGS = """
[tool.mutmut]
source_paths = ["fastlib"]
only_mutate = {modules}
also_copy = {others}
pytest_add_cli_args = ["-q", "-p", "no:xdist", "-p", "no:cacheprovider", "-o", "addopts=", \
"--import-mode=importlib", "--tier=fast"]
pytest_add_cli_args_test_selection = {tests}
use_git_change_detection = false
"""


@dataclass(frozen=True)
class Target:
    """Modules, and the tests that belong to them."""

    modules: tuple[str, ...]
    tests: tuple[str, ...]


TARGETS = {
    "precopy": Target(
        ("fastlib/migfra/virt/precopy.py",),
        ("tests/migfra/test_precopy.py", "tests/migfra/test_precopy_boundaries.py"),
    ),
    "placement": Target(
        ("fastlib/migfra/virt/placement.py",),
        ("tests/migfra/test_placement.py", "tests/migfra/test_placement_boundaries.py"),
    ),
    "reconcile": Target(
        ("fastlib/migfra/hypervisors/libvirt/migration/reconcile_decision.py",),
        ("tests/hypervisors/libvirt/test_reconcile_decision.py",),
    ),
    "journal": Target(
        ("fastlib/migfra/journal/journal.py", "fastlib/migfra/journal/schema.py"),
        ("tests/migfra/test_journal.py",),
    ),
    "codec": Target(("fastlib/codec/*.py",), ("tests/codec",)),
}


def mutation(options: argparse.Namespace) -> int:
    targets = {options.target: TARGETS[options.target]} if options.target else TARGETS
    return run_targets(targets)


def run_targets(targets: dict[str, Target]) -> int:
    """Run mutmut for each target; return 1 if there are survivors that are not accepted."""
    require("mutmut")
    accepted = accepted_survivors()
    failed = False
    for name, target in targets.items():
        folder = _copy_tree(name, target)
        with (folder / "mutmut.log").open("w") as log:
            command = [sys.executable, "-m", "mutmut", "run"]
            subprocess.run(command, cwd=folder, stdout=log, stderr=log, check=False)
        outcomes = _outcomes(folder)
        if not outcomes:
            print(f"{name}: mutmut did not run: {folder / 'mutmut.log'}", flush=True)
            failed = True
            continue
        survivors = sorted(key for key, outcome in outcomes.items() if outcome not in _KILLED)
        new = [key for key in survivors if key not in accepted]
        for key in new:
            print(f"{key}: {outcomes[key]}\n{_difference(folder, key)}", flush=True)
        gone = [key for key in accepted if key in outcomes and key not in survivors]
        for key in gone:
            print(f"{key} does not survive any more: remove it from {ACCEPTED.name}", flush=True)
        counts = Counter(outcomes.values())
        killed = sum(counts[outcome] for outcome in _KILLED)
        print(
            f"{name}: {killed} of {len(outcomes)} mutants killed, "
            f"{len(survivors) - len(new)} accepted, {len(new)} new survivors ({dict(counts)})",
            flush=True,
        )
        failed = failed or bool(new or gone)
    return 1 if failed else 0


def accepted_survivors() -> dict[str, str]:
    """Return the reason for each accepted survivor."""
    found = {}
    for line in ACCEPTED.read_text().splitlines():
        if line and not line.startswith("#"):
            key, _, reason = line.partition(": ")
            if not reason:
                sys.exit(f"dev: {ACCEPTED.name} has no reason for {key}")
            found[key] = reason
    return found


def _copy_tree(name: str, target: Target) -> Path:
    """Copy what git knows; mutmut takes its settings from pyproject.toml and writes beside it."""
    folder = CACHE / "mutation" / name
    shutil.rmtree(folder, ignore_errors=True)
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    roots = set()
    for file in listed.stdout.splitlines():
        if (ROOT / file).is_file() or (ROOT / file).is_symlink():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / file, folder / file, follow_symlinks=False)
            roots.add(file.partition("/")[0])
    others = sorted(roots - {"fastlib", "tests", "pyproject.toml"})
    settings = _SETTINGS.format(
        modules=json.dumps(target.modules),
        tests=json.dumps(target.tests),
        others=json.dumps(others),
    )
    with (folder / "pyproject.toml").open("a") as file_of_settings:
        file_of_settings.write(settings)
    return folder


def _outcomes(folder: Path) -> dict[str, str]:
    """Return the outcome of each mutant."""
    command = [sys.executable, "-m", "mutmut", "results", "--all", "true"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return dict(re.findall(r"^ *(\S+__mutmut_\d+): (.*)$", done.stdout, re.MULTILINE))


def _difference(folder: Path, mutant: str) -> str:
    command = [sys.executable, "-m", "mutmut", "show", mutant]
    environment = os.environ | {"NO_COLOR": "1"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    return done.stdout


def add_commands(commands: Any) -> None:
    parser = commands.add_parser("mutation", help="mutation testing of the modules that decide")
    parser.add_argument("target", nargs="?", choices=list(TARGETS))
    parser.set_defaults(run=mutation)
