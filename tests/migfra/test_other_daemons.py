"""Two daemons of one host name: both would execute every order, so the second one is refused."""

import asyncio
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from fastlib import Start, TaskContainer
from fastlib.message import topics
from fastlib.message.node import Presence
from fastlib.migfra import Daemon, HostTakenError
from fastlib.migfra.runtime import Runtime
from fastlib.migfra.tasks import order_subscription
from fastlib.migfra.telemetry import other_daemons
from fastlib.migfra.telemetry.other_daemons import OtherDaemons
from tests.support.migfra.bench import HOST, patiently
from tests.support.migfra.program import program
from tests.support.migfra.scripted import Scripted
from tests.support.migfra.site import CLIENT_ID, Site, SitePlay, player
from tests.support.mosquitto import Mosquitto
from tests.support.transport.proxy import Proxy
from tests.support.waiting import wait_until_async

SHORT = 0.3
"""Seconds that a daemon waits for an answer, in tests where none comes."""


def online(client_id: str | None, instance: str | None, started: float | None) -> Presence:
    return Presence(status="online", client_id=client_id, instance=instance, started=started)


def offline(client_id: str | None = None, instance: str | None = None) -> Presence:
    return Presence(status="offline", client_id=client_id, instance=instance)


@pytest.fixture
def play(broker: Mosquitto) -> SitePlay:
    return player(broker)


async def works(site: Site, daemon: Daemon, id: str) -> bool:
    """Return whether an order is executed once, by this daemon."""
    assert isinstance(daemon.hypervisor, Scripted)
    order = TaskContainer(tasks=[Start(vm_name=id)], id=id).to_yaml().encode()
    await site.watcher.send(order, topics.TASK(HOST))
    await wait_until_async(lambda: any(("start", id) in calls(each) for each in site.daemons))
    return [("start", id) in calls(each) for each in site.daemons] == [
        each is daemon for each in site.daemons
    ]


def calls(daemon: Daemon) -> list[tuple[str, str]]:
    assert isinstance(daemon.hypervisor, Scripted)
    return daemon.hypervisor.calls


def test_second_daemon_of_a_host_is_refused(play: SitePlay) -> None:
    async def scene(site: Site) -> None:
        first = await site.open()
        shown = await site.becomes("online")
        with pytest.raises(HostTakenError) as refused:
            await site.open(client_id="another")
        text = str(refused.value)
        assert text.startswith(f"another daemon of the host {HOST} is online since ")
        assert f"with the client id {CLIENT_ID}: " in text
        assert "give one a different 'hostname'" in text
        kept = await site.kept()
        assert (kept.status, kept.instance) == ("online", shown.instance)
        assert await works(site, first, "vm1")

    play(scene)


def test_orders_that_another_daemon_has_had_are_warned_of(
    play: SitePlay, caplog: pytest.LogCaptureFixture
) -> None:
    warning = f"the last daemon of the host {HOST} had the client id "

    async def scene(site: Site) -> None:
        for client_id, warned in (("one", False), ("two", False), ("two", False), ("one", True)):
            caplog.clear()
            daemon = await site.open(client_id=client_id)
            assert (f"{warning}two, " in caplog.text) is warned
            assert (warning in caplog.text) is warned
            await patiently(daemon.close())

    play(scene)


def test_program_says_in_one_line_that_it_is_refused(
    play: SitePlay, broker: Mosquitto, tmp_path: Path
) -> None:
    async def scene(site: Site) -> None:
        await site.open()
        with program(tmp_path, broker.port) as migfra:
            text = migfra.configuration.read_text()
            migfra.configuration.write_text(
                text.replace("communicator: {", "communicator: {id: another, ")
            )
            run = await asyncio.to_thread(migfra.run)
        assert run.returncode == 1
        assert f"migfra: error: another daemon of the host {HOST} is online" in run.stderr
        assert "Traceback" not in run.stderr

    play(scene)


def test_presence_of_a_dead_daemon_does_not_block_the_next(
    play: SitePlay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker was down when the last will was to be published, as an example."""
    monkeypatch.setattr(other_daemons, "CLAIM_SECONDS", SHORT)

    async def scene(site: Site) -> None:
        await site.publish(online("another", "1", time.time() - 100), retain=True)
        daemon = await site.open()
        assert await works(site, daemon, "vm1")
        assert (await site.kept()).instance == daemon.instance

    play(scene)


def test_own_presence_of_an_earlier_run_is_not_asked(
    play: SitePlay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(other_daemons, "CLAIM_SECONDS", 10_000.0)

    async def scene(site: Site) -> None:
        await site.publish(online(CLIENT_ID, "1", time.time() - 100), retain=True)
        daemon = await site.open()
        assert (await site.kept()).instance == daemon.instance

    play(scene)


def test_presence_of_an_older_daemon_is_warned_of(
    play: SitePlay, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It cannot answer, so nothing waits for an answer."""
    monkeypatch.setattr(other_daemons, "CLAIM_SECONDS", 10_000.0)

    async def scene(site: Site) -> None:
        await site.publish(online(None, None, time.time() - 100), retain=True)
        daemon = await site.open()
        assert f"the presence of an older daemon of the host {HOST}" in caplog.text
        assert await works(site, daemon, "vm1")

    play(scene)


@pytest.mark.parametrize("number", [2, 5])
def test_one_of_several_daemons_that_start_at_once_works(
    play: SitePlay, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    # Each must hear the others within this time, also while all of them share a busy CPU.
    monkeypatch.setattr(other_daemons, "CLAIM_SECONDS", 1.5)

    async def scene(site: Site) -> None:
        opening = [site.make(client_id=f"client-{n}") for n in range(number)]
        opened = await patiently(
            asyncio.gather(*(daemon.open() for daemon in opening), return_exceptions=True)
        )
        (left,) = [each for each in opened if isinstance(each, Daemon)]
        assert sum(isinstance(each, HostTakenError) for each in opened) == number - 1
        assert await works(site, left, "vm1")
        kept = await site.kept()
        while kept.instance != left.instance:  # it answers what the others have said
            kept = await site.kept()
        assert kept.status == "online"

    play(scene)


def test_order_that_comes_while_the_daemon_claims_its_host_waits_for_that(
    play: SitePlay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second claim beside the first one would lose a host that the first one has got."""
    claims: list[str] = []
    waiting: list[asyncio.Task[None]] = []
    announce, ask = OtherDaemons._announce, OtherDaemons._ask

    async def announce_beside_an_order(self: OtherDaemons) -> bool:
        waiting.append(asyncio.create_task(self.confirmed(1)))
        await asyncio.sleep(0)
        return await announce(self)

    async def counted(self: OtherDaemons) -> bool:
        claims.append("claim")
        return await ask(self)

    monkeypatch.setattr(OtherDaemons, "_announce", announce_beside_an_order)
    monkeypatch.setattr(OtherDaemons, "_ask", counted)

    async def scene(site: Site) -> None:
        daemon = await site.open()
        await patiently(waiting[0])
        assert claims == ["claim"]
        assert await works(site, daemon, "vm1")

    play(scene)


@pytest.mark.parametrize("in_flight", [False, True])
@pytest.mark.parametrize("client_id", [CLIENT_ID, "another"])
def test_daemon_that_was_cut_off_ends_if_another_has_taken_its_host_over(
    play: SitePlay, broker: Mosquitto, client_id: str, in_flight: bool
) -> None:
    """The other one has got the orders, which the broker has also kept for this one.

    A presence that was in flight is sent again after the reconnect.
    """

    async def scene(site: Site) -> None:
        with Proxy(broker.port) as way:
            first = await site.open(port=way.port)
            await site.becomes("online")
            way.refusing = True
            if in_flight:
                way.cut_after(10, "up")
                await site.publish(offline())  # the daemon answers with its presence
            else:
                way.cut()
            while (await site.becomes("offline")).instance != first.instance:
                pass
            second = await site.open(client_id=client_id)
            assert (await site.becomes("online")).instance == second.instance
            assert await works(site, second, "vm1")
            way.refusing = False
            await patiently(first.ended.wait())
            assert isinstance(first.failure, HostTakenError)
            assert not second.stopping
            assert await works(site, second, "vm2")
            while (kept := await site.kept()).instance != second.instance:
                pass
            assert kept.status == "online"

    play(scene)


@pytest.mark.parametrize("started", [-100, 100])
def test_false_presence_does_not_end_a_daemon(
    play: SitePlay, monkeypatch: pytest.MonkeyPatch, started: int
) -> None:
    """There is no answer to the daemon when it claims its host again."""
    monkeypatch.setattr(other_daemons, "CLAIM_SECONDS", SHORT)

    async def scene(site: Site) -> None:
        daemon = await site.open()
        await site.becomes("online")
        await site.publish(online("another", "1", daemon.started + started), retain=True)
        while (await site.presence()).instance != daemon.instance:
            pass
        assert (await site.kept()).instance == daemon.instance
        assert await works(site, daemon, "vm1")
        assert not daemon.stopping

    play(scene)


def test_daemon_ends_if_another_one_insists(play: SitePlay) -> None:
    """It does not follow the rules, and answers each claim."""

    async def scene(site: Site) -> None:
        daemon = await site.open()
        other = online("another", "z", daemon.started + 100)
        while not daemon.ended.is_set():
            await site.publish(other)
            await asyncio.sleep(0.01)
        assert isinstance(daemon.failure, HostTakenError)

    play(scene)


def test_daemon_corrects_foreign_presence_of_its_host(play: SitePlay) -> None:
    async def scene(site: Site) -> None:
        daemon = await site.open()
        await site.becomes("online")
        for wrong in (offline(), offline("another", "1"), None, online("another", "1", None)):
            await site.publish(wrong, retain=wrong is None or wrong.status == "offline")
            while (await site.presence()).instance != daemon.instance:
                pass
            assert (await site.kept()).instance == daemon.instance
        assert not daemon.stopping

    play(scene)


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (
            "claim_host",
            "the broker does not answer; the daemon begins no task until the broker has",
        ),
        ("resume", "the broker has not confirmed the subscription to fast/migfra/"),
    ],
)
def test_daemon_waits_for_a_broker_that_is_silent_during_the_start(
    play: SitePlay,
    broker: Mosquitto,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    step: str,
    text: str,
) -> None:
    monkeypatch.setattr(other_daemons, "CLAIM_SECONDS", SHORT)
    monkeypatch.setattr(order_subscription, "REMIND_SECONDS", 0.05)
    original = getattr(Runtime, step)

    async def freeze(runtime: Runtime) -> None:
        broker.freeze()
        await original(runtime)

    async def scene(site: Site) -> None:
        monkeypatch.setattr(Runtime, step, freeze)
        opening = asyncio.create_task(site.make().open())
        try:
            await wait_until_async(lambda: text in caplog.text)
            assert not opening.done()
        finally:
            broker.thaw()
        daemon = await patiently(opening)
        assert await works(site, daemon, "vm1")

    play(scene)


def test_daemon_waits_longer_for_a_broker_that_is_slow(
    play: SitePlay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No broker confirms anything within the first time."""
    monkeypatch.setattr(other_daemons, "CLAIM_SECONDS", 1e-5)

    async def scene(site: Site) -> None:
        assert await works(site, await site.open(), "vm1")

    play(scene)


@pytest.mark.parametrize("reconnects", [False, True])
def test_daemon_that_may_not_read_its_status_warns_and_looks_again_once_it_may(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    reconnects: bool,
) -> None:
    monkeypatch.setattr(other_daemons, "CLAIM_SECONDS", SHORT)
    caplog.set_level("INFO")
    others = f"topic read {topics.TASK(HOST)}\ntopic write {topics.RESULT(HOST)}\n"
    rules = tmp_path / "acl"
    rules.write_text(f"{others}topic write {topics.PRESENCE(HOST)}\n")
    rules.chmod(0o600)

    async def scene(site: Site) -> None:
        daemon = await site.open()
        assert f"this daemon cannot detect another daemon of the host {HOST}" in caplog.text
        assert f"allow it at the broker to read and write {topics.PRESENCE(HOST)}" in caplog.text
        rules.write_text(f"{others}topic readwrite {topics.PRESENCE(HOST)}\n")
        if reconnects:
            site.broker.stop()
            site.broker.start()
        else:
            site.broker.reload()
        text = f"this daemon now receives its presence on {topics.PRESENCE(HOST)}"
        while text not in caplog.text:
            await site.publish(offline())
            with suppress(TimeoutError):  # the broker may not have read its rules yet
                async with asyncio.timeout(1):
                    await site.becomes("online")  # the daemon answers
        with pytest.raises(HostTakenError):
            await site.open(client_id="another")
        assert not daemon.stopping

    with Mosquitto(tmp_path / "broker", settings=(f"acl_file {rules}",)) as broker:
        player(broker)(scene)


@pytest.mark.parametrize("old", [True, False])
def test_late_presence_of_an_earlier_daemon_does_not_interrupt_the_work(
    play: SitePlay,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    old: bool,
) -> None:
    """The broker had forgotten the earlier daemon, and that one's MQTT library sends it again."""
    monkeypatch.setattr(other_daemons, "CLAIM_SECONDS", SHORT)
    text = "started later and continues" if old else "claims the host again"

    async def scene(site: Site) -> None:
        daemon = await site.open()
        await site.becomes("online")
        time = datetime.fromtimestamp(daemon.started + (-100 if old else 100), UTC)
        late = online("another", "1", daemon.started - 1000)
        late = msgspec.structs.replace(late, time=time)
        for _ in range(2):
            await site.publish(late, retain=True)
            while (await site.presence()).instance != daemon.instance:
                pass
        assert text in caplog.text
        assert (await site.kept()).instance == daemon.instance
        assert await works(site, daemon, "vm1")

    play(scene)
