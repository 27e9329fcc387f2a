"""Tests of daemons whose broker refuses the subscription to their orders."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fastlib.client import AsyncMigfraClient
from fastlib.message import topics
from fastlib.message.node import Presence
from fastlib.migfra import Daemon
from fastlib.migfra.tasks import order_subscription
from fastlib.transport import MqttOptions, RefusedError
from tests.support.migfra.bench import HOST, configuration, patiently
from tests.support.migfra.scripted import Scripted
from tests.support.transport.subscription_rules import ChoosyMosquitto

ORDERS = topics.TASK(HOST)
WORDS = f"the broker refuses the subscription to '{ORDERS}'"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[ChoosyMosquitto]:
    with ChoosyMosquitto(tmp_path / "broker") as broker:
        yield broker


def restart(broker: ChoosyMosquitto, *refused: str, others: bool = False) -> None:
    broker.kill()
    broker.refuse(*refused, others=others)
    broker.start()


def options(broker: ChoosyMosquitto) -> MqttOptions:
    return MqttOptions(
        host="127.0.0.1",
        port=broker.port,
        retry_min=0.02,
        retry_max=0.2,
        persistent=True,
        client_id=f"fast-migfra-{HOST}",
    )


@asynccontextmanager
async def working(broker: ChoosyMosquitto, journal: Path) -> AsyncIterator[Daemon]:
    daemon = Daemon(
        configuration(), communicator=options(broker), hypervisor=Scripted(), journal=journal
    )
    await patiently(daemon.open())
    try:
        yield daemon
    finally:
        await patiently(daemon.close())


async def presence(broker: ChoosyMosquitto, fits: Callable[[Presence], bool]) -> Presence:
    """Return the daemon's presence once it fits."""
    async with await AsyncMigfraClient.connect(f"mqtt://127.0.0.1:{broker.port}") as client:
        async for observed in await client.watch(results=False, presence=True):
            message = observed.message
            if isinstance(message, Presence) and fits(message):
                return message
    raise AssertionError("the watch has ended")


async def until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0.02)


def is_degraded(presence: Presence) -> bool:
    return presence.degraded is not None


def is_well(presence: Presence) -> bool:
    return presence.status == "online" and presence.degraded is None


def test_daemon_whose_orders_are_refused_after_a_reconnect_is_degraded_until_they_are_permitted(
    broker: ChoosyMosquitto, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with working(broker, tmp_path / "journal") as daemon:
            restart(broker, ORDERS)
            found = await patiently(presence(broker, is_degraded))
            assert found.degraded is not None
            assert WORDS in found.degraded
            assert "access rules of the broker" in found.degraded
            assert "the daemon receives no orders" in caplog.text
            assert daemon.runtime.connection.refusal == found.degraded
            restart(broker)
            await patiently(presence(broker, is_well))
            assert daemon.runtime.connection.refusal is None
            url = f"mqtt://127.0.0.1:{broker.port}"
            async with await AsyncMigfraClient.connect(url) as client:
                await patiently((await client.start(HOST, "vm1")).result(check=True))

    asyncio.run(main())


def test_daemon_asks_again_for_its_orders_without_a_reconnect(
    broker: ChoosyMosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order_subscription, "RETRY_SECONDS", 0.1)

    async def main() -> None:
        async with working(broker, tmp_path / "journal") as daemon:
            restart(broker, others=True)
            await patiently(until(lambda: daemon.runtime.receiver.refusal is not None))
            connection = daemon.runtime.communicator.session_start
            await asyncio.to_thread(broker.permit_others)
            await patiently(until(lambda: daemon.runtime.receiver.refusal is None))
            await patiently(presence(broker, is_well))
            assert daemon.runtime.communicator.session_start == connection
            url = f"mqtt://127.0.0.1:{broker.port}"
            async with await AsyncMigfraClient.connect(url) as client:
                await patiently((await client.start(HOST, "vm1")).result(check=True))

    asyncio.run(main())


def test_daemon_does_not_start_without_the_permission_and_names_the_remedy(
    broker: ChoosyMosquitto, tmp_path: Path
) -> None:
    restart(broker, ORDERS)

    async def main() -> None:
        with pytest.raises(RefusedError, match=rf"{WORDS}.*; let the daemon's user read this"):
            async with working(broker, tmp_path / "journal"):
                pass
        assert (await patiently(presence(broker, lambda found: True))).status == "offline"

    asyncio.run(main())
