"""Orders that come more than once, with an idempotency key and without one."""

from datetime import UTC, datetime, timedelta

import msgspec

from fastlib import Migrate, ResultContainer, Start, Stop, TaskContainer
from fastlib.migfra.config.sections import JournalSection
from tests.support.migfra.bench import Bench, Play, patiently
from tests.support.migfra.scripted import Scripted, gate


def with_key(key: str, *, id: str = "1", expires: datetime | None = None) -> TaskContainer:
    return TaskContainer(tasks=[Start(vm_name="vm1")], id=id, idempotency_key=key, expires=expires)


def without_time(answer: ResultContainer) -> ResultContainer:
    assert answer.executed is not None
    return msgspec.structs.replace(answer, executed=None)


def test_repeated_key_is_answered_again_without_execution(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        hypervisor.plan["vm1"] = lambda _: "once"
        await bench.daemon(hypervisor)
        before = datetime.now(UTC)
        first = await bench.ask(with_key("k"))
        assert (first.executed, first.idempotency_key) == (None, "k")
        # The same, written otherwise.
        again = await bench.ask(
            "{idempotency-key: k, id: '1', task: start vm, vm-configurations: [vm-name: vm1]}"
        )
        assert without_time(again) == first
        assert again.executed is not None
        assert before <= again.executed <= datetime.now(UTC)
        assert hypervisor.calls == [("start", "vm1")]

    play(scene)


def test_repetition_with_more_time_is_the_same_order(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        await bench.daemon(hypervisor)
        now = datetime.now(UTC)
        first = await bench.ask(with_key("k", expires=now + timedelta(hours=1)))
        again = await bench.ask(with_key("k", expires=now + timedelta(hours=2)))
        assert without_time(again) == first
        assert hypervisor.calls == [("start", "vm1")]

    play(scene)


def test_key_repeated_during_execution_is_answered_once(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        plan, begun, go = gate()
        hypervisor.plan["vm1"] = plan
        await bench.daemon(hypervisor)
        await bench.send(with_key("k"))
        await bench.send(with_key("k"))
        await patiently(begun.wait())
        await bench.send(with_key("k"))
        await bench.no_result()
        go.set()
        answer = await bench.result()
        assert (answer.id, answer.executed) == ("1", None)
        await bench.no_result()
        assert hypervisor.calls == [("start", "vm1")]

    play(scene)


def test_key_of_another_order_is_refused(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        await bench.daemon(hypervisor)
        await bench.ask(with_key("k"))
        other = TaskContainer(
            tasks=[Migrate(vm_name="vm2", destination="node02")], id="1", idempotency_key="k"
        )
        answer = await bench.ask(other)
        assert (answer.result, answer.id, answer.idempotency_key) == ("vm migrated", "1", "k")
        assert answer.executed is None
        assert answer.results[0].vm_name == "vm2"
        details = str(answer.results[0].details)
        assert "'k' was used by the order with the id '1', whose content differs" in details
        answer = await bench.ask(with_key("k", id="2"))
        assert answer.results[0].details == (
            "the idempotency key 'k' was used by an order with the id '1', so the daemon does not "
            "execute it; an order that is sent again must be identical, including its id. Give a "
            "new order a new key, for example by 'fastlib send --new-id'"
        )
        assert hypervisor.calls == [("start", "vm1")]

    play(scene)


def test_id_says_nothing(play: Play) -> None:
    """Real clients send every order with the same id."""

    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        await bench.daemon(hypervisor)
        for task in (Start(vm_name="vm1"), Stop(vm_name="vm1")) * 2:
            answer = await bench.ask(task, "test-id")
            assert (answer.id, answer.executed) == ("test-id", None)
            assert answer.results[0].status == "success"
        assert hypervisor.calls == [("start", "vm1"), ("stop", "vm1")] * 2

    play(scene)


def test_orders_with_one_id_in_flight_are_each_executed(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        await bench.daemon(hypervisor)
        orders = [Start(vm_name="vm1"), Stop(vm_name="vm1")] * 2
        for task in orders:
            await bench.send(TaskContainer(tasks=[task], id="test-id", concurrent_execution=False))
        results = [(await bench.result()).result for _ in orders]
        assert results == ["vm started", "vm stopped"] * 2
        assert hypervisor.calls == [("start", "vm1"), ("stop", "vm1")] * 2

    play(scene)


def test_same_bytes_within_the_window_are_one_order(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        await bench.daemon(hypervisor)
        for id in ("test-id", None):
            first = await bench.ask(Stop(vm_name="vm1"), id)
            again = await bench.ask(Stop(vm_name="vm1"), id)
            assert without_time(again) == first
        assert hypervisor.calls == [("stop", "vm1")] * 2

    play(scene)


def test_same_bytes_beyond_the_window_are_two_orders(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        await bench.daemon(hypervisor, journal=JournalSection(repetition_window=0.0))
        for id in ("test-id", None):
            for _ in range(2):
                answer = await bench.ask(Stop(vm_name="vm1"), id)
                assert answer.executed is None
        assert hypervisor.calls == [("stop", "vm1")] * 4

    play(scene)


def test_query_and_unreadable_message_between_make_two_orders(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        await bench.daemon(hypervisor)
        for between in ("task: query node\nid: test-id", "task: [\nid: test-id", None):
            await bench.ask(Stop(vm_name="vm1"), "test-id")
            if between is not None:
                await bench.ask(between)
        assert hypervisor.calls == [("stop", "vm1")] * 3

    play(scene)


def test_messages_sent_again_together_are_executed_once(play: Play) -> None:
    """A client that has lost its connection repeats everything that it had in flight."""

    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        plan, _, go = gate()
        names = ("vm1", "vm2", "vm3")
        hypervisor.plan.update(dict.fromkeys(names, plan))
        await bench.daemon(hypervisor)
        for vm_name in names * 2:
            await bench.send(Start(vm_name=vm_name), "test-id")
        await bench.no_result()
        go.set()
        for _ in range(3):
            await bench.result()
        await bench.no_result()
        assert sorted(hypervisor.calls) == [("start", f"vm{n}") for n in (1, 2, 3)]

    play(scene)
