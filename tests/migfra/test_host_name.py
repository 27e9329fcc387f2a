"""A host that gets another name: orders to the old name are answered under the old name."""

from typing import Any

import pytest

from fastlib import ResultContainer, Start, Task, TaskContainer
from fastlib.message import topics
from fastlib.message.node import Progress
from fastlib.migfra import Context
from fastlib.migfra.journal.journal import Journal
from tests.support.migfra.bench import HOST, Bench, Play, patiently
from tests.support.migfra.scripted import Scripted, gate
from tests.support.waiting import wait_until_async

OTHER = "node02"
"""The name of the host from the second run on."""


class Recovering(Scripted):
    """Finishes tasks that an earlier run has begun."""

    async def recover(self, task: Task, context: Context) -> Any:
        assert isinstance(task, Start)
        return await self._do("recover", str(task.vm_name), context)


async def accepted_under_the_old_name(bench: Bench) -> None:
    """Let a daemon be killed while it starts vm1."""
    hypervisor = Scripted()
    plan, begun, _ = gate()
    hypervisor.plan["vm1"] = plan
    daemon = await bench.daemon(hypervisor)
    await bench.send(order())
    await patiently(begun.wait())
    await patiently(daemon.kill())
    await bench.scheduler.subscribe(topics.RESULT(OTHER))


def order() -> TaskContainer:
    return TaskContainer(tasks=[Start(vm_name="vm1")], id="1", idempotency_key="k")


def test_answer_and_progress_have_the_name_that_the_order_came_to(
    play: Play, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(bench: Bench) -> None:
        await accepted_under_the_old_name(bench)
        hypervisor = Recovering()

        async def plan(context: Any) -> None:
            context.progress("boot", percent=50.0)
            message = await bench.received(topics.PROGRESS(HOST))
            assert Progress.from_yaml(message.payload).phase == "boot"

        hypervisor.plan["vm1"] = plan
        await bench.daemon(hypervisor, hostname=OTHER)
        answer = await bench.result()
        assert (answer.id, answer.results[0].status) == ("1", "success")
        assert f"the journal {bench.journal} belonged to the host {HOST}" in caplog.text
        assert f"orders (1 containers), and answers them under the name {HOST}" in caplog.text
        await nothing_came(bench)

    play(scene)


async def nothing_came(bench: Bench) -> None:
    """The first answer under the new name is that to an order that came to it."""
    new = TaskContainer(tasks=[Start(vm_name="vm2")], id="2").to_yaml().encode()
    await bench.scheduler.send(new, topics.TASK(OTHER))
    assert await answer_under_the_new_name(bench) == "2"


async def answer_under_the_new_name(bench: Bench) -> str | None:
    message = await bench.received(topics.RESULT(OTHER))
    return ResultContainer.from_yaml(message.payload).id


def test_answer_that_the_broker_may_not_have_keeps_its_name(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(bench: Bench) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(Journal, "confirmed", lambda journal, number: None)
            daemon = await bench.daemon()
            assert (await bench.ask(order())).id == "1"
            await patiently(daemon.kill())
        await bench.scheduler.subscribe(topics.RESULT(OTHER))
        await bench.daemon(hostname=OTHER)
        assert (await bench.result()).id == "1"
        await nothing_came(bench)

    play(scene)


def test_order_that_came_to_both_names_is_answered_under_both(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        await accepted_under_the_old_name(bench)
        hypervisor = Recovering()
        plan, begun, go = gate()
        hypervisor.plan["vm1"] = plan
        daemon = await bench.daemon(hypervisor, hostname=OTHER)
        await patiently(begun.wait())
        await bench.scheduler.send(order().to_yaml().encode(), topics.TASK(OTHER))
        await wait_until_async(lambda: daemon.counters.messages["repeated"] == 1)
        go.set()
        assert (await bench.result()).id == "1"
        assert await answer_under_the_new_name(bench) == "1"
        assert hypervisor.calls == [("recover", "vm1")]

    play(scene)
