"""Run docs/tutorial/extending.md: its files form a package, installed in a fresh environment.

Every command of the page runs there, with a real mosquitto on another port than the page's 1883.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mosquitto import Mosquitto
from tests.support.processes import niceness

PAGE = Path(__file__).parents[2] / "docs" / "tutorial" / "extending.md"
PORT = "1883"
pytestmark = pytest.mark.packaging

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (\S+\.\w+)\n")
WAITS = re.compile(r"^waiting for '.*\n(?:  .*\n)*", re.MULTILINE)
"""What a command prints about an answer that a busy machine delays."""


class Environment:
    """A fresh virtual environment with fastlib and the page's package, and a broker."""

    def __init__(self, directory: Path, port: int, variables: dict[str, str]) -> None:
        self.directory = directory
        self.bin = directory / "venv" / "bin"
        self.package = directory / "package"
        self.port = port
        self.variables = variables | {
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "FASTLIB_BROKER": f"localhost:{port}",
            "NO_COLOR": "1",
            "RUNTIME_DIRECTORY": str(directory),
        }

    def run(self, command: str, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
        """Run a shell command; its stdout has both streams."""
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
        """Install the package, if the page has not done so yet."""
        if not self.installed():
            done = self.run("pip install --quiet .")
            assert done.returncode == 0, done.stdout

    def installed(self) -> Path | None:
        """Return the folder of the installed package, or None."""
        return next(self.bin.parent.glob("lib/python*/site-packages/acme_process"), None)


@pytest.fixture(scope="module")
def environment(
    tmp_path_factory: pytest.TempPathFactory,
    offline_environment: dict[str, str],
    python_with_pip: Path,
) -> Iterator[Environment]:
    directory = tmp_path_factory.mktemp("extending")
    with Mosquitto(directory / "broker") as broker:
        made = Environment(directory, broker.port, offline_environment)
        # To copy pip takes ten seconds of CPU time: it can install into an environment without it.
        pip = made.bin / "pip"
        for command in (
            f"{sys.executable} -m venv --without-pip {directory / 'venv'}",
            f"echo 'exec {python_with_pip} -m pip --python {made.bin / 'python'} \"$@\"' > {pip}",
            f"chmod +x {pip}",
            "pip install --quiet 'fastlib-migfra[migfra]'",
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


def blocks(environment: Environment) -> list[tuple[str, str]]:
    """Return language and text of each block of the page, in order."""
    text = PAGE.read_text().replace(PORT, str(environment.port))
    return [(match[1], match[2]) for match in BLOCK.finditer(text)]


def files(environment: Environment) -> dict[str, str]:
    """Return the files of the page; the first line of each has its name."""
    found = {}
    for language, text in blocks(environment):
        if language != "console":
            name = FILE.match(text)
            assert name is not None, f"a block without the name of its file: {text[:100]}"
            assert name[1] not in found
            found[name[1]] = text
    return found


def test_commands_of_page_print_their_output(environment: Environment) -> None:
    commands = 0
    for language, text in blocks(environment):
        if language != "console":
            continue
        for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            command, _, expected = part.partition("\n")
            if command.startswith("ps -o nice="):  # `nice` adds to the niceness of the tests
                expected = f"{min(19, int(expected) + niceness())}\n"
            done = environment.run(command)
            log = environment.package / "migfra.log"
            said = log.read_text() if log.exists() else ""
            printed = WAITS.sub("", done.stdout)
            assert printed == expected, f"$ {command}\n{done.stdout}\n{said}"
            assert "Traceback" not in said
            commands += 1
    assert commands > 20


def test_page_shows_all_files_of_package(environment: Environment) -> None:
    assert set(files(environment)) == {
        "pyproject.toml",
        "acme_process/hypervisor.py",
        "acme_process/snapshots.py",
        "acme_process/priority.py",
        "migfra.yaml",
        "snapshots.yaml",
        "start.yaml",
        "scheduler.py",
        "turns.py",
        "wrong.yaml",
    }


def test_package_passes_mypy(environment: Environment) -> None:
    mypy = f"{sys.executable} -m mypy --strict --explicit-package-bases"
    found = f"--python-executable {environment.bin / 'python'}"  # which has fastlib
    done = environment.run(f"{mypy} {found} acme_process scheduler.py turns.py")
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
            78,
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
def test_error_names_distribution_of_broken_module(
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
