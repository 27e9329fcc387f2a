"""Programs whose answers do not depend on the request alone, or that are not answers."""

import random
import sys
from collections.abc import Callable
from itertools import count

import pytest

from fastlib import Resume, Suspend
from fastlib.testing.conformance import (
    ConformanceReport,
    PeerAnswer,
    PeerRequest,
    as_text,
    peer,
    run,
    verdict,
)
from fastlib.testing.conformance.cases import of_message
from fastlib.testing.conformance.peer import PeerError
from fastlib.testing.conformance.places import place_of_type
from fastlib.testing.conformance.protocol import LineError, read_answer
from tests.support.conformance.wrong_peer import FAULTS, right

UNSTEADY = "answer/any/unsteady"
GREETING = """
print("ready", flush=True)
for line in __import__("sys").stdin:
    print("{}", flush=True)
"""


def names_of(report: ConformanceReport) -> set[str]:
    return {each.name for each in report.differences}


def lagging() -> Callable[[PeerRequest], PeerAnswer]:
    """Answers each request with the answer to the one before."""
    answers = [PeerAnswer(ok=False, error="not ready")]

    def answer(request: PeerRequest) -> PeerAnswer:
        answers.append(right(request))
        return answers[-2]

    return answer


def every(
    number: int, fail: Callable[[], PeerAnswer], otherwise: Callable[[PeerRequest], PeerAnswer]
) -> Callable[[PeerRequest], PeerAnswer]:
    numbers = count(1)
    return lambda request: fail() if next(numbers) % number == 0 else otherwise(request)


def crash() -> PeerAnswer:
    raise PeerError("signal-11", "ended by signal 11")


def test_answers_that_lag_are_one_difference_and_end_the_run() -> None:
    report = run(lagging(), types=[Suspend, Resume], examples=5)
    assert names_of(report) == {UNSTEADY}
    assert report.given_up == "10 requests were answered differently when repeated"
    assert "the same request, twice: first " in " ".join(as_text(report).split())


def test_random_refusals_are_reported_as_such() -> None:
    rng = random.Random(1)

    def answer(request: PeerRequest) -> PeerAnswer:
        return PeerAnswer(ok=False, error="busy") if rng.random() < 0.1 else right(request)

    report = run(answer, types=[Suspend, Resume], examples=5)
    assert names_of(report) == {UNSTEADY}
    assert report.given_up


def test_crashes_at_random_requests_are_one_difference() -> None:
    report = run(every(17, crash, right), types=[Suspend, Resume], examples=5)
    assert names_of(report) == {UNSTEADY}
    assert not report.given_up  # all requests were sent
    [difference] = report.differences
    assert "ended by signal 11" in difference.words
    assert "the right answer" in difference.words


def test_crashes_at_random_requests_do_not_hide_another_fault() -> None:
    program = every(17, crash, FAULTS["drops-a-field"])
    report = run(program, types=[Suspend, Resume], examples=5)
    assert names_of(report) == {UNSTEADY, "equal/*.driver/lost"}


def test_program_that_greets_is_given_up() -> None:
    report = run([sys.executable, "-c", GREETING], types=[Suspend], timeout=20)
    assert not report.ok
    assert report.given_up.startswith("3 requests were not answered: ")
    assert "ready" in report.given_up


SIMPLE = """
import sys
for line in sys.stdin:
    if "Suspend" in line:
        print('{"ok": true, "emit": "vm-name: a"}', flush=True)
    elif "b: c" in line:
        print('{"ok": false, "error": "not YAML"}', flush=True)
    else:
        print('{"ok": true, "emit": "{}"}', flush=True)
"""
"""A program with the right answers to the first requests."""


@pytest.mark.parametrize(
    "greeting",
    [
        '{"ok": true, "emit": "{}"}',
        '{"ok": true, "emit": "---\\n{}\\n---"}',
        '{"ok": false, "error": "not YAML"}',
        '{"unsupported": "mmbwmon.Ack"}',
        "hello",
    ],
)
def test_greeting_that_looks_like_an_answer_is_found(
    greeting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each answer would belong to the request before."""
    monkeypatch.setattr(peer, "_GREETING", 60.0)  # the line always comes
    monkeypatch.setattr(peer, "STARTING", 60.0)
    program = [sys.executable, "-c", f"print({greeting!r}, flush=True)\n{SIMPLE}"]
    report = run(program, types=[Suspend], timeout=60)
    assert names_of(report) == {"answer/any/unasked"}
    assert report.given_up.startswith("3 requests were not answered: ")


SUSPEND = PeerRequest(type="Suspend", yaml="vm-name: a")


@pytest.mark.parametrize(
    "program",
    [
        SIMPLE,
        SIMPLE.replace('{"ok": false, "error": "not YAML"}', '{"ok": true, "emit": "{}"}'),
        SIMPLE.replace('{"ok": true, "emit": "{}"}', '{"ok": false, "error": "no"}'),
        SIMPLE.replace('{"ok": true, "emit": "{}"}', '{"unsupported": "mmbwmon.Ack"}'),
        SIMPLE.replace('    elif "b: c" in line:', '    elif "b: c" in line:\n        sys.exit(3)'),
        SIMPLE.replace("not YAML", "x" * 10 + "\\n"),
    ],
    ids=["right", "accepts all", "refuses the first", "lacks the type", "ends", "garbage"],
)
def test_program_without_a_greeting_is_asked(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if it answers the first requests, with which a greeting is found, incorrectly."""
    monkeypatch.setattr(peer, "_GREETING", 0.1)
    monkeypatch.setattr(peer, "STARTING", 60.0)
    with peer.Peer([sys.executable, "-c", program], timeout=60) as asked:
        for _ in range(3):
            assert asked.ask(SUSPEND) == PeerAnswer(ok=True, emit="vm-name: a")


def test_answer_without_a_request_belongs_to_no_message() -> None:
    def answer(request: PeerRequest) -> PeerAnswer:
        if "driver: " in request.yaml:
            raise PeerError(peer.UNASKED, "it wrote without a request: {}")
        return right(request)

    report = run(answer, types=[Suspend], examples=1)
    assert names_of(report) == {"answer/any/unasked"}


def test_program_that_supports_nothing_does_not_pass() -> None:
    report = run(lambda _: PeerAnswer(ok=False, unsupported="\x1b[2J"), types=[Suspend])
    assert not report.ok
    assert as_text(report).splitlines()[1] == "aborted: the program supports none of the messages"
    assert "\x1b" not in as_text(report)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"ok": true, "emit": ""}'.encode("utf-16"), "not JSON: 'utf-8' codec"),
        ('{"ok": true, "emit": "é"}'.encode("latin-1"), "not JSON: 'utf-8' codec"),
        (b'{"ok": true, "emit": ' + b'{"a": ' * 900 + b"1" + b"}" * 901, "nested too deeply"),
        (b'{"ok": true, "emit": ' + b"[" * 10**5, "not JSON"),
    ],
)
def test_answer_that_is_not_json_in_utf_8_is_invalid(line: bytes, words: str) -> None:
    with pytest.raises(LineError, match=words):
        read_answer(line)


def test_byte_order_mark_of_an_answer_is_skipped() -> None:
    assert read_answer(b'\xef\xbb\xbf{"ok": false, "error": "a"}\r').error == "a"


def test_faults_of_a_very_long_answer_belong_to_the_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Locating them would take a minute."""
    monkeypatch.setattr(verdict, "_LONGEST_LOCATED", 1000)
    place = place_of_type(Suspend)
    case = of_message(Suspend(vm_name="a"), "vm-name: a", place)
    for filling in ("driver: [a]\n", "x" * 9_000_000):
        emit = f"vm-name: a\n# {'x' * 1000}\n{filling}"
        faults = verdict.judge(case, PeerAnswer(ok=True, emit=emit))
        assert [fault.place for fault in faults] == [place]


def test_answer_with_50_000_keys_is_one_difference() -> None:
    keys = "".join(f"key{number}: 1\n" for number in range(50_000))

    def answer(request: PeerRequest) -> PeerAnswer:
        found = right(request)
        if not found.ok or "driver: " not in request.yaml:
            return found
        return PeerAnswer(ok=True, emit=f"{found.emit.removesuffix('---')}{keys}---")

    report = run(answer, types=[Suspend], examples=1)
    assert names_of(report) == {"equal/Suspend.driver/unreadable"}
    [difference] = report.differences
    assert "characters, more than " in difference.words
    assert len(difference.theirs) < 1000
    assert len(as_text(report)) < 5000


def test_many_unknown_keys_are_one_fault() -> None:
    sent = "vm-name: a"
    case = of_message(Suspend(vm_name="a"), sent, place_of_type(Suspend))
    emit = sent + "\ndriver: ~\n" + "".join(f"k{number}: 1\n" for number in range(1500))
    faults = verdict.judge(case, PeerAnswer(ok=True, emit=emit))
    assert [fault.name for fault in faults] == [
        "equal/Suspend.driver/warning-null", "equal/Suspend/warning-unknown-key",
    ]  # fmt: skip
