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
