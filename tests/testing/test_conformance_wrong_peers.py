"""A program with one fault: it is found, under one name for every seed, with a small message."""

import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from fastlib.message.describe import find
from fastlib.testing.conformance import as_text, peer, run, session
from fastlib.testing.conformance.cases import of_message
from fastlib.testing.conformance.places import place_of_type
from fastlib.testing.conformance.protocol import PeerAnswer
from fastlib.testing.conformance.verdict import judge
from tests.support.conformance import wrong_peer
from tests.support.conformance.wrong_peer import FAULTS, PAIRS, both, right, unsupported

PATIENCE = 60
"""Seconds until something that must come is given up."""

PROGRAM = Path(wrong_peer.__file__)


class Found(NamedTuple):
    """The findings that a run must have for a fault."""

    types: str
    names: set[str]
    """Exactly what is reported."""
    longest: int = 40
    """Of the smallest text: the key and the value in question, what the type requires, and the
    two lines of dashes."""


EXPECTED = {
    "drops-a-field": Found("Suspend", {"equal/Suspend.driver/lost"}),
    "loses-the-id": Found("Cancel,QueryHistory", {"equal/Cancel.id/lost"}),
    "last-of-a-list": Found(
        "Evacuate",
        {
            "equal/Evacuate.destinations/list-shorter",
            "equal/EvacuateParameter.copy-disks/lost",  # an empty list counts as absent
        },
        80,
    ),
    "text-as-boolean": Found(
        "Stop",
        {
            "equal/any-text/changed-like-boolean",
            "accepted/any-boolean/refused-written-yes",
            "accepted/any-boolean/refused-written-no",
            "accepted/any-boolean/refused-written-on",
            "accepted/any-boolean/refused-written-off",
        },
    ),
    "hexadecimal": Found(
        "agent.JobDescription",
        {"equal/agent.JobDescription.process-id/changed-hexadecimal"}, 60,
    ),
    "octal": Found(
        "agent.JobDescription",
        {
            "equal/agent.JobDescription.process-id/changed-octal",
            "equal/agent.JobDescription.job-id/changed-like-octal",
        },
        60,
    ),
    "wraps-minus-one": Found(
        "agent.JobDescription", {"refused/agent.JobDescription.process-id/negative"}, 60
    ),
    "exponent": Found(
        "QueryHistory",
        {"refused/QueryHistory.limit/word-1e3", "equal/any-text/changed-like-number"},
    ),
    "no-underscore": Found("MigrateParameter", {"equal/MigrateParameter.retry_counter/lost"}),
    "last-duplicate": Found("Suspend", {"refused/any/duplicate"}, 50),
    "any-choice": Found(
        "EvacuateParameter",
        {
            "refused/any-word/word",
            "refused/any-word/list-for-word",
            "refused/any-word/mapping-for-word",
        },
    ),
    "no-trailing-document": Found(
        "Suspend,Resume",
        {
            "accepted/any-message/refused-document-end",
            "accepted/any-message/refused-second-document",
        },
        60,
    ),
    "no-crlf": Found("Suspend", {"accepted/Suspend/refused-crlf"}),
    "no-byte-order-mark": Found("Suspend", {"accepted/Suspend/refused-byte-order-mark"}),
    "no-anchors": Found("Suspend", {"accepted/Suspend/refused-anchor"}),
    "no-infinity": Found("mmbwmon.Reply", {"equal/mmbwmon.Reply.result/changed-infinity"}),
    "swaps-entries": Found("Evacuate", {"equal/any-list/list-reordered"}, 60),
    "null-for-absent": Found("Suspend", {"equal/Suspend.driver/warning-null"}),
    "loses-carriage-returns": Found("Suspend,Cancel", {"equal/any-text/changed-carriage-return"}),
    "replaces-noncharacters-in-quotes": Found(
        "Suspend,Cancel", {"equal/any-text/changed-noncharacter"}
    ),
    "loses-falsy-values": Found(
        "Query",
        {"equal/any-boolean/lost-false", "equal/Query.driver/lost-empty"},
    ),
    "strips-texts": Found("Suspend,Cancel", {"equal/any-text/changed-outer-space"}),
    "cuts-long-texts": Found("Suspend,Cancel", {"equal/any-text/changed-long"}, 1100),
    "counts-to-31-bits": Found(
        "mmbwmon.Request",
        {"equal/mmbwmon.Request.cores/changed-from-2-to-the-31"},
    ),
    "reverses-names": Found("Suspend", {"equal/Suspend.vm-name/changed-other"}),
    "lowers-texts": Found("Suspend,Cancel", {"equal/any-text/changed-upper-case"}),
    "loses-the-sign-of-zero": Found(
        "mmbwmon.Reply", {"equal/mmbwmon.Reply.result/changed-negative-zero"}
    ),
    "sorts-destinations": Found("Evacuate", {"equal/Evacuate.destinations/list-reordered"}, 60),
    "refuses-unknown-keys": Found("Suspend", {"accepted/Suspend/refused-unknown-key"}, 60),
    "refuses-comments": Found("Suspend", {"accepted/Suspend/refused-comment"}),
    "quotes-the-text": Found("Suspend,Resume", {"accepted/*.driver/refused"}),
    "one-digit-less": Found(
        "mmbwmon.Reply", {"equal/mmbwmon.Reply.result/changed-many-digits"}, 50
    ),
    "no-hexadecimal-escapes": Found(
        "Suspend,Cancel", {"accepted/any-text/refused-escape-2-digits"}
    ),
    "no-escapes": Found("Suspend,Cancel", {"accepted/any-text/refused-escapes"}),
    "next-line-escape-as-n": Found("Suspend,Cancel", {"equal/any-text/changed-escape-next-line"}),
    "doubles-backslashes": Found("Suspend,Cancel", {"equal/any-text/changed-backslash"}),
    "answers-a-list": Found("Suspend,Resume", {"equal/*.driver/unreadable"}),
    "half-a-pair": Found("Suspend,Resume", {"equal/*.driver/unreadable"}),
    "latin-1-for-utf-8": Found("Suspend,Cancel", {"equal/any-text/changed-non-ascii"}),
    "adds-a-key": Found("Suspend,Resume", {"equal/any-message/warning-unknown-key"}),
}  # fmt: skip
"""A fault, the types of which it is asked, and what is found."""

IN_A_PROCESS = {
    "dies": "answer/Suspend.driver/ended-1",
    "garbage": "answer/Suspend.driver/garbage",
    "two-answers": "answer/Suspend.driver/garbage",
    "too-long": "answer/Suspend.driver/too-long",
    "closes": "answer/Suspend.driver/closed",
}
"""Faults that need a process, and how the name of what is found begins."""


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each failure starts the program again, which takes long on a busy machine."""
    monkeypatch.setattr(peer, "STARTING", 60.0)


def types_of(names: str) -> list[type]:
    return [find(name, by_title=False) for name in names.split(",")]


def report_of(fault: str, types: str, **options):
    """Of a wrong peer in its own process."""
    command = [sys.executable, str(PROGRAM), fault]
    return run(command, types=types_of(types), **{"examples": 3} | options)


def names_of(report) -> set[str]:
    return {each.name for each in report.differences}


@pytest.mark.load
def test_other_layout_agrees() -> None:
    assert run(FAULTS["in-flow-style"], types=types_of("Suspend,Result"), examples=5).ok


def test_every_fault_is_tried() -> None:
    right_ones = {"as-json", "in-flow-style"}
    assert set(FAULTS) == {*EXPECTED, *IN_A_PROCESS, *right_ones, "hangs", "is-late"}


EVERY_DAY = {
    "drops-a-field",
    "last-duplicate",
    "no-infinity",
    "no-trailing-document",
    "wraps-minus-one",
    "loses-carriage-returns",
    "refuses-comments",
}
"""At least one fault of each check; all others are in the slow tier."""


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(fault, marks=() if fault in EVERY_DAY else pytest.mark.load)
        for fault in EXPECTED
    ],
)
def test_planted_fault_has_one_name_and_a_small_example(fault: str) -> None:
    expected = EXPECTED[fault]
    report = run(FAULTS[fault], types=types_of(expected.types), examples=3)
    assert names_of(report) == expected.names
    for each in report.differences:
        assert len(each.text) <= expected.longest, each.text
    assert not report.ok
    assert not report.given_up


@pytest.mark.load
@pytest.mark.parametrize("fault", IN_A_PROCESS)
def test_program_that_fails_is_found(fault: str) -> None:
    (found,) = report_of(fault, "Suspend").differences
    assert found.name.startswith(IN_A_PROCESS[fault])
    assert len(found.text) <= 40


SEEDED = (
    "loses-carriage-returns",
    "replaces-noncharacters-in-quotes",
    "strips-texts",
    "cuts-long-texts",
    "reverses-names",
    "lowers-texts",
    "text-as-boolean",
    "no-hexadecimal-escapes",
    "no-escapes",
    "next-line-escape-as-n",
)
"""Faults of texts, which random messages show in many ways; all others are in the long series."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seeded_fault" in metafunc.fixturenames:
        long = metafunc.config.getoption("--long")
        metafunc.parametrize("seeded_fault", EXPECTED if long else SEEDED)


@pytest.mark.load
def test_names_of_one_seed_explain_all_seeds(
    seeded_fault: str, pytestconfig: pytest.Config
) -> None:
    types = types_of(EXPECTED[seeded_fault].types)
    first = names_of(run(FAULTS[seeded_fault], types=types, examples=20, seed=1))
    # A full run may find more effects of a planted fault than the short one.
    assert EXPECTED[seeded_fault].names <= first
    for seed in range(2, 31 if pytestconfig.getoption("--long") else 4):
        report = run(FAULTS[seeded_fault], types=types, examples=20, seed=seed)
        assert names_of(report) == first, seed


PAIR_TYPES = {
    "loses-one-process-id-and-wraps-another": "Result,agent.JobDescription",
    "loses-a-carriage-return-and-cuts-long-texts": "Suspend,Cancel",
    "changes-one-name-and-loses-spaces-of-another": "Suspend,Resume",
    "refuses-comments-and-directives": "Suspend",
    "refuses-one-option-and-loses-another": "Stop",
}


@pytest.mark.parametrize(
    "pair",
    [
        "loses-one-process-id-and-wraps-another",
        *(
            pytest.param(pair, marks=pytest.mark.load)
            for pair in PAIRS
            if pair != "loses-one-process-id-and-wraps-another"
        ),
    ],
)
def test_two_faults_do_not_hide_each_other(pair: str) -> None:
    """Each is found, with its own example; to allow one does not allow the other."""
    types = types_of(PAIR_TYPES[pair])
    one, other = (
        {each.name: each for each in run(fault, types=types, examples=3).differences}
        for fault in PAIRS[pair]
    )
    assert one
    assert other
    assert not one.keys() & other.keys()
    report = run(both(*PAIRS[pair]), types=types, examples=3, allowed=dict.fromkeys(one, "known"))
    found = {each.name: each for each in report.differences}
    assert found.keys() == one.keys() | other.keys()
    assert {each.name for each in report.failures} == other.keys()
    for name, each in (one | other).items():
        assert (found[name].text, found[name].words) == (each.text, each.words)


def test_two_places_of_one_kind_are_two_differences() -> None:
    types = types_of("Suspend,Resume")
    pair = PAIRS["changes-one-name-and-loses-spaces-of-another"]
    report = run(both(*pair), types=types, examples=1)
    assert {"equal/Suspend.vm-name/changed-space", "equal/Resume.driver/changed-space"} <= names_of(
        report
    )


def test_answer_is_judged_equally_in_every_layout() -> None:
    """A warning that the sent text also causes is not a fault. Equal bytes excuse no fault."""
    sent = "result: a\nlist: []"
    cls = find("ResultContainer", by_title=False)
    message = cls.from_yaml(sent)
    case = of_message(message, sent, place_of_type(cls))
    quiet = of_message(message, "result: vm stopped\nlist: []", place_of_type(cls))
    ours, flow = message.to_yaml(), message.to_yaml(style="flow")
    for emit in (ours, flow):
        assert judge(case, PeerAnswer(ok=True, emit=emit)) == []
        assert [fault.name for fault in judge(quiet, PeerAnswer(ok=True, emit=emit))] == [
            "equal/ResultContainer.result/warning-unknown-title"
        ]


def test_unsupported_type_is_one_line() -> None:
    report = run(unsupported("^Suspend", "Suspend"), types=types_of("Suspend,Quit"), examples=3)
    assert report.ok
    assert report.unsupported == {"Suspend": 1}
    assert not report.unfinished
    lines = as_text(report).splitlines()
    assert lines[0] == "unsupported type: Suspend"
    assert len(lines) == 2


def test_unsupported_option_is_one_line_and_the_rest_is_asked() -> None:
    def program(request):
        return unsupported("(?s)driver['\"]?\\s*:", "driver")(request) or right(request)

    report = run(program, types=types_of("Suspend"), examples=3)
    assert report.ok
    assert [*report.unsupported] == ["driver"]
    lines = as_text(report).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("unsupported: driver (")
    assert report.requests > 200


def test_difference_shows_the_request_and_both_answers() -> None:
    (lost,) = report_of("drops-a-field", "Suspend").differences
    assert lost.type == "Suspend"
    assert lost.types == ["Suspend"]
    assert lost.places == ["Suspend.driver"]
    assert lost.text == "---\ndriver: a\nvm-name: a\n---"
    assert "driver:" in lost.ours
    assert lost.theirs
    assert "driver:" not in lost.theirs
    assert lost.words == "driver: expected 'a'; got nothing"


def test_one_fault_in_several_types_is_one_difference() -> None:
    report = run(FAULTS["drops-a-field"], types=types_of("Suspend,Resume,Query"), examples=3)
    (lost,) = report.differences
    assert lost.name == "equal/*.driver/lost"
    assert lost.places == ["Suspend.driver", "Resume.driver", "Query.driver"]
    assert lost.types == ["Suspend", "Resume", "Query"]


@pytest.mark.parametrize(
    ("allowed", "left"),
    [
        ("equal/*.driver/lost", set()),
        ("equal/any-text/lost", set()),
        ("equal/Suspend.driver/lost", {"equal/Resume.driver/lost"}),
        ("equal/Suspend.driver/changed", {"equal/*.driver/lost"}),
    ],
)
def test_allowed_name_is_of_one_place_or_of_a_group(allowed: str, left: set[str]) -> None:
    report = run(
        FAULTS["drops-a-field"],
        types=types_of("Suspend,Resume"),
        examples=1,
        allowed={allowed: "known"},
    )
    assert {each.name for each in report.failures} == left
    assert bool(report.unused) == (allowed == "equal/Suspend.driver/changed")


@pytest.mark.load
def test_program_that_ends_is_quoted_and_started_again() -> None:
    report = report_of("dies", "Resume")
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
    assert silent.check == "answer"
    assert silent.words == "no answer within 1 s"
    assert "driver: " in silent.text
    assert report.unfinished == ["Suspend"]


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("import sys; sys.exit('no such option')", "ended with status 1"),
        ("import os; os.kill(os.getpid(), 9)", "ended by signal 9"),
        (
            r"import os; os.write(1, input()[:7].encode() + b'\n{}\n'); input()",  # both at once
            r'more than one line: {"type"\n{}\n',
        ),
        ("import os, signal; os.close(1); signal.pause()", "closed"),
    ],
)
def test_program_without_answers_is_given_up(
    program: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The last of the programs does not end.
    monkeypatch.setattr(peer, "ENDING", 0.1 if words == "closed" else PATIENCE)
    report = run([sys.executable, "-c", program], timeout=PATIENCE)
    assert report.given_up.startswith("3 requests were not answered: ")
    assert words in report.given_up
    assert report.requests == 3
    assert not report.ok
