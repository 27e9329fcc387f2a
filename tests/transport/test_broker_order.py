"""Tests of the order in which several brokers are tried. Pure."""

import pytest

from fastlib.transport.mqtt.broker_order import BrokerOrder, try_seconds

ONE, TWO, THREE = ("b1", 1883), ("b2", 1883), ("b3", 1884)


def test_each_broker_is_tried_once_before_a_pause() -> None:
    order = BrokerOrder([ONE, TWO, THREE])
    tried = []
    for _ in range(7):
        tried.append((order.current, order.left))
        tried.append(order.failed())
    assert tried == [
        *[(ONE, 3), False, (TWO, 2), False, (THREE, 1), True],
        *[(ONE, 3), False, (TWO, 2), False, (THREE, 1), True],
        *[(ONE, 3), False],
    ]


def test_single_broker_is_tried_after_each_pause() -> None:
    order = BrokerOrder([ONE])
    assert [order.failed() for _ in range(3)] == [True] * 3
    assert order.current == ONE


def test_broker_of_the_lost_connection_is_tried_first() -> None:
    order = BrokerOrder([ONE, TWO, THREE])
    order.failed()
    order.lost(worked=True)
    assert (order.current, order.left) == (TWO, 3)
    assert [order.failed() for _ in range(3)] == [False, False, True]
    assert order.current == TWO


def test_broker_that_ends_connections_at_once_is_left() -> None:
    order = BrokerOrder([ONE, TWO])
    order.lost(worked=False)
    assert (order.current, order.left) == (TWO, 2)


@pytest.mark.parametrize(
    ("opening", "left", "seconds"),
    [
        (None, 3, 10.0),
        (6.0, 3, 2.0),
        (4.0, 2, 2.0),
        (2.0, 1, 10.0),
        (100.0, 3, 10.0),
        (0.1, 2, 0.5),
    ],
)
def test_time_for_opening_is_shared_by_the_brokers(
    opening: float | None, left: int, seconds: float
) -> None:
    assert try_seconds(10.0, opening, left) == seconds
