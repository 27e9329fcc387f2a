"""A daemon that is killed, and the next one that has its journal."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from fastlib import Migrate, Quit, Start, TaskContainer
from fastlib.message import Cancel, topics
from fastlib.message.result_container import CANCELLED_BEFORE
from fastlib.migfra import Context, Hypervisor, RunningError
from fastlib.migfra.config.sections import JournalSection, LimitsSection
from fastlib.migfra.tasks.decoding import digest
from fastlib.transport.memory.broker import PublishedMessage
from tests.support.migfra.bench import HOST, Bench, Play, patiently
from tests.support.migfra.scripted import Recovering, Scripted, gate, until_cancelled
from tests.support.waiting import wait_until_async


async def _killed_at_work(bench: Bench, hypervisor: Scripted, container: TaskContainer) -> None:
    """A daemon is killed while the first member of a container waits at its gate."""
    plan, begun, _ = gate()
    hypervisor.plan["vm1"] = plan
    daemon = await bench.daemon(hypervisor, limits=LimitsSection(containers=1))
    await bench.send(container)
    await patiently(begun.wait())
    await patiently(daemon.kill())


def test_running_task_is_recovered_after_a_restart(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        first = Recovering()

        async def noting(context: Context) -> None:
            await asyncio.wrap_future(context.save_state(job="j7", target=["node02"]))
            await _forever(context)

        first.plan["vm1"] = noting
        daemon = await bench.daemon(first)
        await bench.send(Migrate(vm_name="vm1", destination="node02"), "m")
        await wait_until_async(lambda: first.contexts and first.contexts[0].saved_state)
        await patiently(daemon.kill())
        second = Recovering()
        second.plan["vm1"] = lambda context: f"found {context.saved_state['job']} {context.id}"
        await bench.daemon(second)
        answer = await bench.result()
        assert (answer.id, answer.results[0].status) == ("m", "success")
        assert answer.results[0].details == "found j7 m"
        assert second.calls == [("recover", "vm1")]

    play(scene)


async def _forever(context: Context) -> None:
    await asyncio.Event().wait()


def test_hypervisor_without_recover_gives_an_error(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        container = TaskContainer(tasks=[Start(vm_name="vm1")], id="1")
        await _killed_at_work(bench, Scripted(), container)
        second = Scripted()
        await bench.daemon(second)
        answer = await bench.result()
        assert (answer.id, answer.results[0].status) == ("1", "error")
        assert "cannot determine how it ended" in str(answer.results[0].details)
        assert second.calls == []

    play(scene)


def test_ended_members_keep_their_results_after_a_restart(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        first = Recovering()
        first.plan["vm0"] = lambda _: "by the first"
        tasks = [
            Start(vm_name="vm0", concurrent_execution=False),
            Start(vm_name="vm1", concurrent_execution=False),
            Start(vm_name="vm2"),
        ]
        await _killed_at_work(bench, first, TaskContainer(tasks=tasks, id="1"))
        second = Recovering()
        second.plan |= {"vm1": lambda _: "looked up", "vm2": lambda _: "by the second"}
        await bench.daemon(second)
        answer = await bench.result()
        details = [result.details for result in answer.results]
        assert details == ["by the first", "looked up", "by the second"]
        assert second.calls == [("recover", "vm1"), ("start", "vm2")]

    play(scene)


def test_waiting_tasks_are_executed_in_order_after_a_restart(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        first = Recovering()
        plan, _begun, _ = gate()
        first.plan["vm0"] = plan
        daemon = await bench.daemon(first, limits=LimitsSection(containers=1))
        names = [f"vm{number}" for number in range(50)]
        for name in names:
            await bench.send(Start(vm_name=name), name)
        await bench.send(Start(vm_name="nameless"))
        await wait_until_async(lambda: daemon.runtime.dispatcher.queued == 50)
        await patiently(daemon.kill())
        second = Recovering()
        await bench.daemon(second, limits=LimitsSection(containers=1))
        assert [(await bench.result()).id for _ in range(51)] == [*names, None]
        assert second.calls == [
            ("recover", "vm0"),
            *(("start", name) for name in names[1:]),
            ("start", "nameless"),
        ]
        await bench.no_result()

    play(scene)


def test_results_are_kept_until_confirmed(play: Play, tmp_path: Path) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        plan, begun, go = gate()
        hypervisor.plan["vm1"] = plan
        daemon = await bench.daemon(hypervisor)
        await bench.send(Start(vm_name="vm1"), "1")
        await patiently(begun.wait())
        bench.broker.cut("fast-migfra-node01")
        go.set()
        await wait_until_async(lambda: daemon.runtime.publisher.unconfirmed == 1)
        await patiently(daemon.kill())
        with closing(sqlite3.connect(bench.journal)) as journal, journal:
            assert journal.execute("SELECT state FROM containers").fetchall() == [(1,)]
        bench.broker.mend("fast-migfra-node01")
        second = Scripted()
        later = await bench.daemon(second)
        answer = await bench.result()
        assert (answer.id, answer.results[0].status) == ("1", "success")
        assert second.calls == []
        await patiently(later.close())
        with closing(sqlite3.connect(bench.journal)) as journal, journal:
            assert journal.execute("SELECT state FROM containers").fetchall() == [(2,)]

    play(scene)


def test_end_of_a_daemon_does_not_wait_for_a_broker_that_is_away(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastlib.migfra.runtime.CLOSE_SECONDS", 1000.0)

    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        plan, begun, go = gate()
        hypervisor.plan["vm1"] = plan
        daemon = await bench.daemon(hypervisor)
        await bench.send(Start(vm_name="vm1"), "1")
        await patiently(begun.wait())
        bench.broker.cut("fast-migfra-node01")
        go.set()
        await wait_until_async(lambda: daemon.runtime.publisher.unconfirmed == 1)
        await patiently(daemon.close())
        bench.broker.mend("fast-migfra-node01")
        await bench.daemon(Scripted())
        answer = await bench.result()
        assert (answer.id, answer.results[0].status) == ("1", "success")

    play(scene)


def test_repetition_is_answered_from_the_journal_after_a_restart(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        order = TaskContainer(tasks=[Start(vm_name="vm1")], id="1", idempotency_key="k")
        daemon = await bench.daemon()
        first = await bench.ask(order)
        await patiently(daemon.close())
        second = Scripted()
        await bench.daemon(second)
        again = await bench.ask(order)
        assert again.executed is not None
        assert msgspec.structs.replace(again, executed=None) == first
        assert second.calls == []

    play(scene)


def test_broker_keeps_tasks_while_the_daemon_is_away(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        daemon = await bench.daemon()
        await patiently(daemon.close())
        await bench.send(Start(vm_name="vm1"), "late")
        await bench.daemon()
        assert (await bench.result()).id == "late"

    play(scene)


def test_cancellation_outlives_the_daemon(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        first = Recovering()
        plan, begun, _ = gate()  # it does not listen
        first.plan["vm1"] = plan
        daemon = await bench.daemon(first)
        tasks = [Start(vm_name="vm1", concurrent_execution=False), Start(vm_name="vm2")]
        await bench.send(TaskContainer(tasks=tasks, id="1"))
        await patiently(begun.wait())
        await bench.send(Cancel(id="1"), "c")
        await wait_until_async(lambda: first.contexts[0].cancelled)
        await patiently(daemon.kill())
        second = Recovering()
        recovering, _recovered = until_cancelled()
        second.plan["vm1"] = recovering
        await bench.daemon(second)
        answers = {answer.id: answer for answer in [await bench.result(), await bench.result()]}
        details = [result.details for result in answers["1"].results]
        assert details == ["cancelled", CANCELLED_BEFORE]
        assert second.calls == [("recover", "vm1")]
        assert "c" in answers

    play(scene)


def test_quit_of_an_earlier_run_does_not_end_the_daemon(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        plan, _begun, _ = gate()
        first = Recovering()
        first.plan["vm1"] = plan
        daemon = await bench.daemon(first, limits=LimitsSection(containers=1))
        await bench.send(Start(vm_name="vm1"), "1")
        await bench.send(Quit(), "q")
        await wait_until_async(lambda: daemon.runtime.dispatcher.queued == 1)
        await patiently(daemon.kill())
        second = await bench.daemon(Recovering())
        assert {(await bench.result()).id, (await bench.result()).id} == {"1", "q"}
        assert (await bench.ask(Start(vm_name="vm2"), "2")).results[0].status == "success"
        assert not second.stopping

    play(scene)


def _keep_unacknowledged(bench: Bench, *numbers: int) -> None:
    """The broker has not got the acknowledgements of the messages of these numbers."""
    session = bench.broker._sessions["fast-migfra-node01"]
    text = TaskContainer(tasks=[Start(vm_name="vm1")]).to_yaml().encode()
    for number in numbers:
        message = PublishedMessage(topics.TASK(HOST), text, 1, False)
        message.duplicate = True
        session.waiting[number] = message


def _packets(bench: Bench) -> list[int]:
    """Return the packet ids by which orders have come."""
    with closing(sqlite3.connect(bench.journal)) as journal:
        return [packet for (packet,) in journal.execute("SELECT packet FROM packets ORDER BY 1")]


def _always_new() -> JournalSection:
    """Only the broker repeats."""
    return JournalSection(repetition_window=0.0)


@pytest.mark.parametrize("end", ["close", "kill"])
def test_unacknowledged_container_without_key_is_executed_once(play: Play, end: str) -> None:
    """The broker delivers it again to the next daemon, which knows it all the same."""

    async def scene(bench: Bench) -> None:
        daemon = await bench.daemon(Recovering(), journal=_always_new())
        await bench.send(Start(vm_name="vm1"))
        first = await bench.result()
        await wait_until_async(lambda: daemon.runtime.publisher.unconfirmed == 0)
        await daemon.runtime.journal.unfinished()  # everything before it is written
        await patiently(getattr(daemon, end)())
        _keep_unacknowledged(bench, *_packets(bench))
        await bench.send(Start(vm_name="vm1"))
        second = Recovering()
        await bench.daemon(second, journal=_always_new())
        answers = [await bench.result(), await bench.result()]
        assert sorted(answer.executed is None for answer in answers) == [False, True]
        assert {answer.results for answer in answers} == {first.results}
        await bench.no_result()
        assert second.calls == [("start", "vm1")]

    play(scene)


def test_repeated_packet_is_recognised_after_any_other_messages(play: Play) -> None:
    """Equal orders are distinguished by their packets. A DUP flag alone proves nothing."""

    async def scene(bench: Bench) -> None:
        hypervisor = Recovering()
        daemon = await bench.daemon(hypervisor, journal=_always_new())
        for _ in range(3):
            await bench.ask(Start(vm_name="vm1"))
        assert len(hypervisor.calls) == 3
        await patiently(daemon.close())
        session = bench.broker._sessions["fast-migfra-node01"]
        first, _, third = _packets(bench)
        numbers = (first, third, 60_000)
        # Of the last one, the first copy has never arrived. Then all come once more.
        for count in range(2):
            _keep_unacknowledged(bench, *numbers)
            hypervisor = Recovering()
            daemon = await bench.daemon(hypervisor, journal=_always_new())
            executed = [(await bench.result()).executed is None for _ in numbers]
            assert executed.count(True) == 1 - count
            await bench.no_result()
            assert len(hypervisor.calls) == 1 - count
            await patiently(daemon.close())
            assert not session.waiting

    play(scene)


def test_new_session_uses_packet_ids_again(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        daemon = await bench.daemon(Recovering(), journal=_always_new())
        await bench.ask(Start(vm_name="vm1"))
        await patiently(daemon.close())
        del bench.broker._sessions["fast-migfra-node01"]  # the broker has lost its state
        daemon = await bench.daemon(Recovering(), journal=_always_new())
        await patiently(daemon.close())  # before the first order of the session
        _keep_unacknowledged(bench, *_packets(bench))
        third = Recovering()
        await bench.daemon(third, journal=_always_new())
        assert (await bench.result()).executed is None
        assert third.calls == [("start", "vm1")]

    play(scene)


def test_recovered_cancellation_does_not_wait(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        first = Recovering()
        plan, begun, _ = gate()
        first.plan["vm1"] = plan
        daemon = await bench.daemon(first)
        await bench.send(TaskContainer(tasks=[Start(vm_name="vm1")], id="1"))
        await patiently(begun.wait())
        await patiently(daemon.kill())
        # It was written down, and nothing more was done.
        text = TaskContainer(tasks=[Cancel(id="1")], id="c").to_yaml().encode()
        with closing(sqlite3.connect(bench.journal)) as journal, journal:
            journal.execute(
                "INSERT INTO containers (id, digest, accepted, state, payload)"
                " VALUES (CAST('c' AS BLOB), ?, 0, 0, ?)",
                (digest(TaskContainer.from_yaml(text)), text),
            )
        second = Recovering()
        second.plan["vm1"], _ = until_cancelled()
        await bench.daemon(second, limits=LimitsSection(containers=1))
        assert [(await bench.result()).id, (await bench.result()).id] == ["1", "c"]

    play(scene)


def test_journal_belongs_to_one_daemon(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        await bench.daemon()
        with pytest.raises(RunningError, match=r"process \d+, runs"):
            await bench.daemon()

    play(scene)


def test_hypervisor_that_fails_to_open_ends_the_daemon(play: Play) -> None:
    class Broken(Scripted):
        async def open(self) -> None:
            raise KeyError("no such place")

    async def scene(bench: Bench) -> None:
        from fastlib.migfra import PluginError

        with pytest.raises(PluginError, match="'scripted' cannot be opened: KeyError"):
            await bench.daemon(Broken())
        await bench.daemon(Scripted())  # nothing is left locked

    play(scene)


def test_hypervisor_may_have_plain_methods_only(play: Play) -> None:
    class Plain(Hypervisor):
        name = "plain"
        opened = closed = False

        def __init__(self) -> None:
            super().__init__(None, None)  # type: ignore[arg-type]

        def open(self) -> None:
            self.opened = True

        def close(self) -> None:
            self.closed = True

        def start(self, task: Start, context: Context) -> str:
            return f"{context.host} {self.opened}"

    async def scene(bench: Bench) -> None:
        plain = Plain()
        daemon = await bench.daemon(plain)
        answer = await bench.ask(Start(vm_name="vm1"))
        assert answer.results[0].details == "node01 True"
        await patiently(daemon.close())
        assert plain.closed

    play(scene)


def test_container_that_became_unreadable_is_answered(play: Play) -> None:
    """For example, its task was declared by a package that was removed."""

    async def scene(bench: Bench) -> None:
        container = TaskContainer(tasks=[Start(vm_name="vm1")], id="1")
        await _killed_at_work(bench, Scripted(), container)
        with closing(sqlite3.connect(bench.journal)) as journal, journal:
            journal.execute("UPDATE containers SET payload = ?", (b"task: snapshot vm\nid: 1",))
        second = Recovering()
        await bench.daemon(second)
        answer = await bench.result()
        assert (answer.result, answer.id) == ("unknown", "1")
        assert "snapshot vm" in str(answer.results[0].details)
        assert second.calls == []
        assert (await bench.ask(Start(vm_name="vm2"), "2")).id == "2"

    play(scene)
