"""`./dev mutation`: mutation testing of the modules that decide, by mutmut.

mutmut changes one operator, constant or call at a time and runs the tests that execute the
function. A change that no test notices is a survivor. `accepted_survivors.txt` lists the survivors
that change no behaviour, each with its reason; any other survivor is a failure. For modules
whose survivors were not examined, a run counts the survivors and does not fail.

A target with many tests first tries those of each module alone, which takes a second for each
mutant. Only the survivors are tried again with all tests of the target.
"""

import argparse
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .processes import CACHE, ROOT
from .sources import source_files

ACCEPTED = Path(__file__).with_name("accepted_survivors.txt")
INSTALL_MUTMUT = (
    f"{shlex.quote(sys.executable)} -m pip install "
    "--constraint constraints.txt --editable '.[mutation]'"
)
_KILLED = ("killed", "timeout", "segfault", "caught by type check")
_SETTINGS = """
[tool.mutmut]
source_paths = ["fastlib"]
only_mutate = {modules}
also_copy = {others}
pytest_add_cli_args = ["-q", "-p", "no:xdist", "-p", "no:cacheprovider", "-o", "addopts=", \
"-p", "tools.fresh_caches", "--import-mode=importlib", "--tier=fast", "--timeout={timeout}", \
{deselected}\
"-W", "ignore::pytest.PytestAssertRewriteWarning"]
pytest_add_cli_args_test_selection = {tests}
use_git_change_detection = false
timeout_multiplier = 4.0
timeout_constant = 5.0
"""
"""With `-W`, because mutmut starts pytest more than once in a process, which pytest warns of."""
_NOT_RUN = "not checked"


@dataclass(frozen=True)
class Target:
    """Modules, and the tests that belong to them."""

    modules: tuple[str, ...]
    tests: tuple[str, ...]
    first_tests: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Tests of a module, by its name, that are tried before `tests`."""
    unexamined: frozenset[str] = frozenset()
    """Names of the modules whose survivors were not examined: they are only counted."""
    deselected: tuple[str, ...] = ()
    """Tests that fail in the copy, because mutmut adds calls to the stack."""
    timeout_seconds: int = 60
    """The longest time of a test. A mutant that blocks a test is killed after this time."""

    def only(self, names: Sequence[str]) -> "Target":
        """Return the target with the modules of these names; without names, with all."""
        if not names:
            return self
        modules = [path for path in self.modules if Path(path).stem in names]
        if missing := set(names) - {Path(path).stem for path in modules}:
            sys.exit(f"dev: no modules of this target: {', '.join(sorted(missing))}")
        return replace(self, modules=tuple(modules))


def _migfra(*names: str) -> tuple[str, ...]:
    """Return the paths of tests of the daemon."""
    return tuple(f"tests/migfra/test_{name}.py" for name in names)


_CODEC = sorted((ROOT / "fastlib/codec").glob("*.py"))

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
    "disks": Target(
        (
            "fastlib/migfra/hypervisors/libvirt/migration/disks_decision.py",
            "fastlib/migfra/hypervisors/libvirt/migration/storage_decision.py",
        ),
        (
            "tests/hypervisors/libvirt/test_disks_decision.py",
            "tests/hypervisors/libvirt/test_disks_decision_boundaries.py",
            "tests/hypervisors/libvirt/test_storage_files.py",
        ),
    ),
    "journal": Target(
        (
            "fastlib/migfra/journal/acceptance.py",
            "fastlib/migfra/journal/arrivals.py",
            "fastlib/migfra/journal/begins.py",
            "fastlib/migfra/journal/group_commit.py",
            "fastlib/migfra/journal/journal.py",
            "fastlib/migfra/journal/journal_file.py",
            "fastlib/migfra/journal/position.py",
            "fastlib/migfra/journal/rows_along.py",
            "fastlib/migfra/journal/schema.py",
            "fastlib/migfra/journal/transaction.py",
            "fastlib/migfra/journal/trimming.py",
        ),
        _migfra(
            "group_commit",
            "group_commit_failures",
            "group_commit_model",
            "journal",
            "journal_acceptance",
            "journal_boundaries",
            "journal_entries_boundaries",
            "journal_file",
            "journal_history",
            "journal_position",
            "journal_schema_boundaries",
            "journal_trimming",
            "journal_upgrade",
            "journal_version_2",
            "journal_version_3",
            "turns",
        ),
        first_tests={
            "acceptance": _migfra(
                "journal_acceptance",
                "journal_entries_boundaries",
                "journal_history",
                "journal_upgrade",
                "turns",
            ),
            "arrivals": _migfra("journal_acceptance", "journal_entries_boundaries"),
            "begins": _migfra("journal_entries_boundaries"),
            "group_commit": _migfra(
                "group_commit",
                "group_commit_failures",
                "journal_boundaries",
                "journal_entries_boundaries",
                "journal_history",
            ),
            "journal": _migfra(
                "journal",
                "journal_acceptance",
                "journal_boundaries",
                "journal_entries_boundaries",
                "journal_history",
                "turns",
            ),
            "journal_file": _migfra("journal_file", "journal_boundaries", "journal_position"),
            "position": _migfra("journal_position"),
            "rows_along": _migfra("journal_entries_boundaries", "journal_history"),
            "schema": _migfra("journal_schema_boundaries", "journal_boundaries"),
            "transaction": _migfra("journal_boundaries"),
        },
        timeout_seconds=10,
    ),
    "expiry": Target(
        (
            "fastlib/client/outcome.py",
            "fastlib/migfra/journal/repetition.py",
            "fastlib/migfra/plugin_api/expiry.py",
        ),
        (
            "tests/client/test_outcome.py",
            "tests/migfra/test_expiry_decisions.py",
            "tests/migfra/test_journal_repetition.py",
        ),
        unexamined=frozenset(("expiry",)),
    ),
    "codec": Target(
        tuple(f"fastlib/codec/{path.name}" for path in _CODEC),
        (
            "tests/codec",
            "tests/message/test_added_options.py",
            "tests/message/test_broken_declarations.py",
            "tests/message/test_constructor_arguments.py",
        ),
        first_tests={
            path.stem: (own,)
            for path in _CODEC
            if (ROOT / (own := f"tests/codec/test_{path.stem}_boundaries.py")).exists()
        }
        | {
            "caches": ("tests/codec/test_caches.py",),
            "constructor_arguments": ("tests/message/test_constructor_arguments.py",),
            "extensions": ("tests/message/test_added_options.py",),
            "instants": ("tests/codec/test_instants.py",),
            "rules": ("tests/codec/test_rules.py",),
        },
        deselected=("tests/codec/test_reading_options.py::test_unknown_key_warns_if_asked_for",),
    ),
}


def mutation(options: argparse.Namespace) -> int:
    require_mutmut()
    targets = TARGETS
    if options.target:
        targets = {options.target: TARGETS[options.target].only(options.modules)}
    return run_targets(targets, options.children, is_quick=options.quick)


def require_mutmut() -> None:
    """End with the line that installs mutmut, unless it is installed."""
    if importlib.util.find_spec("mutmut") is None:
        sys.exit(f"dev: not installed: mutmut. Run: {INSTALL_MUTMUT}")


def run_targets(
    targets: dict[str, Target], children: int | None = None, *, is_quick: bool = False
) -> int:
    """Run mutmut for each target; return 1 if there are survivors that are not accepted.

    `children` is the number of processes that test mutants, by default that of the processors.
    With `is_quick`, the survivors of a module's own tests are not tried with all tests.
    """
    accepted = accepted_survivors()
    # A list: each part runs, whatever the one before says.
    passed = [
        _run_part(f"{name}{suffix}", target, part, accepted, children, is_quick=is_quick)
        for name, target in targets.items()
        for suffix, part in _parts(target).items()
    ]
    return 0 if all(passed) else 1


def _parts(target: Target) -> dict[str, Target]:
    """Return one part for each module with tests of its own, and one for all others."""
    parts = {
        f"-{Path(path).stem}": replace(target, modules=(path,), tests=own)
        for path in target.modules
        if (own := target.first_tests.get(Path(path).stem))
    }
    rest = tuple(path for path in target.modules if Path(path).stem not in target.first_tests)
    return parts | ({"": replace(target, modules=rest)} if rest else {})


def _run_part(
    name: str,
    target: Target,
    part: Target,
    accepted: dict[str, str],
    children: int | None,
    *,
    is_quick: bool,
) -> bool:
    folder = CACHE / "mutation" / name
    outcomes = _run_mutmut(folder, part, children)
    survivors = [key for key, outcome in outcomes.items() if outcome not in _KILLED]
    new = [key for key in survivors if key not in accepted]
    if new and part.tests != target.tests and not is_quick:
        again = _run_mutmut(folder, replace(part, tests=target.tests), children, new)
        outcomes.update((key, again.get(key, _NOT_RUN)) for key in new)
    if set(outcomes.values()) <= {_NOT_RUN}:
        print(f"{name}: mutmut did not run: {folder / 'mutmut.log'}", flush=True)
        return False
    by_module: dict[str, dict[str, str]] = {}
    for mutant, outcome in outcomes.items():
        by_module.setdefault(mutant.rpartition(".")[0], {})[mutant] = outcome
    # A list: each module is reported.
    passed = [
        _report(
            folder,
            module,
            found,
            accepted,
            examined=module.rpartition(".")[2] not in target.unexamined,
        )
        for module, found in sorted(by_module.items())
    ]
    return all(passed)


def _run_mutmut(
    folder: Path, target: Target, children: int | None, mutants: Iterable[str] = ()
) -> dict[str, str]:
    """Run mutmut for these mutants, or for all, and return the outcome of each."""
    _copy_tree(folder, target)
    command = [sys.executable, "-m", "mutmut", "run"]
    if children is not None:
        command += ["--max-children", str(children)]
    with (folder / "mutmut.log").open("w") as log:
        subprocess.run([*command, *mutants], cwd=folder, stdout=log, stderr=log, check=False)
    return _outcomes(folder)


def _report(
    folder: Path,
    module: str,
    outcomes: dict[str, str],
    accepted: dict[str, str],
    *,
    examined: bool,
) -> bool:
    """Print the score of a module; return whether it has no new survivor."""
    survivors = sorted(key for key, outcome in outcomes.items() if outcome not in _KILLED)
    new = [key for key in survivors if key not in accepted]
    of_module = (key for key in accepted if key.rpartition(".")[0] == module)
    gone = [key for key in of_module if key not in survivors]
    if examined:
        print(_differences(folder, new), end="", flush=True)
    for key in gone:
        print(f"{key} no longer survives: remove it from {ACCEPTED.name}", flush=True)
    rest = "new survivors" if examined else "survivors that were not examined"
    print(
        f"{module}: {len(outcomes) - len(survivors)} of {len(outcomes)} mutants killed, "
        f"{len(survivors) - len(new)} accepted, {len(new)} {rest} "
        f"({dict(Counter(outcomes.values()))})",
        flush=True,
    )
    return not gone and not (new and examined)


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


def _copy_tree(folder: Path, target: Target) -> None:
    """Copy the sources; mutmut takes its settings from pyproject.toml and writes beside it."""
    shutil.rmtree(folder, ignore_errors=True)
    roots = set()
    for file in source_files():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / file, folder / file, follow_symlinks=False)
        roots.add(file.partition("/")[0])
    others = sorted(roots - {"fastlib", "tests", "pyproject.toml"})
    settings = _SETTINGS.format(
        modules=json.dumps(target.modules),
        tests=json.dumps(target.tests),
        deselected="".join(f"{json.dumps(f'--deselect={name}')}, " for name in target.deselected),
        timeout=target.timeout_seconds,
        others=json.dumps(others),
    )
    with (folder / "pyproject.toml").open("a") as file_of_settings:
        file_of_settings.write(settings)


def _outcomes(folder: Path) -> dict[str, str]:
    """Return the outcome of each mutant."""
    command = [sys.executable, "-m", "mutmut", "results", "--all", "true"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return dict(re.findall(r"^ *(\S+__mutmut_\d+): (.*)$", done.stdout, re.MULTILINE))


_SHOW = """
import sys
from mutmut.__main__ import show
for mutant in sys.argv[1:]:
    show.callback(mutant)
"""
"""Shows many mutants in one process: `mutmut show` needs a second for each."""


def _differences(folder: Path, mutants: Sequence[str]) -> str:
    """Return the outcome and the difference of each mutant."""
    if not mutants:
        return ""
    environment = os.environ | {"NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, "-c", _SHOW, *mutants],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def add_commands(commands: Any) -> None:
    parser = commands.add_parser("mutation", help="mutation testing of the modules that decide")
    parser.add_argument("target", nargs="?", choices=list(TARGETS))
    parser.add_argument(
        "modules", nargs="*", help="only these modules of the target, such as: codec rules text"
    )
    parser.add_argument(
        "--children", type=int, help="processes that test mutants (default: one for each processor)"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="try only the tests of each module, and not all tests for its survivors",
    )
    parser.set_defaults(run=mutation)
