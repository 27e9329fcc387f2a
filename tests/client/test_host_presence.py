"""Tests of the decision when the client repeats its requests to a host."""

from datetime import UTC, datetime
from typing import Any

import pytest

from fastlib.client.host_presence import HostPresence
from fastlib.client.observed import ObservedMessage
from fastlib.client.request import Absence
from fastlib.message import Message
from fastlib.message.node import Presence

OFFLINE = Presence(status="offline")


def online(instance: str | None = "first", started: float | None = 1.0, **more: Any) -> Presence:
    return Presence(status="online", instance=instance, started=started, **more)


def seen(presence: Presence) -> ObservedMessage[Message]:
    return ObservedMessage(
        host="hostA", topic="", time=datetime.now(UTC), payload=b"", message=presence
    )


def repeats(
    *presences: Presence,
    retained: bool = False,
    missed: bool = False,
    cut_before: int | None = None,
) -> list[bool]:
    """Show presences in order, the first one `retained`; the client reconnects before one."""
    host = HostPresence(missed=missed)
    decisions = []
    for number, presence in enumerate(presences):
        if number == cut_before:
            host.reconnected()
        decisions.append(host.show(seen(presence), presence, retained=retained and number == 0))
    return decisions


def test_retained_presence_of_daemon_that_was_there_before_the_client_repeats_nothing() -> None:
    assert repeats(online(), retained=True) == [False]


def test_daemon_that_appears_gets_the_requests_again() -> None:
    assert repeats(online()) == [True]


def test_presence_that_a_daemon_publishes_again_repeats_nothing() -> None:
    time = datetime(2026, 1, 1, tzinfo=UTC)
    assert repeats(online(), online(time=time), online(degraded="full"), retained=True) == [
        False,
        False,
        False,
    ]


@pytest.mark.parametrize(
    "new",
    [
        online("second"),
        online("second", started=2.0),
        online(None, started=2.0),  # an older version has replaced it
    ],
)
def test_new_run_of_a_daemon_gets_the_requests_again(new: Presence) -> None:
    assert repeats(online(), new, new, retained=True) == [False, True, False]


def test_runs_of_an_older_daemon_are_distinguished_by_their_start() -> None:
    old, new = online(None, 1.0), online(None, 2.0)
    assert repeats(old, old, new, new, retained=True) == [False, False, True, False]


def test_run_that_returns_after_offline_gets_the_requests_again() -> None:
    # The broker may have dropped its session, and the tasks in it.
    assert repeats(online(), OFFLINE, online(), retained=True) == [False, False, True]


def test_presence_without_a_run_repeats_nothing() -> None:
    bare = online(None, None)  # anybody can say it of a C++ peer, which would execute each copy
    assert repeats(bare, OFFLINE, bare, bare) == [False] * 4
    assert repeats(bare, bare, missed=True, cut_before=1) == [False] * 2


def test_presence_with_a_version_and_without_a_run_counts_only_after_a_reconnect() -> None:
    old = online(None, None, version="1.0")
    assert repeats(old, OFFLINE, old, old, cut_before=3) == [False, False, False, True]


def test_incarnation_is_that_of_the_run_and_of_the_connection() -> None:
    host = HostPresence(missed=False)
    found = []
    for presence in (OFFLINE, online(), OFFLINE, online(), online("second"), online(None, None)):
        host.show(seen(presence), presence, retained=False)
        found.append(host.incarnation)
    host.reconnected()
    host.show(seen(online()), online(), retained=True)
    assert found == [None, ("first", 0), None, ("first", 0), ("second", 0), None]
    assert host.incarnation == ("first", 1)
    host.reconnected()
    assert host.incarnation is None  # the daemon may not be back at the broker


def test_last_will_repeats_nothing() -> None:
    assert repeats(OFFLINE, OFFLINE) == [False, False]


def test_first_presence_after_the_client_reconnected_repeats_once() -> None:
    assert repeats(online(), online(), online(), retained=True, cut_before=1) == [
        False,
        True,
        False,
    ]


def test_reconnect_counts_for_the_next_online_presence_after_an_offline_one() -> None:
    assert repeats(online(), OFFLINE, online(), retained=True, cut_before=1) == [
        False,
        False,
        True,
    ]


def test_host_first_seen_after_a_reconnect_gets_the_requests_again() -> None:
    assert repeats(online(), retained=True, missed=True) == [True]


@pytest.mark.parametrize(
    ("presence", "claim"),
    [
        (online(started=None), True),
        (online(), False),
        (online(None, None), False),
        (OFFLINE, False),
    ],
)
def test_claim_names_its_instance_and_no_start(presence: Presence, claim: bool) -> None:
    assert presence.is_claim == claim


# --- the absence of a daemon ----------------------------------------------------------------------


def absences(*presences: Presence, retained: bool, missed: bool = False) -> list[Absence | None]:
    """Return the absence after each presence, the first one `retained`."""
    host = HostPresence(missed=missed, from_the_start=START)
    found = []
    for number, presence in enumerate(presences):
        host.show(seen(presence), presence, retained=retained and number == 0)
        found.append(host.absence)
    return found


START = Absence()


def test_absence_lasts_until_the_daemon_is_there() -> None:
    first, same, none, other = absences(OFFLINE, OFFLINE, online(), OFFLINE, retained=False)
    assert first is same is not None
    assert none is None
    assert other not in (first, None)


def test_retained_absence_began_before_the_client() -> None:
    assert absences(OFFLINE, retained=True) == [START]
    assert absences(OFFLINE, retained=False) != [START]
    assert absences(OFFLINE, retained=True, missed=True) != [START]
    assert absences(online(), OFFLINE, retained=True)[1] is not START


def test_absence_ends_with_a_reconnect_and_with_a_claim() -> None:
    host = HostPresence(missed=False)
    for end in (host.reconnected, host.claimed):
        host.show(seen(OFFLINE), OFFLINE, retained=False)
        assert host.absence is not None
        end()
        assert host.absence is None


@pytest.mark.parametrize(
    ("presence", "knows"),
    [
        (online(), True),
        (online(None, time=datetime(2026, 1, 1, tzinfo=UTC)), True),
        (online(None), False),
        (OFFLINE, False),
        (Presence(status="offline", instance="first"), True),
    ],
)
def test_daemon_of_today_honours_expiry(presence: Presence, knows: bool) -> None:
    host = HostPresence(missed=False)
    host.show(seen(presence), presence, retained=True)
    assert host.knows_expires == knows
    host.show(seen(OFFLINE), OFFLINE, retained=False)  # which says nothing about it
    assert host.knows_expires == knows
