"""Wheels, built and downloaded once a run, from which the tests make fresh environments."""

import importlib.machinery
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools.sources import source_files

ROOT = Path(__file__).parents[2]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run all tests that need the wheels in one parallel worker, which makes them once."""
    for item in items:
        if item.get_closest_marker("packaging") and item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.xdist_group("packaging"))


@pytest.fixture(scope="session")
def copy_of_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of all source files; a build leaves traces in its source."""
    target = tmp_path_factory.mktemp("copy")
    for name in source_files():
        copy = target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, copy, follow_symlinks=False)
    return target


@pytest.fixture(scope="session")
def bare_environment() -> dict[str, str]:
    """This environment without a trace of the virtual environment of the tests."""
    hidden = ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")
    return {name: value for name, value in os.environ.items() if name not in hidden}


def _run(command: list[object], environment: dict[str, str]) -> None:
    done = subprocess.run([*map(str, command)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def python_with_pip(
    bare_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """This Python, or one like it if this environment has no pip, as uv makes it."""
    # Setuptools, once imported by another test, warns at importlib.util.find_spec("pip").
    if importlib.machinery.PathFinder.find_spec("pip") is not None:
        return Path(sys.executable)
    folder = tmp_path_factory.mktemp("builder")
    _run([sys.executable, "-m", "venv", folder], bare_environment)
    return folder / "bin" / "python"


@pytest.fixture(scope="session")
def packages(
    copy_of_repository: Path,
    bare_environment: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The folder with the sdist, and with the wheel that was built from it.

    setuptools of the tests builds them, as in an environment of its own it would be downloaded.
    """
    folder = tmp_path_factory.mktemp("packages")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder]
    _run([*command, copy_of_repository], bare_environment)
    return folder


@pytest.fixture(scope="session")
def wheel(packages: Path) -> Path:
    (found,) = packages.glob("*.whl")
    return found


@pytest.fixture(scope="session")
def wheels(
    wheel: Path,
    bare_environment: dict[str, str],
    python_with_pip: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A folder with the wheel of fastlib, and those of the packages that the tests install."""
    folder = tmp_path_factory.mktemp("wheels")
    command = [
        *(python_with_pip, "-m", "pip", "wheel", "--quiet"),
        *("--constraint", ROOT / "constraints.txt", "--wheel-dir", folder),
        *(f"{wheel}[migfra,terminal]", "setuptools>=77"),
    ]
    _run(command, bare_environment)
    return folder


@pytest.fixture(scope="session")
def offline_environment(bare_environment: dict[str, str], wheels: Path) -> dict[str, str]:
    """Variables with which pip takes packages from the folder of wheels and from nowhere else."""
    return bare_environment | {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": wheels.as_uri(),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_COMPILE": "0",  # pip's way to say yes; most of the modules are never imported
    }
