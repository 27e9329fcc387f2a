"""Versions by name: a folder of schemas, a git revision, an installed fastlib.

::

    schemas                   a folder that `fastlib schema --write` has made
    git:v0.1.0                the folder `schemas/` of a revision of the repository here
    python:/venv/bin/python   the fastlib that an interpreter has, with its extensions
    installed                 the fastlib that is running, with its extensions
"""

import io
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from fastlib.codec.errors import FastlibError
from fastlib.isolated_python import isolated_command

from .folder import INDEX, SchemaFolder

SCHEMAS = "schemas"
"""The folder of the schemas in a repository."""


class VersionError(FastlibError, ValueError):
    """There is no version with that name, or its schemas are not available."""


def find_version(name: str, workplace: str | os.PathLike[str]) -> SchemaFolder:
    """Return the schemas of a version. Generated ones are written to `workplace`.

    Raises VersionError and SchemaFolderError.
    """
    kind, colon, rest = name.partition(":")
    place = Path(tempfile.mkdtemp(prefix="version-", dir=Path(workplace).absolute()))
    if colon and kind == "git":
        return _of_revision(rest, place, name)
    if colon and kind == "python":
        return _of_interpreter(rest, place, name)
    if name == "installed":
        return _of_interpreter(sys.executable, place, name)
    if Path(name).is_dir():
        return SchemaFolder(name)
    if _is_revision(name):
        return _of_revision(name, place, name)
    raise VersionError(
        f"there is no version {name!r}: give a folder of schemas, git:REVISION, "
        "python:INTERPRETER or installed"
    )


def find_released(folder: str | os.PathLike[str]) -> list[SchemaFolder]:
    """Return the released versions in a folder of folders, oldest first; else none."""
    try:
        names = [path.name for path in Path(folder).iterdir() if (path / INDEX).is_file()]
    except OSError:
        return []
    return [SchemaFolder(Path(folder) / name, name) for name in sorted(names, key=_order)]


def _order(version: str) -> list[tuple[int, str]]:
    """Return the sort key of a version: numbers by value, pre-releases before the release."""
    parts = re.findall(r"[0-9]+|[a-z]+", version.lower())
    return [(int(part), "") if part.isdigit() else (-1, part) for part in [*parts, "0"]]


def _is_revision(name: str) -> bool:
    if name.startswith("-"):
        return False
    try:
        done = _git("rev-parse", "--quiet", "--verify", f"{name}^{{commit}}")
    except OSError:
        return False
    return done.returncode == 0


def _git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    # A directory that only looks like a bare repository could name programs for git to run.
    command = ["git", "-c", "safe.bareRepository=explicit", *arguments]
    return subprocess.run(command, capture_output=True)  # noqa: S603


def _of_revision(revision: str, place: Path, name: str) -> SchemaFolder:
    """Read the committed schemas. No code of the revision is executed."""
    if revision.startswith("-"):  # git would read it as an option
        raise VersionError(f"{name}: {revision!r} is not a revision")
    try:
        done = _git("archive", "--format=tar", revision, "--", SCHEMAS)
    except OSError as error:
        raise VersionError(f"{name}: git cannot be run: {error.strerror}") from None
    if done.returncode != 0:
        reason = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise VersionError(f"{name}: {reason[0] if reason else 'git archive failed'}")
    try:
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
            archive.extractall(place, filter="data")
    except tarfile.FilterError as error:
        raise VersionError(f"{name}: {error}; remove the link from {SCHEMAS}/") from None
    if (place / SCHEMAS).is_symlink() or not (place / SCHEMAS).is_dir():
        raise VersionError(f"{name}: {SCHEMAS} is not a folder in this revision")
    return SchemaFolder(place / SCHEMAS, name)


def _of_interpreter(python: str, place: Path, name: str) -> SchemaFolder:
    """Write the schemas of another fastlib, in a separate process."""
    if os.sep in python:
        python = os.path.abspath(python)
    command = isolated_command(python, "-m", "fastlib", "schema", "--write", str(place))
    try:
        done = subprocess.run(command, cwd=place, capture_output=True, text=True)  # noqa: S603
    except OSError as error:
        raise VersionError(f"{name}: {python} cannot be run: {error.strerror}") from None
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        reason = lines[-1] if lines else f"it ended with status {done.returncode}"
        hint = (
            "; it must be installed for this interpreter: the current directory, PYTHONPATH and "
            "the user's own packages are not searched"
        )
        missing = "No module named fastlib" in reason
        raise VersionError(
            f"{name}: its schemas cannot be written: {reason}{hint if missing else ''}"
        )
    return SchemaFolder(place, name)
