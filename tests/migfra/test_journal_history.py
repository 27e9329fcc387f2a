"""The history that a journal has of its orders, and the notes that are written along."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from fastlib.migfra.journal import journal as journal_module
from fastlib.migfra.journal.journal import Journal
from fastlib.migfra.journal.records import Event
from tests.support.clock import SetClock
from tests.support.migfra.desk import AtDesk, Desk


def test_history_has_the_outcome_of_an_order(at_desk: AtDesk) -> None:
    async def scene(desk: Desk) -> None:
        journal, start = desk.journal, desk.clock.now()
        number = (
            await journal.accept(
                "1", b"d", b"p", key="k", task="stop vm", vm_names=("vm2", "vm1"), expires=5.0
            )
        ).number
        desk.clock.run(1)
        await journal.begin(number, 0)
        journal.note(number, 0, "phase", "copy \ud800", vm_name="vm9")
        journal.note(number, None, "retry", "1 of 2")
        desk.clock.run(1)
        await journal.accept("1", b"d", b"p", key="k")
        await journal.accept("1", b"other", b"p", key="k")
        await journal.answer(number, b"answer")
        desk.clock.run(1)
        journal.confirmed(number)
        (found,) = await journal.history(vm_name="vm9")
        assert [found] == await journal.history("1") == await journal.history(key="k")
        assert [found] == await journal.history("1", "k", "vm1") == await journal.history()
        assert await journal.history("2") == await journal.history("1", "other key") == []
        assert (found.number, found.id, found.key, found.host) == (number, "1", "k", "node01")
        assert (found.task, found.vm_names) == ("stop vm", ("vm1", "vm2", "vm9"))
        assert (found.accepted, found.began, found.answered, found.confirmed) == (
            start, start + 1, start + 2, start + 3,
        )  # fmt: skip
        assert (found.state, found.cancelled, found.expires) == ("confirmed", False, 5.0)
        assert (found.payload, found.answer) == (b"p", b"answer")
        assert found.events == (
            Event(None, start, "accepted"),
            Event(0, start + 1, "begun"),
            Event(0, start + 1, "phase", "copy \ud800", "vm9"),
            Event(None, start + 1, "retry", "1 of 2"),
            Event(None, start + 2, "repeated", "with the same key"),
            Event(None, start + 2, "refused", "the key came with another order"),
            Event(None, start + 2, "answered"),
            Event(None, start + 3, "confirmed"),
        )

    at_desk(scene)


def test_history_has_repetitions_after_their_answer(at_desk: AtDesk) -> None:
    async def scene(desk: Desk) -> None:
        journal = desk.journal
        number = (await journal.accept("1", b"d", b"p", key="k")).number
        await journal.accept("1", b"d", b"p", key="k")
        desk.clock.run(1)
        await journal.answer(number, b"")
        desk.clock.run(1)
        await journal.accept("1", b"d", b"p", key="k")
        desk.clock.run(1)
        journal.confirmed(number)
        desk.clock.run(1)
        await journal.accept("1", b"d", b"p", key="k")
        (found,) = await journal.history()
        kinds = [event.kind for event in found.events]
        assert kinds == ["accepted", "repeated", "answered", "repeated", "confirmed", "repeated"]

    at_desk(scene)


def test_history_has_the_answer_after_entries_of_a_clock_ahead(at_desk: AtDesk) -> None:
    async def scene(desk: Desk) -> None:
        number = (await desk.journal.accept("1", b"d", b"p", key="k")).number
        desk.clock.run(1)
        desk.journal.note(number, 0, "ended", "success")
        desk.clock.jump(-100.0)
        await desk.journal.answer(number, b"")
        (found,) = await desk.journal.history()
        assert [event.kind for event in found.events] == ["accepted", "ended", "answered"]

    at_desk(scene)


def test_history_has_the_newest_first_and_one_more_than_the_limit(at_desk: AtDesk) -> None:
    async def scene(desk: Desk) -> None:
        for number in range(5):
            await desk.kind(str(number), None)
        found = await desk.journal.history(limit=2)
        assert [record.task for record in found] == ["4", "3", "2"]
        assert [record.state for record in found] == ["unanswered"] * 3

    at_desk(scene)


def test_history_has_at_most_a_hundred_and_one_orders(at_desk: AtDesk) -> None:
    async def scene(desk: Desk) -> None:
        numbers = [(await desk.journal.accept(None, b"", b"%d" % n)).number for n in range(102)]
        found = await desk.journal.history()
        assert [record.number for record in found] == numbers[:0:-1]

    at_desk(scene)


def test_history_of_orders_under_way_has_the_oldest_first(at_desk: AtDesk) -> None:
    async def scene(desk: Desk) -> None:
        for key in ("first", "answered", "last"):
            await desk.kind(key, key=key, vm_names=("vm1",))
        await desk.kind("other", key="other", vm_names=("vm2",))
        await desk.journal.answer(2, b"")
        found = await desk.journal.history(vm_name="vm1", under_way=True)
        assert [record.key for record in found] == ["first", "last"]
        found = await desk.journal.history(vm_name="vm1")
        assert [record.key for record in found] == ["last", "answered", "first"]

    at_desk(scene)


def test_history_is_read_while_nothing_can_be_written(
    at_desk: AtDesk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "FLUSH_SECONDS", 0.01)

    async def scene(desk: Desk) -> None:
        await desk.kind("stop")
        with closing(sqlite3.connect(tmp_path / "journal", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            desk.journal.trim()
            assert [record.task for record in await desk.journal.history()] == ["stop"]
            other.execute("ROLLBACK")

    at_desk(scene)


def test_note_is_written_without_a_separate_transaction(
    at_desk: AtDesk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "NOTE_SECONDS", 3600.0)

    async def scene(desk: Desk) -> None:
        statements: list[str] = []
        number = (await desk.journal.accept("1", b"d", b"p")).number
        desk.journal._file.connection.set_trace_callback(statements.append)
        for count in range(1000):
            desk.journal.note(number, 0, "phase", str(count))
        await asyncio.sleep(0)
        assert statements == []
        await desk.journal.begin(number, 0)
        assert statements.count("COMMIT") == 1
        with closing(sqlite3.connect(tmp_path / "journal")) as other:
            (count,) = other.execute("SELECT count(*) FROM events WHERE kind = 'phase'").fetchone()
        assert count == 1000
        desk.journal.note(number, 0, "ended")
        await desk.restart()  # and what waits is written at the end
        assert (await desk.journal.history())[0].events[-1].kind == "ended"

    at_desk(scene)


def test_note_is_written_when_nothing_else_is(
    at_desk: AtDesk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "NOTE_SECONDS", 0.01)

    async def scene(desk: Desk) -> None:
        number = (await desk.journal.accept("1", b"d", b"p")).number
        desk.journal.note(number, 0, "ended")
        while desk.journal.waiting:
            await asyncio.sleep(0.01)
        desk.journal.give_up()
        desk.journal.note(number, 0, "too late")  # says nothing
        await desk.restart()
        assert [event.kind for event in (await desk.journal.history())[0].events] == [
            "accepted",
            "ended",
        ]

    at_desk(scene)


def test_began_says_since_when_all_orders_are_known(tmp_path: Path) -> None:
    async def main() -> None:
        clock = SetClock()
        first = clock.now()
        journal = Journal(tmp_path / "journal", max_age=10, clock=clock)
        assert journal.began == first
        clock.run(1)
        for id in ("a", "b"):
            number = (await journal.accept(id, b"d", b"p", key=id)).number
            await journal.answer(number, b"")
            journal.confirmed(number)
        clock.run(11)
        journal.trim()
        assert await journal.history() == []
        assert journal.began == first + 1
        await journal.close()
        journal = Journal(tmp_path / "journal", clock=clock)
        assert journal.began == first + 1
        await journal.close()

    asyncio.run(main())
