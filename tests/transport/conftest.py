"""Places to communicate: every implementation, each with both faces."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fastlib.transport import EmbeddedBroker, MemoryBroker, MemoryOptions, MqttOptions
from tests.support.embedded_limits import expect_lacks
from tests.support.mosquitto import Certificates, Mosquitto
from tests.support.transport.places import Place, tls_options


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls") / "certificates")


@pytest.fixture(scope="session")
def plain_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path_factory.mktemp("plain")) as broker:
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


@pytest.fixture(scope="session")
def embedded_broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(port=0) as broker:
        yield broker


IMPLEMENTATIONS = [
    "memory",
    "plain-3.1.1",
    "plain-5",
    "password",
    "tls-3.1.1",
    "tls-5",
    "embedded-3.1.1",
]


@pytest.fixture(params=IMPLEMENTATIONS)
def options(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """Makes options for one implementation."""
    kind, _, protocol = request.param.partition("-")
    if kind == "memory":
        memory = MemoryBroker()
        return lambda **named: MemoryOptions(broker=memory, **named)
    broker: Mosquitto | EmbeddedBroker = request.getfixturevalue(f"{kind}_broker")
    fixed: dict[str, Any] = {"host": "127.0.0.1", "port": broker.port, "retry_min": 0.05}
    if kind == "embedded":
        expect_lacks(request, monkeypatch)
    if protocol:
        fixed["protocol"] = protocol
    if kind == "password":
        file = tmp_path / "password"
        file.write_text("correct horse\n")
        fixed |= {"username": "alice", "password_file": file}
    if kind == "tls":
        fixed["tls"] = tls_options(request.getfixturevalue("certificates"))
    return lambda **named: MqttOptions(**(fixed | named))


@pytest.fixture(params=["sync", "async"])
def place(
    request: pytest.FixtureRequest, options: Callable[..., Any], loop: asyncio.AbstractEventLoop
) -> Iterator[Place]:
    place = Place(options, loop if request.param == "async" else None)
    yield place
    place.close()
