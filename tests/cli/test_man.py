"""`fastlib man`: the manual pages, rendered by groff and mandoc without warnings."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fastlib.cli import COMMANDS, main
from tests.support.end_of_run import skip_now
from tests.support.shell import run


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("man")
    assert main(["man", "--write", str(folder)]) == 0
    return folder


def test_there_is_a_page_for_each_program_and_command(pages):
    found = {str(path.relative_to(pages)) for path in pages.rglob("*.*")}
    assert {"man1/fastlib.1", "man8/migfra.8", "man1/fastlib-migrate.1"} <= found
    assert {f"man1/fastlib-{name}.1" for name in COMMANDS} <= found


@pytest.mark.parametrize(
    "command",
    [
        ["groff", "-ww", "-man", "-Tutf8", "-z"],
        ["mandoc", "-T", "lint", "-W", "warning"],
    ],
    ids=lambda command: command[0],
)
def test_pages_render_without_warnings(command, pages, request):
    if shutil.which(command[0]) is None:
        why = f"{command[0]} is not installed: apt-get install {command[0]}"
        skip_now(request.node, "readers of manual pages that are not installed", why)
    files = sorted(pages.rglob("*.?"))
    assert len(files) > len(COMMANDS)
    done = subprocess.run([*command, *files], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def plain(page: Path, request: pytest.FixtureRequest) -> str:
    """A page as a terminal shows it, without its lines' ends."""
    if shutil.which("groff") is None:
        skip_now(request.node, "readers of manual pages", "groff is not installed")
    shown = subprocess.run(
        ["groff", "-man", "-Tutf8", "-P-cbou", page], capture_output=True, text=True, timeout=60
    ).stdout
    return " ".join(re.sub("(?<=\\w)[‐-]\n +", "", shown).split())


def test_page_has_the_texts_of_the_help(pages, request):
    page = plain(pages / "man1/fastlib-migrate.1", request)
    assert "NAME fastlib-migrate - migrate a domain to another host SYNOPSIS" in page
    assert "fastlib migrate --from HOST VM --to HOST [OPTION ...] DESCRIPTION" in page
    assert "--migration-timeout N Time after which" in page
    assert "EXAMPLES fastlib migrate vm1 --from node01 --to node02" in page
    assert "EXIT STATUS The exit status is 0 if every result is a success" in page
    assert "SEE ALSO fastlib(1), migfra(8)" in page
    assert "fastlib-send(1) send the tasks of files" in plain(pages / "man1/fastlib.1", request)


def test_command_prints_the_same_page(pages):
    assert run("man", "send").stdout == (pages / "man1/fastlib-send.1").read_text()
    assert run("man").stdout == (pages / "man1/fastlib.1").read_text()
    assert run("man", "migfra").stdout == (pages / "man8/migfra.8").read_text()


def test_page_has_the_date_of_the_build(monkeypatch):
    done = run("man", "send", env={"SOURCE_DATE_EPOCH": "86400"})
    assert done.stdout.startswith('.TH "FASTLIB\\-SEND" 1 "1970-01-02" "fastlib ')


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["sned"], "argument COMMAND: expected one of fastlib, migfra, "),
        (["sned"], "got 'sned' (did you mean 'send'?)"),
        (["send", "--write", "x"], "--write writes all pages, so leave out COMMAND"),
        (["--write", "/dev/null"], "/dev/null/man1/fastlib.1: Not a directory"),
    ],
)
def test_wrong_usage_is_an_error(arguments, error):
    done = run("man", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert error in done.stderr
