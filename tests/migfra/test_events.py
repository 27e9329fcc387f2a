"""The events of an order in the journal, for `query history`."""

import asyncio
import re
from typing import Any

import pytest

from fastlib import Migrate, MigrateParameter, Result, Start, Stop
from fastlib.migfra import Context, Daemon
from fastlib.migfra.config.sections import RetrySection
from fastlib.migfra.journal.journal import Journal
from fastlib.migfra.journal.records import Record
from fastlib.migfra.plugin_api.cancel_scope import CancelScope
from tests.support.clock import SettableClock
from tests.support.migfra.bench import Bench, Play, order, patiently
from tests.support.migfra.scripted import Recovering, Scripted, fail, gate


async def story(daemon: Daemon, **asked: Any) -> Record:
    """The one record that fits."""
    [record] = await daemon.runtime.journal.history(**asked)
    return record


def kinds(record: Record) -> list[tuple[str, str, str | None]]:
    """The events, without the durations in their texts."""
    return [
        (event.kind, re.split(r" after \d", event.text)[0], event.vm_name)
        for event in record.events
        if event.kind not in ("confirmed",)
    ]


def test_phases_retries_and_the_end_are_noted(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()

        def plan(context: Context) -> None:
            context.progress("copy")
            context.progress("copy", percent=50.0)
            fail(1)(context)
            context.progress("finish")

        hypervisor.plan["vm1"] = plan
        daemon = await bench.daemon(hypervisor, retry=RetrySection(first=0.001, longest=0.001))
        parameter = MigrateParameter(retry_counter=1)
        await bench.ask(Migrate(vm_name="vm1", destination="b", parameter=parameter), "m")
        assert kinds(await story(daemon, id="m")) == [
            ("accepted", "", None),
            ("begun", "", None),
            ("phase", "copy", None),
            ("retry", "retry 1 of 1 in 0.0 s: attempt 0 failed", None),
            ("phase", "copy", None),
            ("phase", "finish", None),
            ("ended", "success", None),
            ("answered", "", None),
        ]

    play(scene)


class Waiting(Scripted):
    begins_itself = True


def test_task_that_waits_has_not_begun(play: Play, leaping: SettableClock) -> None:
    """It is noted as begun when it acts, and as expired if it never does."""

    async def scene(bench: Bench) -> None:
        hypervisor = Waiting()

        async def plan(context: Context) -> None:
            with CancelScope(context) as scope:
                context.progress("queued", position=1)
                leaping.ahead = 0.0 if context.id == "1" else 100.0
                await scope.sleep(0 if context.id == "1" else 1000)
                await scope.begin()
            context.progress("copy")

        hypervisor.plan["vm1"] = plan
        daemon = await bench.daemon(hypervisor, clock=leaping)
        await bench.ask(Migrate(vm_name="vm1", destination="b"), "1")
        record = await story(daemon, id="1")
        assert kinds(record)[1:4] == [
            ("phase", "queued, place 1", None),
            ("begun", "", None),
            ("phase", "copy", None),
        ]
        assert record.began is not None
        await bench.ask(order(Migrate(vm_name="vm1", destination="b"), expires=60, id="2"))
        record = await story(daemon, id="2")
        assert [kind for kind, _, _ in kinds(record)] == [
            "accepted",
            "phase",
            "expired",
            "answered",
        ]
        assert "the order expired at" in record.events[2].text
        assert record.began is None

    play(scene)


@pytest.mark.parametrize("killed", [True, False])
def test_task_that_waits_acts_only_once_the_journal_knows(
    play: Play, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    """So a history without its begin shows that it has never begun, also after a kill."""
    begins, release = asyncio.Event(), asyncio.Event()
    store = Journal.begun

    async def stall(self: Journal, number: int, position: int) -> None:
        begins.set()
        await release.wait()
        await store(self, number, position)

    monkeypatch.setattr(Journal, "begun", stall)
    acted: list[bool] = []

    async def scene(bench: Bench) -> None:
        hypervisor = Waiting()

        async def plan(context: Context) -> None:
            with CancelScope(context) as scope:
                await asyncio.gather(scope.begin(), scope.begin())  # as of two domains
                await scope.begin()
            acted.append(True)

        hypervisor.plan["vm1"] = plan
        daemon = await bench.daemon(hypervisor)
        await bench.send(Migrate(vm_name="vm1", destination="b"), "1")
        await patiently(begins.wait())
        assert (await story(daemon, id="1")).began is None
        if killed:
            await patiently(daemon.kill())
            daemon = await bench.daemon(Recovering())
            await bench.result()
            assert (await story(daemon, id="1")).began is None
            assert acted == []
            return
        assert acted == []
        release.set()
        await bench.result()
        record = await story(daemon, id="1")
        assert [kind for kind, _, _ in kinds(record)].count("begun") == 1
        assert acted == [True]

    play(scene)


def test_each_domain_of_a_regex_is_noted_and_found(play: Play) -> None:
    class Regex(Scripted):
        async def stop(self, task: Stop, context: Context) -> Any:
            context.progress("shutdown", vm_name="vm1")
            context.progress("shutdown", vm_name="vm2")
            await asyncio.sleep(0)
            return [
                Result(vm_name="vm1", status="success"),
                Result(vm_name="vm2", status="error", details="x" * 5000),
            ]

    async def scene(bench: Bench) -> None:
        daemon = await bench.daemon(Regex())
        await bench.ask(Stop(regex="vm.*"), "r")
        record = await story(daemon, vm_name="vm2")
        assert record.id == "r"
        phases = [kind for kind in kinds(record) if kind[0] in ("phase", "ended")]
        assert [(kind, name) for kind, _, name in phases] == [
            ("phase", "vm1"),
            ("phase", "vm2"),
            ("ended", "vm1"),
            ("ended", "vm2"),
            ("ended", None),
        ]
        assert len(phases[3][1]) == 1000

    play(scene)


def test_recovery_after_a_restart_is_noted(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Recovering()
        plan, begun, _ = gate()
        hypervisor.plan["vm1"] = plan
        daemon = await bench.daemon(hypervisor)
        await bench.send(Start(vm_name="vm1"), "1")
        await patiently(begun.wait())
        await patiently(daemon.kill())
        daemon = await bench.daemon(Recovering())
        await bench.result()
        assert [kind for kind, _, _ in kinds(await story(daemon, id="1"))] == [
            "accepted",
            "begun",
            "recovered",
            "ended",
            "answered",
        ]

    play(scene)
