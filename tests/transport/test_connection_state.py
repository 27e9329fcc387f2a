"""Tests of the connection's state: deadlines, errors, pauses, and detection of a second client."""

import logging
from typing import Any

import pytest

from fastlib.transport import (
    ClientIdTakenError,
    ClosedError,
    ConnectError,
    MqttOptions,
    RefusedError,
)
from fastlib.transport.backoff import QUICK_RESETS, UNSTEADY_FACTOR
from fastlib.transport.mqtt.connection_state import LOG_LINES, LOG_SECONDS, ConnectionState
from fastlib.transport.mqtt.takeover import SESSION_TAKEN_OVER

RETRY_MIN, RETRY_MAX = 1.0, 8.0
STABLE = 2 * RETRY_MAX + 1


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def state(clock: Clock) -> ConnectionState:
    return ConnectionState(
        "me at broker", client_id="me", retry_min=RETRY_MIN, retry_max=RETRY_MAX, clock=clock
    )


def opened(state: ConnectionState) -> None:
    state.start_opening(10)
    state.connecting()
    state.connected()
    state.opened.set_result(None)


def lose(
    state: ConnectionState,
    clock: Clock,
    lifetime: float,
    *,
    sending: str = "",
    exchanged: bool = False,
) -> None:
    state.retry_pause()
    state.connecting()
    state.connected()
    if exchanged:
        state.exchanged()
    clock.now += lifetime
    state.connection_lost(sending=sending)


def test_opening_fails_at_its_deadline(state: ConnectionState, clock: Clock) -> None:
    state.start_opening(10)
    state.unreachable(OSError("no route"))
    clock.now += 9
    assert not state.is_done(outbox_empty=True)
    assert state.wait_seconds(5) == 1
    clock.now += 1
    assert state.wait_seconds(5) == 0
    assert state.is_done(outbox_empty=True)
    error = state.opened.exception()
    assert isinstance(error, ConnectError)
    assert str(error) == (
        "me at broker: no connection within 10 s: cannot reach the broker: no route"
    )
    assert error.last is state.last_error


def test_opening_fails_without_any_error(state: ConnectionState, clock: Clock) -> None:
    state.start_opening(2)
    clock.now += 2
    assert state.is_done(outbox_empty=True)
    assert str(state.opened.exception()) == "me at broker: no connection within 2 s"


def test_open_deadline_does_not_matter_after_opening(state: ConnectionState, clock: Clock) -> None:
    opened(state)
    clock.now += 100
    assert not state.is_done(outbox_empty=True)
    assert state.wait_seconds(5) == 5


def test_closing_is_done_when_outbox_is_empty(state: ConnectionState) -> None:
    opened(state)
    assert state.start_closing(30)
    assert state.closing
    assert not state.is_done(outbox_empty=False)
    assert state.is_done(outbox_empty=True)


def test_closing_is_done_at_its_deadline(state: ConnectionState, clock: Clock) -> None:
    opened(state)
    state.start_closing(30)
    assert not state.start_closing(0)
    clock.now += 29
    assert not state.is_done(outbox_empty=False)
    assert state.wait_seconds(5) == 1
    clock.now += 1
    assert state.is_done(outbox_empty=False)


def test_end_fails_opening(state: ConnectionState) -> None:
    state.start_opening(10)
    state.end(ClosedError("closed"))
    assert isinstance(state.opened.exception(), ClosedError)


def test_end_keeps_result_of_opening(state: ConnectionState) -> None:
    opened(state)
    state.end(ClosedError("closed"))
    assert state.opened.exception() is None
    assert not state.accepted


def test_refusal_ends_opening(state: ConnectionState) -> None:
    state.start_opening(10)
    refused = RefusedError("wrong password")
    state.refused(refused)
    assert state.opened.exception() is refused
    assert state.is_done(outbox_empty=True)


def test_refusal_after_opening_uses_longest_pause(state: ConnectionState) -> None:
    opened(state)
    assert state.retry_pause() <= RETRY_MIN
    state.refused(RefusedError("wrong password"))
    assert state.retry_pause() >= RETRY_MAX * 2 / 3
    assert not state.is_done(outbox_empty=True)


def test_same_error_is_logged_once(
    state: ConnectionState, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        state.failed(ConnectError("no answer"))
    assert caplog.text.count("no answer; trying again") == 1
    state.failed(RefusedError("no answer"))
    assert caplog.text.count("no answer; trying again") == 2


def test_early_end_is_an_error_only_without_another(state: ConnectionState) -> None:
    state.ended_at_once()
    assert "ended the connection at once" in str(state.last_error)
    state.failed(ConnectError("refused"))
    state.ended_at_once()
    assert str(state.last_error) == "refused"


def test_connection_clears_last_error(
    state: ConnectionState, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    state.unreachable(OSError("no route"))
    state.connected()
    assert state.accepted
    assert state.last_error is None
    assert "me at broker is connected again" in caplog.text


def test_lost_connection_is_an_error(state: ConnectionState, clock: Clock) -> None:
    lose(state, clock, lifetime=1)
    assert not state.accepted
    assert str(state.last_error) == "the connection of me at broker broke"


def test_pauses_restart_after_stable_connection(state: ConnectionState, clock: Clock) -> None:
    for _ in range(5):
        state.retry_pause()
    lose(state, clock, lifetime=1, sending="a message")
    assert state.retry_pause() > RETRY_MIN
    lose(state, clock, lifetime=STABLE)
    assert state.retry_pause() <= RETRY_MIN


def test_pauses_restart_after_connection_that_worked(state: ConnectionState, clock: Clock) -> None:
    """A broker that restarts five times finds this client back soon, each time."""
    for _ in range(5):
        lose(state, clock, lifetime=0.3, exchanged=True)
        assert state.retry_pause() == 0  # a look whether the broker keeps running
        state.unreachable(OSError("refused"))
        assert state.retry_pause() <= RETRY_MIN
        state.unreachable(OSError("refused"))
        assert state.retry_pause() <= 2 * RETRY_MIN


def test_broker_that_ends_each_connection_is_not_tried_at_full_speed(clock: Clock) -> None:
    state = ConnectionState("x", client_id=None, retry_min=1, retry_max=60, clock=clock)
    pauses = []
    for _ in range(30):
        lose(state, clock, lifetime=0.1, exchanged=True)
        pauses.append(state.retry_pause())
    assert max(pauses[:QUICK_RESETS]) <= 1
    assert min(pauses[QUICK_RESETS + 5 :]) > 4
    assert max(pauses) <= 8
    lose(state, clock, lifetime=200)
    assert state.retry_pause() <= 1


def test_each_loss_and_return_is_logged(
    state: ConnectionState, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(5):
        lose(state, clock, lifetime=5, sending="a message to a (9 bytes)")
        clock.now += 2
    state.connected()
    assert caplog.text.count("the connection of me at broker broke, while it sent a message") == 5
    assert caplog.text.count("me at broker is connected again after 2.0 s") == 5


def test_log_of_losses_is_bounded_and_never_ends(
    state: ConnectionState, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(1000):
        lose(state, clock, lifetime=1, sending="a message")
    lines = caplog.text.count("the connection of me at broker broke")
    assert LOG_LINES + 1000 / LOG_SECONDS - 1 <= lines <= LOG_LINES + 1000 / LOG_SECONDS + 1
    assert "29 times more since the last such line" in caplog.text
    caplog.clear()
    for _ in range(100):
        lose(state, clock, lifetime=1, sending="a message")
    assert caplog.text.count("the connection of me at broker broke") >= 3


def test_lasting_failure_is_logged_again_each_minute(
    state: ConnectionState, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(100):
        state.unreachable(OSError("no route"))
        clock.now += 3
    assert 4 <= caplog.text.count("me at broker: cannot reach the broker: no route") <= 6


def test_reported_takeover_is_certain(
    state: ConnectionState, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        state.connecting()
        state.connected()
        state.disconnect_code = SESSION_TAKEN_OVER
        state.connection_lost()
    error = state.last_error
    assert isinstance(error, ClientIdTakenError)
    assert error.certain
    assert caplog.text.count("another client uses the client id 'me'") == 1
    assert state.retry_pause() >= RETRY_MAX * 2 / 3


def test_disconnect_code_is_that_of_the_last_connection(state: ConnectionState) -> None:
    state.disconnect_code = SESSION_TAKEN_OVER
    state.connecting()
    state.connected()
    state.connection_lost()
    assert not isinstance(state.last_error, ClientIdTakenError)


def test_short_connections_of_a_running_broker_show_a_takeover(
    state: ConnectionState, clock: Clock
) -> None:
    for _ in range(3):
        lose(state, clock, lifetime=1, exchanged=True)
    error = state.last_error
    assert isinstance(error, ClientIdTakenError)
    assert not error.certain
    # Two clients do not take over from each other at full speed.
    assert state.retry_pause() >= (UNSTEADY_FACTOR * RETRY_MIN - 1) * 2 / 3
    assert "another client may use the client id 'me'" in str(state.last_error)
    assert "or the network ends connections" in str(state.last_error)


@pytest.mark.parametrize("exchanged", [True, False])
def test_network_that_ends_idle_connections_keeps_the_client_away_for_little_time(
    clock: Clock, exchanged: bool
) -> None:
    """Nothing distinguishes it from a second client, so it is reported as such."""
    usual = MqttOptions()
    state = ConnectionState(
        "x", client_id="x", retry_min=usual.retry_min, retry_max=usual.retry_max, clock=clock
    )
    connected = away = 0.0
    for number in range(300):
        lifetime = 3.0 + number % 7
        connected, away = connected + lifetime, away + state.retry_pause()
        state.connecting()
        state.connected()
        if exchanged:
            state.exchanged()
        clock.now += lifetime
        state.connection_lost()
    assert isinstance(state.last_error, ClientIdTakenError)
    assert connected / (connected + away) > 0.9


def test_short_connections_that_ended_while_sending_show_no_takeover(
    state: ConnectionState, clock: Clock
) -> None:
    for _ in range(20):
        lose(state, clock, lifetime=1, sending="a message to a (30000 bytes)")
    assert isinstance(state.last_error, ConnectError)
    assert "a message to a (30000 bytes)" in str(state.last_error)


@pytest.mark.parametrize("code", [0x8B, 0x8D, 0x95])
def test_end_with_another_reason_shows_no_takeover(
    state: ConnectionState, clock: Clock, code: int
) -> None:
    for _ in range(20):
        state.retry_pause()
        state.connecting()
        state.connected()
        state.disconnect_code = code
        state.connection_lost()
    assert isinstance(state.last_error, ConnectError)
    assert f"({code:#x})" in str(state.last_error)


def test_broker_not_seen_running_shows_no_takeover(state: ConnectionState, clock: Clock) -> None:
    """A try that began later says nothing of a restart in between."""
    for _ in range(20):
        state.connected()
        clock.now += 1
        state.connection_lost()
    assert not isinstance(state.last_error, ClientIdTakenError)


def test_unreachable_broker_explains_short_connections(
    state: ConnectionState, clock: Clock
) -> None:
    for _ in range(5):
        lose(state, clock, lifetime=1)
        state.unreachable(OSError("no route"))
    assert not isinstance(state.last_error, ClientIdTakenError)


def test_long_connection_resets_the_count(state: ConnectionState, clock: Clock) -> None:
    for _ in range(3):
        lose(state, clock, lifetime=1)
        lose(state, clock, lifetime=1)
        lose(state, clock, lifetime=STABLE)
    assert not isinstance(state.last_error, ClientIdTakenError)


def test_takeover_stays_last_error_until_stable(state: ConnectionState, clock: Clock) -> None:
    for _ in range(3):
        lose(state, clock, lifetime=1)
    state.failed(ConnectError("another error"))
    state.connected()
    state.check_stable()
    assert isinstance(state.last_error, ClientIdTakenError)
    clock.now += STABLE
    state.check_stable()
    assert state.last_error is None


def test_anonymous_client_has_no_takeover(clock: Clock) -> None:
    state = ConnectionState("x", client_id=None, retry_min=1, retry_max=2, clock=clock)
    for _ in range(5):
        lose(state, clock, lifetime=0)
        state.unreachable(OSError("no route"))
    assert not isinstance(state.last_error, ClientIdTakenError)


@pytest.mark.parametrize("how", [{"violation": "a second CONNACK"}, {"renewed": True}])
def test_connection_ended_by_the_client_does_not_count_as_takeover(
    state: ConnectionState, clock: Clock, how: dict[str, Any]
) -> None:
    for _ in range(5):
        state.connected()
        clock.now += 1
        state.connection_lost(**how)
        assert not state.accepted
    assert not isinstance(state.last_error, ClientIdTakenError)
    assert (state.last_error is None) == ("renewed" in how)


def test_error_names_the_forbidden_packet_of_the_broker() -> None:
    state = ConnectionState("me", client_id=None, retry_min=1, retry_max=2)
    state.ended_at_once("a packet before CONNACK")
    assert "me: the broker sent a packet before CONNACK; the connection was" in str(
        state.last_error
    )
    state.connected()
    state.connection_lost("a second CONNACK")
    assert "me: the broker sent a second CONNACK; the connection was" in str(state.last_error)
