"""The presence of a daemon at a real broker is true after each kind of end of the daemon."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from fastlib import Start, TaskContainer
from fastlib.message import topics
from fastlib.message.node import Presence
from fastlib.migfra.tasks.receiver import Receiver
from fastlib.migfra.telemetry.other_daemons import OtherDaemons
from fastlib.transport import ClosedError
from tests.support.migfra.bench import HOST, patiently
from tests.support.migfra.scripted import Scripted, gate
from tests.support.migfra.site import CLIENT_ID, Site, SitePlay, player, site
from tests.support.mosquitto import PATIENCE, Mosquitto
from tests.support.waiting import wait_until_async


@pytest.fixture
def play(broker: Mosquitto) -> SitePlay:
    return player(broker)


def test_presence_has_time_client_id_and_instance_and_comes_again(play: SitePlay) -> None:
    async def scene(site: Site) -> None:
        daemon = await site.open(presence_interval=0.05)
        first, second, third = [await site.presence() for _ in range(3)]
        assert first.time is not None
        assert second.time is not None
        assert third.time is not None
        assert daemon.started - 1 < first.time.timestamp() < daemon.started + PATIENCE
        assert first.time < second.time < third.time
        assert {first.client_id, second.client_id} == {CLIENT_ID}
        assert first.instance
        assert first.instance == second.instance
        assert (await site.kept()).instance == first.instance
        await daemon.close()
        await site.becomes("offline")
        kept = await site.kept()
        assert kept == Presence(
            status="offline", client_id=CLIENT_ID, instance=first.instance, time=kept.time
        )
        assert kept.time is not None
        assert kept.time > third.time
        await site.open()
        again = await site.becomes("online")
        assert again.instance not in (None, first.instance)

    play(scene)


def test_presence_is_not_queued_while_the_broker_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would come late, with times that are over."""

    async def main() -> None:
        with Mosquitto(tmp_path / "broker") as broker:
            async with site(broker) as made:
                daemon = await made.open(presence_interval=0.01)
                await made.becomes("online")
                broker.kill()
                communicator = daemon.runtime.communicator
                await wait_until_async(lambda: not communicator.is_connected)
                sent: list[bytes] = []
                send = communicator.send

                async def record(payload: bytes, *rest: Any, **named: Any) -> Any:
                    sent.append(payload)
                    return await send(payload, *rest, **named)

                monkeypatch.setattr(communicator, "send", record)
                for _ in range(20):
                    await asyncio.sleep(0.01)  # two intervals
                assert sent == []
                broker.start()
                await made.becomes("online")

    asyncio.run(main())


def test_presence_says_that_the_file_of_the_journal_was_deleted(
    play: SitePlay, tmp_path: Path
) -> None:
    """Also while no order comes."""

    async def scene(site: Site) -> None:
        daemon = site.make(journal=tmp_path / "journal", presence_interval=0.05)
        await patiently(daemon.open())
        assert (await site.becomes("online")).degraded is None
        (tmp_path / "journal").unlink()
        while (presence := await site.becomes("online")).degraded is None:
            pass
        assert str(tmp_path / "journal") in presence.degraded
        assert "was deleted" in presence.degraded
        gauges = {gauge.name: gauge.read() for gauge in daemon.runtime.gauges()}
        assert gauges["migfra_journal_writable"] == 0

    play(scene)


def test_presence_says_that_an_ending_daemon_accepts_no_more_tasks(play: SitePlay) -> None:
    async def scene(site: Site) -> None:
        hypervisor = Scripted()
        hypervisor.plan["vm1"], begun, go = gate()
        daemon = await site.open(hypervisor)
        assert (await site.becomes("online")).degraded is None
        task = TaskContainer(tasks=[Start(vm_name="vm1")])
        await site.watcher.send(task.to_yaml().encode(), topics.TASK(HOST))
        await patiently(begun.wait())
        daemon.stop()
        while (presence := await site.presence()).degraded is None:
            assert presence.status == "online"
        assert presence.degraded.startswith("the daemon is ending: ")
        go.set()
        assert (await site.becomes("offline")).degraded is None

    play(scene)


def test_presence_is_offline_after_an_error_while_ending(
    play: SitePlay, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(receiver: Receiver) -> None:
        monkeypatch.undo()
        raise RuntimeError("nobody expected it")

    async def scene(site: Site) -> None:
        daemon = await site.open()
        await site.becomes("online")
        monkeypatch.setattr(Receiver, "end", fails)
        await patiently(daemon.close())
        assert isinstance(daemon.failure, RuntimeError)
        await site.becomes("offline")

    play(scene)


def test_presence_is_offline_after_the_daemon_was_cancelled(play: SitePlay) -> None:
    """As `asyncio.run` does with all tasks after an error of the program."""

    async def scene(site: Site) -> None:
        daemon = await site.open()
        await site.becomes("online")
        assert daemon._life is not None
        await asyncio.sleep(0)  # it has begun then: a task that has not ends without a word
        daemon._life.cancel()
        await patiently(daemon.ended.wait())
        await site.becomes("offline")

    play(scene)


def test_presence_is_offline_after_a_start_that_was_cancelled(
    play: SitePlay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal comes when the daemon has published `online`, and has not opened yet."""
    begun = asyncio.Event()
    begin = OtherDaemons.begin

    async def hang(others: OtherDaemons) -> None:
        await begin(others)
        begun.set()
        await asyncio.Event().wait()

    async def scene(site: Site) -> None:
        monkeypatch.setattr(OtherDaemons, "begin", hang)
        opening = asyncio.create_task(site.make().open())
        await patiently(begun.wait())
        await site.becomes("online")
        opening.cancel()
        await asyncio.wait((opening,))
        await site.becomes("offline")

    play(scene)


def test_will_is_published_when_the_thread_of_the_network_fails(play: SitePlay) -> None:
    """The daemon ends then, because it could neither receive nor answer messages."""

    async def scene(site: Site) -> None:
        daemon = await site.open()
        await site.becomes("online")
        link: Any = daemon.runtime.communicator._core.link
        link._commands.add(lambda: 1 / 0)
        await patiently(daemon.ended.wait())
        assert isinstance(daemon.failure, ClosedError)
        await site.becomes("offline")

    play(scene)


def test_presence_is_offline_after_an_end_at_once(tmp_path: Path) -> None:
    """The broker hangs and does not confirm it: it gets no goodbye, and publishes the will."""

    async def main() -> None:
        with Mosquitto(tmp_path / "broker") as broker:
            async with site(broker) as made:
                hypervisor = Scripted()
                plan, begun, _ = gate()
                hypervisor.plan["vm1"] = plan
                daemon = await made.open(hypervisor)
                await made.becomes("online")
                order = TaskContainer(tasks=[Start(vm_name="vm1")], id="1")
                await made.watcher.send(order.to_yaml().encode(), topics.TASK(HOST))
                await patiently(begun.wait())
                broker.freeze()
                try:
                    daemon.stop()
                    daemon.stop_now()
                    await patiently(daemon.ended.wait())
                finally:
                    broker.thaw()
                await made.becomes("offline")
                assert (await made.kept()).status == "offline"

    asyncio.run(main())
