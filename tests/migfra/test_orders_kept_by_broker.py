"""The brokers of `fastlib broker` keep orders for a daemon that is away."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from fastlib.client import AsyncMigfraClient
from fastlib.migfra import Daemon
from fastlib.transport import EmbeddedBroker, MosquittoBroker, MqttOptions
from tests.support.migfra.bench import configuration, patiently
from tests.support.migfra.scripted import Scripted

HOST = "node01"
DOMAINS = ["vm1", "vm2", "vm3"]


@pytest.fixture(params=[MosquittoBroker, EmbeddedBroker], ids=["mosquitto", "amqtt"])
def options(request: pytest.FixtureRequest) -> Iterator[MqttOptions]:
    with request.param(port=0) as broker:
        yield MqttOptions(host=broker.host, port=broker.port, retry_min=0.05)


def test_orders_for_a_daemon_that_is_away_are_executed_once_it_is_back(
    options: MqttOptions, tmp_path: Path
) -> None:
    def daemon(hypervisor: Scripted) -> Daemon:
        return Daemon(
            configuration(),
            communicator=msgspec.structs.replace(
                options, client_id=f"fast-migfra-{HOST}", persistent=True
            ),
            hypervisor=hypervisor,
            journal=tmp_path / "journal",
        )

    async def scene() -> None:
        async with daemon(Scripted()):
            pass
        hypervisor = Scripted()
        async with await AsyncMigfraClient.connect(options) as client:
            orders = [await client.start(HOST, name) for name in DOMAINS]
            for order in orders:
                delivery = order._request.delivery
                assert delivery is not None
                await patiently(delivery)
            async with daemon(hypervisor):
                results = [await patiently(order.result()) for order in orders]
        assert [result.status for result in results] == ["success"] * len(DOMAINS)
        assert sorted(name for _, name in hypervisor.calls) == DOMAINS

    asyncio.run(scene())
