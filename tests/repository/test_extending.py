"""docs/extending.md is a package: it is built from the page, installed beside fastlib in a fresh
environment, and every command of the page is run there, with a real mosquitto.

Only the broker's port is another one than the page's 1883.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mosquitto import Mosquitto

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "extending.md"
PORT = "1883"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (\S+\.\w+)\n")


class Environment:
    """A fresh virtual environment with fastlib and the page's package, and a broker."""

    def __init__(self, directory: Path, port: int) -> None:
        self.directory = directory
        self.bin = directory / "venv" / "bin"
        self.package = directory / "package"
        self.port = port
        self.variables = {
            name: value
            for name, value in os.environ.items()
            if name not in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")
        } | {
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "FASTLIB_BROKER": f"localhost:{port}",
            "NO_COLOR": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "RUNTIME_DIRECTORY": str(directory),
        }

    def run(self, command: str, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
        """What a command of a shell printed, both streams together."""
        return subprocess.run(
            ["bash", "-c", command],
            cwd=cwd or self.package,
            env=self.variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )

    def install(self) -> None:
        """Installs the package, if the page has not done so yet."""
        if not self.installed():
            done = self.run("pip install --quiet .")
            assert done.returncode == 0, done.stdout

    def installed(self) -> Path | None:
        """Where the package's modules are."""
        return next(self.bin.parent.glob("lib/python*/site-packages/acme_process"), None)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    directory = tmp_path_factory.mktemp("extending")
    with Mosquitto(directory / "broker") as broker:
        made = Environment(directory, broker.port)
        source = directory / "fastlib"  # a copy, as an installation leaves traces in its source
        _copy_sources(source)
        for command in (
            f"{sys.executable} -m venv {directory / 'venv'}",
            f"python -m pip install --quiet '{source}[migfra]'",
        ):
            done = made.run(command, directory)
            assert done.returncode == 0, done.stdout
        for name, text in files(made).items():
            path = made.package / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        yield made
        if (made.package / "domains").exists():  # what a failed test has left
            made.run("for file in domains/*.pid; do kill -9 $(cat $file); done")
        made.run("fastlib quit --host node01 --timeout 5")


def _copy_sources(target: Path) -> None:
    for path in [ROOT / "pyproject.toml", ROOT / "README.md", ROOT / "LICENSE"]:
        target.mkdir(exist_ok=True)
        (target / path.name).write_bytes(path.read_bytes())
    packages = ("fastlib", "fastlib_plugins")
    for path in (path for package in packages for path in (ROOT / package).rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            copy = target / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())


def blocks(environment: Environment) -> list[tuple[str, str]]:
    """Language and text of each block of the page, in order."""
    text = PAGE.read_text().replace(PORT, str(environment.port))
    return [(match[1], match[2]) for match in BLOCK.finditer(text)]


def files(environment: Environment) -> dict[str, str]:
    """The files of the page, each named in its first line."""
    found = {}
    for language, text in blocks(environment):
        if language != "console":
            name = FILE.match(text)
            assert name is not None, f"a block without the name of its file: {text[:100]}"
            assert name[1] not in found
            found[name[1]] = text
    return found


def test_the_page_from_its_first_command_to_its_last(environment: Environment) -> None:
    commands = 0
    for language, text in blocks(environment):
        if language != "console":
            continue
        for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            command, _, expected = part.partition("\n")
            done = environment.run(command)
            log = environment.package / "migfra.log"
            said = log.read_text() if log.exists() else ""
            assert done.stdout == expected, f"$ {command}\n{done.stdout}\n{said}"
            assert "Traceback" not in said
            commands += 1
    assert commands > 20


def test_the_package_has_all_that_the_page_shows(environment: Environment) -> None:
    assert set(files(environment)) == {
        "pyproject.toml",
        "acme_process/hypervisor.py",
        "acme_process/snapshots.py",
        "acme_process/priority.py",
        "migfra.yaml",
        "snapshots.yaml",
        "start.yaml",
        "scheduler.py",
        "wrong.yaml",
    }


def test_its_types_are_sound(environment: Environment) -> None:
    mypy = f"{sys.executable} -m mypy --strict --explicit-package-bases"
    found = f"--python-executable {environment.bin / 'python'}"  # which has fastlib
    done = environment.run(f"{mypy} {found} acme_process scheduler.py")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("module", "command", "status", "said"),
    [
        (
            "hypervisor.py",
            "migfra --check -c migfra.yaml",
            1,
            "hypervisor.type: the hypervisor 'process' of the distribution acme-process 1.0 cannot "
            "be loaded from acme_process.hypervisor:ProcessHypervisor: RuntimeError: no luck",
        ),
        (
            "hypervisor.py",
            "migfra -c migfra.yaml",
            1,
            "the distribution acme-process 1.0",
        ),
        (
            "snapshots.py",
            "fastlib validate start.yaml",
            0,
            "acme-process 1.0: the extension 'snapshots = acme_process.snapshots' is broken: "
            "RuntimeError: no luck",
        ),
        (
            "priority.py",
            "fastlib --help",
            0,
            "acme-process 1.0: the extension 'priority = acme_process.priority' is broken: ",
        ),
    ],
)
def test_a_broken_module_is_named_with_its_distribution(
    environment: Environment, module: str, command: str, status: int, said: str
) -> None:
    environment.install()
    modules = environment.installed()
    assert modules is not None
    installed = modules / module
    sound = installed.read_text()
    try:
        installed.write_text('raise RuntimeError("no luck")\n')
        done = environment.run(command)
    finally:
        installed.write_text(sound)
    assert said in " ".join(done.stdout.split())
    assert "Traceback" not in done.stdout
    assert done.returncode == status
