"""The client at a broker that breaks MQTT, and at one that forwards bad messages of a client."""

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Literal

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from fastlib.transport import Communicator, InboundMessage, MqttOptions
from fastlib.transport.mqtt.client_factory import make_client
from fastlib.transport.mqtt.inbound import MESSAGE_SIZE
from fastlib.transport.mqtt.paho_client import PahoClient
from tests.support.mosquitto import PATIENCE, Mosquitto
from tests.support.transport.hostile_packets import text
from tests.support.transport.proxy import Proxy
from tests.support.transport.session import OfflineSession
from tests.support.waiting import wait_until

CONNACK = b"\x20\x02\x00\x00"


class Peer:
    """A client of MQTT 3.1.1 or 5, and the other end of its socket."""

    def __init__(self, protocol: Literal["3.1.1", "5"] = "3.1.1") -> None:
        self.messages: list[paho.MQTTMessage] = []
        self.client: PahoClient = make_client(
            MqttOptions(client_id="a", protocol=protocol), self.messages.append, print
        )
        ours, self.theirs = socket.socketpair()
        ours.setblocking(False)
        self.client._sock = ours

    def get(self, data: bytes) -> MQTTErrorCode:
        """The client reads these bytes."""
        self.theirs.sendall(data)
        found = MQTTErrorCode.MQTT_ERR_SUCCESS
        while self.client.socket() is not None and found == MQTTErrorCode.MQTT_ERR_SUCCESS:
            found = self.client._packet_read()
        return found

    def close(self) -> None:
        self.theirs.close()
        self.client._sock_close()


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    peer.close()


@pytest.mark.parametrize(
    ("data", "violation"),
    [
        (b"\xd0\x00", "a packet before CONNACK"),
        (CONNACK * 2, "a second CONNACK"),
        (CONNACK + b"\x62\x01\x00", "a malformed PUBREL: it ends within its packet id"),
        (CONNACK + b"\x50\x03\x00\x01\xff", "a malformed PUBREC: it has 1 bytes too many"),
        (CONNACK + b"\xc0\x00", "a packet of type 12, which a broker must not send"),
        (CONNACK + b"\x36\x03\x00\x01a", "a malformed PUBLISH: its quality of service is 3"),
    ],
)
def test_packet_that_is_not_allowed_ends_the_connection(
    peer: Peer, data: bytes, violation: str
) -> None:
    assert peer.get(data) == MQTTErrorCode.MQTT_ERR_PROTOCOL
    assert peer.client.violation == violation
    assert not peer.messages


def test_refusing_reason_code_that_paho_does_not_know_ends_the_connection() -> None:
    peer = Peer("5")
    assert peer.get(b"\x20\x03\x00\x00\x00\x50\x03\x00\x01\xff") == MQTTErrorCode.MQTT_ERR_PROTOCOL
    assert peer.client.violation == "a malformed PUBREC: its reason code is 0xff"
    peer.close()


def test_keep_alive_of_a_broker_holds_for_its_connection_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    peer = Peer("5")
    client = peer.client
    monkeypatch.setattr(paho.Client, "reconnect", lambda _: MQTTErrorCode.MQTT_ERR_SUCCESS)
    for _ in range(2):
        client.reconnect()
        assert client.keepalive == 60
        peer.get(b"\x20\x06\x00\x00\x03\x13\x00\x00")
        assert client.keepalive == 0
    peer.close()


@pytest.mark.parametrize("topic", [b"a/#", b"+", b"a\0b", b"\xff"])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_message_with_a_topic_that_is_not_allowed_is_dropped_and_acknowledged(
    monkeypatch: pytest.MonkeyPatch, topic: bytes, qos: int
) -> None:
    """The broker may have it of another client, and would send it on each connection."""
    own = OfflineSession()
    acknowledged: list[tuple[int, int]] = []
    monkeypatch.setattr(own.client, "acknowledge", lambda mid, qos: acknowledged.append((mid, qos)))
    message = paho.MQTTMessage(mid=7, topic=topic)
    message.qos = qos
    own.session._on_message(message)
    assert own.messages == []
    assert acknowledged == ([(7, qos)] if qos else [])


def test_suback_with_too_few_codes_ends_the_connection() -> None:
    own = OfflineSession()
    own.connack()
    found: list[object] = []
    for pattern in ("a", "b"):
        own.session.subscribe(pattern, 1, future_into(found))
    own.session._subscriptions.renew()
    packet_id = max(own.session._subscriptions._requested)
    own.session._on_subscribe(own.client, None, packet_id, [], None)
    assert own.client.violation == "a SUBACK with 0 reason codes"
    assert not found


def future_into(found: list[object]) -> Future[None]:
    future: Future[None] = Future()
    future.add_done_callback(found.append)
    return future


def test_incomplete_messages_keep_no_payload() -> None:
    """A broker can keep 65,535 of them incomplete, which the program has taken long ago."""
    own = OfflineSession()
    message = paho.MQTTMessage(mid=7, topic=b"a")
    message.qos, message.payload = 2, b"x" * 1000
    own.session._on_message(message)
    (taken,) = own.messages
    assert isinstance(taken, InboundMessage)
    (publish,) = own.session._inbound._incomplete.values()
    assert len(publish.content) == 16


def message(packet_id: int, qos: int = 1, payload: bytes = b"x" * 1000) -> paho.MQTTMessage:
    found = paho.MQTTMessage(mid=packet_id, topic=b"a")
    found.qos, found.payload = qos, payload
    return found


@pytest.mark.parametrize("qos", [1, 2])
def test_messages_beyond_the_bound_are_left_to_the_broker(
    qos: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = MESSAGE_SIZE + 1 + 1000
    own = OfflineSession(max_unacknowledged=2 * size)
    ends: list[None] = []
    monkeypatch.setattr(own.client, "disconnect", lambda: ends.append(None))
    own.connack()
    for packet_id in (1, 2, 3):
        own.session._on_message(message(packet_id, qos))
    own.session._on_message(message(4, qos, b""))  # it would overtake the third one
    assert [found.packet_id for found in own.messages] == [1, 2]
    assert set(own.session._inbound._incomplete) == {1, 2}
    assert len(caplog.messages) == 1
    assert f"take {2 * size} bytes; later ones are left to it" in caplog.messages[0]
    # A new session does not give them back: the program still has them.
    own.connack()
    own.session._on_message(message(1, qos, b"other"))
    assert len(own.messages) == 2
    assert not ends
    own.messages[0].ack()
    assert len(ends) == 1
    assert own.session.renews
    own.connack()
    assert not own.session.renews
    own.session._on_message(message(1, qos, b"other"))
    assert own.messages[-1].payload == b"other"
    for found in own.messages[1:]:
        found.ack()
    assert own.session._inbound.unacknowledged == 0
    assert len(ends) == 1


def test_message_that_is_acknowledged_after_the_disconnect_is_confirmed_when_it_is_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = OfflineSession(max_unacknowledged=4 * (MESSAGE_SIZE + 1001))
    confirmed: list[int] = []
    monkeypatch.setattr(own.client, "acknowledge", lambda mid, _: confirmed.append(mid))
    monkeypatch.setattr(own.session._inbound, "_confirm", own.client.acknowledge)
    own.connack()
    for packet_id in range(1, 6):
        own.session._on_message(message(packet_id))
    for found in own.messages:
        found.ack()
    assert confirmed == [1, 2]
    own.connack(session_present=True)
    for packet_id in (3, 4, 5):
        repeated = message(packet_id)
        repeated.dup = True
        own.session._on_message(repeated)
    assert confirmed == [1, 2, 3, 4]
    assert [found.packet_id for found in own.messages] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
@pytest.mark.parametrize("qos", [1, 2])
def test_messages_that_were_left_to_the_broker_come_later_once_and_in_order(
    plain_broker: Mosquitto, join: Callable[..., Communicator], protocol: str, qos: int
) -> None:
    topic = f"left/{protocol}/{qos}"
    size = MESSAGE_SIZE + len(topic) + 2
    receiver = join(
        plain_broker.port,
        protocol=protocol,
        client_id=topic,
        persistent=True,
        max_unacknowledged=8 * size,
    )
    receiver.subscribe(topic, manual_ack=True)
    sender = join(plain_broker.port)
    payloads = [b"%2d" % number for number in range(30)]
    for payload in payloads:
        sender.send(payload, topic, qos)
    waiting = [receiver.receive(topic, PATIENCE) for _ in range(8)]
    found = []
    while len(found) < len(payloads):
        if not waiting:
            waiting.append(receiver.receive(topic, PATIENCE))
        received = waiting.pop(0)
        found.append(received.payload)
        received.ack()
    assert found == payloads
    assert receiver.last_error is None


def test_message_with_qos_0_and_a_repeated_one_do_not_count() -> None:
    own = OfflineSession(max_unacknowledged=MESSAGE_SIZE + 1001)
    own.connack()
    repeated = message(1)
    repeated.dup = True
    own.session._on_message(message(1))
    for _ in range(3):
        own.session._on_message(repeated)
        own.session._on_message(message(0, 0))
    assert len(own.messages) == 4


def test_message_above_the_bound_is_accepted_alone() -> None:
    own = OfflineSession(max_unacknowledged=100)
    own.connack()
    own.session._on_message(message(1))
    own.session._on_message(message(2))
    assert [found.packet_id for found in own.messages] == [1]


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_broker_that_keeps_to_a_window_does_not_meet_the_bound(
    plain_broker: Mosquitto,
    join: Callable[..., Communicator],
    protocol: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It repeats a full window after each lost connection, and the program takes nothing yet."""
    window = 20  # of mosquitto
    bound = 48 * 1000  # as of the daemon, for messages of this size
    with Proxy(plain_broker.port) as way:
        receiver = join(
            way.port,
            protocol=protocol,
            client_id=f"window {protocol}",
            persistent=True,
            max_payload=1000,
            max_unacknowledged=bound,
        )
        topic = f"window/{protocol}"
        receiver.subscribe(topic, manual_ack=True)
        sender = join(plain_broker.port)
        for number in range(3 * window):
            sender.send(b"%4d" % number, topic, qos=1 + number % 2)
        first = [receiver.receive(topic, PATIENCE) for _ in range(window)]
        for number in (1, 2):  # a third one at once would look like another client
            wait_until(lambda: receiver.is_connected, "the connection")
            way.cut()
            wait_until(lambda number=number: way.connections > number, "another one")  # type: ignore[misc]
        for found in first:
            found.ack()
        payloads = [found.payload for found in first]
        while len({*payloads}) < 3 * window:
            found = receiver.receive(topic, PATIENCE)
            payloads.append(found.payload)
            found.ack()
        assert sorted({*payloads}) == [b"%4d" % number for number in range(3 * window)]
        with_qos_2 = [payload for payload in payloads if int(payload) % 2]
        assert len(with_qos_2) == len({*with_qos_2}), "only QoS 1 may come twice"
        assert not any("are left to it" in text for text in caplog.messages)


def test_user_property_of_another_client_does_not_end_the_connection(
    plain_broker: Mosquitto, join: Callable[..., Communicator]
) -> None:
    """MQTT allows U+FEFF in it; paho does not, and the broker repeats the message."""
    receiver = join(plain_broker.port, protocol="5", client_id="feff", persistent=True)
    receiver.subscribe("feff", qos=1)
    sender = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    sender.connect("127.0.0.1", plain_broker.port)
    sender.loop_start()
    user = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    user.UserProperty = ("name", "\ufeffvalue")
    sender.publish("feff", b"first", qos=1, properties=user).wait_for_publish(PATIENCE)
    sender.publish("feff", b"second", qos=1).wait_for_publish(PATIENCE)
    sender.disconnect()
    sender.loop_stop()
    assert [receiver.receive("feff", PATIENCE).payload for _ in range(2)] == [b"first", b"second"]
    assert receiver.last_error is None


def test_other_message_is_understood(peer: Peer) -> None:
    peer.get(CONNACK + b"\x30\x04" + text(b"a") + b"x\xd0\x00")
    assert [(m.topic, m.payload) for m in peer.messages] == [("a", b"x")]
    assert peer.client.violation is None
