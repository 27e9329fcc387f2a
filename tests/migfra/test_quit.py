"""The regular end of a daemon, and tasks that do not end in time."""

from fastlib import (
    Quit,
    Result,
    Start,
    Stop,
)
from fastlib.migfra.config.sections import LimitsSection
from tests.support.migfra.bench import (
    Bench,
    Play,
    patiently,
)
from tests.support.migfra.scripted import Scripted, gate
from tests.support.waiting import wait_until_async


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
