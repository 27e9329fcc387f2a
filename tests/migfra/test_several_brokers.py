"""A scheduler and a daemon at two bridged brokers, one of which is killed."""

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from fastlib.client import AsyncMigfraClient
from fastlib.migfra import Daemon
from fastlib.transport import MqttOptions
from tests.support.bridged import bridged_brokers
from tests.support.migfra.bench import configuration
from tests.support.migfra.scripted import Scripted

HOST = "node01"
AT_ONCE = 50
"""Orders without a result at the same time."""

MOST_SECONDS = 3000
"""The longest time for the whole series of `--long` on a busy machine."""


@pytest.mark.load
@pytest.mark.timeout(MOST_SECONDS + 300)
def test_killed_broker_loses_and_repeats_no_order(
    tmp_path: Path,
    request: pytest.FixtureRequest,
    figures: Callable[[object], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The first one is killed and restarted with its old sessions. Then the second is killed."""
    number = 10_000 if request.config.getoption("--long") else 300

    async def scene() -> None:
        hypervisor = Scripted()
        with bridged_brokers(tmp_path) as (first, second):
            hosts = [f"127.0.0.1:{first.port}", f"127.0.0.1:{second.port}"]
            options = MqttOptions(host=hosts, retry_min=0.05, retry_max=1)
            daemon = Daemon(
                configuration(),
                communicator=MqttOptions(
                    host=hosts,
                    client_id=f"fast-migfra-{HOST}",
                    persistent=True,
                    retry_min=0.05,
                    retry_max=1,
                ),
                hypervisor=hypervisor,
                journal=tmp_path / "journal",
            )
            faults = {
                number // 4: first.kill,
                number // 2: first.start,
                3 * number // 4: second.kill,
            }
            answered = 0
            room = asyncio.Semaphore(AT_ONCE)

            async def order(client: AsyncMigfraClient, name: str) -> str:
                nonlocal answered
                async with room:
                    handle = await client.start(HOST, name, timeout=None)
                    result = await handle.result()
                    answered += 1
                    if fault := faults.pop(answered, None):
                        await asyncio.to_thread(fault)
                return result.status

            async with daemon, await AsyncMigfraClient.connect(options) as client:
                names = [f"vm{index}" for index in range(number)]
                everything = asyncio.gather(*(order(client, name) for name in names))
                done, _ = await asyncio.wait([everything], timeout=MOST_SECONDS)
                assert done, f"only {answered} of {number} orders are answered; left: {faults}"
                statuses = everything.result()
        assert Counter(statuses) == {"success": number}
        executed = Counter(name for _, name in hypervisor.calls)
        assert {name: count for name, count in executed.items() if count > 1} == {}
        assert len(executed) == number
        assert not faults
        changes = [line for line in caplog.messages if "is used instead of" in line]
        assert sum(f":{second.port} is used" in line for line in changes) >= 2, changes
        assert sum(f":{first.port} is used" in line for line in changes) >= 2, changes
        figures(f"{number} orders over two bridged brokers, both killed: none lost, none twice")

    asyncio.run(scene())
