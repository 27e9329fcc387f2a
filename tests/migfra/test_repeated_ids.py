"""Containers that come more than once, with an id and without one."""

from fastlib import (
    Migrate,
    Start,
)
from tests.support.migfra.bench import (
    Bench,
    Play,
    patiently,
)
from tests.support.migfra.scripted import Scripted, gate


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
