"""Tests of connecting to an MQTT broker: passwords, TLS, refusals, and missing files."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fastlib.transport import (
    Communicator,
    ConnectError,
    MqttOptions,
    OptionsError,
    RefusedError,
    TlsOptions,
    connect,
)
from fastlib.transport.mqtt.link import mqtt_link
from tests.support.certificates import Authority
from tests.support.mosquitto import Certificates, Mosquitto, free_port
from tests.support.transport.connector import PATIENCE, QUICK_MQTT, connect_error, tls_options
from tests.support.waiting import wait_until

PROTOCOLS = ["3.1.1", "5"]

Join = Callable[..., Communicator]


@pytest.fixture(params=["password", "tls-3.1.1", "tls-5"])
def protected(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """The options for a broker that requires a password or a client certificate."""
    kind, _, protocol = request.param.partition("-")
    broker: Mosquitto = request.getfixturevalue(f"{kind}_broker")
    if kind == "password":
        file = tmp_path / "password"
        file.write_text("correct horse\n")
        yield {"port": broker.port, "username": "alice", "password_file": file}
    else:
        certificates: Certificates = request.getfixturevalue("certificates")
        tls = tls_options(certificates)
        yield {"port": broker.port, "tls": tls, "protocol": protocol}


def test_credentials_are_accepted(join: Join, protected: dict[str, Any]) -> None:
    with join(**protected) as one:
        one.subscribe("a/b")
        one.send(b"x" * 100_000, "a/b", qos=2).wait(PATIENCE)
        assert one.receive(timeout=PATIENCE).payload == b"x" * 100_000


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("password", ["wrong", None])
def test_wrong_password_is_refused(
    join: Join, password_broker: Mosquitto, protocol: str, password: str | None
) -> None:
    """At once, and without the password in any text."""
    with pytest.raises(RefusedError, match=r"refuses the connection") as caught:
        join(password_broker.port, username="alice", password=password, protocol=protocol)
    assert caught.value.code in (0x86, 0x87)
    assert "wrong" not in str(caught.value)


def test_right_password_is_accepted(join: Join, password_broker: Mosquitto) -> None:
    one = join(password_broker.port, username="alice", password="correct horse")
    one.send(b"", "a").wait(PATIENCE)


def test_connect_fails_without_broker() -> None:
    error = connect_error(r"within [\d.]+ s: cannot reach the broker: .*refused", port=free_port())
    assert isinstance(error.last, ConnectError)


def test_untrusted_broker_certificate_is_refused(join: Join, tls_broker: Mosquitto) -> None:
    with pytest.raises(RefusedError, match=r"(?i)certificate"):
        join(tls_broker.port, tls=TlsOptions())


def test_missing_files_are_option_errors(join: Join, tmp_path: Path) -> None:
    with pytest.raises(OptionsError, match="authorities"):
        join(1, tls=TlsOptions(ca_file=tmp_path / "none.pem"))
    with pytest.raises(OptionsError, match="password file"):
        join(1, username="alice", password_file=tmp_path / "none")


def test_options_that_paho_refuses_are_option_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("paho's own rule")

    monkeypatch.setattr("fastlib.transport.mqtt.session.make_client", refuse)
    with pytest.raises(OptionsError, match="paho's own rule"):
        mqtt_link(MqttOptions())


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("path", [None, "/mqtt"])
def test_error_names_tls_at_a_port_that_expects_it(
    tls_broker: Mosquitto, protocol: str, path: str | None
) -> None:
    words = r"may expect TLS.*(mqtts|wss)://.* option `tls`"
    connect_error(words, port=tls_broker.port, protocol=protocol, websocket_path=path)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_error_names_a_broker_that_accepts_no_more_clients(tmp_path: Path, protocol: str) -> None:
    """mosquitto accepts one more, with which the test sees that the broker has started."""
    with (
        Mosquitto(tmp_path / "broker", settings=("max_connections 1",)) as broker,
        connect(MqttOptions(**(QUICK_MQTT | {"port": broker.port}))),
    ):
        words = "at once; it may accept no more clients; its port may expect TLS"
        connect_error(words, port=broker.port, protocol=protocol)


@pytest.mark.parametrize(("path", "scheme"), [(None, "mqtt"), ("/mqtt", "ws")])
def test_error_names_tls_at_a_port_without_it(
    plain_broker: Mosquitto, certificates: Certificates, path: str | None, scheme: str
) -> None:
    words = rf"TLS handshake failed: .*use {scheme}:// instead of {scheme}s://"
    tls = TlsOptions(ca_file=certificates.ca)
    connect_error(words, port=plain_broker.port, tls=tls, websocket_path=path)


@pytest.mark.parametrize("tls", [True, False])
def test_error_names_websockets_at_a_port_without_them(
    request: pytest.FixtureRequest, certificates: Certificates, tls: bool
) -> None:
    broker = request.getfixturevalue("tls_broker" if tls else "plain_broker")
    options = tls_options(certificates) if tls else None
    words = "may not speak MQTT over WebSockets at the path /mqtt"
    error = connect_error(words, port=broker.port, tls=options, websocket_path="/mqtt")
    assert ("may expect TLS" in str(error)) is not tls


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"\x15\x03\x03\x00\x02\x02\x46", "may expect TLS: use mqtts://"),
        (b"\x15\x03", "may expect TLS: use mqtts://"),
        (b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", "its port is that of an SSH server"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "may expect WebSockets: use ws://"),
        (b"HTTP/1.1 400 Bad Request\r\n" + b"x" * 1000, "may expect WebSockets: use ws://"),
    ],
)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_error_names_the_protocol_in_which_a_port_answers(
    answer: bytes, words: str, protocol: str
) -> None:
    """RabbitMQ, HAProxy and servers in Go or Java answer with a TLS alert. mosquitto does not."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    one, _ = server.accept()
                except OSError:  # the end of the test
                    return
                with one, suppress(OSError):
                    one.recv(1000)
                    one.sendall(answer)
                    one.shutdown(socket.SHUT_WR)
                    one.recv(1000)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            connect_error(words, port=server.getsockname()[1], protocol=protocol)
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(PATIENCE)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_error_names_no_tls_at_a_port_that_has_accepted_without_it(
    join: Join, tmp_path: Path, caplog: pytest.LogCaptureFixture, protocol: str
) -> None:
    """A broker that is restarted ends connections at once, too."""
    with Mosquitto(tmp_path / "broker") as broker:
        one = join(broker.port, protocol=protocol, retry_min=0.05, retry_max=0.1)
        broker.kill()
        with socket.create_server(("127.0.0.1", broker.port)) as server:
            server.settimeout(PATIENCE)
            for _ in range(3):  # with the third one, the second has certainly been noted
                server.accept()[0].close()
            assert "TLS" not in str(one.last_error)
        broker.start()
        wait_until(lambda: one.is_connected, "the connection")
        assert "TLS" not in caplog.text


def test_error_names_the_missing_certificate_of_the_client(
    tls_broker: Mosquitto, certificates: Certificates
) -> None:
    tls = TlsOptions(ca_file=certificates.ca)
    connect_error("option `certificate`", port=tls_broker.port, tls=tls)


def test_broker_that_does_not_answer_is_an_error_with_that_reason(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        connect_error(
            r"within [\d.]+ s: the broker does not answer; its port may be that of another "
            "program; its port may expect TLS: use mqtts://",
            port=silent.getsockname()[1],
        )
    assert "at once" not in caplog.text


def test_error_names_the_protocol_of_a_port_that_greets_and_stays_open() -> None:
    """An SSH server sends its version and waits for that of the client."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        greeted: list[socket.socket] = []

        def greet() -> None:
            with suppress(OSError):  # the end of the test
                while True:
                    greeted.append(server.accept()[0])
                    greeted[-1].sendall(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n")

        thread = threading.Thread(target=greet)
        thread.start()
        try:
            connect_error("its port is that of an SSH server", port=server.getsockname()[1])
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(PATIENCE)
            for one in greeted:
                one.close()


@contextmanager
def silent_tls_server(context: ssl.SSLContext) -> Iterator[int]:
    """Shake hands with each client, and send nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with suppress(OSError), connection:
                        context.wrap_socket(connection, server_side=True).close()

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize(
    ("begin", "end", "why"),
    [(-20, -10, "certificate has expired"), (10, 20, "certificate is not yet valid")],
)
def test_error_of_a_certificate_out_of_its_time_names_the_remedy(
    tmp_path: Path, begin: int, end: int, why: str
) -> None:
    authority = Authority()
    own = authority.issue(
        "broker", ["127.0.0.1"], begin=timedelta(days=begin), end=timedelta(days=end)
    )
    files = tmp_path / "ca.pem", tmp_path / "own.pem", tmp_path / "own.key"
    for file, content in zip(files, (authority.pem, own.pem, own.key), strict=True):
        file.write_bytes(content)
    ca, certificate, key = files
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with silent_tls_server(context) as port:
        remedy = rf"{why}; renew the certificate of the broker, .*clock of this host"
        connect_error(remedy, port=port, tls=TlsOptions(ca_file=ca))
