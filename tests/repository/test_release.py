"""`./dev release`: its changes and builds in a scratch clone, and its refusals."""

import datetime
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tools import release

ROOT = Path(__file__).parents[2]
TODAY = datetime.date(2030, 1, 31)


@pytest.mark.parametrize("title", ["0.1.0, unreleased", "Unreleased", "[Unreleased]"])
def test_changelog_gets_version_and_date_and_a_new_section(title: str) -> None:
    text = f"# Changelog\n\n## {title}\n\n- News.\n\n## [0.0.1] - 2020-01-01\n\n- Old.\n"
    assert release.dated_changelog(text, "0.2.0", TODAY) == (
        "# Changelog\n\n## [Unreleased]\n\n## [0.2.0] - 2030-01-31\n\n- News.\n\n"
        "## [0.0.1] - 2020-01-01\n\n- Old.\n"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("# Changelog\n", "must begin with a section"),
        ("# Changelog\n\n## 0.1.0, 2020-01-01\n\n- Old.\n", "must begin with a section"),
        ("# Changelog\n\n## Unreleased\n\n## 0.1.0\n\n- Old.\n", "has no unreleased changes"),
    ],
)
def test_changelog_without_news_is_refused(text: str, said: str) -> None:
    with pytest.raises(release.ReleaseError, match=said):
        release.dated_changelog(text, "0.2.0", TODAY)


def test_versions_are_compared_by_number_and_candidates_come_first() -> None:
    versions = ["0.2.0a1", "0.2.0b1", "0.2.0rc1", "0.2.0rc2", "0.2.0", "0.10.0"]
    assert sorted(versions, key=release._order) == versions


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory, copy_of_repository: Path) -> Path:
    folder = tmp_path_factory.mktemp("release") / "clone"
    shutil.copytree(copy_of_repository, folder, symlinks=True)
    shutil.rmtree(folder / "fastlib_migfra.egg-info", ignore_errors=True)
    commit(folder, "init", "-q")
    commit(folder, "add", "-A")
    commit(folder, "commit", "-qm", "all")
    return folder


def commit(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def dev(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"VIRTUAL_ENV": sys.prefix}
    return subprocess.run(
        [folder / "dev", *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )


@pytest.mark.packaging
@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("v0.2.0", "expected a version such as 1.2.3"),
        ("0.2", "expected a version such as 1.2.3"),
        ("0.0.9", "must be newer than"),
        ("0.1.0.dev0", "expected a version"),
    ],
)
def test_wrong_version_is_refused_and_changes_nothing(version: str, said: str, clone: Path) -> None:
    done = dev(clone, "release", version)
    assert done.returncode == 1
    assert said in done.stderr
    assert commit(clone, "status", "--porcelain") == ""


@pytest.mark.packaging
def test_release_is_refused_beside_uncommitted_files(clone: Path) -> None:
    stray = clone / "stray.txt"
    stray.touch()
    try:
        done = dev(clone, "release", "0.2.0")
    finally:
        stray.unlink()
    assert done.returncode == 1
    assert "stray.txt" in done.stderr


@pytest.mark.packaging
def test_release_is_prepared(clone: Path) -> None:
    before = tomllib.loads((clone / "pyproject.toml").read_text())["project"]["version"]
    done = dev(clone, "release", "97.0.0", "--no-tests")
    assert done.returncode == 0, done.stdout + done.stderr
    changed = set(commit(clone, "status", "--porcelain", "-uall").splitlines())
    assert {" M CHANGELOG.md", " M pyproject.toml", " M fastlib/__init__.py"} <= changed
    assert "?? schemas/released/97.0.0/index.json" in changed
    assert tomllib.loads((clone / "pyproject.toml").read_text())["project"]["version"] == "97.0.0"
    assert '__version__ = "97.0.0"' in (clone / "fastlib" / "__init__.py").read_text()
    assert "| 97.0.0 |" in (clone / "schemas" / "released" / "README.md").read_text()
    assert "## [Unreleased]\n\n## [97.0.0] - " in (clone / "CHANGELOG.md").read_text()
    for folder in ("load", "emit", "edit"):
        for schema in (clone / "schemas" / "released" / "97.0.0" / folder).iterdir():
            assert schema.read_bytes() == (clone / "schemas" / folder / schema.name).read_bytes()
    names = sorted(path.name for path in (clone / "dist").iterdir())
    assert names == ["fastlib_migfra-97.0.0-py3-none-any.whl", "fastlib_migfra-97.0.0.tar.gz"]
    pages = [page.read_text() for page in (clone / "docs").rglob("*.md")]
    assert not [page for page in pages if f"fastlib_migfra-{before}" in page]
    # The tests of what a release changes pass in the clone; the version of the environment differs.
    tests = ["tests/schema/test_fingerprints.py", "tests/schema/test_compat.py"]
    passed = dev(clone, "test", "-q", "-n", "0", *tests)
    assert passed.returncode == 0, passed.stdout + passed.stderr
    assert dev(clone, "release", "97.0.0").returncode == 1  # uncommitted, and released already
