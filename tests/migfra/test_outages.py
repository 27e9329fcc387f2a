"""Reminders in the log while the broker, the journal or libvirt is unavailable for long."""

import asyncio
import logging
import sqlite3
from collections.abc import Mapping
from contextlib import closing

import pytest

from fastlib import Start
from fastlib.migfra import HypervisorError
from fastlib.migfra.broker_connection import BrokerConnection
from fastlib.migfra.failures import log_failure
from fastlib.migfra.hypervisors.libvirt import LibvirtHypervisor, LibvirtOptions
from fastlib.migfra.plugin_api.hypervisor import NodeContext
from fastlib.migfra.telemetry import outages
from fastlib.migfra.telemetry.outages import Outages, describe_age, next_reminder
from fastlib.transport import MemoryBroker
from tests.support.clock import StoppedClock
from tests.support.migfra.bench import Bench, Play, configuration
from tests.support.migfra.scripted import Scripted
from tests.support.waiting import wait_until_async


@pytest.mark.parametrize(
    ("age", "due"),
    [(0, 60), (59.9, 60), (60, 300), (300, 900), (900, 3600), (3600, 7200), (7300, 10800)],
)
def test_reminders_become_rarer(age: float, due: float) -> None:
    assert next_reminder(age) == due


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.5, "0 s"),
        (61, "1 min 1 s"),
        (300, "5 min"),
        (3600, "1 h"),
        (7500, "2 h 5 min"),
        (86400 * 3 + 60, "3 d"),
        (86400 * 3 + 7200, "3 d 2 h"),
    ],
)
def test_age_has_two_units(seconds: float, text: str) -> None:
    assert describe_age(seconds) == text


async def _nothing() -> Mapping[str, str]:
    return {}


def test_outage_is_reminded_of_with_its_age_and_its_newest_reason(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = StoppedClock(0.0)
    found = Outages(_nothing, clock)
    for time in range(0, 4000, 10):
        clock.time = float(time)
        found.take({"the broker": f"reason {time}"} if time < 3800 else {})
    assert [record.getMessage() for record in caplog.records] == [
        "the broker has been unavailable for 1 min: reason 60",
        "the broker has been unavailable for 5 min: reason 300",
        "the broker has been unavailable for 15 min: reason 900",
        "the broker has been unavailable for 1 h: reason 3600",
        "the broker is available again, after 1 h 3 min",
    ]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_short_outage_has_no_reminder(caplog: pytest.LogCaptureFixture) -> None:
    clock = StoppedClock(0.0)
    found = Outages(_nothing, clock)
    for time, missing in ((0.0, {"libvirt": "x"}), (50.0, {}), (70.0, {"libvirt": "x"})):
        clock.time = time
        found.take(missing)
    assert caplog.records == []


def test_outages_of_broker_journal_and_hypervisor_are_logged(
    play: Play, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(outages, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(outages, "FIRST_REMINDERS", (0.02,))
    libvirt: dict[str, str] = {}

    class Remote(Scripted):
        async def outages(self) -> Mapping[str, str]:
            return libvirt

    def logged(words: str) -> bool:
        return any(words in record.getMessage() for record in caplog.records)

    async def scene(bench: Bench) -> None:
        await bench.daemon(Remote())
        libvirt["libvirt on node01"] = "connection refused"
        await wait_until_async(
            lambda: (
                logged("libvirt on node01 has been unavailable for")
                and logged(" s: connection refused")
            )
        )
        libvirt.clear()
        await wait_until_async(lambda: logged("libvirt on node01 is available again, after"))
        with closing(sqlite3.connect(bench.journal, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            await bench.send(Start(vm_name="vm1"))
            await wait_until_async(lambda: logged("the journal has been unavailable for"))
            other.execute("ROLLBACK")
        assert (await bench.result()).results[0].status == "success"
        await wait_until_async(lambda: logged("the journal is available again, after"))
        bench.broker.cut("fast-migfra-node01")
        await wait_until_async(lambda: logged("the broker has been unavailable for"))
        bench.broker.mend("fast-migfra-node01")
        await wait_until_async(lambda: logged("the broker is available again, after"))

    play(scene)


def test_broker_that_was_never_there_is_unavailable() -> None:
    connection = BrokerConnection(configuration(), MemoryBroker(), "i", log_failure)
    assert connection.outage() == "the broker has not answered yet"

    async def scene() -> None:
        await connection.open()
        assert connection.outage() is None
        await connection.close()
        assert connection.outage() is not None

    asyncio.run(scene())


def test_failing_look_does_not_end_the_reminders(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(outages, "LOOK_SECONDS", 0.001)
    looks = 0

    async def look() -> Mapping[str, str]:
        nonlocal looks
        looks += 1
        raise ValueError(looks)

    async def scene() -> None:
        found = Outages(look)
        found.begin()
        await wait_until_async(lambda: looks >= 2)
        found.end()

    asyncio.run(scene())
    assert "the check for unavailable parts failed" in caplog.text


def test_unreachable_libvirt_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    hypervisor = LibvirtHypervisor(LibvirtOptions(), NodeContext("node01"))
    answers = [HypervisorError("connection refused"), None]

    async def local() -> None:
        answer = answers.pop(0)
        if answer is not None:
            raise answer

    monkeypatch.setattr(hypervisor._runtime, "local", local)

    async def scene() -> None:
        assert await hypervisor.outages() == {"libvirt on node01": "connection refused"}
        assert await hypervisor.outages() == {}

    asyncio.run(scene())
