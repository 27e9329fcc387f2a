"""Tests of the session and its parts: outbox, inbound messages, subscriptions, paho's callbacks."""

from concurrent.futures import Future
from itertools import combinations
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastlib.transport import (
    ClosedError,
    QueueFullError,
    RefusedError,
    UndeliveredError,
)
from fastlib.transport.delivery import Delivery
from fastlib.transport.filters import overlap
from fastlib.transport.mqtt.connection_state import ConnectionState
from fastlib.transport.mqtt.disjoint_filters import DisjointFilters
from fastlib.transport.mqtt.inbound import InboundTracker
from fastlib.transport.mqtt.outbox import NOT_FOUND, Outbox
from fastlib.transport.mqtt.subscriptions import (
    MAX_FILTERS,
    BrokerSubscriptions,
)
from tests.support.transport.session import OfflineSession


def delivery(qos: int = 1) -> Delivery:
    return Delivery("a", b"x", qos, False)


class Sender:
    """Publishes with increasing packet ids, unless it is not ready."""

    def __init__(self) -> None:
        self.sent: list[Delivery] = []
        self.ready = True

    def __call__(self, message: Delivery) -> int | None:
        if not self.ready:
            return None
        self.sent.append(message)
        return len(self.sent)


def test_outbox_limits_messages_in_flight() -> None:
    outbox, sender = Outbox(10, 2), Sender()
    for _ in range(3):
        outbox.accept(delivery(), True, None)
    outbox.send_queued(sender)
    assert len(sender.sent) == 2
    assert not outbox.can_send
    outbox.confirm(1, 0)
    outbox.send_queued(sender)
    assert len(sender.sent) == 3
    assert sender.sent[0].done
    assert not sender.sent[1].done


def test_outbox_keeps_message_that_cannot_be_sent() -> None:
    outbox, sender = Outbox(10, 2), Sender()
    outbox.accept(delivery(), True, None)
    sender.ready = False
    outbox.send_queued(sender)
    assert outbox.can_send


@pytest.mark.parametrize(("connected", "text"), [(True, "already$"), (False, "already: no route")])
def test_full_outbox_refuses_messages(connected: bool, text: str) -> None:
    outbox = Outbox(1, 1)
    outbox.accept(delivery(), connected, None)
    with pytest.raises(QueueFullError, match=text):
        outbox.accept(delivery(), connected, "no route")


def test_room_is_reported_after_a_confirmation() -> None:
    outbox, sender = Outbox(2, 2), Sender()
    assert outbox.room().done()
    for _ in range(2):
        outbox.accept(delivery(), True, None)
    waiting, cancelled = outbox.room(), outbox.room()
    cancelled.cancel()
    outbox.send_queued(sender)
    assert not waiting.done()
    outbox.confirm(1, 0)
    assert waiting.done()


def test_unknown_confirmation_is_ignored() -> None:
    outbox = Outbox(1, 1)
    outbox.confirm(7, 0)
    assert len(outbox) == 0


def test_refused_message_fails() -> None:
    outbox, sender = Outbox(2, 2), Sender()
    refused, repeated = delivery(), delivery()
    for message in (refused, repeated):
        outbox.accept(message, True, None)
    outbox.send_queued(sender)
    outbox.confirm(1, 0x87)
    outbox.confirm(2, NOT_FOUND)
    with pytest.raises(RefusedError, match="not authorized"):
        refused.wait(0)
    repeated.wait(0)


def test_lost_connection_fails_only_qos_0() -> None:
    outbox, sender = Outbox(2, 2), Sender()
    once, again = delivery(qos=0), delivery(qos=1)
    for message in (once, again):
        outbox.accept(message, True, None)
    waiting = outbox.room()
    outbox.send_queued(sender)
    outbox.connection_lost()
    with pytest.raises(UndeliveredError, match="connection broke"):
        once.wait(0)
    assert not again.done
    assert waiting.done()


class Confirmations:
    """Records PUBACK and PUBREC."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, int]] = []

    def __call__(self, packet_id: int, qos: int) -> None:
        self.sent.append((packet_id, qos))


@pytest.fixture
def confirmations() -> Confirmations:
    return Confirmations()


@pytest.fixture
def inbound(confirmations: Confirmations) -> InboundTracker:
    return InboundTracker(confirmations)


@pytest.mark.parametrize("qos", [1, 2])
def test_repeated_message_is_delivered_once(inbound: InboundTracker, qos: int) -> None:
    assert inbound.received(1, qos, "a", b"x", duplicate=False)
    assert inbound.received(1, qos, "a", b"x", duplicate=True) is None


@pytest.mark.parametrize("changed", [("b", b"x", True), ("a", b"y", True), ("a", b"x", False)])
def test_reused_packet_id_is_a_new_message(
    inbound: InboundTracker, changed: tuple[str, bytes, bool]
) -> None:
    topic, payload, duplicate = changed
    assert inbound.received(1, 2, "a", b"x", duplicate=False)
    assert inbound.received(1, 2, topic, payload, duplicate=duplicate)


def test_confirmation_follows_the_acknowledgement(
    inbound: InboundTracker, confirmations: Confirmations
) -> None:
    message = inbound.received(1, 2, "a", b"x", duplicate=False)
    assert message
    assert inbound.received(1, 2, "a", b"x", duplicate=True) is None
    assert confirmations.sent == []
    inbound.acknowledge(message, connected=True)
    assert confirmations.sent == [(1, 2)]


def test_confirmation_without_connection_follows_the_repetition(
    inbound: InboundTracker, confirmations: Confirmations
) -> None:
    message = inbound.received(1, 1, "a", b"x", duplicate=False)
    assert message
    inbound.acknowledge(message, connected=False)
    assert confirmations.sent == []
    assert inbound.received(1, 1, "a", b"x", duplicate=True) is None
    assert confirmations.sent == [(1, 1)]
    assert inbound.received(1, 1, "a", b"x", duplicate=True), "PUBACK has freed the packet id"


def test_released_packet_id_is_free(inbound: InboundTracker) -> None:
    assert inbound.received(1, 2, "a", b"x", duplicate=False)
    inbound.release(1)
    inbound.release(1)
    assert inbound.received(1, 2, "a", b"x", duplicate=True)


def test_acknowledgement_of_a_lost_session_is_ignored(
    inbound: InboundTracker, confirmations: Confirmations
) -> None:
    message = inbound.received(1, 2, "a", b"x", duplicate=False)
    assert message
    inbound.clear()
    inbound.acknowledge(message, connected=True)
    assert confirmations.sent == []


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


@pytest.fixture
def own() -> OfflineSession:
    return OfflineSession()


def test_first_connack_opens_later_ones_reconnect(own: OfflineSession) -> None:
    own.connack()
    assert own.state.opened.done()
    assert own.state.accepted
    assert own.reconnects == []
    own.connack()
    assert own.reconnects == [None]


def test_receive_maximum_limits_messages_in_flight(own: OfflineSession) -> None:
    own.connack(ReceiveMaximum=3)
    assert own.session.outbox.max_in_flight == 3
    own.connack(ReceiveMaximum=30)
    assert own.session.outbox.max_in_flight == 10


def test_permanent_refusal_ends_opening(own: OfflineSession) -> None:
    own.connack(0x86)
    with pytest.raises(RefusedError) as caught:
        own.state.opened.result(0)
    assert caught.value.code == 0x86


def test_temporary_refusal_is_retried(own: OfflineSession) -> None:
    own.connack(0x88)
    assert not own.state.opened.done()
    assert "refuses the connection" in str(own.state.last_error)


def test_disconnect_code_comes_from_the_server_only(own: OfflineSession) -> None:
    own.disconnect(0x80, from_server=False)
    assert own.state.disconnect_code is None
    own.disconnect(0x8E, from_server=True)
    assert own.state.disconnect_code == 0x8E


def message(topic: bytes, qos: int, packet_id: int = 1) -> Any:
    return SimpleNamespace(
        topic=topic.decode(), qos=qos, mid=packet_id, payload=b"x", retain=False, dup=False
    )


@pytest.mark.parametrize(("qos", "packet_id"), [(0, None), (1, 7), (2, 7)])
def test_received_message_is_delivered(
    own: OfflineSession, qos: int, packet_id: int | None
) -> None:
    own.session._on_message(message(b"a", qos, packet_id=packet_id or 0))
    (received,) = own.messages
    assert (received.topic, received.payload, received.qos) == ("a", b"x", qos)
    assert received.packet_id == packet_id
    received.ack()


class InvalidTopic:
    """A PUBLISH whose topic is not UTF-8."""

    def __init__(self, qos: int) -> None:
        self.qos = qos
        self.mid = 7

    @property
    def topic(self) -> str:
        return b"\xff".decode()


@pytest.mark.parametrize(("qos", "confirmed"), [(0, []), (1, [(7, 1)])])
def test_message_with_invalid_topic_is_confirmed_and_dropped(
    own: OfflineSession,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    qos: int,
    confirmed: list[tuple[int, int]],
) -> None:
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(own.client, "acknowledge", lambda *packet: sent.append(packet))
    invalid: Any = InvalidTopic(qos)
    own.session._on_message(invalid)
    assert own.messages == []
    assert sent == confirmed
    assert "is not UTF-8" in caplog.text


def test_qos_0_waits_for_a_connection(own: OfflineSession) -> None:
    own.session.outbox.accept(delivery(qos=0), True, None)
    own.session.send_queued()
    assert own.session.outbox.can_send


def test_commands_of_other_threads_run_before_a_message_is_sent(
    own: OfflineSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that subscribes and then sends must get the answer."""
    done: list[str] = []

    def publish(*_: object) -> object:
        done.append("publish")
        return SimpleNamespace(rc=0, mid=len(done))

    monkeypatch.setattr(own.client, "publish", publish)
    own.session.run_commands = lambda: done.append("commands")
    for _ in range(2):
        own.session.outbox.accept(delivery(), True, None)
    own.session.send_queued()
    assert done == ["commands", "publish"] * 2


@pytest.mark.parametrize(("code", "weaker"), [(0x9B, (1, True)), (0x9A, (2, False))])
def test_message_is_sent_in_a_weaker_form_after_a_disconnect_with_this_reason(
    monkeypatch: pytest.MonkeyPatch, code: int, weaker: tuple[int, bool]
) -> None:
    own = OfflineSession("5")
    changes: list[tuple[int, int, bool]] = []
    monkeypatch.setattr(own.client, "publish", lambda *_: SimpleNamespace(rc=0, mid=7))
    monkeypatch.setattr(own.client, "change", lambda *change: changes.append(change))
    own.connack()
    own.session.outbox.accept(Delivery("a", b"x", 2, True), True, None)
    own.session.send_queued()
    own.disconnect(code, from_server=True)
    own.session.connection_ended()
    own.connack(session_present=True)
    assert changes == [(7, *weaker)]


def test_used_packet_id_is_skipped(own: OfflineSession, monkeypatch: pytest.MonkeyPatch) -> None:
    results = iter([SimpleNamespace(rc=15, mid=1), SimpleNamespace(rc=0, mid=2)])
    monkeypatch.setattr(own.client, "publish", lambda *_: next(results))
    waiting = delivery()
    own.session.outbox.accept(waiting, True, None)
    own.session.send_queued()
    own.session.outbox.confirm(2, 0)
    waiting.wait(0)


def test_error_has_the_reason_string_of_the_broker() -> None:
    said = "no\x1b[31m room\n" + "x" * 1000
    outbox = Outbox(5, 5)
    delivery = Delivery("a", b"", 1, False)
    outbox.accept(delivery, True, None)
    outbox.send_queued(lambda _: 1)
    outbox.confirm(1, 0x97, said)
    with pytest.raises(RefusedError, match=r"quota exceeded .* the broker says") as refused:
        delivery.wait(0)
    assert r"no\x1b[31m room\n" in str(refused.value)
    assert len(str(refused.value)) < 400
    subscriptions = BrokerSubscriptions(lambda _: 1, lambda _: None)
    confirmed: Future[None] = Future()
    subscriptions.add("b", 1, confirmed, connected=True)
    subscriptions.on_suback(1, [0x87], "ask the operator")
    error = confirmed.exception(0)
    assert str(error).endswith('not authorized (0x87): the broker says "ask the operator"')


def test_error_has_the_reason_of_the_brokers_disconnect() -> None:
    state = ConnectionState("me", client_id="me", retry_min=1, retry_max=2)
    state.connected()
    state.disconnect_code, state.disconnect_reason = 0x98, "maintenance"
    state.connection_lost()
    assert 'the broker says "maintenance"' in str(state.last_error)
    state.connecting()
    assert not state.disconnect_reason
