"""A daemon that is stopped while another one takes over its host begins no further order.

The stopped process represents a suspended host and a machine that stalls.
"""

import asyncio
import signal
from pathlib import Path

import pytest

from fastlib import Start, TaskContainer
from fastlib.message import topics
from fastlib.migfra.telemetry import other_daemons
from tests.support.migfra.bench import HOST
from tests.support.migfra.program import Program, program
from tests.support.migfra.scripted import Scripted
from tests.support.migfra.site import CLIENT_ID, Site, SitePlay, player
from tests.support.mosquitto import Mosquitto
from tests.support.waiting import wait_until_async


@pytest.fixture
def play(broker: Mosquitto) -> SitePlay:
    return player(broker)


async def send(site: Site, name: str) -> None:
    order = TaskContainer(tasks=[Start(vm_name=name)], id=name, idempotency_key=name)
    await site.watcher.send(order.to_yaml().encode(), topics.TASK(HOST))


async def queued(site: Site, migfra: Program) -> None:
    """Let a daemon work at vm1 until its gate opens, while vm2 waits."""
    await asyncio.to_thread(migfra.start)
    await send(site, "vm1")
    await wait_until_async(lambda: migfra.done() == ["begin vm1"])
    await send(site, "vm2")
    await asyncio.to_thread(migfra.wait_for, "accepted: start vm of vm2")


ONE_AT_A_TIME = "limits: {containers: 1}\n"


@pytest.mark.parametrize("client_id", [CLIENT_ID, "another"])
def test_frozen_daemon_begins_nothing_after_another_has_taken_its_host(
    play: SitePlay, broker: Mosquitto, tmp_path: Path, client_id: str
) -> None:
    gate = tmp_path / "gate"

    async def scene(site: Site) -> None:
        with program(tmp_path, broker.port, ONE_AT_A_TIME, gate=gate) as migfra:
            await queued(site, migfra)
            migfra.send(signal.SIGSTOP)
            frozen = asyncio.create_task(asyncio.sleep(other_daemons.STILL_SECONDS))
            second = await site.open(client_id=client_id)
            for name in ("vm2", "vm3"):  # a scheduler repeats its open orders to the new one
                await send(site, name)
            assert isinstance(second.hypervisor, Scripted)
            calls = second.hypervisor.calls
            await wait_until_async(lambda: calls == [("start", "vm2"), ("start", "vm3")])
            await frozen
            gate.touch()
            migfra.send(signal.SIGCONT)
            assert await asyncio.to_thread(migfra.wait) == 1
            assert migfra.done() == ["begin vm1", "end vm1"]
            assert any(f"another daemon of the host {HOST}" in line for line in migfra.log)
            assert not second.stopping
            await send(site, "vm4")
            await wait_until_async(lambda: calls[2:] == [("start", "vm4")])

    play(scene)


def test_frozen_daemon_continues_if_no_other_one_has_come(
    play: SitePlay, broker: Mosquitto, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"

    async def scene(site: Site) -> None:
        with program(tmp_path, broker.port, ONE_AT_A_TIME, gate=gate) as migfra:
            await queued(site, migfra)
            migfra.send(signal.SIGSTOP)
            await asyncio.sleep(other_daemons.STILL_SECONDS)
            gate.touch()
            migfra.send(signal.SIGCONT)
            await asyncio.to_thread(migfra.wait_for, "the daemon was suspended for")
            await wait_until_async(lambda: migfra.done()[-1] == "end vm2")
            # The lock of the journal keeps others of this machine away, frozen or not.
            migfra.send(signal.SIGSTOP)
            beside = await asyncio.to_thread(migfra.run_here)
            assert beside.returncode == 1
            assert f"another instance, process {migfra.pid}, runs" in beside.stderr
            migfra.send(signal.SIGCONT)
            assert await asyncio.to_thread(migfra.terminate) == 0

    play(scene)
