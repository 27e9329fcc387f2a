"""Fixtures of the client's tests: clients for threads and coroutines, in memory and over MQTT."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fastlib.transport import MemoryBroker, MemoryOptions, MqttOptions
from tests.support.client.factory import ClientFactory, Daemon
from tests.support.mosquitto import Mosquitto


@pytest.fixture(scope="session")
def mosquitto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    # By default it drops what exceeds 1000 queued messages of a client.
    unbounded = ("max_queued_messages 0",)
    with Mosquitto(tmp_path_factory.mktemp("client-broker"), settings=unbounded) as broker:
        yield broker


@pytest.fixture(scope="session")
def client_loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture(params=["memory", "mqtt"])
def options(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Make options for one transport. The transport's own tests cover all variants of MQTT."""
    if request.param == "memory":
        memory = MemoryBroker()
        return lambda **named: MemoryOptions(broker=memory, **named)
    broker: Mosquitto = request.getfixturevalue("mosquitto")
    fixed = {"host": "127.0.0.1", "port": broker.port, "retry_min": 0.05}
    return lambda **named: MqttOptions(**(fixed | named))


@pytest.fixture(params=["sync", "async"])
def clients(
    request: pytest.FixtureRequest,
    options: Callable[..., Any],
    client_loop: asyncio.AbstractEventLoop,
) -> Iterator[ClientFactory]:
    clients = ClientFactory(options, client_loop if request.param == "async" else None)
    yield clients
    clients.close()


@pytest.fixture
def hosts(clients: ClientFactory) -> Iterator[tuple[Any, Daemon]]:
    """A client, and the daemon of hostA."""
    daemon = clients.daemon()
    return clients.client(), daemon
