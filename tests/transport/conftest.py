"""Fixtures of the transport's tests: brokers, and connectors for each implementation."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fastlib.transport import Communicator, MemoryBroker, MemoryOptions, MqttOptions, connect
from tests.support.mosquitto import Certificates, Mosquitto
from tests.support.transport.connector import QUICK_MQTT, Connector


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls") / "certificates")


@pytest.fixture(scope="session")
def plain_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    # By default mosquitto drops what exceeds 1000 queued messages of a client.
    unbounded = ("max_queued_messages 0",)
    with Mosquitto(tmp_path_factory.mktemp("plain"), settings=unbounded) as broker:
        yield broker


@pytest.fixture(scope="session")
def password_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    directory = tmp_path_factory.mktemp("password")
    with Mosquitto(directory, password=("alice", "correct horse")) as broker:
        yield broker


@pytest.fixture(scope="session")
def tls_broker(
    tmp_path_factory: pytest.TempPathFactory, certificates: Certificates
) -> Iterator[Mosquitto]:
    with Mosquitto(
        tmp_path_factory.mktemp("tls-broker"), certificates=certificates, client_certificates=True
    ) as broker:
        yield broker


@pytest.fixture(scope="session")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def join() -> Iterator[Callable[..., Communicator]]:
    """Connect to a port of this machine, with quick retries."""
    made: list[Communicator] = []

    def join(port: int | None, *, timeout: float = 20, **named: Any) -> Communicator:
        made.append(connect(MqttOptions(port=port, **(QUICK_MQTT | named)), timeout=timeout))
        return made[-1]

    yield join
    for communicator in made:
        communicator.close(0.5)


@pytest.fixture(params=["memory", "mqtt-3.1.1", "mqtt-5"])
def options(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Make options for one implementation.

    `test_connecting.py` tests passwords and TLS, which change nothing after the connect, and
    `test_embedded.py` tests the embedded broker.
    """
    if request.param == "memory":
        memory = MemoryBroker()
        return lambda **named: MemoryOptions(broker=memory, **named)
    broker: Mosquitto = request.getfixturevalue("plain_broker")
    fixed: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": broker.port,
        "retry_min": 0.05,
        "protocol": request.param.removeprefix("mqtt-"),
    }
    return lambda **named: MqttOptions(**(fixed | named))


@pytest.fixture(params=["sync", "async"])
def connector(
    request: pytest.FixtureRequest, options: Callable[..., Any], loop: asyncio.AbstractEventLoop
) -> Iterator[Connector]:
    connector = Connector(options, loop if request.param == "async" else None)
    yield connector
    connector.close()
