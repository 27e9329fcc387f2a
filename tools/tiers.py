"""`./dev test`: the tests in tiers, and one closing line for all that ran."""

import argparse
import os
import random
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import audit, checks, compiled_build, coverage_floor, interpreters, mutation
from .processes import ROOT, Job, replace_process, require, restore_signals, run_side_by_side

FAST_LIMIT_SECONDS = 70 * 60
"""Far more than an idle machine needs: a busy one must not fail for its speed."""
SLOW_LIMIT_SECONDS = 80 * 60
LONG_LIMIT_SECONDS = 6 * 3600
LONG_TIMEOUT = ("--timeout=3600", "-o", "faulthandler_timeout=3500")
SLOW_WORKERS = 4
"""More than there are cores on a small machine, because these tests wait for guests."""

_AUDIT_OUTCOMES = {0: "passed", audit.FOUND: "failed", audit.NOT_CHECKED: "skipped"}
OUTCOMES = ("passed", "failed", "error", "skipped", "xfailed", "xpassed")
_CLOSING_LINE = re.compile(r"^=* ?(\d+ (?:passed|failed|skipped|deselected|error).*?) in [\d.]+s")
_COUNT = re.compile(rf"(\d+) ({'|'.join(OUTCOMES)})")


def workers(*, alone: bool = True) -> int:
    """Return how many workers the fast tests get: one for each core, two at least.

    Half as many more if no other tests run, because a third of their time they wait.
    """
    cores = len(os.sched_getaffinity(0))
    return max(2, min(8, cores * 3 // 2 if alone else cores))


def pytest_command(*arguments: str, parallel: int, runner: tuple[str, ...] = ()) -> list[str]:
    """Return the command line of a parallel run of pytest; later arguments win."""
    runner = runner or (sys.executable, "-m")
    return [*runner, "pytest", "-n", str(parallel), "--dist", "loadgroup", *arguments]


def test(options: argparse.Namespace) -> int:
    require("pytest", "xdist", "pytest_timeout", "hypothesis", "paho")
    if options.long:
        return _run_long(options.others)
    if options.all:
        return _run_all(options.others)
    if options.python or options.unlocked:
        return _run_elsewhere(options)
    if options.compiled:
        return _run_compiled(options.others)
    restore_signals()
    return replace_process(pytest_command("--tier=fast", *options.others, parallel=workers()))


def _run_elsewhere(options: argparse.Namespace) -> int:
    """Run the fast tests with another interpreter, or with the newest packages."""
    if options.unlocked:
        python = interpreters.unlocked_environment()
    elif (found := interpreters.environment_of(options.python)) is not None:
        python = found
    else:
        sys.exit(f"dev: there is no Python {options.python} on this machine")
    job = _fast_in(python, "fast tests elsewhere", options.others)
    run_side_by_side([job], follow=[job])
    return 1 if job.status else 0


def compiled_command(folder: Path, *arguments: str, parallel: int) -> list[str]:
    """Return the command that tests the compiled package of a folder, see `compiled_build`."""
    some = any((ROOT / text.partition("::")[0]).exists() for text in arguments)
    paths = () if some else ("tests/codec", "tests/message")
    found = f"pythonpath={folder} {ROOT}"
    return pytest_command("--tier=fast", "-o", found, *paths, *arguments, parallel=parallel)


def _run_compiled(arguments: list[str]) -> int:
    """Run the fast tests of codec and messages, or what the arguments name, compiled."""
    require("mypy", "setuptools")
    try:
        folder = compiled_build.compiled_package()
    except compiled_build.BuildError as error:
        sys.exit(f"dev: {error}")
    os.environ.update(compiled_build.environment(folder))
    restore_signals()
    return replace_process(compiled_command(folder, *arguments, parallel=workers()))


def _run_all(arguments: list[str]) -> int:
    """Run the checks and all tests, the slow ones beside the fast ones."""
    require("ruff", "mypy", "importlinter")
    fast = Job(
        "fast tests",
        pytest_command("--tier=fast", *arguments, parallel=workers(alone=False)),
        FAST_LIMIT_SECONDS,
    )
    slow = Job(
        "slow tests",
        pytest_command("--tier=slow", *arguments, parallel=SLOW_WORKERS),
        SLOW_LIMIT_SECONDS,
    )
    checking = checks.jobs()
    run_side_by_side([slow, *checking, fast], follow=[fast, slow])
    print()
    checks.report(checking)
    counts = Counter[str]()
    for job in checking:
        counts["failed" if job.status else "passed"] += 1
    for job in (fast, slow):
        print(f"{job.name}: {job.seconds:.0f} s", flush=True)
        counts += counts_of(job)
    return print_totals(counts)


def _run_long(arguments: list[str]) -> int:
    """Run the long series in random order, and the fast tests everywhere else they must pass."""
    require("coverage")
    mutation.require_mutmut()  # now, and not after hours
    audit.require_pip_audit()
    seed = str(random.SystemRandom().randrange(10**6))
    print(f"random order of the tests: --shuffle={seed}", flush=True)
    counts = Counter[str]()
    for job in _long_jobs(seed, arguments):
        print(f"\n--- {job.name}", flush=True)
        run_side_by_side([job], follow=[job])
        print(f"{job.name}: {job.seconds:.0f} s", flush=True)
        counts += counts_of(job)
    counts["passed" if coverage_floor.report() else "failed"] += 1
    counts["failed" if mutation.run_targets(mutation.TARGETS) else "passed"] += 1
    print("\n--- vulnerabilities of packages", flush=True)
    counts[_AUDIT_OUTCOMES[audit.run()]] += 1
    return print_totals(counts)


def _long_jobs(seed: str, arguments: list[str]) -> Iterator[Job]:
    long = ("--long", f"--shuffle={seed}", "--compare-state", *LONG_TIMEOUT, *arguments)
    coverage_floor.erase()
    yield _fast_with_coverage(arguments)
    yield Job("long tests", pytest_command(*long, parallel=workers()), LONG_LIMIT_SECONDS)
    in_background = pytest_command("--tier=fast", *arguments, parallel=workers())
    yield Job("as a background job", in_background, FAST_LIMIT_SECONDS, like_background=True)
    for version in interpreters.other_versions():
        if python := interpreters.environment_of(version):
            yield _fast_in(python, f"Python {version}", arguments)
        else:
            print(f"\n--- Python {version} is not tested: it is not on this machine", flush=True)
    yield _fast_in(interpreters.unlocked_environment(), "newest packages", arguments)


def _fast_in(python: Path, name: str, arguments: list[str]) -> Job:
    """Return the fast tests in another virtual environment."""
    path = f"{python.parent}:{os.environ['PATH']}"
    environment = {"VIRTUAL_ENV": str(python.parents[1]), "PATH": path}
    command = pytest_command(
        "--tier=fast", *arguments, parallel=workers(), runner=(str(python), "-m")
    )
    return Job(name, command, FAST_LIMIT_SECONDS, environment)


def coverage(options: argparse.Namespace) -> int:
    """Run the fast tests with coverage, and compare it with the floors."""
    require("coverage", "pytest", "xdist")
    coverage_floor.erase()
    job = _fast_with_coverage(options.others)
    passed = run_side_by_side([job], follow=[job])
    return 0 if coverage_floor.report() and passed else 1


def _fast_with_coverage(arguments: list[str]) -> Job:
    command = pytest_command(
        "--tier=fast", *arguments, parallel=workers(), runner=coverage_floor.RUNNER
    )
    return Job("coverage", command, FAST_LIMIT_SECONDS, coverage_floor.ENVIRONMENT)


def counts_of(job: Job) -> Counter[str]:
    """Return the counts of the closing line of pytest; a run without one has failed."""
    counts = Counter[str]()
    for line in job.log.read_text(errors="replace").splitlines():
        if found := _CLOSING_LINE.match(line):
            counts = Counter({name: int(count) for count, name in _COUNT.findall(found[1])})
    failed = counts["failed"] + counts.pop("error", 0)
    counts["failed"] = failed or (1 if job.status not in (0, 5) else 0)
    return counts


def print_totals(counts: Counter[str]) -> int:
    """Print the sums as the last line; return the exit status."""
    line = f"{counts['passed'] + counts['xfailed']} passed, {counts['failed']} failed"
    if counts["skipped"]:
        line += f", {counts['skipped']} skipped"
    print(line, flush=True)
    return 1 if counts["failed"] else 0


def add_commands(commands: Any) -> None:
    parser = commands.add_parser("test", help="run the fast tests, or with --all all of them")
    parser.add_argument("--all", action="store_true", help="what CI runs")
    parser.add_argument("--long", action="store_true", help="the nightly run")
    parser.add_argument("--python", metavar="3.X", help="the fast tests with another interpreter")
    parser.add_argument("--unlocked", action="store_true", help="with the newest packages")
    parser.add_argument(
        "--compiled", action="store_true", help="codec and messages with a compiled fast reader"
    )
    parser.set_defaults(run=test, takes_more=True)
    parser = commands.add_parser("coverage", help="measure the coverage of the fast tests")
    parser.set_defaults(run=coverage, takes_more=True)
