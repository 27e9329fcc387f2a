"""`cancel task` of running, waiting and stored tasks."""

import asyncio

import pytest

from fastlib import (
    Migrate,
    MigrateParameter,
    Result,
    Start,
)
from fastlib.message import Cancel
from fastlib.message.result_container import CANCELLED_BEFORE
from fastlib.migfra import Context, Daemon
from fastlib.migfra.config.sections import LimitsSection, RetrySection
from fastlib.migfra.tasks.jobs import Job
from tests.support.migfra.bench import (
    Bench,
    Play,
    patiently,
)
from tests.support.migfra.scripted import Scripted, fail, gate, until_cancelled
from tests.support.waiting import wait_until_async


def test_cancel_ends_a_running_task(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        plan, begun = until_cancelled()
        hypervisor.plan["vm1"] = plan
        await bench.daemon(hypervisor)
        await bench.send(Migrate(vm_name="vm1", destination="node02"), "m")
        await patiently(begun.wait())
        await bench.send(Cancel(id="m"), "c")
        migrated, cancelled = await bench.result(), await bench.result()
        assert (migrated.id, migrated.results[0].status) == ("m", "error")
        assert migrated.results[0].details == "cancelled"
        assert (cancelled.id, cancelled.result) == ("c", "task cancelled")
        assert cancelled.results[0].status == "success"
        assert cancelled.results[0].details == "1 of 1 cancelled: migrate vm m"

    play(scene)


def test_cancel_ends_a_waiting_task(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        plan, begun, go = gate()
        hypervisor.plan["vm1"] = plan
        await bench.daemon(hypervisor, limits=LimitsSection(containers=2, members=1))
        await bench.send(Start(vm_name="vm1"), "1")
        await patiently(begun.wait())
        # One waits for a place among the members, one for its turn as a container.
        for number in (2, 3):
            await bench.send(Start(vm_name=f"vm{number}"), str(number))
            await bench.send(Cancel(id=str(number)), f"c{number}")
            started, cancelled = await bench.result(), await bench.result()
            assert (started.id, started.results[0].details) == (str(number), CANCELLED_BEFORE)
            assert (cancelled.id, cancelled.results[0].status) == (f"c{number}", "success")
        go.set()
        assert (await bench.result()).id == "1"
        assert (await bench.ask(Start(vm_name="vm4"), "4")).results[0].status == "success"
        assert hypervisor.calls == [("start", "vm1"), ("start", "vm4")]

    play(scene)


def test_cancel_ends_the_pause_before_a_retry(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        hypervisor.plan["vm1"] = fail(9)
        daemon = await bench.daemon(hypervisor, retry=RetrySection(first=1000.0, longest=1000.0))
        parameter = MigrateParameter(retry_counter=5)
        await bench.send(Migrate(vm_name="vm1", destination="b", parameter=parameter), "m")
        await wait_until_async(
            lambda: [t.state for t in daemon.runtime.jobs.reports()] == ["retrying"]
        )
        await bench.send(Cancel(id="m"))
        assert (await bench.result()).results[0].details == "cancelled"
        assert (await bench.result()).results[0].status == "success"

    play(scene)


def test_cancelled_evacuation_reports_each_domain(play: Play) -> None:
    """A cancelled evacuation says of each domain where it is, and that counts as cancelled."""

    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        begun = asyncio.Event()

        async def plan(context: Context) -> list[Result]:
            begun.set()
            await context.wait_cancelled()
            return [
                Result(vm_name="vm1", status="success"),
                Result(vm_name="vm2", status="error", details="cancelled; vm2 runs on node01"),
            ]

        hypervisor.plan["vm1"] = plan
        daemon = await bench.daemon(hypervisor)
        await bench.send(Start(vm_name="vm1"), "e")
        await patiently(begun.wait())
        answer, cancelled = await bench.ask(Cancel(id="e")), await bench.result()
        assert [result.status for result in answer.results] == ["success", "error"]
        assert cancelled.results[0].details == "1 of 1 cancelled: start vm e"
        assert daemon.counters.ended["start vm", "cancelled"] == 1

    play(scene)


def test_cancel_ends_a_task_that_only_the_journal_holds(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is its turn at the very moment at which it is cancelled."""
    monkeypatch.setattr("fastlib.migfra.tasks.dispatcher.HELD_SHARE", 0)

    async def cancel(daemon: Daemon, job: Job) -> None:
        assert job.number is not None
        await daemon.runtime.journal.cancel(job.number)
        job.cancel()

    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        daemon = await bench.daemon(hypervisor, limits=LimitsSection(containers=1))
        for number in range(20):
            plan, begun, go = gate()
            hypervisor.plan["vm"] = plan
            await bench.send(Start(vm_name="vm"), f"first {number}")
            await patiently(begun.wait())
            await bench.send(Start(vm_name="vm2"), f"second {number}")
            await wait_until_async(lambda: daemon.runtime.dispatcher.queued == 1)
            (job,) = daemon.runtime.jobs.find(f"second {number}")
            assert job.container is None
            cancelling = asyncio.create_task(cancel(daemon, job))
            for _ in range(number % 4):
                await asyncio.sleep(0)
            go.set()
            await cancelling
            answers = {answer.id for answer in [await bench.result(), await bench.result()]}
            assert answers == {f"first {number}", f"second {number}"}
            await bench.no_result()
        assert ("start", "vm2") not in hypervisor.calls

    play(scene)


def test_cancel_fails_for_an_unknown_id_and_after_its_timeout(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        plan, begun, go = gate()
        hypervisor.plan["vm1"] = plan
        daemon = await bench.daemon(hypervisor, cancel_timeout=0.5)
        answer = await bench.ask(Cancel(id="nobody"))
        assert "no task with the id 'nobody' is running or queued" in str(answer.results[0].details)
        await bench.send(Start(vm_name="vm1"), "1")
        await patiently(begun.wait())
        answer = await bench.ask(Cancel(id="1"))
        assert "is still running" in str(answer.results[0].details)
        await bench.send(Cancel(id="1"), "again")
        await wait_until_async(
            lambda: "again" in [task.id for task in daemon.runtime.jobs.reports()]
        )
        go.set()
        started, cancelled = sorted(
            [await bench.result(), await bench.result()],
            key=lambda answer: answer.result != "vm started",
        )
        assert started.results[0].status == "success"
        assert "ended before it could be cancelled" in str(cancelled.results[0].details)
        answer = await bench.ask(Cancel(id="self"), "self")
        assert "no task with the id 'self' is running or queued" in str(answer.results[0].details)

    play(scene)


def test_cancel_ends_every_task_of_an_id(play: Play) -> None:
    """Real clients give every order the same id, and perhaps their cancellation, too."""

    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        begun = []
        for name in ("vm1", "vm2", "vm3"):
            plan, begins = until_cancelled()
            hypervisor.plan[name] = plan
            begun.append(begins)
        await bench.daemon(hypervisor)
        for name in ("vm1", "vm2"):
            await bench.send(Start(vm_name=name), ":-)")
        await bench.send(Start(vm_name="vm3"), "other")
        for begins in begun:
            await patiently(begins.wait())
        await bench.send(Cancel(id=":-)"), ":-)")
        three = [await bench.result() for _ in range(3)]
        answers = {answer.results[0].vm_name: answer for answer in three}
        assert answers["vm1"].results[0].details == "cancelled"
        assert answers["vm2"].results[0].details == "cancelled"
        assert answers["n/a"].results[0].details == "2 of 2 cancelled: start vm :-)"
        answer = await bench.ask(Cancel(id="other"), "c")
        answers = {answer.id: answer for answer in (answer, await bench.result())}
        assert answers["c"].results[0].status == "success"

    play(scene)


def test_task_of_an_id_is_found_after_a_later_one_has_ended(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        plan, begun = until_cancelled()
        hypervisor.plan["vm1"] = plan
        await bench.daemon(hypervisor)
        await bench.send(Start(vm_name="vm1"), ":-)")
        await patiently(begun.wait())
        assert (await bench.ask(Start(vm_name="vm2"), ":-)")).results[0].status == "success"
        first = await bench.ask(Cancel(id=":-)"), "c")
        answers = {answer.id: answer for answer in (first, await bench.result())}
        assert answers["c"].results[0].details == "1 of 1 cancelled: start vm :-)"

    play(scene)
