"""`fastlib conformance`: its output for people and for programs, and wrong usage."""

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.support.conformance import wrong_peer
from tests.support.shell import run

WRONG = Path(wrong_peer.__file__)
PYYAML = WRONG.with_name("pyyaml_peer.py")
OURS = (sys.executable, "-m", "fastlib", "conformance", "--serve")
LOST = "equal/Suspend.driver/lost"


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "fastlib", "conformance", *map(str, arguments)]


def conformance(*arguments: object, peer: tuple[object, ...] = OURS):
    done = run("conformance", *arguments, *(("--", *peer) if peer else ()))
    assert "Traceback" not in done.stderr
    return done


def wrong(fault: str) -> tuple[object, ...]:
    return (sys.executable, WRONG, fault)


SUSPEND = ("--types", "Suspend", "--examples", 2)


def test_agreement_has_status_0() -> None:
    done = conformance(*SUSPEND)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("no differences in ")
    assert done.stdout.endswith(" requests of 1 type (seed 0, 2 examples each)\n")


def test_difference_is_printed_as_text() -> None:
    done = conformance(*SUSPEND, peer=wrong("drops-a-field"))
    assert (done.returncode, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    assert lines[:2] == [LOST, "  type: Suspend"]
    for word in ("  sent:", "  fastlib:", "  program:", "  difference: driver: "):
        assert sum(line.startswith(word) for line in lines) == 1, done.stdout
    assert lines[-1].startswith("1 difference in ")


def test_report_is_printed_as_json() -> None:
    done = conformance(*SUSPEND, "--format", "json", peer=wrong("drops-a-field"))
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert report["ok"] is False
    assert report["types"] == ["Suspend"]
    assert report["requests"] > 50
    (lost,) = report["differences"]
    assert lost["name"] == LOST
    assert lost["check"] == "equal"
    assert lost["allowed"] is None
    assert "driver" in lost["text"]
    assert "driver" in lost["ours"]
    assert "driver" not in lost["theirs"]


def test_report_is_printed_as_junit(tmp_path: Path) -> None:
    file = tmp_path / "report.xml"
    options = ("--types", "Suspend,Quit", "--examples", 2, "--format", "junit", "--output", file)
    done = conformance(*options, peer=wrong("no-trailing-document"))
    assert (done.returncode, done.stdout) == (1, "")
    (summary,) = done.stderr.splitlines()  # the report is in the file
    assert re.match(
        rf"{re.escape(str(file))}: \d+ differences? in \d+ requests of 2 types ", summary
    )
    (suite,) = ElementTree.parse(file).getroot()
    cases = suite.findall("testcase")
    assert suite.get("tests") == str(len(cases)) == "10"
    failed = {case.get("classname"): case for case in cases if case.find("failure") is not None}
    assert set(failed) == {"Suspend", "Quit"}
    assert suite.get("failures") == str(len(failed))
    for case in failed.values():
        assert case.get("name") == "accepted"
        failure = case.find("failure")
        assert failure.get("message").startswith("accepted/any-message/refused-document-end, ")
        assert "refused: a second document" in failure.text
    known = {each.get("name"): each.get("value") for each in suite.iter("property")}
    assert known["seed"] == "0"
    assert known["command"].endswith("wrong_peer.py no-trailing-document")


def test_junit_has_only_characters_of_xml() -> None:
    program = "for line in __import__('sys').stdin: print('\\x01\\ufffe', flush=True)"
    peer = (sys.executable, "-c", program)
    done = conformance(*SUSPEND, "--format", "junit", peer=peer)
    assert done.returncode == 1
    assert r"\x01" in ElementTree.fromstring(done.stdout).find(".//failure").text


def test_known_differences_are_allowed(tmp_path: Path) -> None:
    file = tmp_path / "known.txt"
    file.write_text(
        f"# ours\n\n{LOST}: it has one driver only\nequal/Suspend.id/lost: was mended\n"
    )
    arguments = (*SUSPEND, "--allow", file)
    done = conformance(*arguments, peer=wrong("drops-a-field"))
    assert done.returncode == 0
    first, second, last = done.stdout.splitlines()
    assert first == f"allowed: {LOST}: it has one driver only"
    assert second == "allowed, but not found: equal/Suspend.id/lost"
    assert last.startswith("no differences in ")
    done = conformance(*arguments, "--format", "json", peer=wrong("drops-a-field"))
    report = json.loads(done.stdout)
    assert report["ok"] is True
    assert report["unused"] == ["equal/Suspend.id/lost"]
    assert report["differences"][0]["allowed"] == "it has one driver only"
    done = conformance(*arguments, "--format", "junit", peer=wrong("drops-a-field"))
    (skipped,) = ElementTree.fromstring(done.stdout).iter("skipped")
    assert skipped.get("message") == f"{LOST}: it has one driver only"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (LOST, "line 1: expected 'NAME: WHY IT IS ALLOWED'"),
        (f"\n{LOST}:", "line 2: expected"),
        ("lost: why", "line 1: expected"),
        (f"{LOST}: a\n{LOST}: b", f"line 2: '{LOST}' is a duplicate"),
        (b"\xff", "utf-8"),
    ],
)
def test_wrong_line_of_allowed_differences_is_an_error(
    tmp_path: Path, content: str | bytes, words: str
) -> None:
    file = tmp_path / "known.txt"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    done = conformance("--allow", file)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "peer", "words"),
    [
        (["--types", "Stopp"], OURS, "there is no message 'Stopp' (did you mean 'Stop'?)"),
        (["--types", "Stop,,"], OURS, "there is no message ''"),
        (["--types", "start vm"], OURS, "there is no message 'start vm'"),
        (["--examples", "0"], OURS, "expected a number from 1; got '0'"),
        (["--timeout", "nan"], OURS, "expected a number of seconds above 0; got 'nan'"),
        (["--timeout", "x"], OURS, "expected a number of seconds above 0; got 'x'"),
        (["--serve"], OURS, "give either -- COMMAND or --serve"),
        ([], (), "give either -- COMMAND or --serve"),
        (["--allow", "/nowhere/known"], OURS, "/nowhere/known: No such file or directory"),
        ([], ("/nowhere/peer",), "cannot start '/nowhere/peer': No such file or directory"),
        ([], ("/",), "cannot start '/': Permission denied"),
        ([*map(str, SUSPEND), "--output", "/"], OURS, "cannot write /: Is a directory"),
    ],
)
def test_wrong_usage_has_status_2(arguments: list[str], peer: tuple[str, ...], words: str) -> None:
    done = conformance(*arguments, peer=peer)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr.splitlines()[-1]


@pytest.mark.load
def test_conformance_leaves_no_files_in_the_current_directory(tmp_path: Path) -> None:
    arguments = command("--types", "mmbwmon.Stop", "--examples", 2, "--", *wrong("drops-a-field"))
    environment = {**os.environ, "PYTHONPATH": str(WRONG.parents[3])}
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.load
def test_progress_is_shown_on_a_terminal() -> None:
    above, below = pty.openpty()
    with os.fdopen(above, "rb", buffering=0) as terminal:
        done = subprocess.run(command(*SUSPEND, "--", *OURS), stdout=subprocess.PIPE, stderr=below)
        os.close(below)
        seen = terminal.read(4096).decode()
    assert done.returncode == 0
    assert "1/7 Suspend: 0 requests, 0 differences" in seen
    assert seen.endswith("\r\033[K")


@pytest.mark.load
def test_plain_yaml_reader_has_known_differences() -> None:
    """It guesses types, and does not know messages."""
    options = ("--types", "Stop", "--examples", 20, "--format", "json")
    done = conformance(*options, peer=(sys.executable, PYYAML))
    assert done.returncode == 1
    report = json.loads(done.stdout)
    found = {each["name"]: each for each in report["differences"]}
    for kind in ("boolean", "octal", "sexagesimal"):
        difference = found[f"equal/any-text/changed-like-{kind}"]
        assert len(difference["text"]) < 40
        assert "expected" in difference["words"]
    # A key twice, which it takes the last of, and whatever stands in the place of a text.
    assert {"refused/any/duplicate", "refused/any-text/list-for-text"} <= found.keys()
    assert len(found) < 40
    assert not report["given_up"]
