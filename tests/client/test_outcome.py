"""Tests of the decision about an order without a result, and of its expiry."""

from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import msgspec
import pytest

from fastlib.client.expiry import check_expires, expires_after
from fastlib.client.outcome import (
    CLOCK_TOLERANCE,
    Evidence,
    JournalView,
    outcome_of,
    seconds_to_wait,
    worth_asking,
    worth_looking,
)

EXPIRES = datetime(2026, 1, 1, 12, tzinfo=UTC)
CLOSED = EXPIRES + timedelta(seconds=CLOCK_TOLERANCE)
TICK = timedelta(microseconds=1)
AWAY = Evidence(
    expires=EXPIRES,
    withdrawn=False,
    phase=None,
    status="offline",
    away=True,
    heard=True,
    knows_expires=True,
)

MAY_HAVE_BEGUN = "its daemon may have begun it, and has not answered"


def evidence(**changes: Any) -> Evidence:
    return msgspec.structs.replace(AWAY, **changes)


def kind(now: datetime = CLOSED, **changes: Any) -> str:
    return outcome_of(evidence(**changes), now).kind


def wait(now: datetime = EXPIRES, **changes: Any) -> float:
    return seconds_to_wait(evidence(**changes), now)


def test_daemon_that_was_away_until_after_the_deadline_has_never_begun_it() -> None:
    assert kind() == "never begun"


def test_daemon_that_is_away_may_begin_it_until_the_tolerance_of_clocks_has_passed() -> None:
    assert kind(CLOSED - TICK) == "unknown"
    assert "until 2026-01-01 12:00:02+00:00" in outcome_of(AWAY, EXPIRES).reason


def test_query_that_got_no_answer_is_never_said_to_be_impossible() -> None:
    assert outcome_of(evidence(only_asks=True), CLOSED) == (
        "unknown",
        "it is only a query and changes nothing",
    )
    asks = evidence(only_asks=True, status="online", away=False)
    assert not worth_asking(asks, CLOSED)
    assert not worth_looking(asks, CLOSED)
    assert wait(only_asks=True) == 0.0
    assert kind(only_asks=True, withdrawn=True) == "never begun"


@pytest.mark.parametrize("given", [5, 2.5, True, "5 s"])
def test_invalid_expires_is_refused_with_the_remedy(given: object) -> None:
    with pytest.raises(TypeError) as refused:
        check_expires(given)
    assert f"a timedelta from now on, or None for an order that waits; got {given!r}" in str(
        refused.value
    )
    is_number = given in (5, 2.5)
    assert (f"give timedelta(seconds={given})" in str(refused.value)) is is_number


def test_other_tolerance_moves_the_time() -> None:
    assert kind(EXPIRES, tolerance=0.0) == "never begun"
    assert kind(CLOSED, tolerance=3.0) == "unknown"


def test_unsent_message_is_never_begun_for_any_daemon() -> None:
    assert kind(EXPIRES, withdrawn=True, status=None, away=False, knows_expires=False) == (
        "never begun"
    )


def test_earlier_order_with_the_same_key_may_have_begun() -> None:
    assert kind(sent_before=True) == "unknown"
    assert kind(sent_before=True, withdrawn=True) == "unknown"
    assert kind(sent_before=True, journal=view()) == "never begun"  # its journal has the order


@pytest.mark.parametrize("phase", ["memory", "retrying"])
def test_phase_after_the_queue_shows_that_it_has_begun(phase: str) -> None:
    assert kind(phase=phase, away=False) == "begun"
    assert kind(phase=phase) == "begun"  # also if the daemon has gone since


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"status": None, "away": False, "knows_expires": False},
            "its daemon has reported no presence, and a C++ daemon executes an order at any time",
        ),
        (
            {"knows_expires": False},
            "its daemon has not reported that it honours 'expires'; older daemons do not",
        ),
        ({"expires": None}, "it has no 'expires', so its daemon can begin it at any time"),
        ({"away": False}, MAY_HAVE_BEGUN),
        ({"heard": False}, "the broker has not answered since, so its daemon may be online again"),
        ({"sent_before": True}, "an earlier order with its idempotency key may have begun"),
        (
            {"sent_before": True, "withdrawn": True, "status": None, "knows_expires": False},
            "this message expired before it could be sent, but an earlier order may have the same "
            "idempotency key",
        ),
        ({"phase": "queued", "away": False}, MAY_HAVE_BEGUN),
        ({"status": "online", "away": False}, MAY_HAVE_BEGUN),
    ],
)
def test_outcome_is_unknown_where_the_daemon_may_have_it_or_may_yet_begin_it(
    changes: dict[str, Any], reason: str
) -> None:
    assert outcome_of(evidence(**changes), CLOSED) == ("unknown", reason)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"phase": "memory"}, ("begun", "its daemon reported the phase 'memory'")),
        ({"withdrawn": True}, ("never begun", "it expired before it could be sent")),
        ({}, ("never begun", "its daemon was offline until the order had expired")),
    ],
)
def test_certain_outcome_names_its_proof(
    changes: dict[str, Any], expected: tuple[str, str]
) -> None:
    assert outcome_of(evidence(**changes), CLOSED) == expected


def test_never_begun_needs_each_part_of_its_proof() -> None:
    """Of all combinations, only these prove that the order was not and cannot be executed."""
    for expires, withdrawn, phase, status, away, heard, knows, late in product(
        (EXPIRES, None),
        (False, True),
        (None, "queued", "memory"),
        (None, "online", "offline"),
        (False, True),
        (False, True),
        (False, True),
        (False, True),
    ):
        if away and status != "offline":
            continue  # `away` is only seen as `offline`
        found = kind(
            CLOSED if late else CLOSED - TICK,
            expires=expires,
            withdrawn=withdrawn,
            phase=phase,
            status=status,
            away=away,
            heard=heard,
            knows_expires=knows,
        )
        proven = withdrawn or (away and heard and knows and late and expires and phase != "memory")
        assert (found == "never begun") == bool(proven)


def test_request_waits_until_a_daemon_that_honours_expires_cannot_begin_it() -> None:
    assert wait() == CLOCK_TOLERANCE
    assert wait(CLOSED - timedelta(seconds=0.5)) == 0.5
    assert wait(CLOSED) == 0
    assert wait(away=False, status="online") == CLOCK_TOLERANCE
    assert wait(tolerance=0.0) == 0


def test_request_does_not_wait_where_nothing_more_can_be_known() -> None:
    assert wait(phase="memory") == 0
    assert wait(expires=None) == 0
    assert wait(knows_expires=False) == 0
    # An `expires` far behind the timeout: more than the tolerance.
    assert wait(EXPIRES - timedelta(seconds=CLOCK_TOLERANCE)) == 2 * CLOCK_TOLERANCE
    assert wait(EXPIRES - timedelta(seconds=CLOCK_TOLERANCE) - TICK) == 0


def test_request_waits_until_the_transport_drops_unsent_messages() -> None:
    assert wait(confirmed=False, knows_expires=False, tolerance=0.0) == 1.0
    assert wait(confirmed=False, knows_expires=False) == CLOCK_TOLERANCE


def test_expiry_is_in_full_milliseconds_and_not_later() -> None:
    now = datetime(2026, 1, 1, 12, 0, 0, 1999, tzinfo=UTC)
    assert expires_after(1.5, now.timestamp()) == datetime(2026, 1, 1, 12, 0, 1, 501000, tzinfo=UTC)
    assert expires_after(timedelta(hours=1), 0.0) == datetime(1970, 1, 1, 1, tzinfo=UTC)


def test_expiry_beyond_the_year_9999_is_refused_with_the_remedy() -> None:
    with pytest.raises(ValueError, match="expires=None"):
        expires_after(timedelta.max, 0.0)


# --- what the daemon's journal says ---------------------------------------------------------------

ONLINE = {"status": "online", "away": False}


def view(**changes: Any) -> JournalView:
    known = JournalView(time=EXPIRES, began=None, expires=EXPIRES, complete=True)
    return msgspec.structs.replace(known, **changes)


def test_journal_shows_that_an_order_has_begun() -> None:
    found = outcome_of(evidence(**ONLINE, journal=view(began=EXPIRES)), CLOSED)
    assert found == (
        "begun",
        "its daemon began it 2026-01-01 12:00:00.000+00:00, as its journal says",
    )
    assert kind(**ONLINE, expires=None, journal=view(began=EXPIRES, expires=None)) == "begun"
    assert wait(**ONLINE, journal=view(began=EXPIRES)) == 0


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "never begun"),
        ({"time": EXPIRES - TICK}, "unknown"),  # the clock that counts is the daemon's
        ({"complete": False}, "unknown"),
        ({"expires": None}, "unknown"),  # an earlier order with the key waits without a limit
        ({"expires": EXPIRES + TICK}, "unknown"),
    ],
)
def test_journal_without_a_begin_proves_it_only_after_the_expiry(
    changes: dict[str, Any], expected: str
) -> None:
    found = outcome_of(evidence(**ONLINE, journal=view(**changes)), EXPIRES)
    assert found.kind == expected
    reason = "its daemon had not begun it when it had expired"
    assert (found.reason == reason) == (expected == "never begun")


def test_broker_is_queried_only_if_no_other_proof_is_missing() -> None:
    def looks(now: datetime = CLOSED, **changes: Any) -> bool:
        return worth_looking(evidence(**({"heard": False} | changes)), now)

    assert looks()
    assert not looks(heard=True)
    assert not looks(CLOSED - TICK)
    assert not looks(away=False)
    assert not looks(knows_expires=False)
    assert not looks(withdrawn=True)
    assert not looks(phase="memory")


def test_daemon_is_queried_only_if_its_answer_can_help() -> None:
    def asks(**changes: Any) -> bool:
        return worth_asking(evidence(**(ONLINE | changes)), CLOSED)

    assert asks()
    assert asks(expires=None)
    assert not asks(phase="memory")
    assert not asks(status="offline")
    assert not asks(knows_expires=False)
    assert not asks(tolerance=0.0)
    assert asks(tolerance=0.5)
    assert not asks(journal=view())
