"""The parts of paho that we replace are there, and are used as we think."""

import inspect

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import MessageState

from fastlib.transport.mqtt.paho_client import PahoClient


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("_sock_recv", ["bufsize"]),
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
