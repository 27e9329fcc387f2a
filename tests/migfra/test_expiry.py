"""Orders that expire: never begun afterwards, and answered at once, wherever they wait."""

import asyncio
from typing import Any

import pytest

from fastlib import Migrate, MigrateParameter, Quit, Start, Task
from fastlib.message import Cancel, Query, QueryHistory, topics
from fastlib.message.node import Progress
from fastlib.migfra import Context
from fastlib.migfra.config.sections import LimitsSection, RetrySection
from fastlib.migfra.journal.journal import Journal
from fastlib.migfra.plugin_api.cancel_scope import CancelScope
from fastlib.migfra.plugin_api.expiry import Expiry
from tests.support.clock import SettableClock
from tests.support.migfra.bench import Bench, Play, order, patiently
from tests.support.migfra.expiring import check_expired, start
from tests.support.migfra.scripted import Scripted, fail, gate
from tests.support.waiting import wait_until_async

SOON = 0.15
"""Seconds until an order expires, whether it has come to its daemon by then or not."""


@pytest.mark.parametrize(
    ("task", "name"),
    [
        (Start(vm_name="vm1"), "vm1"),
        (Start(xml="<domain><name>vm2</name></domain>"), "vm2"),
        (Migrate(vm_name="vm1", destination="node02"), "vm1"),
        (Cancel(id="m"), "n/a"),
        (Quit(), "n/a"),
    ],
)
def test_order_that_comes_too_late_is_refused(play: Play, task: Task, name: str) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        daemon = await bench.daemon(hypervisor)
        answer = await bench.ask(order(task, expires=-1, id="late"))
        check_expired(answer, name)
        assert (answer.result, answer.id) == (task.declaration.result, "late")
        assert hypervisor.calls == []
        assert not daemon.stopping
        assert daemon.counters.ended[task.declaration.task, "expired"] == 1
        assert (await bench.ask(start("vm1", expires=60))).results[0].status == "success"

    play(scene)


@pytest.mark.parametrize("query", [Query(), QueryHistory(vm_name="vm1")])
def test_late_query_is_answered(play: Play, query: Task) -> None:
    """A query must get an answer, because it may be sent when the clock of a host is ahead."""

    async def scene(bench: Bench) -> None:
        await bench.daemon(clock=SettableClock(ahead=3600.0))
        answer = await bench.ask(order(query, expires=60, id="q", idempotency_key="k"))
        assert [result.status for result in answer.results] == ["success"]
        assert (answer.id, answer.idempotency_key) == ("q", "k")

    play(scene)


@pytest.mark.parametrize("expires", ["0001-01-01T00:00:00Z", "1969-12-31 23:59:60-00:00"])
def test_order_of_long_ago_is_refused(play: Play, expires: str) -> None:
    async def scene(bench: Bench) -> None:
        await bench.daemon()
        text = f"task: stop vm\nlist: [{{vm-name: vm1}}]\nexpires: {expires}\n"
        check_expired(await bench.ask(text), "vm1")
        late = await bench.ask(text.replace(expires, "9999-12-31T23:59:59.999999Z"))
        assert late.results[0].status == "success"

    play(scene)


def test_late_cancellation_cancels_nothing(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        _, go = await bench.busy(hypervisor)
        check_expired(await bench.ask(order(Cancel(id="1"), expires=-1)), "n/a")
        go.set()
        assert (await bench.result()).results[0].status == "success"

    play(scene)


def test_order_that_waits_behind_another_is_answered_when_it_expires(
    play: Play, leaping: SettableClock
) -> None:
    """Its turn has not come by then, and does not come before the test has its answer."""

    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        daemon, go = await bench.busy(
            hypervisor,
            start("vm1", expires=60, id="1"),
            clock=leaping,
            limits=LimitsSection(containers=1),
        )
        await bench.send(start("vm2", "vm3", expires=60, id="2"))
        await bench.send(order(Quit(), expires=60, id="q"))
        await bench.send(start("vm4", expires=600, id="4"))
        await wait_until_async(lambda: daemon.runtime.dispatcher.queued == 3)
        leaping.ahead = 100.0
        answers = {answer.id: answer for answer in [await bench.result(), await bench.result()]}
        check_expired(answers["2"], "vm2", "vm3")
        check_expired(answers["q"], "n/a")
        go.set()  # it had begun, so it ends well, although it has expired meanwhile
        assert [(await bench.result()).id for _ in range(2)] == ["1", "4"]
        assert hypervisor.calls == [("start", "vm1"), ("start", "vm4")]
        await wait_until_async(lambda: daemon.runtime.dispatcher.running == 0)

    play(scene)


def test_order_that_only_the_journal_holds_is_answered_when_it_expires(
    play: Play, monkeypatch: pytest.MonkeyPatch, leaping: SettableClock
) -> None:
    monkeypatch.setattr("fastlib.migfra.tasks.dispatcher.HELD_SHARE", 0)

    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        daemon, go = await bench.busy(hypervisor, clock=leaping, limits=LimitsSection(containers=1))
        await bench.send(start("vm2", expires=60, id="2"))
        await wait_until_async(lambda: daemon.runtime.jobs.find("2"))
        (job,) = daemon.runtime.jobs.find("2")
        assert job.container is None
        leaping.ahead = 100.0
        check_expired(await bench.result(), "vm2")
        go.set()
        assert (await bench.result()).id == "1"

    play(scene)


def test_member_that_waits_for_a_place_is_not_begun_after_the_expiry(
    play: Play, leaping: SettableClock
) -> None:
    """Neither in a separate container, nor beside a member that has begun, nor behind it."""

    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        daemon, go = await bench.busy(
            hypervisor,
            start("vm1", "vm2", expires=60, id="beside"),
            clock=leaping,
            limits=LimitsSection(members=1),
        )
        await bench.send(start("vm3", expires=60, id="alone"))
        await wait_until_async(lambda: daemon.runtime.dispatcher.running == 2)
        leaping.ahead = 100.0
        check_expired(await bench.result(), "vm3")
        go.set()
        beside = await bench.result()
        assert [result.status for result in beside.results] == ["success", "error"]
        assert "the order expired" in str(beside.results[1].details)
        hypervisor.plan["vm4"], begun, go = gate()
        one_by_one = [Start(vm_name=n, concurrent_execution=False) for n in ("vm4", "vm5")]
        await bench.send(order(*one_by_one, expires=160))
        await patiently(begun.wait())
        leaping.ahead = 200.0
        go.set()
        answer = await bench.result()
        assert [result.status for result in answer.results] == ["success", "error"]
        assert hypervisor.calls == [("start", "vm1"), ("start", "vm4")]

    play(scene)


def test_place_is_free_again_when_its_waiter_expires(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        _, go = await bench.busy(hypervisor, limits=LimitsSection(members=1))
        for number in range(3):
            await bench.send(start(f"x{number}", expires=SOON))
            await bench.result()
        go.set()
        await bench.result()
        for number in range(3):
            answer = await bench.ask(start(f"y{number}", expires=60))
            assert answer.results[0].status == "success"

    play(scene)


@pytest.mark.parametrize("first", [1000.0, 0.05])
def test_failed_attempt_is_not_tried_again_after_the_expiry(play: Play, first: float) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        clock = SettableClock()

        def plan(context: Context) -> None:
            clock.ahead = 0.0 if first > 1 else 500.0
            fail(9)(context)

        hypervisor.plan["vm1"] = plan
        await bench.daemon(hypervisor, clock=clock, retry=RetrySection(first=first, longest=1000))
        parameter = MigrateParameter(retry_counter=5)
        task = Migrate(vm_name="vm1", destination="b", parameter=parameter)
        details = str((await bench.ask(order(task, expires=60))).results[0].details)
        assert details.startswith(
            "attempt 0 failed; the daemon does not try it again: the order expire"
        )
        assert hypervisor.calls == [("migrate", "vm1")]

    play(scene)


def leap_when_begun(
    monkeypatch: pytest.MonkeyPatch, clock: SettableClock, names: tuple[str, ...]
) -> None:
    """Let 1000 s pass while the journal notes that the domains of an order begin.

    A single one is noted with its acceptance.
    """
    method = "accept" if len(names) == 1 else "begin"
    original = getattr(Journal, method)

    async def stall(journal: Journal, *given: Any, **more: Any) -> Any:
        done = await original(journal, *given, **more)
        clock.ahead = 1000.0
        return done

    monkeypatch.setattr(Journal, method, stall)


@pytest.mark.parametrize("names", [("vm1",), ("vm1", "vm2")])
def test_order_that_expires_while_the_journal_stalls_is_not_begun(
    play: Play, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> None:
    """The journal is written before a task begins, which may take long."""
    clock = SettableClock()
    leap_when_begun(monkeypatch, clock, names)

    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        await bench.daemon(hypervisor, clock=clock)
        check_expired(await bench.ask(start(*names, expires=60)), *names)
        assert hypervisor.calls == []

    play(scene)


def test_task_that_waited_does_not_act_if_the_journal_stalls_until_the_expiry(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SettableClock()
    store = Journal.begun
    acted: list[bool] = []

    async def stall(self: Journal, number: int, position: int) -> None:
        await store(self, number, position)
        clock.ahead = 1000.0

    monkeypatch.setattr(Journal, "begun", stall)

    class Waiting(Scripted):
        begins_itself = True

    async def scene(bench: Bench) -> None:
        hypervisor = Waiting()

        async def plan(context: Context) -> None:
            with CancelScope(context) as scope:
                await scope.begin()
            acted.append(True)

        hypervisor.plan["vm1"] = plan
        await bench.daemon(hypervisor, clock=clock)
        check_expired(await bench.ask(start("vm1", expires=60)), "vm1")
        assert acted == []

    play(scene)


def test_progress_shows_whether_an_order_has_begun(play: Play) -> None:
    """A hypervisor with `begins_itself` reports its checks and its place in the queue."""

    class Waiting(Scripted):
        begins_itself = True

    async def scene(bench: Bench) -> None:
        hypervisor = Waiting()

        async def plan(context: Context) -> None:
            context.progress("check")
            await asyncio.sleep(0.05)
            context.progress("queued", position=1)
            await asyncio.sleep(0.05)
            context.begin()
            context.progress("copy")
            await asyncio.sleep(0.05)

        hypervisor.plan["vm1"] = plan
        await bench.daemon(hypervisor, progress_interval=0.001)
        container = order(
            Migrate(vm_name="vm1", destination="b"), expires=60, id="m", idempotency_key="k"
        )
        assert (await bench.ask(container)).results[0].status == "success"
        seen = [
            Progress.from_yaml((await bench.received(topics.PROGRESS("node01"))).payload)
            for _ in range(2)
        ]
        assert [progress.phase for progress in seen] == ["queued", "copy"]
        assert [progress.idempotency_key for progress in seen] == ["k", "k"]

    play(scene)


def test_wait_in_the_hypervisor_ends_at_the_expiry(play: Play, leaping: SettableClock) -> None:
    """The wait of a retry also ends, and its answer has the error of the first attempt."""

    class Waiting(Scripted):
        begins_itself = True

    async def scene(bench: Bench) -> None:
        hypervisor = Waiting()

        async def plan(context: Context) -> None:
            if context.attempt == 0 and context.id == "2":
                context.begin()
                fail(1)(context)
            leaping.ahead += 100.0
            with CancelScope(context) as scope:
                await scope.sleep(1000)

        hypervisor.plan["vm1"] = plan
        retry = RetrySection(first=0.001, longest=0.001)
        await bench.daemon(hypervisor, clock=leaping, retry=retry)
        task = Migrate(vm_name="vm1", destination="b", parameter=MigrateParameter(retry_counter=3))
        check_expired(await bench.ask(order(task, expires=60, id="1")), "vm1")
        details = str((await bench.ask(order(task, expires=160, id="2"))).results[0].details)
        assert details.startswith(
            "attempt 0 failed; the daemon does not try it again: the order expired at"
        )
        assert len(hypervisor.calls) == 3

    play(scene)


def test_order_in_the_queue_is_answered_also_while_the_daemon_ends(
    play: Play, leaping: SettableClock
) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        daemon, go = await bench.busy(hypervisor, clock=leaping, limits=LimitsSection(containers=1))
        await bench.send(start("vm2", expires=60, id="2"))
        await wait_until_async(lambda: daemon.runtime.dispatcher.queued == 1)
        daemon.stop()
        leaping.ahead = 100.0
        check_expired(await bench.result(), "vm2")
        go.set()
        assert (await bench.result()).id == "1"
        await patiently(daemon.ended.wait())

    play(scene)


def test_progress_of_another_attempt_shows_that_the_order_has_begun(play: Play) -> None:
    class Waiting(Scripted):
        begins_itself = True

    async def scene(bench: Bench) -> None:
        hypervisor = Waiting()

        async def plan(context: Context) -> None:
            if context.attempt == 0:
                context.begin()
            else:
                context.progress("check")
                await asyncio.sleep(0.05)
            fail(1)(context)

        hypervisor.plan["vm1"] = plan
        await bench.daemon(hypervisor, retry=RetrySection(first=0.001, longest=0.001))
        parameter = MigrateParameter(retry_counter=1)
        await bench.ask(Migrate(vm_name="vm1", destination="b", parameter=parameter))
        progress = Progress.from_yaml((await bench.received(topics.PROGRESS("node01"))).payload)
        assert progress.phase == "check"

    play(scene)


# Restarts


def test_quit_that_expires_at_its_turn_does_not_end_the_daemon(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SettableClock()
    begin = Expiry.begin

    def begin_late(expiry: Expiry) -> None:
        clock.ahead = 100.0
        begin(expiry)

    async def scene(bench: Bench) -> None:
        daemon = await bench.daemon(clock=clock)
        monkeypatch.setattr(Expiry, "begin", begin_late)
        check_expired(await bench.ask(order(Quit(), expires=60, id="q")), "n/a")
        assert not daemon.stopping

    play(scene)


@pytest.mark.parametrize("names", [("vm1",), ("vm1", "vm2")])
def test_order_that_expires_while_its_begin_is_written_has_not_begun_in_the_history(
    play: Play, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> None:
    """A full disk or a locked journal can make this wait long."""
    clock = SettableClock()
    leap_when_begun(monkeypatch, clock, names)

    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        daemon = await bench.daemon(hypervisor, clock=clock)
        check_expired(await bench.ask(start(*names, expires=60, id="1")), *names)
        (record,) = await daemon.runtime.journal.history("1")
        assert record.began is None
        assert hypervisor.calls == []

    play(scene)
