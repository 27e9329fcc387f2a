"""Which orders without a key count as repetitions. Pure decisions."""

import pytest

from fastlib.migfra.journal.repetition import (
    Arrival,
    KnownOrder,
    KnownPacket,
    elapsed,
    is_packet_again,
    is_packet_of_version_1,
    is_sent_again,
)

ARRIVAL = Arrival(raw=b"r", content=b"c", duplicate=True, session=3)


def test_repeated_packet_is_known_on_the_next_connection() -> None:
    assert is_packet_again(ARRIVAL, KnownPacket(b"r", 3, (2, 5)), (2, 5))


@pytest.mark.parametrize(
    "known",
    [
        KnownPacket(b"other", 3, (2, 5)),
        KnownPacket(None, 3, (2, 5)),
        KnownPacket(b"r", 2, (2, 5)),
        KnownPacket(b"r", 3, (2, 4)),
        None,
    ],
    ids=["other bytes", "an order with a key", "an older session", "settled since", "unknown"],
)
def test_packet_that_differs_or_is_settled_is_new(known: KnownPacket | None) -> None:
    assert not is_packet_again(ARRIVAL, known, (2, 5))


def test_packet_without_dup_is_new() -> None:
    arrival = Arrival(raw=b"r", content=b"c", duplicate=False, session=3)
    assert not is_packet_again(arrival, KnownPacket(b"r", 3, (2, 5)), (2, 5))


def test_order_of_version_1_is_known_until_a_fresh_message_came() -> None:
    assert is_packet_of_version_1(ARRIVAL, b"c", (0, 0))
    assert not is_packet_of_version_1(ARRIVAL, b"c", (1, 1))
    assert not is_packet_of_version_1(ARRIVAL, b"other", (0, 0))
    assert not is_packet_of_version_1(ARRIVAL, None, (0, 0))


@pytest.mark.parametrize(("seconds", "again"), [(0.0, True), (4.999, True), (5.0, False)])
def test_same_bytes_count_as_a_repetition_within_the_window(seconds: float, again: bool) -> None:
    assert is_sent_again(ARRIVAL, KnownOrder(b"r", seconds, False), 5.0) is again


def test_other_bytes_or_something_between_make_a_new_order() -> None:
    assert not is_sent_again(ARRIVAL, KnownOrder(b"stop", 1.0, False), 5.0)
    assert not is_sent_again(ARRIVAL, KnownOrder(None, 1.0, False), 5.0)
    assert not is_sent_again(ARRIVAL, KnownOrder(b"r", 1.0, True), 5.0)
    assert not is_sent_again(ARRIVAL, None, 5.0)


def test_reboot_leaves_only_the_time_since_the_boot() -> None:
    assert elapsed(10.0, 12.0, same_boot=True) == 2.0
    assert elapsed(10.0, 12.0, same_boot=False) == 12.0
