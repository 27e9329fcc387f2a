"""Bounds of received messages: the size of one, and the bytes that wait for the program."""

import asyncio
import hashlib
import socket
import threading
from collections.abc import Callable
from queue import Queue

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import MQTTErrorCode

from fastlib.transport import (
    AsyncCommunicator,
    Communicator,
    MemoryBroker,
    MemoryOptions,
    MqttOptions,
    OptionsError,
    ReceivedMessage,
    connect,
)
from fastlib.transport.inbox import Inbox
from fastlib.transport.memory.link import MemoryLink
from fastlib.transport.messages import InboundMessage
from fastlib.transport.mqtt.client_factory import RECEIVE_MAXIMUM, make_client
from fastlib.transport.mqtt.paho_client import OVERHEAD, PahoClient
from fastlib.transport.queue_room import MESSAGE_SIZE, DropCount, QueueRoom
from tests.support.mosquitto import PATIENCE, Mosquitto

MAX_PAYLOAD = 1000


def message(payload: bytes, qos: int) -> ReceivedMessage:
    return ReceivedMessage(InboundMessage("a", payload, qos, False, False, lambda: None), qos, None)


def test_inbox_drops_only_messages_with_qos_0_beyond_its_bound(
    caplog: pytest.LogCaptureFixture,
) -> None:
    drops = DropCount()
    inbox = Inbox("a", QueueRoom("a", 2 * (MESSAGE_SIZE + 1), drops))
    for payload, qos in ((b"1", 0), (b"2", 0), (b"3", 0), (b"4", 1), (b"5", 2), (b"6", 0)):
        inbox.put(message(payload, qos))
    assert len(inbox) == 4
    first, second = inbox.take().result(), inbox.poll()
    assert second is not None
    inbox.put(message(b"7", 0))  # the two with QoS 1 and 2 take the room
    third, fourth = inbox.poll(), inbox.poll()
    assert third is not None
    assert fourth is not None
    assert [m.payload for m in (first, second, third, fourth)] == [b"1", b"2", b"4", b"5"]
    assert inbox.poll() is None
    inbox.put(message(b"8", 0))
    assert inbox.take().result().payload == b"8"
    warnings = [record.getMessage() for record in caplog.records]
    assert warnings[0].startswith("1 messages with QoS 0 to 'a' were dropped: those that wait take")
    assert [warning.split()[0] for warning in warnings] == ["1", "2"]
    assert drops.total == 3


def test_message_that_returns_to_the_inbox_is_counted_again() -> None:
    inbox = Inbox("a", QueueRoom("a", MESSAGE_SIZE + 1, DropCount()))
    future = inbox.take()
    inbox.put(message(b"1", 0))
    inbox.cancel(future)  # it has arrived already
    inbox.put(message(b"2", 0))
    assert len(inbox) == 1
    assert inbox.take().result().payload == b"1"
    inbox.put(message(b"3", 0))
    assert inbox.take().result().payload == b"3"


@pytest.mark.parametrize("name", ["max_payload", "max_queued", "max_unacknowledged"])
def test_bound_must_be_positive(name: str) -> None:
    with pytest.raises(OptionsError, match=f"`{name}` must be a number of bytes from 1"):
        MqttOptions(**{name: 0})  # type: ignore[arg-type]


def test_largest_packet_is_announced_with_mqtt_5() -> None:
    client = make_client(MqttOptions(protocol="5", max_payload=MAX_PAYLOAD), print, print)
    properties = client._connect_properties
    assert properties is not None
    assert properties.MaximumPacketSize == MAX_PAYLOAD + OVERHEAD
    assert properties.ReceiveMaximum == RECEIVE_MAXIMUM
    unbounded = make_client(MqttOptions(protocol="5"), print, print)._connect_properties
    assert not hasattr(unbounded, "MaximumPacketSize")


@pytest.fixture
def sizes(plain_broker: Mosquitto, join: Callable[..., Communicator]) -> tuple[Communicator, ...]:
    """A sender and a receiver with a bound, by MQTT 3.1.1."""
    return join(plain_broker.port), join(plain_broker.port, max_payload=MAX_PAYLOAD)


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_rest_of_a_large_message_is_dropped_and_the_next_ones_arrive(
    sizes: tuple[Communicator, Communicator], qos: int
) -> None:
    sender, receiver = sizes
    topic = f"large/{qos}"
    receiver.subscribe(topic, manual_ack=True)
    large = [3 << 20, MAX_PAYLOAD + 1, MAX_PAYLOAD + OVERHEAD, 3 << 20, MAX_PAYLOAD]
    for number, size in enumerate(large):
        sender.send(b"%d" % number + b"x" * (size - 1), topic, qos)
        sender.send(b"small", topic, qos)
    for number, size in enumerate(large):
        found = receiver.receive(topic, PATIENCE)
        assert found.payload == b"%d" % number + b"x" * (MAX_PAYLOAD - 1)
        assert found.size == size
        whole = b"%d" % number + b"x" * (size - 1)
        assert found.sha256 == (hashlib.sha256(whole).hexdigest() if size > MAX_PAYLOAD else None)
        found.ack()
        small = receiver.receive(topic, PATIENCE)
        assert (small.payload, small.size, small.sha256) == (b"small", 5, None)
        small.ack()
    receiver.unsubscribe(topic)


def test_memory_of_a_large_packet_is_bounded() -> None:
    """The bytes come from a peer that sends a PUBLISH of 60 MB in pieces, and then a small one."""
    ours, theirs = socket.socketpair()
    got: list[tuple[int, int]] = []
    largest = 0

    def on_publish(message: paho.MQTTMessage) -> None:
        got.append((len(message.payload), client.skipped))

    client = PahoClient(on_publish, print, max_payload=MAX_PAYLOAD)
    ours.setblocking(False)
    client._sock = ours
    size = 60_000_000
    connack = b"\x20\x02\x00\x00"
    header = connack + b"\x30" + _length(size) + b"\x00\x01a"

    def send() -> None:
        theirs.sendall(header)
        for _ in range((size - 3) // 100_000):
            theirs.sendall(b"x" * 100_000)
        theirs.sendall(b"x" * ((size - 3) % 100_000) + b"\x30\x04\x00\x01ab")
        theirs.close()

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    while len(got) < 2:
        client._packet_read()
        largest = max(largest, len(client._in_packet["packet"]))
    thread.join(PATIENCE)
    ours.close()
    client._sock = None
    assert got[0][0] + got[0][1] == size - 3
    assert got[1] == (1, 0)
    assert largest < MAX_PAYLOAD + OVERHEAD + 100_000


@pytest.mark.parametrize(("properties", "is_known"), [(100, True), (OVERHEAD, False)])
def test_digest_of_a_large_payload_begins_behind_the_properties(
    properties: int, is_known: bool
) -> None:
    """With MQTT 5 an honest broker sends no such packet: the client announces its bound."""
    ours, theirs = socket.socketpair()
    found: list[tuple[bytes, str | None]] = []
    client = PahoClient(
        lambda message: found.append((bytes(message.payload), client.sha256)),
        print,
        max_payload=MAX_PAYLOAD,
        protocol=paho.MQTTv5,
    )
    ours.setblocking(False)
    client._sock = ours
    entry = b"\x26\x00\x01a" + (properties - 6).to_bytes(2) if properties < 65536 else b""
    inner = entry + b"b" * (properties - 6) if entry else b"\x26\x00\x01a\xf0\x00" + b"b" * 0xF000
    inner *= 1 if entry else 1 + OVERHEAD // 0xF000
    payload = b"12345" * 60_000
    body = b"\x00\x01a" + _length(len(inner)) + inner + payload
    data = b"\x20\x03\x00\x00\x00\x30" + _length(len(body)) + body
    thread = threading.Thread(target=theirs.sendall, args=(data,), daemon=True)
    thread.start()
    while not found and client.violation is None:
        client._packet_read()
    thread.join(PATIENCE)
    if is_known:
        ((kept, sha256),) = found
        assert payload.startswith(kept)
        assert len(kept) > MAX_PAYLOAD
        assert sha256 == hashlib.sha256(payload).hexdigest()
    else:
        assert "it ends within its" in str(client.violation)
    ours.close()
    theirs.close()
    client._sock = None


def test_other_large_packet_ends_the_connection() -> None:
    client = PahoClient(print, print, max_payload=MAX_PAYLOAD)
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    client._sock = ours
    theirs.sendall(b"\x90" + _length(10_000_000))
    assert client._packet_read() == MQTTErrorCode.MQTT_ERR_CONN_LOST
    with pytest.raises(OSError, match="a control packet of 10000000 bytes"):
        client._sock_recv(1)
    theirs.close()
    ours.close()
    client._sock = None


def test_subscription_with_a_bound_drops_messages_that_the_program_does_not_read(
    plain_broker: Mosquitto,
) -> None:
    options = MqttOptions(host="127.0.0.1", port=plain_broker.port, max_queued=20_000)
    with connect(options) as communicator:
        communicator.subscribe("queued", qos=1)
        communicator.subscribe("done", qos=1)
        for _ in range(50):
            communicator.send(b"x" * 1000, "queued", qos=0)
        communicator.send(b"last", "queued", qos=1)
        communicator.send(b"", "done", qos=1)
        communicator.receive("done", PATIENCE)  # all others have come before it
        room = 20_000 // (1000 + MESSAGE_SIZE)
        payloads = [communicator.receive("queued", PATIENCE).payload for _ in range(room + 1)]
        assert payloads == [b"x" * 1000] * room + [b"last"]
        assert communicator.dropped == 50 - room


def test_callback_with_a_bound_does_not_get_dropped_messages(plain_broker: Mosquitto) -> None:
    options = MqttOptions(host="127.0.0.1", port=plain_broker.port, max_queued=20_000)
    go, got = threading.Event(), Queue[bytes]()

    def slow(message: ReceivedMessage) -> None:
        assert go.wait(PATIENCE)
        got.put(message.payload)

    with connect(options) as communicator:
        communicator.subscribe("called", slow, qos=1)
        communicator.subscribe("done", qos=1)
        for _ in range(50):
            communicator.send(b"x" * 1000, "called", qos=0)
        communicator.send(b"last", "called", qos=1)
        communicator.send(b"", "done", qos=1)
        communicator.receive("done", PATIENCE)
        go.set()
        payloads = []
        while b"last" not in payloads:
            payloads.append(got.get(timeout=PATIENCE))
        assert len(payloads) + communicator.dropped == 51
        room = 20_000 // (1000 + MESSAGE_SIZE)
        assert room <= len(payloads) - 1 <= room + 1  # one is at work
        communicator.send(b"x" * 1000, "called", qos=0)
        assert got.get(timeout=PATIENCE) == b"x" * 1000


def test_coroutine_with_a_bound_does_not_get_dropped_messages() -> None:
    async def scene() -> None:
        broker = MemoryBroker()
        link = MemoryLink(MemoryOptions(broker=broker))
        communicator = await AsyncCommunicator(link, max_queued=3 * (MESSAGE_SIZE + 1)).open()
        got: list[bytes] = []

        async def take(message: ReceivedMessage) -> None:
            got.append(message.payload)

        await communicator.subscribe("a", take, qos=0)
        for number in range(5):  # the loop has no turn in between
            communicator._core.link.send(
                communicator._core.delivery(b"%d" % number, "a", 0, False, None)
            )
        await communicator.close()
        assert got == [b"0", b"1", b"2"]
        assert communicator.dropped == 2

    asyncio.run(scene())


def _length(number: int) -> bytes:
    """Return the remaining length as MQTT writes it."""
    found = b""
    while True:
        number, byte = divmod(number, 128)
        found += bytes([byte | (128 if number else 0)])
        if not number:
            return found
