"""Tests of the session: inbound messages, and paho's callbacks."""

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

from fastlib.transport import RefusedError
from fastlib.transport.delivery import Delivery
from fastlib.transport.mqtt.connection_state import ConnectionState
from fastlib.transport.mqtt.inbound import InboundTracker
from fastlib.transport.mqtt.outbox import Outbox
from fastlib.transport.mqtt.subscriptions import BrokerSubscriptions
from tests.support.transport.session import OfflineSession, delivery


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
