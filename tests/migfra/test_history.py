"""`query history`: a daemon reports the history of orders from its journal."""

import asyncio
import sqlite3
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fastlib import (
    Cancel,
    Migrate,
    MigrateParameter,
    Query,
    QueryHistory,
    Result,
    Start,
    Stop,
    TaskContainer,
)
from fastlib.display.order_story import Place, headline
from fastlib.message import HistoryReport, HistoryResult, NodeResult, OrderReport
from fastlib.migfra import Context
from fastlib.migfra.config.sections import LimitsSection, RetrySection
from fastlib.migfra.errors import HypervisorError, JournalError
from fastlib.migfra.journal import journal as journal_module
from fastlib.migfra.journal.history import history as read_history
from fastlib.migfra.journal.history import under_way
from fastlib.migfra.journal.journal import Journal
from fastlib.migfra.journal.schema import open_tables
from fastlib.migfra.tasks import history as history_module
from fastlib.migfra.tasks.history import report_of
from fastlib.migfra.virt.names import LONGEST_NAME
from tests.support.clock import SettableClock
from tests.support.migfra.bench import PATIENCE, Bench, Play, patiently
from tests.support.migfra.scripted import Scripted


async def history(bench: Bench, **asked: Any) -> HistoryReport:
    (result,) = (await bench.ask(QueryHistory(**asked), "asking")).results
    assert isinstance(result, HistoryResult)
    assert result.status == "success", result.details
    assert result.history is not None
    return result.history


async def only_order(bench: Bench, **asked: Any) -> OrderReport:
    (order,) = (await history(bench, **asked)).orders
    return order


def kinds(order: OrderReport) -> list[str]:
    return [event.event for event in order.events]


def test_ended_order_has_times_results_and_events(play: Play):
    async def scene(bench: Bench) -> None:
        before = datetime.now(UTC)
        await bench.daemon()
        await bench.ask(Stop(vm_name="vm1"), "s")
        order = await only_order(bench, order_id="s")
        assert (order.id, order.task, order.vm_names) == ("s", "stop vm", ("vm1",))
        assert order.host == "node01"
        assert (order.state, order.status) == ("ended", "success")
        assert order.began is not None
        assert order.answered is not None
        assert before <= order.accepted <= order.began <= order.answered <= datetime.now(UTC)
        assert list(order.results) == [Result(vm_name="vm1", status="success")]
        assert kinds(order)[:2] == ["accepted", "begun"]
        assert "answered" in kinds(order)
        assert "vm-name: vm1" in (order.text or "")

    play(scene)


def test_failed_order_has_reason(play: Play):
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()

        def fail(context: Context) -> None:
            raise HypervisorError("no such domain\x1b[31m")

        hypervisor.plan["vm1"] = fail
        await bench.daemon(hypervisor)
        await bench.ask(Stop(vm_name="vm1"), "s")
        order = await only_order(bench, vm_name="vm1")
        assert order.status == "error"
        assert order.results[0].details == "no such domain\x1b[31m"

    play(scene)


def test_history_has_running_and_waiting_orders(play: Play):
    async def scene(bench: Bench) -> None:
        hypervisor, go = Scripted(), threading.Event()
        hypervisor.plan["vm1"] = lambda context: go.wait()
        await bench.daemon(hypervisor, limits=LimitsSection(containers=1))
        await bench.send(Stop(vm_name="vm1"), "s1")
        await bench.send(Stop(vm_name="vm2"), "s2")
        while not hypervisor.calls:
            await asyncio.sleep(0.001)
        running, waiting = [await only_order(bench, order_id=id) for id in ("s1", "s2")]
        go.set()
        assert running.state == "running"
        assert running.began is not None
        assert (waiting.state, waiting.began) == ("queued", None)
        assert {(order.status, order.answered) for order in (running, waiting)} == {(None, None)}

    play(scene)


@pytest.mark.parametrize("asked", [{"order_id": "s"}, {"vm_name": "vm1"}, {}])
def test_hanging_order_is_reported_beyond_the_limit(play: Play, asked: dict[str, str]):
    async def scene(bench: Bench) -> None:
        hypervisor, go = Scripted(), threading.Event()
        hypervisor.plan["vm1"] = lambda context: go.wait()
        await bench.daemon(hypervisor, limits=LimitsSection(containers=1))
        for number in range(5):
            await bench.send(TaskContainer(tasks=[Stop(vm_name="vm1")], id="s",
                                           idempotency_key=f"k{number}"))  # fmt: skip
        while not hypervisor.calls:
            await asyncio.sleep(0.001)
        report = await history(bench, **asked, limit=1)
        states = [order.state for order in report.orders]
        go.set()
        assert states == ["queued", "running"]
        assert report.more

    play(scene)


def test_orders_with_the_same_id_are_all_reported(play: Play):
    async def scene(bench: Bench) -> None:
        await bench.daemon()
        for task in (Start(vm_name="vm1"), Stop(vm_name="vm1"), Start(vm_name="vm1")):
            await bench.ask(task, "test-id")
        report = await history(bench, order_id="test-id")
        titles = [order.task for order in report.orders]
        assert titles == ["start vm", "stop vm", "start vm"]
        assert [order.number for order in report.orders] == sorted(
            (order.number for order in report.orders), reverse=True
        )

    play(scene)


def test_order_is_found_by_id_key_or_domain_once(play: Play):
    async def scene(bench: Bench) -> None:
        await bench.daemon()
        await bench.ask(TaskContainer(tasks=[Stop(vm_name="x")], id="x", idempotency_key="x"))
        await bench.ask(TaskContainer(tasks=[Stop(vm_name="vm2")], id="b", idempotency_key="k"))
        await bench.ask(TaskContainer(tasks=[Stop(vm_name="vm3")], id="c"))
        any_of = await history(bench, order_id="x", key="x", vm_name="x")
        assert [order.id for order in any_of.orders] == ["x"]
        several = await history(bench, order_id="x", key="k", vm_name="vm3")
        assert [order.id for order in several.orders] == ["c", "b", "x"]
        assert [order.id for order in (await history(bench)).orders] == ["c", "b", "x"]

    play(scene)


def test_limit_shortens_the_report_with_a_note(play: Play):
    async def scene(bench: Bench) -> None:
        await bench.daemon()
        for number in range(3):
            await bench.ask(Stop(vm_name="vm1"), f"s{number}")
        cut = await history(bench, vm_name="vm1", limit=2)
        assert ([order.id for order in cut.orders], cut.more) == (["s2", "s1"], True)
        assert (await history(bench, vm_name="vm1", limit=3)).more is None

    play(scene)


@pytest.mark.parametrize("name", [":-)", "a/b", "-x", " ", "é\n", "x" * 256, "../../etc"])
def test_id_of_any_text_can_be_asked_for(play: Play, name: str):
    async def scene(bench: Bench) -> None:
        await bench.daemon()
        await bench.ask(Stop(vm_name="vm1"), name)
        order = await only_order(bench, order_id=name, key=name, vm_name=name[:LONGEST_NAME])
        assert order.id == name

    play(scene)


def test_unknown_order_is_answered_with_begin_of_journal(play: Play):
    async def scene(bench: Bench) -> None:
        before = datetime.now(UTC)
        await bench.daemon()
        report = await history(bench, order_id="nope")
        assert report.orders == ()
        assert before <= report.since <= report.time <= datetime.now(UTC)

    play(scene)


def test_query_leaves_no_trace_in_history(play: Play):
    async def scene(bench: Bench) -> None:
        await bench.daemon()
        await history(bench)
        await bench.ask(Query(), "node")
        assert (await history(bench)).orders == ()

    play(scene)


def test_history_has_cancelled_order_and_its_cancellation(play: Play):
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        hypervisor.plan["vm1"] = lambda context: context.cancellation.wait()
        await bench.daemon(hypervisor)
        await bench.send(Start(vm_name="vm1"), "s1")
        while not hypervisor.calls:
            await asyncio.sleep(0.001)
        await bench.ask(Cancel(id="s1"), "c1")
        await bench.result()
        report = await history(bench)
        assert {order.task: order.state for order in report.orders} == {
            "cancel task": "ended",
            "start vm": "ended",
        }

    play(scene)


def test_history_reports_expired_order_as_never_begun(play: Play):
    async def scene(bench: Bench) -> None:
        await bench.daemon()
        expires = datetime.now(UTC) - timedelta(seconds=1)
        await bench.ask(TaskContainer(tasks=[Stop(vm_name="vm1")], id="s", expires=expires))
        order = await only_order(bench, order_id="s")
        assert (order.status, order.began, order.expires) == ("error", None, expires)
        assert "expired" in kinds(order)
        said = headline(order, Place("node01", datetime.now(UTC)))
        assert "was not begun, because it had expired" in said

    play(scene)


def test_history_has_retries(play: Play):
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()

        def fail(context: Context) -> None:
            if context.attempt == 0:
                raise HypervisorError("connection reset")

        hypervisor.plan["vm1"] = fail
        await bench.daemon(hypervisor, retry=RetrySection(first=0.001, longest=0.002))
        parameter = MigrateParameter(retry_counter=2)
        await bench.ask(Migrate(vm_name="vm1", destination="b", parameter=parameter), "m")
        order = await only_order(bench, order_id="m")
        assert order.status == "success"
        (retry,) = [event for event in order.events if event.event == "retry"]
        assert "connection reset" in (retry.details or "")

    play(scene)


def test_repeated_order_is_one_order_with_an_event(play: Play):
    async def scene(bench: Bench) -> None:
        await bench.daemon()
        container = TaskContainer(tasks=[Stop(vm_name="vm1")], id="s", idempotency_key="k")
        first = await bench.ask(container)
        again = await bench.ask(container)
        assert (first.executed, again.executed is None) == (None, False)
        order = await only_order(bench, key="k")
        assert "repeated" in kinds(order)

    play(scene)


def test_journal_that_cannot_be_read_is_answered_as_error(
    play: Play, monkeypatch: pytest.MonkeyPatch
):
    async def scene(bench: Bench) -> None:
        daemon = await bench.daemon()

        async def fail(**asked: Any) -> None:
            raise JournalError("disk I/O error")

        monkeypatch.setattr(daemon.runtime.journal, "history", fail)
        (result,) = (await bench.ask(QueryHistory(), "asking")).results
        assert result.status == "error"
        assert result.details == "the journal cannot be read: disk I/O error"

    play(scene)


def test_capabilities_name_the_task(play: Play):
    async def scene(bench: Bench) -> None:
        await bench.daemon()
        (result,) = (await bench.ask(Query(), "node")).results
        assert isinstance(result, NodeResult)
        assert result.node is not None
        assert result.node.capabilities is not None
        assert "query history" in result.node.capabilities["tasks"]

    play(scene)


# --- a large journal, and one that cannot be written ----------------------------------------------


@pytest.mark.parametrize(
    ("asked", "index"),
    [
        ({"id": "x"}, "containers_id"),
        ({"key": "x"}, "containers_key"),
        ({"vm_name": "x"}, "containers_vm_name"),
        ({"vm_name": "y"}, "domains_name"),
        ({}, None),
    ],
)
def test_journal_reads_only_orders_that_fit(
    tmp_path: Path, asked: dict[str, str], index: str | None
):
    """Each statement finds its rows by an index, in order, independent of their number."""
    statements: list[str] = []

    async def ask() -> None:
        journal = Journal(tmp_path / "journal", host="node01")
        await journal.accept("x", b"", b"", key="x", task="stop vm", vm_names=["x", "y"])
        await journal.close()
        with closing(open_tables(tmp_path / "journal")) as connection:
            connection.set_trace_callback(statements.append)
            filters = (asked.get(name) for name in ("id", "key", "vm_name"))
            (found,) = read_history(connection, *filters, limit=20)
            assert found.id == "x"
            connection.set_trace_callback(None)
            plans = [
                str(connection.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall())
                for statement in statements
            ]
        assert "TEMP B-TREE" not in "".join(plans)
        if index is not None:
            assert f"{index} (" in "".join(plans[: 2 if "vm_name" in asked else 1])
        for plan in plans[index is None :]:
            assert "SCAN" not in plan, plan

    asyncio.run(ask())


FILL = """
WITH RECURSIVE counted(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM counted WHERE i < {count})
INSERT INTO containers (id, key, digest, accepted, state)
    SELECT CAST('shared' AS BLOB), CAST('k' || i AS BLOB), x'', i, 2 FROM counted;
UPDATE containers SET vm_name = CAST('vm1' AS BLOB) WHERE number % 2;
INSERT INTO domains SELECT number, CAST('vm1' AS BLOB) FROM containers WHERE number % 3 = 0;
INSERT INTO events (container, time, kind, text) SELECT number, 1.0, 'begun', x'' FROM containers;
"""


def database_steps(path: Path, count: int, *asked: str | None) -> int:
    """Return the number of SQLite's instructions that a question takes, in a journal of orders."""
    steps: list[None] = []
    with closing(open_tables(path)) as connection:
        connection.executescript(FILL.format(count=count))
        connection.set_progress_handler(lambda: steps.append(None), 1)
        assert len(read_history(connection, *asked, limit=20)) in (1, 20)
        assert under_way(connection, *asked, limit=20) == []
    return len(steps)


@pytest.mark.parametrize(
    "asked", [("shared", None, None), (None, "k7", None), (None, None, "vm1"), (None, None, None)]
)
def test_large_journal_is_read_as_fast_as_small_one(
    tmp_path: Path, request: pytest.FixtureRequest, asked: tuple[str | None, ...]
):
    """All orders share an id and a domain, as those of a client with one id for all."""
    count = 100_000 if request.config.getoption("--long") else 3000
    small, large = (
        database_steps(tmp_path / f"{orders}", orders, *asked) for orders in (50, count)
    )
    assert large <= 1.1 * small


def test_other_orders_continue_while_report_is_made(play: Play, monkeypatch: pytest.MonkeyPatch):
    go = threading.Event()

    def slow(*arguments: Any, **named: Any) -> HistoryReport:
        assert go.wait(PATIENCE)
        return report_of(*arguments, **named)

    monkeypatch.setattr(history_module, "report_of", slow)

    async def scene(bench: Bench) -> None:
        await bench.daemon()
        await bench.send(QueryHistory(), "asking")
        assert (await bench.ask(Stop(vm_name="vm1"), "s")).id == "s"
        go.set()
        assert (await bench.result()).id == "asking"

    play(scene)


@pytest.mark.parametrize("replaced", [False, True])
def test_history_of_a_lost_journal_is_an_error(play: Play, tmp_path: Path, replaced: bool):
    async def scene(bench: Bench) -> None:
        await bench.daemon()
        await bench.ask(Stop(vm_name="vm1"), "s1")
        for file in bench.journal.parent.glob("journal*"):
            file.unlink()
        if replaced:
            open_tables(bench.journal).close()
        (result,) = (await bench.ask(QueryHistory(), "asking")).results
        assert result.status == "error"
        assert str(result.details).startswith("the journal cannot be read: the file of the journal")
        assert str(result.details).count("cannot be read") == 1

    play(scene)


def test_history_is_answered_while_journal_cannot_be_written(
    play: Play, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(journal_module, "FLUSH_SECONDS", 0.01)

    async def scene(bench: Bench) -> None:
        await bench.daemon()
        await bench.ask(Stop(vm_name="vm1"), "s1")
        with closing(sqlite3.connect(bench.journal, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            await bench.send(Stop(vm_name="vm2"), "s2")
            assert (await only_order(bench, order_id="s1")).status == "success"
            other.execute("ROLLBACK")
        assert (await bench.result()).id == "s2"

    play(scene)


def test_events_during_the_query_are_later_than_the_report(
    play: Play, monkeypatch: pytest.MonkeyPatch
):
    async def scene(bench: Bench) -> None:
        daemon = await bench.daemon()
        journal = daemon.runtime.journal
        read = journal.history

        async def slow(**asked: Any) -> Any:
            found = await read(**asked)
            if not asked["under_way"]:
                await bench.send(Stop(vm_name="vm1"), "s1")
                while not await read(id="s1"):
                    await asyncio.sleep(0.001)
            return found

        monkeypatch.setattr(journal, "history", slow)
        await bench.send(QueryHistory(order_id="s1"), "asking")
        answers = {answer.id: answer for answer in [await bench.result(), await bench.result()]}
        monkeypatch.undo()
        (result,) = answers["asking"].results
        assert isinstance(result, HistoryResult)
        report = result.history
        assert report is not None
        assert report.time < (await only_order(bench, order_id="s1")).accepted

    play(scene)


# --- after a restart ------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["close", "kill"])
def test_history_outlives_daemon(play: Play, end: str):
    async def scene(bench: Bench) -> None:
        first = await bench.daemon()
        await bench.ask(Stop(vm_name="vm1"), "s")
        before = await only_order(bench, order_id="s")
        await getattr(first, end)()
        await bench.daemon()
        after = await only_order(bench, order_id="s")
        assert after.events[: len(before.events)] == before.events
        assert (after.accepted, after.began, after.text) == (
            before.accepted,
            before.began,
            before.text,
        )
        assert list(after.results) == list(before.results)

    play(scene)


def test_report_of_a_journal_that_was_made_with_a_clock_ahead_knows_nothing_before_now(
    play: Play, caplog: pytest.LogCaptureFixture
):
    async def scene(bench: Bench) -> None:
        clock = SettableClock(30 * 86400.0)
        daemon = await bench.daemon(clock=clock)
        await bench.ask(Stop(vm_name="vm1"), "s1")
        await patiently(daemon.kill())
        clock.ahead = 0.0
        assert "in the future" not in caplog.text
        await bench.daemon(clock=clock)
        assert "the newest order in the journal was accepted 29 days" in caplog.text
        await bench.send(QueryHistory(), "asking")
        answers = [await bench.result()]
        if answers[0].id == "s1":  # sent again, as its confirmation was not written yet
            answers.append(await bench.result())
        (result,) = answers[-1].results
        assert result.history.since == result.history.time

    play(scene)
