"""Tests of the decision which message a broker does not take."""

from typing import Any

import pytest

from fastlib.transport import MessageTooLargeError, RefusedError
from fastlib.transport.delivery import Delivery
from fastlib.transport.mqtt.broker_limits import BrokerLimits
from fastlib.transport.mqtt.delivery_suspects import verdict
from fastlib.transport.mqtt.learned_limits import INFERRED_SECONDS, Learned
from fastlib.transport.mqtt.suspects import (
    QUEUED_BEFORE_SUSPECT,
    SMALL,
    Demand,
    Remedy,
    Suspects,
    remedy,
)

LARGE = Demand(30_000, 2, False)
SMALLER = Demand(100, 2, False)


@pytest.fixture
def suspects() -> Suspects:
    return Suspects()


def test_messages_are_sent_one_at_a_time_after_two_ends_in_a_row(suspects: Suspects) -> None:
    assert suspects.connection_ended({1, 2}) is None
    assert not suspects.one_at_a_time
    assert suspects.connection_ended({1, 2}) is None
    assert suspects.one_at_a_time


def test_message_that_was_alone_at_three_ends_is_the_cause(suspects: Suspects) -> None:
    suspects.connection_ended({1, 2})
    suspects.connection_ended({1, 2})
    assert [suspects.connection_ended({2}) for _ in range(3)] == [None, None, 2]
    assert suspects.ends_alone(2) == 3
    assert suspects.ends_alone(1) == 0


def test_end_with_nothing_being_sent_does_not_count(suspects: Suspects) -> None:
    for _ in range(20):
        assert suspects.connection_ended(set()) is None
    assert not suspects.one_at_a_time


def test_broker_that_was_restarted_accuses_no_message(suspects: Suspects) -> None:
    for _ in range(20):
        assert suspects.connection_ended({1}) is None
        suspects.unreachable()
    assert suspects.ends_alone(1) == 0


def test_unreachable_broker_takes_back_only_the_last_end(suspects: Suspects) -> None:
    suspects.connection_ended({1})
    suspects.connection_ended({1})
    suspects.unreachable()
    suspects.unreachable()
    assert suspects.ends_alone(1) == 1
    assert suspects.one_at_a_time


def test_messages_are_sent_as_usual_once_no_suspect_is_left(suspects: Suspects) -> None:
    suspects.connection_ended({1, 2})
    suspects.connection_ended({1, 2})
    suspects.gone(1)
    assert suspects.one_at_a_time
    suspects.gone(2)
    assert not suspects.one_at_a_time
    suspects.connection_ended({3})
    assert not suspects.one_at_a_time


def test_confirmed_message_restarts_its_count(suspects: Suspects) -> None:
    """Its packet id is used again for another message."""
    suspects.connection_ended({1})
    suspects.connection_ended({1})
    suspects.gone(1)
    assert suspects.connection_ended({1}) is None
    assert suspects.ends_alone(1) == 1


def test_word_of_the_broker_is_proof_for_the_only_message(suspects: Suspects) -> None:
    assert suspects.connection_ended({7}, proof=True) == 7


def test_word_of_the_broker_about_one_of_several_separates_them(suspects: Suspects) -> None:
    assert suspects.connection_ended({7, 8}, proof=True) is None
    assert suspects.one_at_a_time
    assert suspects.connection_ended({8}, proof=True) == 8


def test_message_beside_something_else_is_not_the_cause(suspects: Suspects) -> None:
    """A SUBSCRIBE or a message of QoS 0 may be."""
    for _ in range(20):
        assert suspects.connection_ended({1}, proof=True, others=True) is None
    assert suspects.ends_alone(1) == 0
    assert suspects.one_at_a_time


@pytest.mark.parametrize(
    ("failed", "held", "queued", "sent", "expected"),
    [
        pytest.param([], {}, SMALLER, 0, None, id="only the queue is left"),
        pytest.param([], {1: LARGE, 2: SMALLER}, None, 0, 2, id="the smallest is first"),
        pytest.param([1], {1: LARGE, 2: SMALLER}, None, 0, 2, id="others before the cause"),
        pytest.param([1], {1: LARGE}, SMALLER, 0, None, id="the queue before the cause"),
        pytest.param(
            [1], {1: LARGE}, SMALLER, QUEUED_BEFORE_SUSPECT, 1, id="a busy queue ends no search"
        ),
        pytest.param([1], {1: SMALLER}, LARGE, 0, 1, id="a larger one of the queue waits"),
        pytest.param([1], {1: SMALLER, 2: LARGE}, None, 0, 1, id="a larger one waits"),
        pytest.param(
            [1],
            {1: SMALLER, 2: Demand(200, 1, False)},
            None,
            0,
            2,
            id="lower QoS is another case",
        ),
    ],
)
def test_next_message(
    suspects: Suspects,
    failed: list[int],
    held: dict[int, Demand],
    queued: Demand | None,
    sent: int,
    expected: int | None,
) -> None:
    for packet_id in failed:
        suspects.connection_ended({packet_id})
    assert suspects.next(held, queued, sent) == expected


@pytest.mark.parametrize(
    ("attempt", "message", "expected"),
    [
        (3, {"size": SMALL + 1, "taken": 0, "qos": 2, "retain": True}, Remedy()),
        (3, {"size": 9000, "taken": 8999, "qos": 2, "retain": True}, Remedy()),
        (3, {"size": 9000, "taken": 9000, "qos": 2, "retain": False}, Remedy(1)),
        (3, {"size": 50, "taken": 0, "qos": 2, "retain": False}, Remedy(1)),
        (4, {"size": 50, "taken": 0, "qos": 2, "retain": False}, Remedy()),
        (3, {"size": 50, "taken": 0, "qos": 1, "retain": False}, Remedy()),
        (3, {"size": 50, "taken": 0, "qos": 1, "retain": True}, Remedy(1, False)),
        (3, {"size": 50, "taken": 0, "qos": 2, "retain": True}, Remedy(2, False)),
        (4, {"size": 50, "taken": 0, "qos": 2, "retain": True}, Remedy(1, True)),
        (5, {"size": 50, "taken": 0, "qos": 2, "retain": True}, Remedy(1, False)),
        (6, {"size": 50, "taken": 0, "qos": 2, "retain": True}, Remedy()),
    ],
)
def test_remedy(attempt: int, message: dict[str, Any], expected: Remedy) -> None:
    assert remedy(attempt, **message) == expected


def test_learned_limits_lower_the_stated_ones() -> None:
    now = [0.0]
    learned = Learned(lambda: now[0])
    stated = BrokerLimits(reported=True, maximum_packet=1000, packet_source="broker")
    assert learned.apply(stated) == stated
    learned.maximum_qos, learned.retain = 1, False
    learned.too_large(500)
    found = learned.apply(stated)
    assert (found.maximum_qos, found.retain) == (1, False)
    assert (found.maximum_packet, found.packet_source) == (499, "inferred")
    learned.too_large(5000)
    assert learned.apply(stated).maximum_packet == 1000


def test_inferred_size_is_tried_again_after_a_while() -> None:
    now = [0.0]
    learned = Learned(lambda: now[0])
    learned.too_large(500)
    now[0] += INFERRED_SECONDS + 1
    assert learned.apply(BrokerLimits()).maximum_packet is None


def test_messages_with_qos_0_are_suspected_by_their_size() -> None:
    learned = Learned()
    assert [learned.ended_after_qos_0(size) for size in (9000, 8000, 9500)] == [False, False, True]
    assert learned.refused == 8000
    assert learned.apply(BrokerLimits()).maximum_packet == 7999


def test_only_ends_in_a_row_accuse_messages_with_qos_0() -> None:
    learned = Learned()
    for _ in range(20):
        assert not learned.ended_after_qos_0(9000)
        assert not learned.ended_after_qos_0(9000)
        learned.ended_without_qos_0()
    assert learned.refused is None


def test_broker_that_was_restarted_accuses_no_message_with_qos_0() -> None:
    learned = Learned()
    for _ in range(20):
        assert not learned.ended_after_qos_0(9000)
        learned.unreachable()
    assert learned.refused is None


def test_weaker_form_that_the_broker_has_taken_is_used_for_all_further_messages() -> None:
    learned = Learned()
    learned.tries[1] = Remedy(1, False)
    assert learned.confirmed(1, 300, 2, True, True)
    assert (learned.taken, learned.maximum_qos, learned.retain) == (300, 1, False)
    assert learned.tries == {}


def test_weaker_form_of_one_message_keeps_the_shown_limit() -> None:
    learned = Learned()
    learned.took(Demand(100, 2, False))
    learned.tries[1] = Remedy(1, False)
    learned.confirmed(1, 300, 2, True, True)
    assert (learned.maximum_qos, learned.retain) == (2, False)
    learned.took(Demand(100, 1, True))
    learned.retain = True
    learned.tries[2] = Remedy(2, False)
    learned.confirmed(2, 300, 2, True, True)
    assert (learned.maximum_qos, learned.retain) == (2, True)


def test_weaker_form_that_the_broker_has_refused_says_nothing_of_other_messages() -> None:
    learned = Learned()
    learned.tries[1] = Remedy(1, False)
    assert not learned.confirmed(1, 300, 2, True, False)
    assert (learned.maximum_qos, learned.retain) == (2, True)


@pytest.mark.parametrize(
    ("code", "highest", "expected"),
    [
        (0x9B, 2, (1, True)),
        (0x9B, 1, (0, True)),
        (0x9B, 0, (2, True)),
        (0x9A, 1, (2, False)),
        (None, 2, (2, True)),
    ],
)
def test_reason_of_a_disconnect_lowers_the_limits(
    code: int | None, highest: int, expected: tuple[int, bool]
) -> None:
    learned = Learned()
    learned.disconnected(code, highest)
    assert (learned.maximum_qos, learned.retain) == expected


def delivery(qos: int = 2) -> Delivery:
    return Delivery("fast/a", b"x" * 50, qos, False)


def test_small_message_is_first_sent_with_a_lower_qos() -> None:
    assert verdict(delivery(), size=60, taken=0, ends=3, attempt=3, code=None) == Remedy(1, False)


@pytest.mark.parametrize(
    ("taken", "demand", "ends"),
    [
        ([], Demand(100, 1, False), 3),
        ([Demand(100, 1, False)], Demand(100, 1, False), 10),
        ([Demand(100, 1, False)], Demand(4096, 1, False), 10),  # small enough for every broker
        ([Demand(100, 1, False)], Demand(5000, 1, False), 3),
        ([Demand(100, 1, False)], Demand(100, 2, False), 3),
        ([Demand(100, 1, False)], Demand(100, 1, True), 3),
        ([Demand(9000, 1, False), Demand(100, 2, True)], Demand(5000, 1, False), 10),
        ([Demand(9000, 1, False), Demand(100, 2, True)], Demand(5000, 2, False), 3),
        ([Demand(9000, 2, True)], Demand(9000, 1, False), 10),
    ],
)
def test_message_like_others_that_the_broker_has_taken_needs_more_proof(
    taken: list[Demand], demand: Demand, ends: int
) -> None:
    learned = Learned()
    for one in taken:
        learned.took(one)
    assert learned.needed_ends(demand) == ends


def test_error_counts_also_the_ends_that_prove_nothing() -> None:
    found = verdict(delivery(1), size=60, taken=90, ends=10, attempt=3, code=None)
    assert "10 times while it alone was being sent" in str(found)
    found = verdict(delivery(2), size=60, taken=90, ends=10, attempt=3, code=None)
    assert found == Remedy(1, False)


def test_message_not_larger_than_others_is_refused_at_last() -> None:
    found = verdict(delivery(1), size=60, taken=0, ends=3, attempt=3, code=0x87)
    assert isinstance(found, RefusedError)
    assert found.code == 0x87
    assert "3 times while it alone was being sent: " in str(found)
    assert "Its size (60 bytes) is not why" in str(found)


def test_message_that_is_larger_than_all_others_is_too_large() -> None:
    found = verdict(delivery(), size=30_000, taken=900, ends=3, attempt=3, code=None)
    assert isinstance(found, MessageTooLargeError)
    assert (found.packet, found.limit, found.source) == (30_000, None, "inferred")
    assert "The largest packet that it has confirmed had 900 bytes" in str(found)


def test_packet_too_large_reason_needs_no_further_proof() -> None:
    found = verdict(delivery(), size=60, taken=900, ends=3, attempt=3, code=0x95)
    assert isinstance(found, MessageTooLargeError)
    assert found.source == "broker"
