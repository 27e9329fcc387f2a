"""The parts of paho that we replace are there, and are used as we think."""

import inspect
import socket
import time
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import MessageState

from fastlib.transport import MqttOptions, connect
from fastlib.transport.mqtt import paho_sockets
from fastlib.transport.mqtt.paho_client import PahoClient
from tests.support.mosquitto import Mosquitto


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("_sock_recv", ["bufsize"]),
        ("_sock_send", ["buf"]),
        ("_check_keepalive", []),
        ("_ssl_wrap_socket", ["tcp_sock"]),
        ("_packet_queue", ["command", "packet", "mid", "qos", "info"]),
        ("_send_pubrec", ["mid"]),
        ("_send_pubcomp", ["mid"]),
        ("_messages_reconnect_reset_out", []),
        ("_check_clean_session", []),
        ("_packet_handle", []),
        ("_handle_publish", []),
        ("_handle_pubrel", []),
        ("_handle_pubrec", []),
        ("_handle_pubackcomp", ["cmd"]),
        ("_send_pubrel", ["mid"]),
        ("_do_on_publish", ["mid", "reason_code", "properties"]),
    ],
)
def test_paho_has_the_replaced_methods(name: str, parameters: list[str]) -> None:
    found = list(inspect.signature(getattr(paho.Client, name)).parameters)
    assert found == ["self", *parameters]


def test_lost_session_repeats_messages_in_full() -> None:
    client = PahoClient(lambda _: None, lambda _: None, client_id="a", clean_session=False)
    assert client._max_inflight_messages == 0
    info = client.publish("a", b"", qos=2)
    (message,) = client._out_messages.values()
    assert message.mid == info.mid
    message.state, message.dup = MessageState.MQTT_MS_RESEND_PUBREL, True
    client.session_lost()
    assert message.state == MessageState.MQTT_MS_PUBLISH
    assert not message.dup


def test_pubrel_state_survives_several_retries() -> None:
    client = PahoClient(lambda _: None, lambda _: None, client_id="a", clean_session=False)
    client.publish("a", b"", qos=2)
    (message,) = client._out_messages.values()
    message.state = MessageState.MQTT_MS_WAIT_FOR_PUBCOMP
    for _ in range(3):
        client._messages_reconnect_reset_out()
        assert message.state == MessageState.MQTT_MS_RESEND_PUBREL


def test_socket_is_read_in_large_pieces() -> None:
    client = PahoClient(lambda _: None, lambda _: None, client_id="a")

    class Socket:
        def __init__(self) -> None:
            self.reads: list[int] = []

        def recv(self, size: int) -> bytes:
            self.reads.append(size)
            return b"abcdef"

        def close(self) -> None: ...

    own = Socket()
    client._sock = own  # type: ignore[assignment]
    assert client._sock_recv(1) == b"a"
    assert client.has_read()
    assert client._sock_recv(10) == b"bcdef"
    assert not client.has_read()
    assert own.reads == [65536]
    client._sock = None


def test_packet_ids_of_two_runs_of_a_program_differ() -> None:
    first, second = (
        {client._mid_generate() for _ in range(20)}
        for client in (PahoClient(lambda _: None, lambda _: None, client_id="a") for _ in range(2))
    )
    assert first != second


class _Peer:
    """A broker on a socket, with the parts that the reading of packets needs."""

    def __init__(self, **options: Any) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.client = PahoClient(lambda _: None, lambda _: None, client_id="a", **options)
            self.client.connect_async("127.0.0.1", listener.getsockname()[1])
            self.client.reconnect()
            self.socket = listener.accept()[0]
        while self.client.want_write():
            self.client.loop_write()
        self.quick_acks = 0

    def send(self, data: bytes, packets: int = 1) -> None:
        """Send packets, and make the client read them; count the acknowledgements by TCP."""
        own = self.client.socket()
        self.client._sock = own_proxy = _Counting(own)
        self.socket.sendall(data)
        own.setblocking(True)
        for _ in range(packets):
            self.client.loop_read()
        self.client._sock = own
        self.quick_acks += own_proxy.quick_acks

    def close(self) -> None:
        self.client.socket().close()
        self.socket.close()


class _Counting:
    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.quick_acks = 0

    def setsockopt(self, level: int, option: int, value: int) -> None:
        assert (level, option, value) == (socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        self.quick_acks += 1

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


CONNACK = b"\x20\x02\x00\x00"
PUBACK = b"\x40\x02\x00\x07"


@pytest.mark.skipif(not hasattr(socket, "TCP_QUICKACK"), reason="an option of Linux")
def test_tcp_acknowledges_at_once_if_no_packet_follows() -> None:
    """A broker with Nagle's algorithm would hold back its next small packet for 40 ms."""
    peer = _Peer()
    try:
        peer.send(CONNACK)
        assert peer.quick_acks == 1
        peer.send(PUBACK * 3, packets=3)  # once, after the last one
        assert peer.quick_acks == 2
        peer.client.publish("a", b"", qos=1)
        assert peer.client.want_write()
        peer.send(PUBACK)  # the PUBLISH to be written acknowledges it
        assert peer.quick_acks == 2
    finally:
        peer.close()


@pytest.mark.parametrize("kind", [0x40, 0x50], ids=["PUBACK", "PUBREC"])
def test_reason_string_of_a_refused_message_is_reported(kind: int) -> None:
    peer = _Peer(protocol=paho.MQTTv5)
    said: list[object] = []
    peer.client.on_publish = lambda client, _data, _mid, reason, _properties: said.append(
        (reason.value, client.said)
    )
    try:
        peer.send(b"\x20\x03\x00\x00\x00")
        info = peer.client.publish("a", b"", qos=1 if kind == 0x40 else 2)
        words = b"\x1f\x00\x08too many"
        body = info.mid.to_bytes(2, "big") + b"\x97" + bytes([len(words)]) + words
        peer.send(bytes([kind, len(body)]) + body)
        assert said == [(0x97, "too many")]
    finally:
        peer.close()


def test_kernel_is_rarely_queried_for_unsent_bytes(
    plain_broker: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a keep-alive that runs out, and a closing that waits, depend on the answer."""
    asked = 0
    original = paho_sockets.PahoSockets.traffic

    def traffic(self: Any) -> tuple[int, int]:
        nonlocal asked
        asked += 1
        return original(self)

    monkeypatch.setattr(paho_sockets.PahoSockets, "traffic", traffic)
    began = time.monotonic()
    with connect(MqttOptions(host="127.0.0.1", port=plain_broker.port)) as communicator:
        for _ in range(200):
            communicator.send(b"x", "topic", qos=1).wait(60)
        looks = (time.monotonic() - began) / paho_sockets.LOOK_SECONDS
        assert 1 <= asked <= looks + 1


class NarrowSocket:
    """A socket that takes some bytes at a time, and none in each second call if it `pauses`."""

    def __init__(self, room: int, pauses: bool) -> None:
        self.taken: list[bytes] = []
        self._room = room
        self._pauses = pauses
        self._calls = 0

    def send(self, data: Any) -> int:
        self._calls += 1
        if self._pauses and self._calls % 2:
            raise BlockingIOError
        self.taken.append(bytes(data[: self._room]))
        return len(self.taken[-1])

    def close(self) -> None:
        """Close nothing."""


def write_packets(
    packets: list[bytes], room: int, *, pauses: bool = False, **arguments: Any
) -> tuple[PahoClient, list[bytes]]:
    """Return the client, and what its socket has taken in each call."""
    client = PahoClient(lambda _: None, lambda _: None, client_id="a", **arguments)
    client._sock = narrow = NarrowSocket(room, pauses)  # type: ignore[assignment]
    for mid, packet in enumerate(packets):
        client._packet_queue(packet[0] & 0xF0, packet, mid, 1)
    for _ in range(10_000):
        if not client.want_write():
            break
        client._packet_write()
        written = sum(map(len, narrow.taken))
        left = sum(packet["to_process"] for packet in client._out_packet)
        assert written + left == sum(map(len, packets)) or client._sock is None
    return client, narrow.taken


PACKETS = [
    b"P\x02\x00\x01",
    b"2" + b"m" * 700,
    b"b\x02\x00\x02",
    b"2" + b"n" * 900,
    b"p\x02\x00\x03",
]


@pytest.mark.parametrize("pauses", [False, True])
@pytest.mark.parametrize("room", [1, 3, 4, 5, 703, 704, 710, 5000])
def test_small_packets_are_written_together_and_each_byte_once(room: int, pauses: bool) -> None:
    client, taken = write_packets(PACKETS, room, pauses=pauses)
    assert b"".join(taken) == b"".join(PACKETS)
    assert not client.want_write()
    if room == 5000:
        assert taken == [b"".join(PACKETS[:3]), b"".join(PACKETS[3:])]


def test_large_packets_are_written_alone() -> None:
    large = b"2" + b"m" * 2000
    assert write_packets([large, PACKETS[0], large], 5000)[1] == [large, PACKETS[0], large]


def test_frame_of_a_websocket_has_one_packet() -> None:
    _, taken = write_packets(PACKETS, 5000, transport="websockets")
    assert taken == PACKETS


def test_nothing_is_written_behind_disconnect() -> None:
    disconnect = b"\xe0\x00"
    client, taken = write_packets([PACKETS[0], disconnect, PACKETS[2]], 5000)
    assert taken == [PACKETS[0] + disconnect]
    assert client._sock is None
    assert len(client._out_packet) == 1
