"""`./dev release VERSION`: prepare a release, from the version's number to checked packages."""

import argparse
import datetime
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastlib.extras import source_folder

from .processes import ROOT, require

VERSION = re.compile(r"\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?")
DIST = "dist"
_WHEEL = "fastlib_migfra"
_HEADING = re.compile(r"^## (?P<title>.*)$", re.MULTILINE)


class ReleaseError(Exception):
    """The release cannot be prepared; the text says why, and what to do."""


def prepare(version: str, today: datetime.date, checks: bool = True) -> None:
    """Set the version, write the schemas, run all checks and build the packages.

    It changes files and builds `dist/`; it neither commits nor publishes. Raises ReleaseError.
    """
    if not VERSION.fullmatch(version):
        raise ReleaseError(f"expected a version such as 1.2.3 or 1.2.3rc1, not {version!r}")
    _require_clean_tree()
    before = _current_version()
    released = ROOT / "schemas" / "released" / version
    if _order(version) < _order(before) or released.exists():
        raise ReleaseError(f"{version} must be newer than {before}, and not be released already")
    _edit("CHANGELOG.md", lambda text: dated_changelog(text, version, today))
    _edit("pyproject.toml", lambda text: _replaced(text, r'^version = "(.*)"$', version))
    _edit("fastlib/__init__.py", lambda text: _replaced(text, r'^__version__ = "(.*)"$', version))
    for page in sorted((ROOT / "docs").rglob("*.md")):
        name = str(page.relative_to(ROOT))
        _edit(name, lambda text: text.replace(f"{_WHEEL}-{before}", f"{_WHEEL}-{version}"))
    _install_again()
    for folder in ("schemas", f"schemas/released/{version}"):
        options = ["--no-extensions", "--write", folder]
        _run(folder, [sys.executable, "-m", "fastlib", "schema", *options])
    _edit("schemas/released/README.md", lambda text: _with_row(text, version, today))
    _run("derived pages", ["./dev", "docs", "--write"])
    if checks:
        _run("checks", ["./dev", "check"])
        _run("fast tests", ["./dev", "test"])
        _run("tests of packages", ["./dev", "test", "--tier=slow", "-m", "packaging"])
    _build()


def dated_changelog(text: str, version: str, today: datetime.date) -> str:
    """Return the changelog with the version and the date as the title of its newest section.

    A section for what comes next is put above it. Raises ReleaseError if nothing is unreleased.
    """
    found = _HEADING.search(text)
    if found is None or "unreleased" not in found["title"].lower():
        raise ReleaseError("CHANGELOG.md must begin with a section that is called unreleased")
    following = _HEADING.search(text, found.end())
    body = text[found.end() : following.start() if following else len(text)]
    if not body.strip():
        raise ReleaseError("CHANGELOG.md has no unreleased changes: describe the changes for users")
    title = f"## [{version}] - {today.isoformat()}"
    return f"{text[: found.start()]}## [Unreleased]\n\n{title}{text[found.end() :]}"


def _require_clean_tree() -> None:
    if not (ROOT / ".git").exists():
        raise ReleaseError("a release is prepared in a clone, and this folder has no .git")
    command = ["git", "status", "--porcelain"]
    changed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    if changed.strip():
        raise ReleaseError(f"commit or remove these files first:\n{changed.rstrip()}")


def _current_version() -> str:
    found = re.search(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


def _order(version: str) -> list[int]:
    """Return what versions are compared by; a candidate comes before its release."""
    number, kind, candidate = re.fullmatch(r"([\d.]+)(?:(a|b|rc)(\d+))?", version).groups()  # type: ignore[union-attr]
    rank = {"a": 0, "b": 1, "rc": 2, None: 3}[kind]
    return [*map(int, number.split(".")), rank, int(candidate or 0)]


def _edit(name: str, change: Callable[[str], str]) -> None:
    path = ROOT / name
    path.write_text(change(path.read_text("utf-8")), "utf-8")


def _replaced(text: str, pattern: str, value: str) -> str:
    """Return a text with another value in the group of the one line that a pattern finds."""
    (found,) = re.finditer(pattern, text, re.MULTILINE)
    return text[: found.start(1)] + value + text[found.end(1) :]


def _with_row(text: str, version: str, today: datetime.date) -> str:
    """Return the list of released versions with one more row."""
    *_, last = re.finditer(r"^\|.*\|$", text, re.MULTILINE)
    return f"{text[: last.end()]}\n| {version} | {today.isoformat()} |{text[last.end() :]}"


def _install_again() -> None:
    """Renew the version in the metadata of the environment, which a test compares."""
    if source_folder() != (True, str(ROOT)):
        print(f"{sys.prefix} has no editable installation of {ROOT}, so it stays as it is")
        return
    pip = [sys.executable, "-m", "pip"]
    if subprocess.run([*pip, "--version"], capture_output=True, check=False).returncode:
        uv = shutil.which("uv")
        if uv is None:
            raise ReleaseError(f"{sys.prefix} has no pip: run {sys.executable} -m ensurepip")
        pip = [uv, "pip"]
    options = ["install", "--quiet", "--no-deps", "--editable", "."]
    if pip[0] != sys.executable:
        options += ["--python", sys.executable]
    _run("version in the environment", [*pip, *options])


def _build() -> None:
    """Build sdist and wheel anew, and check their metadata."""
    shutil.rmtree(ROOT / DIST, ignore_errors=True)
    python = [sys.executable, "-m"]
    _run("packages", [*python, "build", "--no-isolation", "--outdir", DIST, "."])
    files = sorted(str(path.relative_to(ROOT)) for path in (ROOT / DIST).iterdir())
    _run("metadata of the packages", [*python, "twine", "check", "--strict", *files])


def _run(name: str, command: list[str]) -> None:
    """Run a step, with its output. Raises ReleaseError."""
    print(f"\n--- {name}", flush=True)
    done = subprocess.run(command, cwd=ROOT, check=False)
    if done.returncode:
        raise ReleaseError(
            f"{name}: failed. Correct this on main, and begin again: git checkout . && git clean "
            "-fd schemas"
        )


def release(options: argparse.Namespace) -> int:
    require("build", "setuptools", "twine", "pytest", "ruff", "mypy")
    try:
        prepare(options.version, datetime.datetime.now(datetime.UTC).date(), not options.no_tests)
    except ReleaseError as error:
        sys.exit(f"dev: {error}")
    files = ", ".join(str(path) for path in sorted(Path(ROOT, DIST).iterdir()))
    print(
        f"\n{options.version} is prepared: {files}. Next:\n"
        f"  git add -A && git commit -m 'Release {options.version}'\n"
        f"  git tag v{options.version} && git push origin HEAD v{options.version}"
    )
    return 0


def add_commands(commands: Any) -> None:
    parser = commands.add_parser("release", help="prepare a release, without committing it")
    parser.add_argument("version", metavar="VERSION", help="such as 0.2.0")
    parser.add_argument("--no-tests", action="store_true", help="skip the checks and the tests")
    parser.set_defaults(run=release)
