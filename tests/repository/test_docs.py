"""Every command, snippet and message in README.md and docs/ is run as it stands there."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.mosquitto import Mosquitto
from tests.support.shell import Daemon, address

ROOT = Path(__file__).parents[2]
ELSEWHERE = {"extending.md": "test_extending.py"}
"""Documents whose blocks make one whole, and the test that runs it."""
DOCUMENTS = [
    path
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    if path.name not in ELSEWHERE
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


def named(language: str) -> list[pytest.param]:
    return [pytest.param(b, id=b.name) for b in BLOCKS if b.language == language]


def test_every_block_is_of_a_kind_that_is_run() -> None:
    """A block without a language is a drawing; any other kind would go unchecked.

    `lua` is for Neovim, which is not run here; its documents say so.
    """
    known = {"python", "console", "sh", "yaml", "json", "lua", ""}
    assert {block.language for block in BLOCKS} <= known
    assert named("python")
    assert named("console")


def test_what_is_run_elsewhere_is_run_there() -> None:
    for document, test in ELSEWHERE.items():
        assert (ROOT / "docs" / document).is_file()
        assert document in (ROOT / "tests" / test).read_text()


@pytest.mark.parametrize("block", named("python"))
def test_python(block: Block, tmp_path: Path) -> None:
    """In a process of its own: a snippet may declare tasks."""
    done = subprocess.run(
        [sys.executable, "-c", block.text], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment in which commands find a broker and the daemon of node01."""
    with Mosquitto(tmp_path_factory.mktemp("broker")) as broker, Daemon(broker, "node01"):
        yield address(broker)


@pytest.mark.parametrize("block", named("console"))
def test_console(block: Block, tmp_path: Path, cluster: dict[str, str]) -> None:
    """`$ command` and below it what it prints; `$ cat FILE` makes the file."""
    environment = (
        os.environ
        | cluster
        | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "NO_COLOR": "1",
        }
    )
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, expected = part.partition("\n")
        if command.startswith("cat "):
            (tmp_path / command.removeprefix("cat ")).write_text(expected)
            continue
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert "Traceback" not in done.stdout
        if expected:
            assert done.stdout == expected
        else:
            assert done.returncode == 0, done.stdout


def test_yaml() -> None:
    """A message in the documents is one that is understood, as is a daemon's configuration."""
    from fastlib import load
    from fastlib.migfra import read_configuration

    for block in BLOCKS:
        if block.language != "yaml":
            continue
        if re.search("^hypervisor:", block.text, re.MULTILINE):
            read_configuration(block.text)
        else:
            load(block.text)


def test_editors_settings() -> None:
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
    assert len(paths) == 5
    assert all((ROOT / path).is_file() for path in paths)


def test_the_first_command_in_a_fresh_copy(tmp_path: Path) -> None:
    """The README's first command, in a copy of what is committed or about to be."""
    first = next(block for block in BLOCKS if block.language == "sh")
    assert first.path.name == "README.md"
    files = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    for name in files:
        copy = tmp_path / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_symlink():
            copy.symlink_to((ROOT / name).readlink())
        elif (ROOT / name).is_file():
            copy.write_bytes((ROOT / name).read_bytes())
            copy.chmod((ROOT / name).stat().st_mode)
    environment = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH")}
    done = subprocess.run(
        ["bash", "-c", first.text], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "migrate vm" in done.stdout
    # What is no Python is installed as well: the examples.
    shown = subprocess.run(
        [tmp_path / ".venv" / "bin" / "fastlib", "schema", "start vm", "--example"],
        cwd=tmp_path / "docs",
        env=environment,
        capture_output=True,
        text=True,
    )
    assert shown.stdout == (ROOT / "schemas/examples/start-vm.task.yaml").read_text(), shown.stderr


def test_the_second_command() -> None:
    """`tests/run` is what runs this; here, that it is the README's second command and CI's."""
    commands = [b.text for b in BLOCKS if b.language == "sh" and b.path.name == "README.md"]
    assert commands[1] == "tests/run\n"
    assert os.access(ROOT / "tests" / "run", os.X_OK)
    assert (ROOT / ".ci" / "run").read_text().splitlines()[-1] == "exec tests/run"
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
