"""Tests of the warning about clocks that differ."""

from datetime import UTC, datetime
from typing import Any

import pytest

from fastlib.client.clock_warning import BACKLOG_SECONDS, ClockWarnings, clock_difference
from fastlib.clock import Clock, duration_words
from fastlib.message.node import Presence
from tests.support.client.factory import ClientFactory
from tests.support.waiting import wait_until

NOW = 1_800_000_000.0


class FixedClock(Clock):
    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        return NOW

    def monotonic(self) -> float:
        return self.seconds


def presence(ahead: float | None, status: str = "online") -> Presence:
    """Return a presence of a clock that is ahead of `NOW`."""
    time = None if ahead is None else datetime.fromtimestamp(NOW + ahead, UTC)
    return Presence.from_yaml(
        Presence(status="online", time=time).to_yaml().replace("online", status)
    )


def check(
    warnings: ClockWarnings, host: str, ahead: float | None, status: str = "online", **how: bool
) -> None:
    given = {"retained": False, "kept": False, "returned": False} | how
    warnings.check(host, presence(ahead, status), **given)


@pytest.mark.parametrize(
    ("ahead", "may_be_old", "expected"),
    [
        (2.0, False, None),
        (-2.0, False, None),
        (2.5, False, 2.5),
        (-2.5, False, -2.5),
        (2.5, True, 2.5),  # no message comes from the future
        (-1000.0, True, None),
    ],
)
def test_difference_above_two_seconds_counts_unless_the_message_may_be_old(
    ahead: float, may_be_old: bool, expected: float | None
) -> None:
    assert clock_difference(NOW + ahead, NOW, may_be_old=may_be_old) == expected


def test_each_host_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    warnings = ClockWarnings(FixedClock())
    for host, ahead in [
        ("a", 0.0),
        ("a", 7.25),
        ("a", 8.0),
        ("b", -63.0),
        ("b", -60.0),
        ("b", -60.0),
        ("b", 60.0),
        ("c", None),
    ]:
        check(warnings, host, ahead)
    remedy = "orders expire by the daemon's clock, so synchronize both clocks, for example by NTP"
    assert caplog.messages == [
        f"a: its clock is 7.2 s ahead of this host's; {remedy}",
        f"b: its clock is 60.0 s behind this host's; {remedy}",
    ]


def test_late_presence_does_not_look_like_a_clock_that_is_behind(
    caplog: pytest.LogCaptureFixture,
) -> None:
    warnings = ClockWarnings(FixedClock())
    for ahead in (-3.0, 0.0, -3.0, -2.0, -60.0, 1.0):
        check(warnings, "a", ahead)
    check(warnings, "a", -3.0)
    check(warnings, "b", -3.0)
    check(warnings, "a", 0.0, retained=True)  # also one that may be old shows that they agree
    check(warnings, "a", -3.0)
    assert caplog.messages == []
    check(warnings, "a", -60.0, retained=True)  # it may be old, and says nothing
    check(warnings, "a", -2.5)
    assert len(caplog.messages) == 1
    assert "its clock is 2.5 s behind" in caplog.messages[0]


@pytest.mark.parametrize(
    "old", [{"retained": True}, {"status": "offline"}, {"kept": True}, {"returned": True}]
)
def test_old_message_shows_only_a_clock_that_is_ahead(
    old: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    warnings = ClockWarnings(FixedClock())
    check(warnings, "a", -60.0, **old)
    assert caplog.messages == []
    check(warnings, "a", 60.0, **old)
    assert len(caplog.messages) == 1


def test_message_is_kept_only_until_shortly_after_a_connect(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = FixedClock()
    warnings = ClockWarnings(clock)
    clock.seconds += BACKLOG_SECONDS
    warnings.reconnected()
    check(warnings, "a", -60.0, kept=True)
    assert caplog.messages == []
    clock.seconds += BACKLOG_SECONDS
    for _ in range(2):
        check(warnings, "a", -60.0, kept=True)
    assert len(caplog.messages) == 1


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (2.04, "2.0 s"), (60, "60.0 s"), (99.94, "99.9 s"), (100, "1 min 40 s"), (120, "2 min"),
        (3599.9, "59 min 59 s"), (3600, "1 h"), (7261.3, "2 h 1 min"), (86399, "23 h 59 min"),
        (86400, "1 day"), (90000, "1 day 1 h"), (3 * 86400 + 59, "3 days"),
    ],
)  # fmt: skip
def test_difference_is_in_units_for_people(seconds: float, words: str) -> None:
    assert duration_words(seconds) == words


@pytest.mark.parametrize("retain", [True, False])
def test_client_warns_of_a_clock_that_differs(
    clients: ClientFactory, retain: bool, caplog: pytest.LogCaptureFixture
):
    daemon = clients.daemon("hostC")
    difference = 100 if retain else -100
    time = datetime.fromtimestamp(datetime.now().timestamp() + difference, UTC)
    if not retain:
        clients.client().watch(presence=True)
    for _ in range(1 if retain else 2):
        daemon.presence("online", retain=retain, instance="one", time=time)
    if retain:
        clients.client().suspend("hostC", "vm1")
    wait_until(lambda: "hostC: its clock is " in caplog.text, "the warning")
