"""MQTT over WebSockets, without and with TLS, at mosquitto."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from fastlib.transport import (
    Communicator,
    MqttOptions,
    RefusedError,
    TlsOptions,
    connect,
)
from tests.support.end_of_run import skip_now
from tests.support.mosquitto import PATIENCE, Certificates, Mosquitto, find, port_to_bind
from tests.support.transport.connector import connect_error
from tests.support.transport.proxy import Proxy
from tests.support.waiting import wait_until

LARGE = 20_000
"""Bytes. mosquitto 2.0 sends a client about 40,000 bytes a second over WebSockets."""


class Place:
    """A port for WebSockets, and how to connect to it."""

    def __init__(self, port: int, tls: TlsOptions | None, scheme: str) -> None:
        self.port = port
        self.tls = tls
        self.scheme = scheme

    def join(self, port: int | None = None, **named: str | bool) -> Communicator:
        url = f"{self.scheme}://127.0.0.1:{port or self.port}/mqtt"
        fixed = {"tls": self.tls, "retry_min": 0.05, "retry_max": 0.4}
        return connect(MqttOptions.from_url(url, **fixed, **named), timeout=PATIENCE)


@pytest.fixture(scope="module", params=["ws", "wss"])
def place(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    certificates: Certificates,
) -> Iterator[Place]:
    port = port_to_bind()  # libwebsockets does not listen on a port that is reserved
    settings = [f"listener {port} 127.0.0.1", "protocol websockets"]
    tls = None
    if request.param == "wss":
        settings += [
            f"cafile {certificates.ca}",
            f"certfile {certificates.broker}",
            f"keyfile {certificates.key(certificates.broker)}",
        ]
        tls = TlsOptions(ca_file=certificates.ca)
    with Mosquitto(tmp_path_factory.mktemp(request.param), settings=tuple(settings)):
        yield Place(port, tls, request.param)


@pytest.fixture(autouse=True)
def websockets(request: pytest.FixtureRequest) -> None:
    if b"libwebsockets" not in Path(find("mosquitto")).read_bytes():
        skip_now(request.node, "WebSockets", "the build of mosquitto has no libwebsockets")


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_messages_of_all_sizes_arrive(place: Place, protocol: str, qos: int) -> None:
    sizes = [0, 1, 125, 126, LARGE]
    with place.join(protocol=protocol) as one:
        one.subscribe("ws/sizes", qos=qos)
        for size in sizes:
            one.send(b"x" * size, "ws/sizes", qos)
        assert [one.receive(timeout=PATIENCE).size for _ in sizes] == sizes


def test_messages_survive_cut_connections(place: Place) -> None:
    with Proxy(place.port) as proxy:
        receiver = place.join()
        receiver.subscribe("ws/cut")
        sender = place.join(proxy.port, client_id=uuid4().hex, persistent=True)
        for number in range(5):
            proxy.cut_after(LARGE // 2, "up")
            delivery = sender.send(b"%d" % number * LARGE, "ws/cut", 2)
            delivery.wait(PATIENCE)
            wait_until(lambda: sender.is_connected, "the connection")
        assert proxy.cuts >= 5
        for number in range(5):
            assert receiver.receive(timeout=PATIENCE).payload == b"%d" % number * LARGE
        sender.close()
        receiver.close()


@pytest.mark.parametrize("place", ["wss"], indirect=True)
def test_certificate_of_another_authority_is_refused(place: Place, tmp_path: Path) -> None:
    other = Certificates(tmp_path / "other")
    options = MqttOptions.from_url(
        f"wss://localhost:{place.port}/mqtt", tls=TlsOptions(ca_file=other.ca)
    )
    with pytest.raises(RefusedError, match=r"of the broker is refused.*the option `ca_file`"):
        connect(options, timeout=PATIENCE)


def test_error_of_a_url_without_websockets_names_them(place: Place) -> None:
    words = rf"an answer in HTTP, not in MQTT; .* may expect WebSockets: use {place.scheme}://"
    connect_error(words, port=place.port, tls=place.tls)
