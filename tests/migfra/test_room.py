"""The daemon accepts messages up to bounds in bytes. It answers refused ones, and continues."""

import asyncio
import threading
from collections.abc import Iterable
from typing import Any

import pytest

from fastlib import Result, ResultContainer, Start, Stop, TaskContainer
from fastlib.message import Cancel, NodeReport, Query
from fastlib.message.topics import RESULT
from fastlib.migfra import Context, Daemon
from fastlib.migfra.config.sections import LimitsSection
from fastlib.migfra.hypervisors.simulated import Cluster, SimulatedHypervisor, SimulatedOptions
from fastlib.migfra.plugin_api.hypervisor import NodeContext
from fastlib.migfra.tasks import out_of_turn
from fastlib.migfra.tasks.container_bounds import text_memory
from fastlib.migfra.tasks.jobs import Job, Member
from fastlib.migfra.tasks.receiver import MESSAGE_MEMORY
from fastlib.migfra.virt.names import matching
from fastlib.transport import Delivery
from tests.support.migfra.bench import HOST, PATIENCE, Bench, Play, order, patiently
from tests.support.migfra.scripted import Scripted, gate
from tests.support.migfra.simulation import cluster_of
from tests.support.waiting import wait_until_async

SMALLEST = 1 << 20
"""Bytes; the smallest bound that a configuration may have."""
LARGE = "x" * int(SMALLEST * 0.6)


def large(id: str) -> str:
    """A start whose text takes more than half of the smallest bound."""
    container = TaskContainer(tasks=[Start(vm_name=id)], id=id, idempotency_key=f"key of {id}")
    return f"# {LARGE}\n{container.to_yaml()}"


def test_order_without_room_in_the_journal_is_refused_and_answered(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        plan, begun, go = gate()
        hypervisor.plan["one"] = plan
        daemon = await bench.daemon(hypervisor, limits=LimitsSection(waiting=SMALLEST))
        one = large("one")
        await bench.send(one)
        await patiently(begun.wait())
        two = await bench.ask(large("two"))
        assert two.id == "two"
        (refused,) = two.results
        assert refused.vm_name == "two"
        assert refused.status == "error"
        assert "the daemon has too many orders" in str(refused.details)
        assert "limits: {waiting: ...}" in str(refused.details)
        assert "the daemon does not execute it" in str(refused.details)
        # Small orders, a cancellation and an order that is known go on.
        assert (await bench.ask(Start(vm_name="small"), "three")).results[0].status == "success"
        await bench.send(one)
        await wait_until_async(lambda: daemon.counters.messages["repeated"] == 1)
        missing = await bench.ask(Cancel(id="nobody"), "four")
        assert "no task with the id 'nobody'" in str(missing.results[0].details)
        go.set()
        assert (await bench.result()).id == "one"
        await wait_until_async(lambda: daemon.runtime.jobs.size == 0)
        assert (await bench.ask(large("two"))).results[0].status == "success"
        assert daemon.counters.messages["refused"] == 1

    play(scene)


def test_orders_that_an_earlier_run_has_accepted_count_as_well(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        plan, begun, go = gate()
        hypervisor.plan["one"] = plan
        first = await bench.daemon(hypervisor, limits=LimitsSection(containers=1))
        await bench.send(large("one"))
        await patiently(begun.wait())
        await bench.send(large("two"))
        await wait_until_async(lambda: first.runtime.jobs.find("two"))
        size = first.runtime.jobs.size
        assert size > SMALLEST
        await first.kill()
        hypervisor = Scripted()
        plan, begun, go = gate()
        hypervisor.plan["one"] = hypervisor.plan["two"] = plan
        limits = LimitsSection(containers=1, waiting=SMALLEST)
        second = await bench.daemon(hypervisor, limits=limits)
        await wait_until_async(lambda: second.runtime.jobs.size < size)  # the one that had begun
        assert (await bench.result()).id == "one"
        await patiently(begun.wait())
        three = await bench.ask(large("three"))
        assert "too many orders" in str(three.results[0].details)
        go.set()
        assert (await bench.result()).id == "two"

    play(scene)


class Unconfirmed:
    """Keeps the answers of a daemon unconfirmed until a test confirms them."""

    def __init__(self, daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kept: list[Delivery] = []
        self._send_now = daemon.runtime.communicator.send_now
        monkeypatch.setattr(daemon.runtime.communicator, "send_now", self.send_now)

    def send_now(self, payload: bytes, topic: str, *arguments: Any, **named: Any) -> Delivery:
        if topic != RESULT(HOST):
            return self._send_now(payload, topic, *arguments, **named)
        self.kept.append(Delivery(topic, payload, 1, retain=False))
        return self.kept[-1]

    def answers(self) -> list[ResultContainer]:
        return [ResultContainer.from_yaml(delivery.payload) for delivery in self.kept]


def test_answers_that_the_broker_does_not_confirm_count_as_well(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = Result(vm_name="vm", status="success", details="x" * 8000)

    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        monkeypatch.setattr(hypervisor, "_plan_for", lambda _: lambda _: [result] * 50)
        daemon = await bench.daemon(hypervisor, limits=LimitsSection(waiting=SMALLEST))
        publisher, broker = daemon.runtime.publisher, Unconfirmed(daemon, monkeypatch)
        for number in range(4):
            await bench.send(Start(vm_name="vm"), f"id{number}")
            # An answer is counted some milliseconds after it is sent.
            await wait_until_async(lambda number=number: publisher.unconfirmed > number)  # type: ignore[misc]
        assert publisher.size > SMALLEST
        refused = broker.answers()[3].results[0]
        assert "answers that the broker has not confirmed" in str(refused.details)
        assert len(hypervisor.calls) == 3
        for delivery in broker.kept:
            delivery.future.set_result(None)
        await wait_until_async(lambda: publisher.size == 0)
        await bench.send(Start(vm_name="vm"), "id4")
        await wait_until_async(lambda: len(broker.kept) == 5)
        assert broker.answers()[4].results[0].status == "success"
        broker.kept[4].future.set_result(None)

    play(scene)


def test_refusals_that_the_broker_does_not_confirm_hold_up_the_next_messages(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(bench: Bench) -> None:
        daemon = await bench.daemon(limits=LimitsSection(inbox=SMALLEST))
        broker = Unconfirmed(daemon, monkeypatch)
        text = b"[" + b" " * 60_000
        room = SMALLEST // (MESSAGE_MEMORY + len(text) + text_memory(text))
        for _ in range(2 * room):
            await bench.send(text)
        await wait_until_async(lambda: len(broker.kept) == room)
        assert daemon.counters.messages["unreadable"] == room
        for number in range(2 * room):
            await wait_until_async(lambda number=number: len(broker.kept) > number)  # type: ignore[misc]
            broker.kept[number].future.set_result(None)
        await wait_until_async(lambda: daemon.runtime.publisher.unconfirmed == 0)
        assert daemon.counters.messages["unreadable"] == 2 * room

    play(scene)


def test_query_keeps_its_place_until_the_broker_has_the_report(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(bench: Bench) -> None:
        daemon = await bench.daemon(limits=LimitsSection(queries=2))
        broker = Unconfirmed(daemon, monkeypatch)
        for number in range(5):
            await bench.send(TaskContainer(tasks=[Query()], id=f"q{number}"))
        await wait_until_async(lambda: daemon.counters.messages["query"] == 5)
        await wait_until_async(lambda: len(broker.kept) == 2)
        assert daemon.runtime.publisher.unconfirmed == 2
        for number in range(5):
            await wait_until_async(lambda number=number: len(broker.kept) > number)  # type: ignore[misc]
            broker.kept[number].future.set_result(None)
        assert {answer.id for answer in broker.answers()} == {f"q{number}" for number in range(5)}

    play(scene)


def test_waiting_container_beyond_the_memory_is_kept_in_the_journal_only(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        plan, begun, go = gate()
        hypervisor.plan["first"] = plan
        limits = LimitsSection(containers=1, parsed=4 * SMALLEST)
        daemon = await bench.daemon(hypervisor, limits=limits)
        await bench.send(Start(vm_name="first"), "first")
        await patiently(begun.wait())
        ids = ["a", "b", "c"]
        for id in ids:
            await bench.send(large(id))
        await wait_until_async(lambda: daemon.runtime.jobs.find("c"))
        held = [daemon.runtime.jobs.find(id)[0].container is not None for id in ids]
        assert held == [True, False, False]
        await bench.send(Start(vm_name="last"), "last")
        go.set()
        answers = [await bench.result() for _ in range(5)]
        assert [answer.id for answer in answers] == ["first", *ids, "last"]
        assert {answer.results[0].status for answer in answers} == {"success"}

    play(scene)


def test_containers_are_executed_together_only_as_far_as_the_memory_reaches(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        plan, begun, go = gate()
        hypervisor.plan["a"] = plan
        # Three quarters of it are for those that are executed.
        daemon = await bench.daemon(hypervisor, limits=LimitsSection(parsed=SMALLEST))
        await bench.send(large("a"))
        await patiently(begun.wait())
        await bench.send(large("b"))
        await wait_until_async(lambda: daemon.runtime.jobs.find("b"))
        await bench.no_result()
        assert hypervisor.most_running == 1
        # A cancellation does not wait for memory.
        await bench.send(Cancel(id="b"), "c")
        assert {(await bench.result()).id, (await bench.result()).id} == {"b", "c"}
        go.set()
        assert (await bench.result()).id == "a"
        assert hypervisor.calls == [("start", "a")]

    play(scene)


def test_many_members_are_started_some_at_a_time(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(bench: Bench) -> None:
        daemon = await bench.daemon()
        tasks = [Start(vm_name=f"vm{n}") for n in range(300)]
        now = most = 0
        members = daemon.runtime.dispatcher._members
        execute = members.execute

        async def counted(job: Job, member: Member) -> None:
            nonlocal now, most
            now += 1
            most = max(most, now)
            await execute(job, member)
            now -= 1

        monkeypatch.setattr(members, "execute", counted)
        answer = await bench.ask(TaskContainer(tasks=tasks, id="many"))
        assert [result.vm_name for result in answer.results] == [t.vm_name for t in tasks]
        assert 1 < most <= 256

    play(scene)


class Slow(Scripted):
    """Answers `query node` when a test permits it."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()
        self.at_once = 0
        self.most = 0

    async def query(self, task: Query, context: Context) -> NodeReport:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        await self.go.wait()
        self.at_once -= 1
        return NodeReport(host="node01", hypervisor=self.name)


def test_queries_run_a_few_at_a_time_and_orders_continue(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Slow()
        await bench.daemon(hypervisor, limits=LimitsSection(queries=2))
        for number in range(20):
            await bench.send(TaskContainer(tasks=[Query()], id=f"q{number}"))
        assert (await bench.ask(Start(vm_name="vm"), "order")).id == "order"
        hypervisor.go.set()
        answers = [await bench.result() for _ in range(20)]
        assert {answer.id for answer in answers} == {f"q{number}" for number in range(20)}
        assert hypervisor.most == 2

    play(scene)


def test_too_many_queries_are_refused_and_answered(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastlib.migfra.tasks.room.MAX_QUERIES", 2)

    async def scene(bench: Bench) -> None:
        hypervisor = Slow()
        await bench.daemon(hypervisor, limits=LimitsSection(queries=1))
        for number in range(4):
            await bench.send(TaskContainer(tasks=[Query()], id=f"q{number}"))
        refused = await bench.result()
        assert refused.id == "q3"
        assert "2 queries are waiting" in str(refused.results[0].details)
        hypervisor.go.set()
        assert [(await bench.result()).id for _ in range(3)] == ["q0", "q1", "q2"]

    play(scene)


def test_many_orders_that_expire_together_are_loaded_a_few_at_a_time(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        plan, begun, go = gate()
        hypervisor.plan["first"] = plan
        daemon = await bench.daemon(hypervisor, limits=LimitsSection(containers=1))
        await bench.send(Start(vm_name="first"), "first")
        await patiently(begun.wait())
        count = 5 * out_of_turn.AT_ONCE
        for number in range(count):
            await bench.send(order(Start(vm_name=f"vm{number}"), expires=600, id=f"e{number}"))
        await wait_until_async(lambda: daemon.runtime.jobs.find(f"e{count - 1}"))
        for number in range(count):
            daemon.runtime.jobs.find(f"e{number}")[0].cancel()
        assert daemon.runtime.dispatcher.running <= 1 + out_of_turn.AT_ONCE
        assert {(await bench.result()).id for _ in range(count)} == {f"e{n}" for n in range(count)}
        go.set()
        assert (await bench.result()).id == "first"

    play(scene)


def test_orders_are_answered_while_a_regular_expression_is_matched(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes longer here than anything may block the event loop."""
    matched, go = threading.Event(), threading.Event()

    def slow(regex: str, names: Iterable[str]) -> list[str]:
        matched.set()
        assert go.wait(PATIENCE)
        return matching(regex, names)

    monkeypatch.setattr("fastlib.migfra.virt.names.matching", slow)

    async def scene(bench: Bench) -> None:
        domains = ((name, HOST) for name in ("vm1", "vm2", "other"))
        description = cluster_of(*domains, hosts=[HOST])
        options = SimulatedOptions(cluster="regex", create=description, speed=100.0)
        await bench.daemon(SimulatedHypervisor(options, NodeContext(HOST)))
        await bench.send(Stop(regex="vm.", force=True), "regex")
        await wait_until_async(matched.is_set)
        answer = await bench.ask(Stop(vm_name="other", force=True), "other")
        assert (answer.id, answer.results[0].status) == ("other", "success")
        go.set()
        answer = await bench.result()
        assert answer.id == "regex"
        assert [result.vm_name for result in answer.results] == ["vm1", "vm2"]

    Cluster.forget("regex")
    play(scene)
