"""A program with one fault: it is found, under few names, with a small message."""

import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from fastlib.message.describe import find
from fastlib.testing.conformance import peer, run, session
from tests.support.conformance import wrong_peer
from tests.support.conformance.wrong_peer import FAULTS

PROGRAM = Path(wrong_peer.__file__)


class Found(NamedTuple):
    """What a run has to find of a fault."""

    types: str
    names: set[str]
    """All that may be reported, of those with a `*` before them at least one."""
    longest: int = 40
    """Of the smallest text: the key and the value in question, what the type requires, and the
    two lines of dashes."""
    examples: int = 30


EXPECTED = {
    "drops-a-field": Found("Suspend", {"*equal/lost-driver"}),
    "loses-the-id": Found(
        "TaskContainer", {"*equal/lost-id", "equal/unreadable-missing-missing-expected-text"}
    ),
    "last-of-a-list": Found("Evacuate", {"*equal/list-shorter"}),
    "text-as-boolean": Found(
        "Stop",
        {"*equal/changed-text-like-boolean", "golden/expected-true-or-false"},
    ),
    "hexadecimal": Found(
        "Start",
        {
            "*equal/changed-integer",
            "*golden/changed-integer",
            "golden/expected-an-integer-from-to",
            "golden/accepts-value",
            "accepted/expected-an-integer-from-to",
            "accepted/problems",
            "equal/changed-text-like-hexadecimal",
        },
    ),
    "octal": Found(
        "Start",
        {
            "*equal/changed-integer",
            "*golden/changed-integer",
            "golden/expected-an-integer-from-to",
            "golden/accepts-value",
            "accepted/expected-an-integer-from-to",
            "equal/changed-text-like-octal",
        },
    ),
    "wraps-minus-one": Found("EvacuateParameter", {"*refused/range-negative"}),
    "exponent": Found(
        "Start",
        {"*refused/word-1e3", "equal/changed-text-like-number"},
        examples=100,  # few of them have that word
    ),
    "no-underscore": Found("MigrateParameter", {"*equal/lost-retry_counter"}),
    "last-duplicate": Found("Suspend", {"*refused/duplicate"}),
    "any-choice": Found(
        "EvacuateParameter",
        {
            "*refused/word-of-mode",
            "refused/word-of-migration-type",
            "refused/word-of-on-timeout",
            "refused/kind-mapping",
            "refused/kind-list",
            "refused/null",
        },
        examples=120,  # few of them have the fields whose words are changed
    ),
    "no-trailing-document": Found("Suspend", {"*accepted/a-second-document"}),
    "no-crlf": Found("Suspend", {"*accepted/a-carriage-return"}),
    "no-byte-order-mark": Found("Suspend", {"*accepted/an-unexpected-character"}, examples=100),
    "no-anchors": Found("Suspend", {"*accepted/anchors-are-not-supported"}),
    "no-infinity": Found("mmbwmon.Reply", {"*golden/changed-number", "equal/changed-number"}),
    "swaps-entries": Found("Evacuate", {"*equal/list-reordered"}),
    "null-for-absent": Found("Suspend", {"*equal/warning-null"}),
    "dies": Found("Suspend", {"*answer/ended-1"}),
    "garbage": Found("Suspend", {"*answer/garbage"}),
    "two-answers": Found("Suspend", {"*answer/garbage"}),
    "too-long": Found("Suspend", {"*answer/too-long"}),
    "closes": Found("Suspend", {"*answer/closed"}),
}
"""A fault, the types of which it is asked, and what is found."""


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each failure starts the program again, which takes long on a busy machine."""
    monkeypatch.setattr(peer, "STARTING", 60.0)


def report_of(fault, types, **options):
    return run(
        [sys.executable, str(PROGRAM), fault],
        types=[find(name, by_title=False) for name in types.split(",")],
        **{"examples": 30} | options,
    )


def test_every_fault_is_tried() -> None:
    assert set(FAULTS) == {*EXPECTED, "as-json", "hangs", "is-late"}


EVERY_DAY = {
    "drops-a-field",
    "last-duplicate",
    "no-infinity",
    "no-trailing-document",
    "swaps-entries",
    "too-long",
    "wraps-minus-one",
}
"""At least one fault of each check; all others are in the slow tier."""
FEWER_EXAMPLES = 10


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(fault, marks=() if fault in EVERY_DAY else pytest.mark.load)
        for fault in EXPECTED
    ],
)
def test_planted_fault_is_found(fault: str, pytestconfig: pytest.Config) -> None:
    """The fast tier asks less, except with `--long`."""
    expected = EXPECTED[fault]
    fewer = fault in EVERY_DAY and not pytestconfig.getoption("--long")
    examples = min(FEWER_EXAMPLES, expected.examples) if fewer else expected.examples
    report = report_of(fault, expected.types, examples=examples)
    found = {each.name: each for each in report.differences}
    assert set(found) <= {name.removeprefix("*") for name in expected.names}
    main = [each for name, each in found.items() if f"*{name}" in expected.names]
    assert main
    for each in main:
        assert len(each.text) <= expected.longest, each.text
    assert not report.ok
    assert not report.given_up


def test_difference_shows_the_request_and_both_answers() -> None:
    (lost,) = report_of("drops-a-field", "Suspend").differences
    assert lost.type == "Suspend"
    assert lost.types == ["Suspend"]
    assert "driver:" in lost.text
    assert "driver:" in lost.ours
    assert lost.theirs
    assert "driver:" not in lost.theirs
    assert lost.words.startswith("driver: ")
    assert lost.words.endswith(", not absent")


def test_one_fault_in_several_types_is_one_difference() -> None:
    (lost,) = report_of("drops-a-field", "Suspend,Resume,Query", examples=10).differences
    assert lost.types == ["Suspend", "Resume", "Query"]


@pytest.mark.load
def test_program_that_ends_is_quoted_and_started_again() -> None:
    report = report_of("dies", "Resume", examples=10)
    (dead,) = report.differences
    assert dead.words == "ended with status 1"
    assert dead.stderr == "assertion failed: driver\n"
    assert dead.types == ["Resume"]
    assert not report.unfinished


@pytest.mark.parametrize("fault", ["hangs", "is-late"])
def test_hanging_program_is_given_up_soon(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "MOST_SECONDS", 1.0)
    report = report_of(fault, "Suspend", timeout=1.0)
    (silent,) = report.differences
    assert silent.name == "answer/none"
    assert silent.words == "no answer within 1 s"
    assert "driver: q" in silent.text
    assert report.unfinished == ["Suspend"]


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("import sys; sys.exit('no such option')", "ended with status 1"),
        ("import os; os.kill(os.getpid(), 9)", "ended by signal 9"),
        ("import os, signal; os.close(1); signal.pause()", "closed"),
    ],
)
def test_program_without_answers_is_given_up(
    program: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if words == "closed":  # this program does not end
        monkeypatch.setattr(peer, "ENDING", 0.1)
    report = run([sys.executable, "-c", program], timeout=0.1)
    assert report.given_up.startswith("nothing was answered, 3 times: ")
    assert words in report.given_up
    assert report.requests == 3
    assert not report.ok
