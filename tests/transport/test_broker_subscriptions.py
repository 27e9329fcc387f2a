"""The subscriptions of a session at its broker: what is requested, and when it is confirmed."""

from concurrent.futures import Future
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastlib.transport import ClosedError, RefusedError
from fastlib.transport.filters import overlap
from fastlib.transport.mqtt.disjoint_filters import DisjointFilters
from fastlib.transport.mqtt.subscriptions import MAX_FILTERS, BrokerSubscriptions


class Broker:
    """Records SUBSCRIBE and UNSUBSCRIBE."""

    def __init__(self) -> None:
        self.subscribed: list[list[tuple[str, int]]] = []
        self.unsubscribed: list[list[str]] = []

    def subscribe(self, filters: list[tuple[str, int]]) -> int:
        self.subscribed.append(filters)
        return len(self.subscribed)


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def subscriptions(broker: Broker) -> BrokerSubscriptions:
    return BrokerSubscriptions(broker.subscribe, broker.unsubscribed.append)


def add(
    subscriptions: BrokerSubscriptions, pattern: str, *, connected: bool = True
) -> "Future[None]":
    confirmed: Future[None] = Future()
    subscriptions.add(pattern, 1, confirmed, connected)
    return confirmed


def test_subscription_waits_for_suback(subscriptions: BrokerSubscriptions) -> None:
    confirmed = add(subscriptions, "a")
    assert not confirmed.done()
    subscriptions.on_suback(1, [1])
    confirmed.result(0)
    subscriptions.on_suback(1, [1])  # an unknown packet id has no effect


def test_answer_to_a_withdrawn_subscription_does_not_confirm_the_next_one(
    subscriptions: BrokerSubscriptions,
) -> None:
    """The broker would lose a message between the UNSUBSCRIBE and the second SUBSCRIBE."""
    add(subscriptions, "a", connected=False)
    other = add(subscriptions, "b", connected=False)
    subscriptions.renew()  # packet 1 has both
    subscriptions.remove("a", connected=True)
    again = add(subscriptions, "a")
    assert subscriptions.on_suback(1, [1, 1])
    assert other.done()
    assert not again.done()
    subscriptions.on_suback(2, [1])
    again.result(0)


def test_answer_to_a_replaced_subscription_does_not_confirm_the_next_one(
    subscriptions: BrokerSubscriptions,
) -> None:
    add(subscriptions, "a/b")
    add(subscriptions, "a/#")
    subscriptions.remove("a/#", connected=True)
    subscriptions.remove("a/b", connected=True)
    again = add(subscriptions, "a/b")
    subscriptions.on_suback(1, [0x87])
    subscriptions.on_suback(3, [1])
    assert not again.done()
    subscriptions.on_suback(4, [1])
    again.result(0)


def test_refused_subscription_fails(
    subscriptions: BrokerSubscriptions, caplog: pytest.LogCaptureFixture
) -> None:
    refused, cancelled = add(subscriptions, "a"), add(subscriptions, "b")
    cancelled.cancel()
    for packet_id in (1, 2):
        subscriptions.on_suback(packet_id, [0x87])
    with pytest.raises(RefusedError, match="not authorized"):
        refused.result(0)
    assert "refuses the subscription to 'b'" in caplog.text


def test_refused_wide_filter_leaves_narrow_ones_on_their_own(
    subscriptions: BrokerSubscriptions, broker: Broker
) -> None:
    narrow, wide, later = (add(subscriptions, topic) for topic in ("a/b", "a/#", "a/c"))
    subscriptions.on_suback(1, [1])
    subscriptions.on_suback(2, [0x87])
    with pytest.raises(RefusedError):
        wide.result(0)
    assert broker.subscribed[-1] == [("a/b", 1), ("a/c", 1)]
    assert not narrow.done()
    subscriptions.on_suback(4, [1, 0x87])
    narrow.result(0)
    with pytest.raises(RefusedError):
        later.result(0)


def test_refused_filter_is_tried_again_and_then_replaces_narrow_ones(
    subscriptions: BrokerSubscriptions, broker: Broker
) -> None:
    add(subscriptions, "a/b")
    add(subscriptions, "a/#")
    subscriptions.on_suback(2, [0x87])
    subscriptions.renew()
    assert broker.subscribed[-1] == [("a/b", 1), ("a/#", 1)]
    subscriptions.on_suback(len(broker.subscribed), [1, 1])
    assert broker.unsubscribed[-1] == ["a/b"]
    subscriptions.renew()
    assert broker.subscribed[-1] == [("a/#", 1)]


def test_subscription_of_a_refused_filter_withdraws_no_narrow_one_before_the_answer(
    subscriptions: BrokerSubscriptions, broker: Broker
) -> None:
    add(subscriptions, "a/b")
    add(subscriptions, "a/#")
    subscriptions.on_suback(2, [0x87])
    subscriptions.remove("a/#", connected=True)
    before = list(broker.unsubscribed)
    again = add(subscriptions, "a/#")
    assert broker.subscribed[-1] == [("a/#", 1)]
    assert broker.unsubscribed == before
    subscriptions.on_suback(len(broker.subscribed), [0x87])
    with pytest.raises(RefusedError):
        again.result(0)


def test_narrow_subscription_still_waits_if_the_wide_one_is_removed(
    subscriptions: BrokerSubscriptions,
) -> None:
    wide, narrow = add(subscriptions, "a/#"), add(subscriptions, "a/b")
    subscriptions.remove("a/#", connected=True)
    assert wide.cancelled()
    assert not narrow.done()
    subscriptions.on_suback(3, [1])
    narrow.result(0)


def test_wider_filter_replaces_narrower_ones(
    subscriptions: BrokerSubscriptions, broker: Broker
) -> None:
    narrow = add(subscriptions, "a/b")
    wide = add(subscriptions, "a/#")
    assert broker.subscribed == [[("a/b", 1)], [("a/#", 1)]]
    assert broker.unsubscribed == [["a/b"]]
    subscriptions.on_suback(2, [1])
    assert narrow.done()
    assert wide.done()


def test_removed_filter_is_split_again(subscriptions: BrokerSubscriptions, broker: Broker) -> None:
    add(subscriptions, "a/b")
    wide = add(subscriptions, "a/#")
    subscriptions.remove("a/#", connected=True)
    assert broker.subscribed[-1] == [("a/b", 1)]
    assert broker.unsubscribed[-1] == ["a/#"]
    assert wide.cancelled()
    subscriptions.remove("unknown", connected=True)
    assert len(broker.unsubscribed) == 2


def test_changes_without_connection_are_sent_later(
    subscriptions: BrokerSubscriptions, broker: Broker
) -> None:
    add(subscriptions, "a/b", connected=False)
    add(subscriptions, "a/#", connected=False)
    add(subscriptions, "gone", connected=False)
    subscriptions.remove("gone", connected=False)
    assert broker.subscribed == broker.unsubscribed == []
    subscriptions.renew()
    assert broker.subscribed == [[("a/#", 1)]]
    assert sorted(broker.unsubscribed[0]) == ["a/b", "gone"]
    subscriptions.renew()
    assert len(broker.unsubscribed) == 1


def test_many_filters_need_several_packets(
    subscriptions: BrokerSubscriptions, broker: Broker
) -> None:
    for number in range(MAX_FILTERS + 1):
        add(subscriptions, f"a/{number}", connected=False)
    subscriptions.renew()
    assert [len(filters) for filters in broker.subscribed] == [MAX_FILTERS, 1]


def test_filters_of_an_earlier_program_need_several_packets(
    subscriptions: BrokerSubscriptions, broker: Broker
) -> None:
    for number in range(MAX_FILTERS + 1):
        subscriptions.forget(f"a/{number}", connected=False)
    add(subscriptions, "a/0", connected=False)
    add(subscriptions, "b", connected=False)
    subscriptions.renew()
    assert [len(filters) for filters in broker.unsubscribed] == [MAX_FILTERS]
    subscriptions.forget("b", connected=False)  # it is wanted
    subscriptions.renew()
    assert len(broker.unsubscribed) == 1


def test_covered_filter_is_requested_again_only_for_retained_messages(
    subscriptions: BrokerSubscriptions, broker: Broker
) -> None:
    def covered(pattern: str) -> "Future[None]":
        confirmed: Future[None] = Future()
        subscriptions.add(pattern, 1, confirmed, True, retained=False)
        return confirmed

    add(subscriptions, "a/#")
    early = covered("a/1")
    assert not early.done()  # the broker has not confirmed the wide one
    subscriptions.on_suback(1, [1])
    assert early.done()
    assert covered("a/2").done()
    assert not covered("b").done()  # nothing covers it
    assert broker.subscribed == [[("a/#", 1)], [("b", 1)]]
    add(subscriptions, "a/3")
    assert broker.subscribed[-1] == [("a/#", 1)]
    subscriptions.remove("a/#", connected=True)
    assert broker.subscribed[-1] == [("a/1", 1), ("a/2", 1), ("a/3", 1)]
    assert broker.unsubscribed == [["a/#"]]


def test_unknown_filter_is_withdrawn_if_an_earlier_program_may_have_left_it(
    subscriptions: BrokerSubscriptions, broker: Broker
) -> None:
    add(subscriptions, "a")
    subscriptions.forget("a", connected=True)
    subscriptions.forget("b", connected=True)
    assert broker.unsubscribed == [["b"]]


FILTERS = st.sampled_from(["a", "a/b", "a/c", "+/b", "a/+", "a/#", "#", "b"])


@given(st.lists(st.tuples(FILTERS, st.booleans())))
def test_filters_cover_the_subscriptions_and_do_not_overlap(
    changes: list[tuple[str, bool]],
) -> None:
    filters, wanted = DisjointFilters(), set()
    for pattern, stays in changes:
        if stays:
            filters.add(pattern, 1)
            wanted.add(pattern)
        else:
            filters.remove(pattern)
            wanted.discard(pattern)
    wide = list(filters.filters())
    for pattern in wanted:
        assert filters.filter_of(pattern) in [(one, 1) for one in wide]
    assert not any(overlap(one, other) for one, other in combinations(wide, 2))
    assert bool(wide) == bool(wanted)


def test_fail_ends_all_waiting(subscriptions: BrokerSubscriptions) -> None:
    confirmed, cancelled = add(subscriptions, "a"), add(subscriptions, "b")
    cancelled.cancel()
    subscriptions.fail(ClosedError("closed"))
    with pytest.raises(ClosedError):
        confirmed.result(0)
