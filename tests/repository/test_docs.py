"""Run every command, snippet and message of README.md, CONTRIBUTING.md and docs/."""

import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from fastlib.cli import sending
from tests.support.mosquitto import PATIENCE, Mosquitto
from tests.support.on_path import on_path
from tests.support.shell import Daemon, address, run

ROOT = Path(__file__).parents[2]
ELSEWHERE = {"extending.md": "test_extending.py", "first-daemon.md": "test_first_daemon.py"}
"""Documents whose blocks form one package, and the test that runs them."""
DOCUMENTS = [
    path
    for path in (
        *(ROOT / "README.md", ROOT / "CONTRIBUTING.md"),
        *sorted((ROOT / "docs").rglob("*.md")),
    )
    if path.name not in ELSEWHERE and path.exists()
]


class Block(NamedTuple):
    path: Path
    line: int
    language: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.path.name}:{self.line}"


def blocks() -> Iterator[Block]:
    for path in DOCUMENTS:
        text = path.read_text()
        for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            yield Block(path, text.count("\n", 0, match.start()) + 1, match[1], match[2])


BLOCKS = list(blocks())
SHELL_SYNTAX = re.compile(r"[|&;<>$`()*?\\]")
"""Characters by which a command needs a shell, beyond quotes."""


LONGEST_COMMANDS = ("fastlib compat ", "fastlib conformance ", "fastlib demo")
"""Commands that take seconds of CPU time: the slow tier runs blocks with one of these."""


def named(language: str) -> list[pytest.param]:
    found = []
    for block in BLOCKS:
        is_slow = language == "console" and any(word in block.text for word in LONGEST_COMMANDS)
        marks = pytest.mark.load if is_slow else ()
        if block.language == language:
            found.append(pytest.param(block, id=block.name, marks=marks))
    return found


def test_every_block_has_a_language_that_is_run() -> None:
    """A block without a language is a drawing. Blocks of any other language would go unchecked.

    `lua` is for Neovim, which the tests do not run; its documents say so.
    """
    known = {"python", "console", "sh", "yaml", "json", "lua", ""}
    assert {block.language for block in BLOCKS} <= known
    assert named("python")
    assert named("console")


@pytest.mark.parametrize("block", named("python"))
@pytest.mark.usefixtures("isolated_registry")
def test_python_block_runs(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a block as a separate module, without the declarations of other tests and blocks."""
    monkeypatch.chdir(tmp_path)
    module = types.ModuleType(f"block_{block.path.stem.replace('-', '_')}_{block.line}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    code = compile("\n" * block.line + block.text, block.path, "exec")
    exec(code, vars(module))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment in which commands find a broker and the daemon of node01."""
    with (
        Mosquitto(tmp_path_factory.mktemp("broker")) as broker,
        Daemon(broker, "node01"),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(sending, "ABSENCE_SECONDS", PATIENCE)  # a busy machine delays answers
        yield address(broker)


@pytest.mark.parametrize("block", named("console"))
def test_console_block_prints_its_output(
    block: Block, tmp_path: Path, cluster: dict[str, str]
) -> None:
    """A block has `$ command` and its output below it; `$ cat FILE` makes the file."""
    environment = cluster | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "NO_COLOR": "1",
    }
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, expected = part.partition("\n")
        if command.startswith("cat "):
            (tmp_path / command.removeprefix("cat ")).write_text(expected)
            continue
        output, status = run_command(command, tmp_path, environment)
        assert "Traceback" not in output
        if expected:
            assert output == expected
        else:
            assert status == 0, output


def run_command(command: str, folder: Path, environment: dict[str, str]) -> tuple[str, int]:
    """Run a command in a folder. Return its output and its exit status.

    A `fastlib` command that needs no shell runs in this process, without other tests' declarations.
    """
    words = shlex.split(command)
    if words[0] == "fastlib" and not SHELL_SYNTAX.search(command):
        with contextlib.chdir(folder), on_path():
            here = run(*words[1:], env=environment)
        return here.stdout + here.stderr, here.returncode
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.stdout, done.returncode


def test_yaml_blocks_are_valid() -> None:
    """A YAML block is a message or the configuration of a daemon."""
    from fastlib import load
    from fastlib.migfra import read_configuration

    for block in BLOCKS:
        if block.language != "yaml":
            continue
        if re.search("^hypervisor:", block.text, re.MULTILINE):
            read_configuration(block.text)
        else:
            load(block.text)


def test_editor_settings_are_valid() -> None:
    """Settings of editors are well-formed, and the schemas are where they say."""
    paths = []
    for block in BLOCKS:
        if block.language == "json":
            settings = json.loads(block.text)
            paths += settings["yaml.schemas"]
        elif block.language == "lua":
            paths += re.findall(r'"/(schemas/[^"]+)"', block.text)
        elif block.language == "yaml":
            paths += re.findall(
                r"^# yaml-language-server: \$schema=(.*)$", block.text, re.MULTILINE
            )
    assert len(paths) == 8
    assert all((ROOT / path).is_file() for path in paths)


@pytest.mark.packaging
def test_first_command_of_readme_works_in_fresh_copy(
    copy_of_repository: Path, offline_environment: dict[str, str]
) -> None:
    first = next(block for block in BLOCKS if block.language == "sh")
    assert first.path.name == "README.md"
    done = subprocess.run(
        ["bash", "-c", first.text],
        cwd=copy_of_repository,
        env=offline_environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "migrate vm" in done.stdout
    # Files that are not Python are installed, too: the examples of the schemas.
    shown = subprocess.run(
        [copy_of_repository / ".venv/bin/fastlib", "schema", "start vm", "--example"],
        cwd=copy_of_repository / "docs",
        env=offline_environment,
        capture_output=True,
        text=True,
    )
    assert shown.stdout == (ROOT / "schemas/examples/start-vm.task.yaml").read_text(), shown.stderr


def test_ci_runs_the_second_command_of_readme() -> None:
    commands = [b.text for b in BLOCKS if b.language == "sh" and b.path.name == "README.md"]
    assert commands[1] == "tests/run\n"
    assert os.access(ROOT / "tests" / "run", os.X_OK)
    assert (ROOT / ".ci" / "run").read_text().splitlines()[-1] == "exec tests/run"
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_readme_is_short() -> None:
    """The README introduces fastlib and its users, and links to docs/."""
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 150
