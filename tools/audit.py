"""`./dev audit`: look for known vulnerabilities of the packages in constraints.txt.

pip-audit asks a service in the network. If that knows nothing of a package, or cannot be reached,
pip-audit may still say that it has found nothing. So its report is judged here.
"""

import argparse
import json
import shlex
import subprocess
import sys
from typing import Any, Final, NamedTuple

from .environment import CONSTRAINTS
from .processes import ROOT, require

INSTALL: Final = (
    f"{shlex.quote(sys.executable)} -m pip install "
    "--constraint constraints.txt --editable '.[audit]'"
)
FOUND: Final = 1
"""The exit status if a package is vulnerable."""
NOT_CHECKED: Final = 2
"""The exit status if the service says nothing of a package."""
_NOT_CHECKED: Final = "NOT CHECKED for vulnerabilities"
_LIMIT_SECONDS: Final = 900
_SHOWN: Final = 10
"""Packages that are named of those that were not checked, at most."""


class Verdict(NamedTuple):
    """What is known after an audit."""

    status: int
    lines: list[str]


def judge(report: str, errors: str) -> Verdict:
    """Return the exit status and the lines to print for what pip-audit has written.

    `report` is its output as JSON, and no JSON if it failed; `errors` is its standard error.
    """
    try:
        packages = list(json.loads(report)["dependencies"])
    except (ValueError, KeyError, TypeError):
        reason = (errors.strip().splitlines() or ["it said nothing"])[-1]
        return Verdict(
            NOT_CHECKED, [f"NOT CHECKED for vulnerabilities: pip-audit failed: {reason}"]
        )
    unknown = [each for each in packages if "skip_reason" in each]
    lines = [
        f"{each['name']} {each['version']}: {vulnerability['id']}, fixed in "
        f"{', '.join(vulnerability['fix_versions']) or 'no version'}"
        for each in packages
        for vulnerability in each.get("vulns", ())
    ]
    status = FOUND if lines else 0
    if unknown or not packages:
        status = status or NOT_CHECKED
        names = [each["name"] for each in unknown]
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        lines.append(
            f"{_NOT_CHECKED}: {len(names)} of {len(packages)} packages, for which the service "
            f"has no data, possibly because it cannot be reached: {', '.join(names[:_SHOWN])}{more}"
        )
    else:
        lines.append(f"checked for vulnerabilities: {len(packages)} packages")
    return Verdict(status, lines)


def require_pip_audit() -> None:
    """End with the line that installs pip-audit if it is missing."""
    require("pip_audit", install=INSTALL)


def run() -> int:
    """Audit the locked packages, print the verdict, and return its status."""
    command = [
        *(sys.executable, "-m", "pip_audit", "--requirement", str(CONSTRAINTS)),
        *("--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off"),
    ]
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=_LIMIT_SECONDS
        )
        verdict = judge(done.stdout, done.stderr)
    except subprocess.TimeoutExpired:
        verdict = judge("", f"it took more than {_LIMIT_SECONDS} s")
    for line in verdict.lines:
        print(line, flush=True)
    return verdict.status


def audit(_: argparse.Namespace) -> int:
    require_pip_audit()
    return run()


def add_commands(commands: Any) -> None:
    parser = commands.add_parser("audit", help="look for known vulnerabilities of the packages")
    parser.set_defaults(run=audit)
