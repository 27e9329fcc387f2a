"""Run docs/tutorial/first-daemon.md: its files and commands, in order, in one folder.

The broker is a real mosquitto, on another port than the page's 1883. The commands are processes, as
the daemons go to the background.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mosquitto import Mosquitto

PAGE = Path(__file__).parents[2] / "docs/tutorial/first-daemon.md"
PORT = "1883"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
pytestmark = pytest.mark.load


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    (tmp_path / "run").mkdir()
    with Mosquitto(tmp_path / "broker") as broker:
        variables = os.environ | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "FASTLIB_BROKER": f"localhost:{broker.port}",
            "NO_COLOR": "1",
            "RUNTIME_DIRECTORY": str(tmp_path / "run"),
        }
        yield variables
        for host in ("node01", "node02"):  # what a failed test has left
            subprocess.run(
                ["fastlib", "quit", "--host", host, "--timeout", "5", "--only-if-online"],
                env=variables,
                capture_output=True,
            )


def test_commands_of_page_print_their_output(environment: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    port = environment["FASTLIB_BROKER"].rpartition(":")[2]
    commands = 0
    for language, text in BLOCK.findall(PAGE.read_text("utf-8").replace(PORT, port)):
        if language == "yaml":
            name = re.match(r"# (\S+)\n", text)
            assert name is not None, text
            (folder / name[1]).write_text(text)
            continue
        assert language == "console"
        for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            command, _, expected = part.partition("\n")
            if command == "fastlib broker":  # it runs already
                continue
            done = run(command, folder, environment)
            if expected:  # progress is on standard error, and so are the problems of a file
                assert (done.stdout or done.stderr) == expected, (
                    f"$ {command}\n{done.stdout}{done.stderr}"
                )
            else:
                assert done.returncode == 0, f"$ {command}\n{done.stdout}{done.stderr}"
            assert "Traceback" not in done.stderr
            commands += 1
    assert commands > 12


def run(
    command: str, folder: Path, environment: dict[str, str]
) -> "subprocess.CompletedProcess[str]":
    """Run a command by a shell. Its output is a file, because a daemon keeps its pipes."""
    with (folder / "out").open("w+") as out, (folder / "err").open("w+") as err:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            timeout=120,
        )
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(command, done.returncode, out.read(), err.read())
