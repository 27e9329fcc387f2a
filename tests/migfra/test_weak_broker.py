"""Tests of a daemon and its clients at brokers without QoS 2 or retained messages."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fastlib.client import MigfraClient
from fastlib.message import topics
from fastlib.migfra import Configuration, Daemon
from fastlib.transport import MqttOptions, connect
from tests.support.migfra.bench import HOST, configuration, patiently
from tests.support.migfra.scheduler import forget
from tests.support.migfra.scripted import Scripted
from tests.support.mosquitto import PATIENCE, Mosquitto
from tests.support.transport.proxy import Proxy
from tests.support.transport.short_control import short_control  # noqa: F401  # a fixture
from tests.support.waiting import wait_until

PROTOCOLS = ["3.1.1", "5"]

pytestmark = pytest.mark.usefixtures("short_control")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    """A broker without QoS 2."""
    with Mosquitto(tmp_path_factory.mktemp("weak"), settings=("max_qos 1",)) as broker:
        yield broker


def at(port: int, **named: Any) -> MqttOptions:
    return MqttOptions(host="127.0.0.1", port=port, retry_min=0.02, retry_max=0.2, **named)


def play(
    broker: Mosquitto, journal: Path, protocol: str, scene: Callable[[Scripted], None]
) -> None:
    """Run a scene in a thread beside a daemon."""
    forget(broker)
    hypervisor = Scripted()
    options = at(broker.port, protocol=protocol, persistent=True, client_id="fast-migfra-node01")

    async def main() -> None:
        daemon = Daemon(
            configuration(), communicator=options, hypervisor=hypervisor, journal=journal
        )
        await patiently(daemon.open())
        try:
            await asyncio.to_thread(scene, hypervisor)
        finally:
            await patiently(daemon.close())

    asyncio.run(main())


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_order_that_arrives_twice_is_executed_once(
    tmp_path: Path, broker: Mosquitto, protocol: str
) -> None:
    """The broker's acknowledgement is cut off, so the client sends the order again."""
    orders = 3

    def scene(hypervisor: Scripted) -> None:
        arrived: Counter[bytes] = Counter()
        with Proxy(broker.port) as proxy, connect(at(broker.port)) as watcher:
            watcher.subscribe(topics.TASK(HOST), lambda message: arrived.update([message.payload]))
            options = at(proxy.port, protocol=protocol, client_id="s", persistent=True)
            with connect(options) as communicator, MigfraClient(communicator) as client:
                for number in range(orders):
                    wait_until(lambda: communicator.is_connected, "the connection")
                    proxy.cut_after(1, "down")
                    result = client.start(HOST, f"vm{number}", timeout=PATIENCE).result()
                    assert result.status == "success"
            assert hypervisor.calls == [("start", f"vm{number}") for number in range(orders)]
            assert len(arrived) == orders
            assert sum(arrived.values()) > orders, "nothing arrived twice: the test shows nothing"

    play(broker, tmp_path / "journal", protocol, scene)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_client_logs_limits_of_the_broker_once(
    tmp_path: Path, broker: Mosquitto, protocol: str, caplog: pytest.LogCaptureFixture
) -> None:
    def scene(hypervisor: Scripted) -> None:
        options = at(broker.port, protocol=protocol)
        with MigfraClient.connect(options) as client:
            for number in range(3):
                done = client.start(HOST, f"vm{number}", timeout=PATIENCE).result()
                assert done.status == "success"

    play(broker, tmp_path / "journal", protocol, scene)
    said = [record.getMessage() for record in caplog.records if "no QoS 2" in record.getMessage()]
    assert len([text for text in said if "fast-migfra-node01" not in text]) == 1
    assert "an order with an `idempotency-key` is still executed once" in said[0]


def test_qos_0_works_where_the_broker_has_no_other(tmp_path: Path) -> None:
    """The daemon's option and that of the client keep MQTT 3.1.1 from being disconnected."""
    with Mosquitto(tmp_path / "broker", settings=("max_qos 0",)) as broker:
        text = (
            "hostname: node01\n"
            f"communicator: {{host: 127.0.0.1, port: {broker.port}, qos: 0, retry-min: 0.02}}\n"
            "hypervisor: {type: dummy, never-throw: true}\n"
            f"journal: {{path: {tmp_path / 'journal'}}}\n"
        )

        async def main() -> None:
            daemon = Daemon(Configuration.from_yaml(text))
            await patiently(daemon.open())
            try:
                await asyncio.to_thread(scene)
            finally:
                await patiently(daemon.close())

        def scene() -> None:
            with MigfraClient.connect(at(broker.port, qos=0)) as client:
                done = client.start(HOST, "vm1", timeout=PATIENCE).result()
                assert done.status == "success"

        asyncio.run(main())
