"""`fastlib completion`: its scripts in real shells."""

import shutil
import subprocess
from pathlib import Path

import pytest

from fastlib.cli import COMMANDS
from fastlib.extras import install_command
from tests.support.end_of_run import skip_now
from tests.support.modules import missing_package
from tests.support.shell import run

TITLE = "shells that are not installed"


@pytest.fixture
def script(tmp_path: Path, request: pytest.FixtureRequest):
    """Write the script for a shell; skip the test if there is no such shell."""

    def write(shell: str, program: str = "fastlib") -> Path:
        if shutil.which(shell) is None:
            skip_now(request.node, TITLE, f"{shell} is not installed: apt-get install {shell}")
        done = run("completion", shell, program)
        assert (done.returncode, done.stderr) == (0, "")
        path = tmp_path / f"_{program}"
        path.write_text(done.stdout)
        return path

    return write


def in_bash(script: Path, *words: str) -> list[str]:
    """Return the words that bash offers for the last word."""
    program = words[0]
    code = (
        'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
        f'_shtab_{program}; printf "%s\\n" "${{COMPREPLY[@]}}"'
    )
    done = subprocess.run(
        ["bash", "-c", code, "bash", script, *words], capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["fastlib", "mig"], {"migrate"}),
        (["fastlib", "con"], {"convert", "conformance"}),
        (["fastlib", "migrate", "--migration-t"], {"--migration-type", "--migration-timeout"}),
        (["fastlib", "migrate", "vm1", "--migration-type", ""], {"live", "warm", "offline"}),
        (["fastlib", "validate", "--format", ""], {"text", "json", "github"}),
        (["fastlib", "completion", ""], {"bash", "zsh", "fish"}),
    ],
)
def test_bash_completes_commands_options_and_values(words, offered, script):
    assert set(in_bash(script("bash"), *words)) == offered


def test_bash_completes_every_command_and_files(script, tmp_path):
    path = script("bash")
    assert {*COMMANDS, "start", "evacuate"} <= set(in_bash(path, "fastlib", ""))
    (tmp_path / "task.yaml").touch()
    assert in_bash(path, "fastlib", "validate", f"{tmp_path}/ta") == [f"{tmp_path}/task.yaml"]


def test_bash_completes_the_daemon(script):
    assert in_bash(script("bash", "migfra"), "migfra", "--che") == ["--check"]


def test_fish_completes_commands_options_and_values(script):
    path = script("fish")

    def offered(line: str) -> set[str]:
        code = f"source {path}; complete --do-complete '{line}'"
        done = subprocess.run(["fish", "-c", code], capture_output=True, text=True, timeout=60)
        assert done.stderr == ""
        return {row.partition("\t")[0] for row in done.stdout.splitlines()}

    assert offered("fastlib mig") == {"migrate"}
    assert offered("fastlib migrate --migration-t") == {"--migration-type", "--migration-timeout"}
    assert offered("fastlib validate --format ") == {"text", "json", "github"}


def test_zsh_loads_the_script_as_a_completion(script):
    """`compinit` reads its first line, and the function that it names can be loaded."""
    path = script("zsh")
    code = (
        f"fpath=({path.parent} $fpath); autoload -Uz compinit; compinit -u -D; "
        'print -r -- "$_comps[fastlib]"; autoload +X _fastlib'
    )
    done = subprocess.run(["zsh", "-f", "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "_fastlib\n", "")
    assert subprocess.run(["zsh", "-n", path], timeout=60).returncode == 0


def test_missing_shtab_is_an_error_with_the_install_command():
    with missing_package("shtab"):
        done = run("completion", "bash")
    assert (done.returncode, done.stdout) == (2, "")
    assert install_command("completion") in done.stderr
    assert done.stderr.count("\n") == 1


def test_unknown_shell_names_the_known_ones():
    done = run("completion", "bsh")
    assert done.returncode == 2
    assert "argument SHELL: expected one of bash, zsh, fish; got 'bsh' (did you mean" in done.stderr
