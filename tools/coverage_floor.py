"""`./dev coverage`: branch coverage of the fast tests, with a floor for each package."""

import json
import os
import subprocess
import sys
import tomllib

from .processes import CACHE, ROOT

RUNNER = (sys.executable, "-m", "coverage", "run", "-m")
DATA = CACHE / "coverage"
ENVIRONMENT = {"COVERAGE_FILE": str(DATA / "data")}


def floors() -> dict[str, float]:
    """Return the least percentage of lines and branches for each package, from pyproject.toml."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    found: dict[str, float] = settings["tool"]["fastlib-coverage"]["floors"]
    return found


def erase() -> None:
    """Delete the data of former runs."""
    DATA.mkdir(parents=True, exist_ok=True)
    for path in DATA.glob("data*"):
        path.unlink()


def report() -> bool:
    """Print the coverage of each package and return whether all floors are reached."""
    _coverage("combine", "--quiet")
    _coverage("json", "--quiet", "-o", str(DATA / "report.json"))
    files = json.loads((DATA / "report.json").read_text())["files"]
    good = True
    for package, floor in floors().items():
        prefix = package.replace(".", "/") + "/"
        summaries = [file["summary"] for name, file in files.items() if name.startswith(prefix)]
        possible = sum(each["num_statements"] + each["num_branches"] for each in summaries)
        covered = sum(each["covered_lines"] + each["covered_branches"] for each in summaries)
        percent = 100 * covered / possible if possible else 0.0
        good = good and percent >= floor
        verdict = "" if percent >= floor else " FAILED"
        print(f"coverage of {package}: {percent:.1f} %, at least {floor} %{verdict}", flush=True)
    return good


def _coverage(*arguments: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "coverage", *arguments],
        cwd=ROOT,
        env=os.environ | ENVIRONMENT,
        check=False,
    )
