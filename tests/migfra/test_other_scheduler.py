"""One scheduler cannot end or change the requests of another one, though it knows their ids."""

import asyncio

import msgspec

from fastlib import Query, ResultContainer, Start, Stop, TaskContainer
from fastlib.client import AsyncHandle, AsyncMigfraClient
from fastlib.message.node import Progress
from fastlib.message.request_digest import request_digest
from fastlib.message.topics import PROGRESS
from fastlib.migfra import Context
from fastlib.transport import MemoryOptions
from tests.support.migfra.bench import HOST, Bench, Play, patiently
from tests.support.migfra.scripted import Scripted, gate
from tests.support.waiting import wait_until_async


async def client_of(bench: Bench) -> AsyncMigfraClient:
    return await AsyncMigfraClient.connect(MemoryOptions(broker=bench.broker), timeout=60)


async def messages_with_the_id_of(bench: Bench, container: TaskContainer) -> list[ResultContainer]:
    """Send messages of another scheduler that has seen the id and the key."""
    id, key = container.id, container.idempotency_key
    stop = TaskContainer(tasks=[Stop(vm_name="vm2")], id=id)
    for message in (
        f"task: strat vm\nid: {id}\n",
        f"task: strat vm\nid: {id}\nidempotency-key: {key}\n",
        stop,
        msgspec.structs.replace(stop, idempotency_key=key),
        TaskContainer(tasks=[Query()], id=id, idempotency_key=key),
        TaskContainer(tasks=[Start(vm_name="vm1")] * 2, id=id, idempotency_key=key),
    ):
        await bench.send(message)
    return [await bench.result() for _ in range(6)]


def test_messages_with_the_same_id_do_not_change_a_request(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        plan, begun, go = gate()
        hypervisor.plan["vm1"] = plan
        await bench.daemon(hypervisor)
        async with await client_of(bench) as client:
            handle = await client.start(HOST, "vm1")
            await patiently(begun.wait())
            answers = await messages_with_the_id_of(bench, handle.container)
            assert {answer.id for answer in answers} == {handle.id}
            assert not handle.done()
            go.set()
            assert (await patiently(handle.result())).status == "success"
        assert sorted(hypervisor.calls) == [("start", "vm1"), ("stop", "vm2")]

    play(scene)


def test_progress_of_another_order_with_the_same_id_is_not_that_of_a_request(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        hypervisor.plan["vm1"], _, go = gate()

        async def report(context: Context) -> None:
            context.progress("memory", percent=50)
            await go.wait()

        hypervisor.plan["vm2"] = report
        await bench.daemon(hypervisor)
        async with await client_of(bench) as client:
            handle = await client.start(HOST, "vm1")
            other = TaskContainer(tasks=[Start(vm_name="vm2")], id=handle.id)
            await bench.send(other)
            seen = Progress.from_yaml((await bench.received(PROGRESS(HOST))).payload)
            assert (seen.phase, seen.id) == ("memory", handle.id)
            assert seen.request_digest == request_digest(other.to_yaml().encode())
            go.set()
            assert (await patiently(handle.result())).status == "success"
            assert handle.progress is None

    play(scene)


def test_ids_that_another_scheduler_has_used_block_nobody(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        await bench.daemon(hypervisor)
        async with await client_of(bench) as client:
            first = await client.start(HOST, "vm0")
            assert (await patiently(first.result())).status == "success"
            for number in range(2, 20):
                used = f"{first.id}-{number}"
                stop = TaskContainer(tasks=[Stop(vm_name="x")], id=used, idempotency_key=used)
                await bench.send(stop)
            handles: list[AsyncHandle] = [await client.start(HOST, f"vm{n}") for n in range(1, 20)]
            results = await patiently(asyncio.gather(*(handle.result() for handle in handles)))
            assert {result.status for result in results} == {"success"}
            # Even the same id, which it can only use once the daemon has the order.
            same = await client.submit(HOST, Start(vm_name="vm20"), id=f"{first.id}-2")
            assert (await patiently(same.result())).results[0].status == "success"

    play(scene)


def test_each_answer_names_its_message_or_the_key_of_its_order(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        await bench.daemon()

        async def named(text: str) -> bool:
            answer = await bench.ask(text)
            digest = request_digest(text.encode())
            assert answer.request_digest in (None, digest)
            return answer.request_digest == digest

        start = "task: start vm\nvm-configurations: [vm-name: vm1]\n"
        assert await named("task: strat vm\n")
        assert await named("[1, 2\n")
        assert await named("task: query node\nidempotency-key: k\n")
        assert await named(start)
        assert not await named(f"{start}idempotency-key: k\n")
        assert not await named(f"{start}idempotency-key: k\n")  # answered from the journal
        assert await named("task: stop vm\nlist: [vm-name: vm1]\nidempotency-key: k\n")  # refused

    play(scene)


def test_answer_names_the_message_after_a_restart(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        hypervisor.plan["vm1"], begun, _ = gate()
        daemon = await bench.daemon(hypervisor)
        waits = TaskContainer(tasks=[Start(vm_name="vm1", concurrent_execution=False)])
        await bench.send(msgspec.structs.replace(waits, concurrent_execution=False))
        await patiently(begun.wait())
        text = "task: start vm\nid: next\nvm-configurations: [vm-name: vm2]\n"
        await bench.send(text)
        await wait_until_async(lambda: daemon.runtime.dispatcher.queued == 1)
        await patiently(daemon.kill())
        await bench.daemon()
        answers = {answer.id: answer for answer in [await bench.result(), await bench.result()]}
        assert answers["next"].request_digest == request_digest(text.encode())

    play(scene)
