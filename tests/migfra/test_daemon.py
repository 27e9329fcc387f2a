"""One daemon over a broker in memory: how it executes tasks and answers them."""

import asyncio
from typing import Any

import pytest

from fastlib import (
    Evacuate,
    Migrate,
    MigrateParameter,
    Repin,
    Result,
    Start,
    Stop,
    SwapWith,
    Task,
    TaskContainer,
)
from fastlib.message import NodeResult, Query
from fastlib.migfra import Context
from fastlib.migfra.config.sections import LimitsSection, RetrySection
from tests.support.migfra.bench import (
    Bench,
    Play,
    patiently,
)
from tests.support.migfra.scripted import Scripted, fail, gate, results
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
            assert asyncio.run_coroutine_threadsafe(name(), loop).result(60)
            return str(context.run(name(), timeout=60))

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
            "the hypervisor must answer start vm with None, a text, a Result or a sequence of "
            "Results; got dict",
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
        details = "the hypervisor scripted does not support repin vm"
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
        ("task: quit\nid: big\n#" + "x" * 2000, "big", "at most 1024 bytes"),
        ('task: nothing\nid: "\\ud800"', None, "is not a valid character"),
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
