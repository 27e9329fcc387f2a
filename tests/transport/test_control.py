"""Tests of the control: whether connections last without the message that seems to end them."""

import pytest

from fastlib.transport.mqtt.control import LEAST_SECONDS, TIMES_SENDING, Control


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def control(clock: Clock) -> Control:
    return Control(clock)


def send(control: Control, clock: Clock, packet_id: int, seconds: float) -> None:
    control.sending(packet_id)
    clock.now += seconds
    assert control.connection_ended() is None


@pytest.mark.parametrize(
    ("sending", "expected"),
    [
        ([], LEAST_SECONDS),
        ([0.1], LEAST_SECONDS),
        ([5.0], TIMES_SENDING * 5.0),
        ([5.0, 1.0], TIMES_SENDING * 5.0),
    ],
)
def test_control_lasts_several_times_as_long_as_the_message_was_being_sent(
    control: Control, clock: Clock, sending: list[float], expected: float
) -> None:
    for seconds in sending:
        send(control, clock, 7, seconds)
    send(control, clock, 8, 50.0)
    control.begin(7)
    assert control.seconds_left() == pytest.approx(expected)
    clock.now += expected - 0.5
    control.begin(7)
    assert control.seconds_left() == pytest.approx(0.5)
    clock.now += 1
    assert control.seconds_left() == 0
    assert control.connection_ended() == 7
    assert control.connection_ended() is None


def test_next_connection_restarts_the_control(control: Control, clock: Clock) -> None:
    control.begin(7)
    control.asked = True
    clock.now += 1
    control.reset()
    control.begin(7)
    assert control.seconds_left() == LEAST_SECONDS
    assert not control.asked


def test_packet_id_of_a_finished_message_restarts_its_count(control: Control, clock: Clock) -> None:
    send(control, clock, 7, 50.0)
    control.begin(7)
    control.gone(7)
    assert control.cause is None
    control.begin(7)
    assert control.seconds_left() == LEAST_SECONDS


def test_time_after_a_message_was_confirmed_does_not_count(control: Control, clock: Clock) -> None:
    control.sending(7)
    control.gone(7)
    send(control, clock, 8, 0.0)
    clock.now += 50
    control.begin(7)
    assert control.seconds_left() == LEAST_SECONDS
