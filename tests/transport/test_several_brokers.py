"""Tests of options with several brokers: the choice of a broker, and effects of a change."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fastlib.cli.arguments.broker import BROKER_VARIABLE
from fastlib.transport import (
    Communicator,
    MqttOptions,
    OptionsError,
    RefusedError,
    TlsOptions,
)
from fastlib.transport.delivery import Delivery
from tests.support.mosquitto import PATIENCE, Certificates, Mosquitto, free_port
from tests.support.shell import run
from tests.support.transport.connector import connect_error
from tests.support.transport.session import OfflineSession
from tests.support.waiting import wait_until


@pytest.mark.parametrize(
    ("url", "brokers"),
    [
        ("b1,b2", (("b1", 1883), ("b2", 1883))),
        ("mqtt://b1:1884,B2,[::1]:1885", (("b1", 1884), ("b2", 1883), ("::1", 1885))),
        ("mqtts://u:p@b1,b2:9", (("b1", 8883), ("b2", 9))),
        ("mqtt://b1,fe80::1%eth0", (("b1", 1883), ("fe80::1%eth0", 1883))),
    ],
)
def test_url_with_several_hosts(url: str, brokers: Any) -> None:
    assert MqttOptions.from_url(url).brokers == brokers


@pytest.mark.parametrize(
    ("host", "port", "brokers"),
    [
        (["b1"], None, (("b1", 1883),)),
        (["b1", "b2:1884"], 9, (("b1", 9), ("b2", 1884))),
        (("b1", "::1", "[::1]:7"), None, (("b1", 1883), ("::1", 1883), ("::1", 7))),
    ],
)
def test_list_of_hosts(host: Any, port: int | None, brokers: Any) -> None:
    assert MqttOptions(host=host, port=port).brokers == brokers


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ([], "empty list"),
        ([""], "missing"),
        (["b1", "b1"], "twice"),
        (["b1", "B1:1883", "b1:1883"], "twice"),
        (["b1", "b1:1883"], "twice"),
        (
            ["b1:1884", "a:b:c"],
            "an entry of the list `host` has a ':' or a '%', and is not an IPv6",
        ),
        (["b1", ":1884"], "an entry of the list `host` has a port and no host"),
        (["b1:0"], "host in the list `host` must be a number from 1 to 65535"),
        (["mqtt://u:s3cr3t@b1", "b2"], "not a URL"),
        (["u:s3cr3t@b1", "b2"], "not a URL"),
        (["b1/s3cr3t", "b2"], "without spaces"),
    ],
)
def test_unusable_list_of_hosts_is_refused(host: Any, words: str) -> None:
    with pytest.raises(OptionsError, match=words) as caught:
        MqttOptions(host=host)
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize("url", ["mqtt://u:s3cr3t@b1,,b2", "mqtt://u:s3cr3t@b1,b1", "b1,b2/s3cr3t"])
def test_unusable_url_with_several_hosts_is_refused(url: str) -> None:
    with pytest.raises(OptionsError) as caught:
        MqttOptions.from_url(url)
    assert "s3cr3t" not in str(caught.value)


def test_password_is_not_shown_beside_several_hosts() -> None:
    options = MqttOptions.from_url("mqtt://u:s3cr3t@b1,b2")
    assert "s3cr3t" not in repr(options)
    assert "b2" in repr(options)


@contextmanager
def silent_broker(host: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    """A port that accepts connections, and never answers."""
    with socket.create_server((host, port)) as server:
        yield server.getsockname()[1]


def test_next_broker_is_used_if_one_is_away(
    plain_broker: Mosquitto, join: Callable[..., Communicator], caplog: pytest.LogCaptureFixture
) -> None:
    away, port = free_port(), plain_broker.port
    one = join(None, host=[f"127.0.0.1:{away}", f"127.0.0.1:{port}"], client_id="several")
    one.subscribe("several/a")
    one.send(b"x", "several/a", qos=2).wait(PATIENCE)
    assert one.receive(timeout=PATIENCE).payload == b"x"
    assert f"several at 127.0.0.1:{away}: cannot reach the broker: " in caplog.text
    assert f"several at 127.0.0.1:{port} is used instead of 127.0.0.1:{away}" in caplog.text


def test_broker_that_does_not_answer_is_left_within_its_share_of_the_timeout(
    plain_broker: Mosquitto, join: Callable[..., Communicator]
) -> None:
    with silent_broker() as port:
        join(None, host=[f"127.0.0.1:{port}", f"127.0.0.1:{plain_broker.port}"], timeout=8)


def test_error_of_connecting_names_each_broker_with_its_reason(
    tls_broker: Mosquitto,
) -> None:
    away, plain = f"127.0.0.1:{free_port()}", f"127.0.0.1:{tls_broker.port}"
    connect_error(
        r"^several: no connection within [\d.]+ s: "
        rf"{away}: cannot reach the broker: \[Errno 111\] Connection refused; "
        rf"{plain}: the broker ended the connection at once.*; "
        r"no\.invalid:1883: cannot reach the broker: ",
        host=[away, plain, "no.invalid"],
        client_id="several",
    )


def test_refused_password_ends_connecting_at_the_first_broker(
    password_broker: Mosquitto, plain_broker: Mosquitto, join: Callable[..., Communicator]
) -> None:
    hosts = [f"127.0.0.1:{broker.port}" for broker in (password_broker, plain_broker)]
    with pytest.raises(RefusedError, match=rf"{password_broker.port}.*"):
        join(None, host=hosts, username="alice", password="wrong")
    join(None, host=hosts, username="alice", password="correct horse")


def test_refused_password_does_not_end_a_client_that_was_connected(
    password_broker: Mosquitto,
    tmp_path: Path,
    join: Callable[..., Communicator],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Mosquitto(tmp_path / "first") as first:
        hosts = [f"127.0.0.1:{broker.port}" for broker in (first, password_broker)]
        one = join(None, host=hosts, username="alice", password="wrong")
        one.subscribe("several/refused")
        first.kill()
        wait_until(lambda: "refuses the connection" in caplog.text, "the refusal")
        first.start()
        wait_until(lambda: one.is_connected, "the connection")
        one.send(b"x", "several/refused").wait(PATIENCE)
        assert one.receive(timeout=PATIENCE).payload == b"x"
        one.close()


def test_all_brokers_are_named_if_none_is_there() -> None:
    ports = [free_port(), free_port()]
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    done = run("watch", "--connect-timeout", "0.2", env={BROKER_VARIABLE: hosts})
    assert done.returncode == 2
    assert f"no broker at 127.0.0.1:{ports[0]} or 127.0.0.1:{ports[1]} within" in done.stderr


def resolve(monkeypatch: pytest.MonkeyPatch, **addresses: list[str]) -> None:
    """Give names addresses, as DNS does."""
    original = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *rest: Any, **named: Any) -> Any:
        known = addresses.get(host, [host])
        return [found for one in known for found in original(one, port, *rest, **named)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def test_all_addresses_of_a_name_are_tried(
    plain_broker: Mosquitto, join: Callable[..., Communicator], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one refuses connections, the second one accepts them and does not answer."""
    resolve(monkeypatch, brokers=["127.0.0.3", "127.0.0.2", "127.0.0.1"])
    with silent_broker("127.0.0.2", plain_broker.port):
        join(plain_broker.port, host=["brokers", f"127.0.0.1:{free_port()}"], timeout=8)


def test_certificate_must_be_of_the_broker_that_is_used(
    certificates: Certificates,
    tls_broker: Mosquitto,
    join: Callable[..., Communicator],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolve(monkeypatch, other=["127.0.0.1"])
    tls = TlsOptions(
        ca_file=certificates.ca,
        certificate=certificates.client,
        key=certificates.key(certificates.client),
    )
    away = f"localhost:{free_port()}"
    join(tls_broker.port, host=[away, "127.0.0.1"], tls=tls)
    with pytest.raises(RefusedError, match="other"):
        join(tls_broker.port, host=[away, "other"], tls=tls)


def in_flight(own: OfflineSession, broker: tuple[str, int, str]) -> tuple[int, Delivery]:
    """Begin a session, and send a QoS 2 message that the broker confirms half."""
    own.client.broker = broker
    own.connack()
    delivery = Delivery("a", b"x", 2, False)
    own.session.outbox.accept(delivery, True, None)
    own.session.send_queued()
    (packet_id,) = own.client._out_messages
    return packet_id, delivery


B1, B2 = ("b1", 1883, ""), ("b2", 1883, "")


@pytest.mark.parametrize(("back_at", "sent_again"), [(B1, False), (B2, True)])
def test_half_confirmed_message_is_sent_in_full_to_another_broker(
    back_at: tuple[str, int, str], sent_again: bool
) -> None:
    """Another broker has an older session of this client, and does not know the packet id."""
    from paho.mqtt.enums import MessageState

    own = OfflineSession()
    packet_id, _ = in_flight(own, B1)
    message = own.client._out_messages[packet_id]
    message.state = MessageState.MQTT_MS_RESEND_PUBREL
    own.client.broker = back_at
    own.connack(session_present=True)
    assert (message.state == MessageState.MQTT_MS_PUBLISH) == sent_again


def test_packet_ids_of_another_broker_are_not_compared() -> None:
    own = OfflineSession()
    starts = []
    for broker, present in [(B1, False), (B1, True), (B2, True), (B1, True), (B2, True)]:
        own.client.broker = broker
        own.connack(session_present=present)
        starts.append(own.session.session_start)
    # The session at b1 began with the first connection; that at b2 is known from the third one.
    assert starts == [1, 1, 3, 1, 3]
    own.connack(session_present=False)
    assert own.session.session_start == 6


def test_session_of_the_first_connection_may_be_older() -> None:
    own = OfflineSession()
    own.client.broker = B1
    own.connack(session_present=True)
    assert own.session.session_start == 0
    own.client.broker = B2
    own.connack(session_present=True)
    assert own.session.session_start == 2


def test_message_of_another_broker_is_new_despite_its_packet_id() -> None:
    own = OfflineSession()
    message = own.client._out_messages  # nothing of ours is in flight
    assert not message
    received = own.session._inbound.received
    own.client.broker = B1
    own.connack()
    assert received(7, 2, "a", b"x", False) is not None
    assert received(7, 2, "a", b"x", True) is None
    own.client.broker = B2
    own.connack(session_present=True)
    assert received(7, 2, "a", b"x", True) is not None


@pytest.mark.parametrize(
    ("url", "brokers"),
    [
        ("ws://b1", (("b1", 80),)),
        ("wss://b1,b2:8443/mqtt", (("b1", 443), ("b2", 8443))),
    ],
)
def test_websockets_have_ports_of_their_own(url: str, brokers: Any) -> None:
    assert MqttOptions.from_url(url).brokers == brokers


@pytest.mark.parametrize("path", ["", "mqtt", "/a b", "/a?b", "/a#b", "/ä", "/a\r\nHost: x"])
def test_unusable_path_of_websockets_is_refused(path: str) -> None:
    with pytest.raises(OptionsError, match="must begin with '/'"):
        MqttOptions(websocket_path=path)
