"""One daemon over a broker in memory: what is sent, what is called, what is answered."""

import asyncio
import json
import logging
import re
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from fastlib import (
    Evacuate,
    Migrate,
    MigrateParameter,
    Quit,
    Repin,
    Result,
    Start,
    Stop,
    SwapWith,
    Task,
    TaskContainer,
)
from fastlib.message import Cancel, NodeResult, Query, topics
from fastlib.message.node import Presence, Progress
from fastlib.migfra import Context, Daemon
from fastlib.migfra.config.sections import LimitsSection, MetricsSection, RetrySection
from fastlib.migfra.plugin_api.cancel_scope import CancelScope
from fastlib.migfra.tasks.jobs import Job
from fastlib.migfra.telemetry.logs import JsonFormatter
from fastlib.migfra.virt.migration_limits import MigrationLimits
from fastlib.migfra.virt.migration_queue import Slot, slots_between
from tests.support.migfra.bench import (
    HOST,
    PATIENCE,
    Bench,
    Play,
    configuration,
    patiently,
)
from tests.support.migfra.scripted import Scripted, fail, gate, results, until_cancelled
from tests.support.mosquitto import free_port
from tests.support.waiting import wait_until_async

QUICK = RetrySection(first=0.001, longest=0.002)


def test_task_is_executed_and_answered(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        await bench.daemon(hypervisor)
        answer = await bench.ask(Start(vm_name="vm1"), "7")
        assert answer.result == "vm started"
        assert answer.id == "7"
        assert answer.results == (Result(vm_name="vm1", status="success"),)
        assert hypervisor.calls == [("start", "vm1")]

    play(scene)


def test_members_start_together_and_answer_in_order(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        plan, _begun, go = gate()
        hypervisor.plan["vm1"] = plan
        hypervisor.plan["vm2"] = lambda context: go.set() or "second"
        await bench.daemon(hypervisor)
        container = TaskContainer(tasks=[Start(vm_name="vm1"), Start(vm_name="vm2")])
        answer = await bench.ask(container)
        assert [(r.vm_name, r.details) for r in answer.results] == [
            ("vm1", None),
            ("vm2", "second"),
        ]

    play(scene)


def test_member_without_concurrent_execution_ends_before_the_next_starts(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        plan, begun, go = gate()
        hypervisor.plan["vm1"] = plan
        await bench.daemon(hypervisor)
        await bench.send(
            TaskContainer(
                tasks=[
                    Start(vm_name="vm0"),
                    Start(vm_name="vm1", concurrent_execution=False),
                    Start(vm_name="vm2"),
                ]
            )
        )
        await patiently(begun.wait())
        await bench.no_result()
        assert hypervisor.calls == [("start", "vm0"), ("start", "vm1")]
        go.set()
        answer = await bench.result()
        assert [result.vm_name for result in answer.results] == ["vm0", "vm1", "vm2"]

    play(scene)


def test_container_without_concurrent_execution_ends_before_the_next_starts(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        plan, begun, go = gate()
        hypervisor.plan["vm1"] = plan
        await bench.daemon(hypervisor)
        await bench.send(TaskContainer(tasks=[Start(vm_name="vm1")], concurrent_execution=False))
        await bench.send(TaskContainer(tasks=[Start(vm_name="vm2")]))
        await patiently(begun.wait())
        await bench.no_result()
        assert hypervisor.calls == [("start", "vm1")]
        go.set()
        assert (await bench.result()).results[0].vm_name == "vm1"
        assert (await bench.result()).results[0].vm_name == "vm2"

    play(scene)


def test_blocking_method_runs_in_a_thread(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        loop = asyncio.get_running_loop()

        def plan(context: Any) -> str:
            async def name() -> str:
                return "from the loop"

            with pytest.raises(RuntimeError):
                asyncio.get_running_loop()
            assert asyncio.run_coroutine_threadsafe(name(), loop).result(5)
            return str(context.run(name(), timeout=5))

        hypervisor.plan["vm1"] = plan
        await bench.daemon(hypervisor)
        answer = await bench.ask(Stop(vm_name="vm1"))
        assert answer.results[0].details == "from the loop"

    play(scene)


def test_raised_error_becomes_the_details(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()

        def wrong(context: Any) -> None:
            raise ZeroDivisionError("by nothing\ud800")

        def leaves(context: Any) -> None:
            raise SystemExit(3)

        def gives_up(context: Any) -> None:
            raise asyncio.CancelledError

        class OddError(BaseException):
            pass

        def is_odd(context: Any) -> None:
            raise OddError

        hypervisor.plan |= {"a": wrong, "b": fail(9), "c": leaves, "d": lambda _: {1: 2}}
        hypervisor.plan |= {"e": gives_up, "f": is_odd}
        await bench.daemon(hypervisor)
        container = TaskContainer(tasks=[Start(vm_name=name) for name in "abcdef"])
        answer = await bench.ask(container)
        assert [result.status for result in answer.results] == ["error"] * 6
        assert [result.details for result in answer.results] == [
            "ZeroDivisionError: by nothing\\ud800",
            "attempt 0 failed",
            "SystemExit: 3",
            "the hypervisor answered start vm with a dict, which is no outcome",
            "CancelledError",
            "OddError",
        ]
        # The same from a thread, where `next` of nothing is easily called.
        hypervisor.plan["a"] = lambda _: next(iter(()))
        answer = await bench.ask(TaskContainer(tasks=[Stop(vm_name=name) for name in "acf"]))
        assert [result.details for result in answer.results] == [
            "RuntimeError: StopIteration: ",
            "SystemExit: 3",
            "OddError",
        ]

    play(scene)


def test_unsupported_task_is_answered_with_an_error(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        await bench.daemon()
        answer = await bench.ask(Repin(vm_name="vm1", vcpu_map=[[0]]))
        details = "hypervisor scripted has no support for repin vm"
        assert answer.results == (Result(vm_name="vm1", status="error", details=details),)

    play(scene)


@pytest.mark.parametrize(
    "task",
    [
        Start(vm_name="../etc/passwd"),
        Stop(vm_name="a\nb"),
        Migrate(vm_name="-rf", destination="hostB"),
        Migrate(vm_name="vm1", destination="hostB/system?command=sh"),
        Migrate(
            vm_name="vm1",
            destination="hostB",
            parameter=MigrateParameter(swap_with=SwapWith(vm_name="vm/+/2")),
        ),
        Evacuate(destinations=["hostB", "#"]),
    ],
)
def test_unsound_name_does_not_reach_the_hypervisor(play: Play, task: Task) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        await bench.daemon(hypervisor)
        (result,) = (await bench.ask(task, "7")).results
        assert result.status == "error"
        assert "cannot be the name of a" in (result.details or "")
        assert hypervisor.calls == []

    play(scene)


def test_member_may_have_several_results(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        hypervisor.plan["None"] = lambda _: results(3)
        hypervisor.plan["vm9"] = lambda _: results(2)
        await bench.daemon(hypervisor)
        answer = await bench.ask(Stop(regex="vm.*"))
        assert [result.vm_name for result in answer.results] == ["vm0", "vm1", "vm2"]
        answer = await bench.ask(Migrate(vm_name="vm9", destination="node02"))
        assert answer.results[0].status == "error"
        assert "exactly one result" in str(answer.results[0].details)

    play(scene)


def test_result_has_timers_when_requested(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()

        def plan(context: Any) -> None:
            with context.measure("overall"), context.measure("define"):
                pass

        hypervisor.plan |= {"vm1": plan, "vm2": plan, "vm3": lambda c: (plan(c), fail(1)(c))[0]}
        await bench.daemon(hypervisor)
        answer = await bench.ask(
            TaskContainer(
                tasks=[
                    Start(vm_name="vm1", time_measurement=True),
                    Start(vm_name="vm2"),
                    Start(vm_name="vm3", time_measurement=True),
                ]
            )
        )
        first, second, third = answer.results
        assert first.time_measurement is not None
        assert list(first.time_measurement.timings) == ["define", "overall"]
        assert second.time_measurement is None
        assert third.status == "error"
        assert third.time_measurement is not None

    play(scene)


def test_task_is_retried_up_to_its_retry_counter(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        hypervisor.plan |= {"vm1": fail(2), "vm2": fail(3), "vm3": fail(1)}
        daemon = await bench.daemon(hypervisor, retry=QUICK)

        def migrate(name: str, counter: int | None) -> Migrate:
            parameter = MigrateParameter(retry_counter=counter)
            return Migrate(vm_name=name, destination="node02", parameter=parameter)

        answer = await bench.ask(migrate("vm1", 2))
        assert (answer.results[0].status, answer.results[0].details) == ("success", "2")
        answer = await bench.ask(migrate("vm2", 2))
        assert (answer.results[0].status, answer.results[0].details) == (
            "error",
            "attempt 2 failed",
        )
        answer = await bench.ask(migrate("vm3", None))
        assert answer.results[0].details == "attempt 0 failed"
        assert daemon.counters.retries == 4

    play(scene)


@pytest.mark.parametrize(
    ("payload", "id", "reason"),
    [
        ("task: start wm\nid: 5", "5", "did you mean 'start vm'?"),
        ("id: 'a b'\ntask: stop vm\nlist:\n  - {vm-name: [], force: maybe}", "a b", "line 4"),
        ("task: start vm\nid: 77\n  vm-name: x: y", "77", "line "),
        ("result: quit\nid: r\nlist: [{vm-name: a, status: success}]", "r", "ResultContainer"),
        ("", None, "there is no message"),
        (b"\xff\xfe\xfd", None, "line 1"),
        ("task: quit\nid: big\n#" + "x" * 2000, "big", "at most 1024 are read"),
        ('task: nothing\nid: "\\ud800"', None, "stands for no character"),
    ],
)
def test_unreadable_message_is_answered(
    play: Play, payload: str | bytes, id: str | None, reason: str
) -> None:
    async def scene(bench: Bench) -> None:
        await bench.daemon(limits=LimitsSection(payload=1024))
        answer = await bench.ask(payload)
        assert (answer.result, answer.id) == ("unknown", id)
        (result,) = answer.results
        assert (result.vm_name, result.status) == ("unknown", "error")
        assert reason in str(result.details)

    play(scene)


def test_large_message_keeps_its_place(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        await bench.daemon(hypervisor, limits=LimitsSection(containers=1))
        names = [f"virtual-machine-{number}" for number in range(2500)]  # > READ_IN_THREAD
        await bench.send(TaskContainer(tasks=[Start(vm_name=name) for name in names], id="large"))
        await bench.send(Start(vm_name="small"), "small")
        answer = await bench.result()
        assert answer.id == "large"
        assert [result.vm_name for result in answer.results] == names
        assert (await bench.result()).id == "small"

    play(scene)


def test_empty_list_is_an_error(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        await bench.daemon()
        answer = await bench.ask("task: start vm\nid: e\nvm-configurations: []")
        assert (answer.result, answer.id) == ("vm started", "e")
        (result,) = answer.results
        assert (result.vm_name, result.status) == ("n/a", "error")
        assert "empty" in str(result.details)

    play(scene)


def test_limits_bound_running_containers_and_members(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        plan, _begun, go = gate()
        daemon = await bench.daemon(hypervisor, limits=LimitsSection(containers=3, members=2))
        names = [f"vm{number}" for number in range(10)]
        for name in names:
            hypervisor.plan[name] = plan
            await bench.send(Start(vm_name=name), name)
        await wait_until_async(
            lambda: hypervisor.running == 2 and daemon.runtime.dispatcher.queued == 7
        )
        go.set()
        assert {(await bench.result()).id for _ in names} == set(names)
        assert hypervisor.most_running == 2
        assert hypervisor.calls == [("start", name) for name in names]

    play(scene)


def test_task_that_waits_in_the_hypervisor_leaves_its_places_to_others(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        await bench.daemon(hypervisor, limits=LimitsSection(containers=1, members=1))
        begun, go = asyncio.Event(), asyncio.Event()

        async def wait(context: Context) -> None:
            with context.waiting():
                begun.set()
                await go.wait()

        waiting = ["vm1", "vm2", "vm3"]
        for name in waiting:
            hypervisor.plan[name] = wait
        await bench.send(Start(vm_name="vm1"), "1")
        await bench.send(TaskContainer(tasks=[Start(vm_name=n) for n in waiting[1:]], id="2"))
        await wait_until_async(lambda: len(hypervisor.calls) == 3)
        assert (await bench.ask(Start(vm_name="other"), "3")).id == "3"
        (report,) = (await bench.ask(Query(), "q")).results
        assert isinstance(report, NodeResult)
        assert report.node is not None
        assert [(task.vm_name, task.state) for task in report.node.tasks] == [
            (name, "queued") for name in waiting
        ]
        go.set()
        assert {(await bench.result()).id for _ in range(2)} == {"1", "2"}
        # The limits hold again for what comes now.
        plan, _, go_on = gate()
        for name in ("vm4", "vm5"):
            hypervisor.plan[name] = plan
            await bench.send(Start(vm_name=name), name)
        await wait_until_async(lambda: ("start", "vm4") in hypervisor.calls)
        await bench.ask(Query(), "again")
        assert ("start", "vm5") not in hypervisor.calls
        go_on.set()
        assert [(await bench.result()).id for _ in range(2)] == ["vm4", "vm5"]

    play(scene)


def test_repeated_id_is_answered_again_without_execution(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        hypervisor.plan["vm1"] = lambda _: "once"
        await bench.daemon(hypervisor)
        first = await bench.ask(Start(vm_name="vm1"), "1")
        # The same, written otherwise.
        again = await bench.ask("{id: '1', task: start vm, vm-configurations: [vm-name: vm1]}")
        assert again == first
        assert hypervisor.calls == [("start", "vm1")]

    play(scene)


def test_id_repeated_during_execution_is_answered_once(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        plan, begun, go = gate()
        hypervisor.plan["vm1"] = plan
        await bench.daemon(hypervisor)
        await bench.send(Start(vm_name="vm1"), "1")
        await bench.send(Start(vm_name="vm1"), "1")
        await patiently(begun.wait())
        await bench.send(Start(vm_name="vm1"), "1")
        await bench.no_result()
        go.set()
        assert (await bench.result()).id == "1"
        await bench.no_result()
        assert hypervisor.calls == [("start", "vm1")]

    play(scene)


def test_id_of_another_container_is_refused(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        await bench.daemon(hypervisor)
        await bench.ask(Start(vm_name="vm1"), "1")
        answer = await bench.ask(Migrate(vm_name="vm2", destination="node02"), "1")
        assert (answer.result, answer.id) == ("vm migrated", "1")
        assert answer.results[0].vm_name == "vm2"
        assert "'1' was used for another task" in str(answer.results[0].details)
        assert hypervisor.calls == [("start", "vm1")]

    play(scene)


def test_each_delivery_without_id_is_executed(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        await bench.daemon(hypervisor)
        for _ in range(3):
            await bench.ask(Start(vm_name="vm1"))
        assert hypervisor.calls == [("start", "vm1")] * 3

    play(scene)


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
            assert (started.id, started.results[0].details) == (str(number), "cancelled")
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
    monkeypatch.setattr("fastlib.migfra.tasks.dispatcher.HELD", 0)

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
            job = daemon.runtime.jobs.find(f"second {number}")
            assert job is not None
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
        assert "no task with the id 'nobody' is under way" in str(answer.results[0].details)
        await bench.send(Start(vm_name="vm1"), "1")
        await patiently(begun.wait())
        answer = await bench.ask(Cancel(id="1"))
        assert "still under way" in str(answer.results[0].details)
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
        assert "has ended before" in str(cancelled.results[0].details)
        answer = await bench.ask(Cancel(id="self"), "self")
        assert "is a cancel task itself" in str(answer.results[0].details)

    play(scene)


def test_query_reports_the_node(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        plan, begun, go = gate()
        hypervisor.plan["vm1"] = plan
        await bench.daemon(hypervisor)
        await bench.send(Start(vm_name="vm1"), "1")
        await patiently(begun.wait())
        answer = await bench.ask(Query(), "q")
        (result,) = answer.results
        assert isinstance(result, NodeResult)
        node = result.node
        assert node is not None
        assert (node.host, node.hypervisor, node.cpus) == (HOST, "scripted", 4)
        (task,) = node.tasks
        assert (task.id, task.vm_name, task.task, task.state) == ("1", "vm1", "start vm", "running")
        assert node.capabilities is not None
        assert node.capabilities["colour"] == "green"
        assert "migrate vm" in node.capabilities["tasks"]
        assert "repin vm" not in node.capabilities["tasks"]
        assert node.versions is not None
        assert "fastlib" in node.versions
        go.set()
        assert (await bench.result()).id == "1"

    play(scene)


def test_quit_finishes_running_tasks(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        plan, begun, go = gate()
        hypervisor.plan["vm1"] = plan
        daemon = await bench.daemon(hypervisor)
        await bench.send(Start(vm_name="vm1"), "1")
        await patiently(begun.wait())
        await bench.send(Quit(), "q")
        await wait_until_async(lambda: daemon.stopping)
        go.set()
        assert (await bench.result()).id == "1"
        answer = await bench.result()
        assert (answer.result, answer.id) == ("quit", "q")
        assert answer.results == (Result(vm_name="n/a", status="success"),)
        await patiently(daemon.ended.wait())
        assert not hypervisor.is_open

    play(scene)


def test_quit_names_tasks_that_did_not_end_in_time(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        plan, begun, _go = gate()
        hypervisor.plan["vm1"] = plan
        daemon = await bench.daemon(hypervisor, shutdown_timeout=0.05)
        await bench.send(Start(vm_name="vm1"), "1")
        await patiently(begun.wait())
        answer = await bench.ask(Quit())
        assert answer.results[0].details == "did not end in time: start vm 1"
        await patiently(daemon.ended.wait())

    play(scene)


def test_hanging_thread_does_not_block_the_end(play: Play) -> None:
    import threading

    release = threading.Event()

    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        hypervisor.plan["vm1"] = lambda _: release.wait(60)
        daemon = await bench.daemon(
            hypervisor, shutdown_timeout=0.05, limits=LimitsSection(members=2)
        )
        await bench.send(Stop(vm_name="vm1"), "1")
        await wait_until_async(lambda: ("stop", "vm1") in hypervisor.calls)
        assert (await bench.ask(Stop(vm_name="vm2"))).results[0].status == "success"
        await patiently(daemon.close())

    try:
        play(scene)
    finally:
        release.set()


def test_progress_rate_is_bounded(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        heard: list[Progress] = []

        async def hear(message: Any) -> None:
            heard.append(Progress.from_yaml(message.payload))

        await bench.scheduler.unsubscribe(topics.PROGRESS(HOST))
        await bench.scheduler.subscribe(topics.PROGRESS(HOST), hear)

        async def plan(context: Any) -> None:
            for number in range(1000):
                context.progress("copy", transferred=number, total=1000, dirty_rate=7)
            await wait_until_async(lambda: heard)
            for _ in range(1000):
                context.progress("switch over", percent=99.0)
            await wait_until_async(lambda: len(heard) == 2)

        hypervisor.plan["vm1"] = plan
        daemon = await bench.daemon(hypervisor, progress_interval=0.05)
        await bench.ask(Migrate(vm_name="vm1", destination="node02"), "m")
        first, second = heard
        assert (first.task, first.id, first.vm_name) == ("migrate vm", "m", "vm1")
        assert (first.phase, first.transferred, first.dirty_rate) == ("copy", 999, 7)
        assert (second.phase, second.percent) == ("switch over", 99)
        assert daemon.counters.migrated_bytes == 999

    play(scene)


def test_presence_follows_connection_and_end(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        async def becomes(status: str) -> None:
            """The next change; the same may be said twice."""
            before = {"online": "offline", "offline": "online"}[status]
            while True:
                message = await bench.received(topics.PRESENCE(HOST))
                heard = Presence.from_yaml(message.payload).status
                if heard == status:
                    return
                assert heard == before

        daemon = await bench.daemon()
        message = await bench.received(topics.PRESENCE(HOST))
        presence = Presence.from_yaml(message.payload)
        assert (presence.status, presence.hypervisor) == ("online", "scripted")
        assert presence.version is not None
        assert presence.started == daemon.started
        # The connection breaks: the broker sends the last will, the daemon says otherwise.
        client = f"fast-migfra-{HOST}"
        bench.broker.cut(client)
        await becomes("offline")
        bench.broker.mend(client)
        await becomes("online")
        await patiently(daemon.close())
        await becomes("offline")
        late = await bench.daemon()
        await becomes("online")
        await patiently(late.kill())
        await becomes("offline")

    play(scene)


def test_query_is_an_error_when_capabilities_fail(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        hypervisor.capabilities = lambda: 1 / 0  # type: ignore[method-assign]
        await bench.daemon(hypervisor)
        answer = await bench.ask(Query(), "q")
        assert answer.results[0].status == "error"
        assert "ZeroDivisionError" in str(answer.results[0].details)

    play(scene)


def test_invalid_progress_does_not_harm_the_task(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        logged: list[int] = []

        async def plan(context: Any) -> None:
            context.progress("copy", transferred=-1)
            await asyncio.sleep(0)
            logged.append(1)

        hypervisor.plan["vm1"] = plan
        await bench.daemon(hypervisor)
        assert (await bench.ask(Start(vm_name="vm1"))).results[0].status == "success"
        assert logged

    play(scene)


def test_json_log_names_the_task(play: Play, tmp_path: Path) -> None:
    handler = logging.FileHandler(tmp_path / "log", encoding="utf-8")
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("fastlib.migfra")
    level = logger.level

    async def scene(bench: Bench) -> None:
        await bench.daemon()
        answer = await bench.ask(Stop(vm_name="vm\n1"), "7")
        assert "cannot be the name of a domain" in str(answer.results[0].details)

    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        play(scene)
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
        handler.close()
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    ended = next(line for line in lines if "ended with error" in line["message"])
    assert (ended["id"], ended["vm-name"], ended["level"]) == ("7", "vm\n1", "info")


def test_metrics_are_served(play: Play) -> None:
    port = free_port()

    def read() -> str:
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/metrics", headers={"Accept": "application/openmetrics-text"}
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            return str(response.read().decode())

    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        plan, begun, go = gate()
        hypervisor.plan["vm2"] = plan
        limits = MigrationLimits({Slot("node01", "outgoing"): 1})
        hypervisor.limits = limits
        daemon = await bench.daemon(hypervisor, metrics=MetricsSection(port=port))
        daemon.counters.migrated_bytes += 1000
        await bench.ask(Start(vm_name="vm1"), "1")
        await wait_until_async(lambda: daemon.runtime.publisher.unconfirmed == 0)
        await bench.send(Migrate(vm_name="vm2", destination="node02"), "m")
        await patiently(begun.wait())
        slots = slots_between("node01", "node02")
        with CancelScope() as scope:
            async with limits.enqueued("vm3", slots, 1) as turn, limits.enqueued("vm4", slots, 1):
                assert await turn.try_to_begin(scope)
                text = await asyncio.to_thread(read)
        assert 'migfra_tasks_total{outcome="success",task="start vm"} 1.0' in text
        assert 'migfra_messages_total{kind="accepted"} 2.0' in text
        assert 'migfra_task_duration_seconds_count{task="start vm"} 1.0' in text
        assert "migfra_containers_at_work 1.0" in text
        assert "migfra_containers_waiting 0.0" in text
        assert "migfra_migrations_running 1.0" in text
        assert "migfra_migrations_queued 1.0" in text
        assert "migfra_answers_unconfirmed 0.0" in text
        assert "migfra_retries_total 0.0" in text
        assert "migfra_migrated_bytes_total 1000.0" in text
        assert "migfra_broker_connected 1.0" in text
        assert "migfra_journal_writable 1.0" in text
        started = re.search(r"^migfra_start_time_seconds (\S+)$", text, re.MULTILINE)
        assert started is not None
        assert float(started[1]) == daemon.started
        assert re.search(r"^migfra_journal_bytes [1-9]", text, re.MULTILINE)
        assert text.endswith("# EOF\n")
        other = Daemon(
            configuration(metrics=MetricsSection(port=port), hostname="node02"),
            communicator=bench.broker,
            in_memory=True,
        )
        with pytest.raises(OSError, match=f"metrics cannot be served at 127.0.0.1 port {port}"):
            await patiently(other.open())
        go.set()
        assert (await bench.result()).id == "m"

    play(scene)
    with pytest.raises(OSError, match="refused"):
        read()  # the server ends with the daemon
