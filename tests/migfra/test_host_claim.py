"""The reaction of a daemon to each presence of its host, in each phase of its claim."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from fastlib.message.node import Presence
from fastlib.migfra.telemetry.host_claim import (
    CLOCKS_DIFFER_SECONDS,
    REMEMBERED_RUNS,
    Decision,
    HostClaim,
    Phase,
    decide,
    decide_claiming,
    decide_kept,
    decide_working,
)

CAME = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)
"""When the daemon claimed its host first."""


def online(client_id: str | None, instance: str | None, started: float | None) -> Presence:
    return Presence(status="online", client_id=client_id, instance=instance, started=started)


def offline(client_id: str | None = None, instance: str | None = None) -> Presence:
    return Presence(status="offline", client_id=client_id, instance=instance)


OWN = online("a", "5", 100.0)


@pytest.mark.parametrize(
    ("kept", "first", "again"),
    [
        (online("b", "1", 50.0), "ask", "ask"),
        (online("a", "1", 50.0), "nothing", "refuse"),  # an earlier run, or one that came after us
        (offline("a", "1"), "nothing", "refuse"),
        (online("a", "5", 100.0), "nothing", "nothing"),
        (offline("a", "5"), "nothing", "nothing"),
        (online(None, None, 50.0), "nothing", "nothing"),  # an older daemon may be gone
        (offline("b", "1"), "nothing", "nothing"),
        (offline(), "nothing", "nothing"),
    ],
)
def test_decision_about_the_presence_that_the_broker_kept(
    kept: Presence, first: str, again: str
) -> None:
    assert decide_kept(OWN, kept, again=False) == first
    assert decide_kept(OWN, kept, again=True) == again


@pytest.mark.parametrize(
    ("seen", "first", "again"),
    [
        (online("b", "1", 50.0), "refuse", "refuse"),
        (online("b", "9", 200.0), "refuse", "refuse"),
        (online("b", "1", None), "nothing", "nothing"),  # a claim: the first that works goes on
        (online("a", "1", 50.0), "nothing", "refuse"),
        (online("a", "5", 100.0), "nothing", "nothing"),
        (online(None, None, 50.0), "nothing", "nothing"),
        (offline("b", "1"), "nothing", "nothing"),
        (offline(), "nothing", "nothing"),
    ],
)
def test_decision_of_a_daemon_that_claims_its_host(seen: Presence, first: str, again: str) -> None:
    assert decide_claiming(OWN, seen, again=False) == first
    assert decide_claiming(OWN, seen, again=True) == again


@pytest.mark.parametrize(
    ("seen", "decision"),
    [
        (OWN, "nothing"),
        (online("b", "1", 50.0), "claim again"),
        (online("b", "1", 200.0), "claim again"),
        (online("b", "1", None), "answer"),  # a claim
        (online("a", "1", 50.0), "answer"),  # an earlier run
        (online(None, None, 50.0), "answer"),
        (offline("b", "1"), "answer"),
        (offline("a", "5"), "answer"),  # the last will of a connection that was lost
        (offline(), "answer"),
        (None, "answer"),
    ],
)
def test_decision_of_a_daemon_that_works(seen: Presence | None, decision: str) -> None:
    assert decide_working(OWN, seen) == decision
    insists = "insist" if decision == "claim again" else decision
    assert decide_working(OWN, seen, was_before=True) == insists


def claim(phase: Phase = "works", **known: object) -> HostClaim:
    return HostClaim(OWN, came=CAME.timestamp(), phase=phase, **known)  # type: ignore[arg-type]


def at(presence: Presence, seconds: float) -> Presence:
    """A presence that was published some seconds after the daemon came."""
    return msgspec.structs.replace(presence, time=CAME + timedelta(seconds=seconds))


EXPECTED = at(OWN, 3.0)
OWN_CLAIM = online("a", "5", None)
OTHER = online("b", "7", 50.0)


@pytest.mark.parametrize(
    ("seen", "subscribes", "claims", "works"),
    [
        (OWN_CLAIM, "claimed", "claimed", "nothing"),
        (EXPECTED, "nothing", "won", "nothing"),
        (at(OWN, 1.0), "nothing", "nothing", "nothing"),
        (offline("a", "5"), "nothing", "nothing", "answer"),
        (online("b", "7", None), "nothing", "nothing", "answer"),
        (OTHER, "keep", "refuse", "claim again"),
        (online("a", "1", 50.0), "keep", "nothing", "answer"),
        (offline("b", "7"), "keep", "nothing", "answer"),
        (offline(), "keep", "nothing", "answer"),
        (None, "nothing", "nothing", "answer"),
    ],
)
def test_decision_in_each_phase(
    seen: Presence | None, subscribes: Decision, claims: Decision, works: Decision
) -> None:
    phases: tuple[Phase, ...] = ("subscribes", "claims", "works")
    found = [decide(claim(phase, expected=EXPECTED.time), seen) for phase in phases]
    assert found == [subscribes, claims, works]
    assert [decide(claim(phase), seen, retained=True) for phase in phases] == ["keep"] * 3


def test_claim_is_settled_when_the_queried_daemon_ends() -> None:
    asked = claim("claims", kept=OTHER)
    assert decide(asked, offline("b", "7")) == "settle"
    assert decide(asked, offline("b", "8")) == "nothing"
    assert decide(asked, OTHER) == "refuse"


def test_own_presence_does_not_win_once_another_daemon_works() -> None:
    assert decide(claim("claims", expected=EXPECTED.time, other=OTHER), EXPECTED) == "nothing"


@pytest.mark.parametrize("phase", ["subscribes", "claims", "works"])
def test_blind_daemon_sees_after_its_own_message(phase: Phase) -> None:
    blind = claim(phase, is_blind=True)
    for own in (OWN, OWN_CLAIM, offline("a", "5")):
        assert decide(blind, own) == "see"
        assert decide(blind, own, retained=True) == "keep"
    assert decide(blind, OTHER) == decide(claim(phase), OTHER)


OLD = -1.0 - CLOCKS_DIFFER_SECONDS


@pytest.mark.parametrize(
    ("seen", "decision"),
    [
        (at(OTHER, OLD), "insist"),
        (at(OTHER, -CLOCKS_DIFFER_SECONDS), "claim again"),  # the clocks may differ
        (at(OTHER, 10.0), "claim again"),
        (OTHER, "claim again"),  # nobody knows when
        (at(online("a", "1", 50.0), OLD), "answer"),
    ],
)
def test_late_presence_of_a_run_of_before_does_not_make_a_daemon_claim_again(
    seen: Presence, decision: Decision
) -> None:
    assert decide(claim(), seen) == decision


def test_run_that_claimed_the_host_is_new_with_any_clock() -> None:
    known = claim()
    known.note(online("b", "7", None))
    assert decide(known, at(OTHER, OLD)) == "claim again"


@pytest.mark.parametrize(
    ("phase", "again", "decision"),
    [
        ("subscribes", True, "claim again"),
        ("subscribes", False, "insist"),
        ("works", True, "insist"),
    ],
)
def test_run_that_came_while_the_connection_was_lost_is_none_of_before(
    phase: Phase, again: bool, decision: Decision
) -> None:
    known = claim(phase, again=again)
    known.note(at(OTHER, OLD))
    known.phase = "works"
    assert decide(known, at(OTHER, OLD)) == decision


def test_run_from_which_the_host_was_taken_over_never_gets_it_back() -> None:
    known = claim(earlier={"7"})
    known.note(online("b", "7", None))
    assert decide(known, at(OTHER, 10.0)) == "insist"


def test_own_claim_is_none_of_a_later_run_and_few_are_remembered() -> None:
    known = claim()
    known.note(OWN_CLAIM)
    assert list(known.later) == []
    for number in range(100):
        known.note(online("b", f"run {number}", None))
    assert len(known.later) == REMEMBERED_RUNS
    assert known.later[-1] == "run 99"


@pytest.mark.parametrize(
    ("seen", "kept"),
    [
        (offline("c", "2"), "1"),  # of another one than that which works
        (None, "1"),
        (offline("b", "1"), "1"),
        (online("c", "2", 60.0), "2"),
    ],
)
def test_daemon_that_works_is_asked_although_another_one_has_ended(
    seen: Presence | None, kept: str
) -> None:
    claim = HostClaim(OWN, came=CAME.timestamp())
    claim.keep(online("b", "1", 50.0))
    claim.keep(seen)
    assert claim.kept is not None
    assert claim.kept.instance == kept
    expected = "nothing" if seen == offline("b", "1") else "ask"
    assert decide_kept(OWN, claim.kept, again=False) == expected
