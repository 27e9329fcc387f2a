"""The entries that a journal writes about accepted orders, each with exactly its effects."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from fastlib.migfra import JournalError
from fastlib.migfra.journal.acceptance import Acceptance, take_back_begins
from fastlib.migfra.journal.arrivals import Arrivals
from fastlib.migfra.journal.begins import note_act
from fastlib.migfra.journal.journal import Journal, _Stored
from fastlib.migfra.journal.repetition import UNKNOWN_ORIGIN
from fastlib.migfra.journal.schema import Run, open_tables
from tests.support.clock import SetClock
from tests.support.migfra.desk import AtDesk, Desk
from tests.support.migfra.journals import accept, run


async def rows(journal: Journal, query: str) -> list[tuple[Any, ...]]:
    return await journal._group_commit.submit(lambda found: found.execute(query).fetchall())


# --- begins ---------------------------------------------------------------------------------------

BEGINS = (
    "SELECT number, 0 FROM containers WHERE noted"
    " UNION SELECT container, position FROM members ORDER BY 1, 2"
)
EVENTS = "SELECT container, position FROM events WHERE kind = 'begun' ORDER BY 1, 2"
MEMBERS = [(1, 0), (1, 1), (2, 0), (2, 1)]


@pytest.mark.parametrize("taken_back", MEMBERS)
def test_begin_that_is_taken_back_leaves_all_others(taken_back: tuple[int, int]) -> None:
    async def scene() -> None:
        journal = Journal(None)
        await accept(journal, "first")
        await accept(journal, "second")
        for number, position in MEMBERS:
            await journal.begin(number, position)
            journal.note(number, position, "phase")
        await journal.not_begun(*taken_back)
        left = [member for member in MEMBERS if member != taken_back]
        assert await rows(journal, BEGINS) == left
        assert await rows(journal, EVENTS) == left
        assert await rows(journal, "SELECT count(*) FROM events WHERE kind = 'phase'") == [(4,)]
        await journal.close()

    run(scene)


def test_begin_without_a_caller_is_taken_back_only_for_a_new_order() -> None:
    connection = open_tables(None, 0.0)
    for number in (1, 2):
        connection.execute(
            "INSERT INTO containers (number, digest, accepted, state, noted, began)"
            " VALUES (?, x'', 0, 0, 1, 5.0)",
            (number,),
        )
        note_act(connection, number, 1, 6.0)
    take_back_begins(connection, [Acceptance("unanswered", 1), Acceptance("new", 2)])
    found = connection.execute("SELECT number, noted, began FROM containers ORDER BY 1").fetchall()
    assert found == [(1, 1, 5.0), (2, 0, None)]
    assert connection.execute(EVENTS).fetchall() == [(1, 1), (2, 1)]
    connection.close()


def test_member_that_waits_begins_when_it_acts() -> None:
    async def scene() -> None:
        clock = SetClock()
        journal = Journal(None, clock=clock)
        number = await accept(journal, "1")
        await journal.begin(number, 1, waits=True)
        assert await rows(journal, BEGINS) == [(number, 1)]
        assert await rows(journal, EVENTS) == []
        clock.run(10)
        await journal.begun(number, 1)
        found = await rows(journal, "SELECT container, position, time FROM events")
        assert found == [(number, 1, clock.now())]
        await journal.close()

    run(scene)


def test_second_begin_of_the_first_member_is_refused() -> None:
    async def scene() -> None:
        journal = Journal(None)
        number = await accept(journal, "1")
        await journal.begin(number, 0)
        with pytest.raises(
            sqlite3.IntegrityError, match=r"^the order 1 has begun before, or is unknown$"
        ):
            await journal.begin(number, 0)
        await journal.close()

    run(scene)


# --- orders and answers ---------------------------------------------------------------------------


def test_commit_counts_the_callers_that_may_wait() -> None:
    async def scene() -> None:
        journal = Journal(None)
        assert journal._committed([None]) == 0
        assert journal._file.newest_order == 0
        answers = [
            _Stored(lambda: True),
            _Stored(None),
            _Stored(lambda: False),
            _Stored(lambda: True),
        ]
        assert journal._committed(answers) == 2
        await journal.close()

    run(scene)


def test_order_of_which_only_the_content_is_known() -> None:
    async def scene() -> None:
        journal = Journal(None)
        await journal.accept("1", b"digest", b"payload")
        found = await rows(journal, "SELECT followed, task, vm_name, expires FROM containers")
        assert found == [(0, b"", None, None)]
        await journal.close()

    run(scene)


def test_order_without_room_is_only_looked_up() -> None:
    async def scene() -> None:
        journal = Journal(None)
        for has_room, kind in ((False, "full"), (True, "new"), (False, "unanswered")):
            found = await journal.accept("1", b"d", b"p", key="k", has_room=has_room)
            assert found.kind == kind
        await journal.close()

    run(scene)


def test_answer_is_counted_once_and_reported_once() -> None:
    async def scene() -> None:
        journal = Journal(None)
        stored: list[bool] = []
        number = await accept(journal, "1", b"payload")
        await journal.begin(number, 1)
        await journal.answer(number, b"answer", lambda: bool(stored.append(True)), outcome="ok")
        assert stored == [True]
        assert journal._trimming.grown == len("payload") + len("answer")
        assert journal._with_members == set()
        (found,) = await journal.history()
        assert [(event.kind, event.text) for event in found.events if event.position == 0] == [
            ("ended", "ok")
        ]
        await journal.close()

    run(scene)


# --- the order of entries -------------------------------------------------------------------------

AHEAD: list[tuple[Callable[[Journal], Awaitable[object]], str]] = [
    (lambda journal: journal.begin(1, 0), "UPDATE containers SET noted = 1"),
    (lambda journal: journal.not_begun(1, 0), "UPDATE containers SET noted = 0"),
    (lambda journal: journal.begun(1, 0), "INSERT INTO events"),
    (lambda journal: journal.save_state(1, 0, {}), "INSERT INTO members"),
    (lambda journal: journal.done(1, 0, b""), "INSERT INTO members"),
    (lambda journal: journal.cancel(1), "UPDATE containers SET cancelled"),
    (lambda journal: journal.answer(1, b""), "UPDATE containers SET state"),
    (lambda journal: journal.payload(1), "SELECT payload"),
    (
        lambda journal: journal.save_hypervisor_state({}),
        "INSERT OR REPLACE INTO meta VALUES ('hypervisor-state'",
    ),
]


@pytest.mark.parametrize(("write", "statement"), AHEAD)
def test_entry_about_an_order_goes_ahead_of_a_new_order(
    write: Callable[[Journal], Awaitable[object]], statement: str
) -> None:
    async def scene() -> None:
        journal = Journal(None)
        await accept(journal, "first")
        statements: list[str] = []
        journal._file.connection.set_trace_callback(statements.append)
        await asyncio.gather(accept(journal, "second"), write(journal))
        begin, first, *_ = statements
        assert begin == "BEGIN IMMEDIATE"
        assert first.startswith(statement)
        assert statements.count("COMMIT") == 1
        await journal.close()

    run(scene)


# --- states ---------------------------------------------------------------------------------------


def test_state_of_the_hypervisor_is_read_by_the_next_run(tmp_path: Path) -> None:
    async def scene() -> None:
        journal = Journal(tmp_path / "journal")
        assert journal.hypervisor_state == {}
        await journal.save_hypervisor_state({"slots": [1]})
        await journal.save_hypervisor_state({"slots": [1, 2]})
        await journal.close()
        journal = Journal(tmp_path / "journal")
        assert journal.hypervisor_state == {"slots": [1, 2]}
        await journal.close()

    run(scene)


@pytest.mark.parametrize(
    "write",
    [
        lambda journal, number: journal.begin(number, 1),
        lambda journal, number: journal.save_state(number, 0, {}),
        lambda journal, number: journal.done(number, 0, b""),
    ],
)
def test_answer_removes_the_members(write: Callable[[Journal, int], Awaitable[None]]) -> None:
    async def scene() -> None:
        journal = Journal(None)
        number, other = await accept(journal, "1"), await accept(journal, "2")
        await write(journal, number)
        await write(journal, other)
        await journal.answer(number, b"answer")
        assert await rows(journal, "SELECT container FROM members") == [(other,)]
        await journal.close()

    run(scene)


# --- notes ----------------------------------------------------------------------------------------


def test_note_needs_neither_a_text_nor_a_domain() -> None:
    async def scene() -> None:
        journal = Journal(None)
        number = await accept(journal, "1")
        journal._trimming.grown = 0
        journal.note(number, 0, "phase", "copying")
        journal.note(number, 0, "ended")
        journal.note(number, None, "retry", "2 of 3", vm_name="vm9")
        assert journal._trimming.grown == len("copying") + len("2 of 3")
        (found,) = await journal.history(vm_name="vm9")
        assert found.vm_names == ("vm9",)
        assert [(event.kind, event.text) for event in found.events[1:]] == [
            ("phase", "copying"),
            ("ended", ""),
            ("retry", "2 of 3"),
        ]
        await journal.close()

    run(scene)


def test_payload_of_a_lost_journal_is_an_error_only_if_it_is_missing() -> None:
    async def scene() -> None:
        journal = Journal(None)
        number = await accept(journal, "1", b"payload")
        assert await journal.payload(number + 1) is None
        journal._group_commit.lost = JournalError("the file is lost")
        assert await journal.payload(number) == b"payload"
        with pytest.raises(JournalError, match=r"^the file is lost$"):
            await journal.payload(number + 1)
        await journal.close()

    run(scene)


def test_loss_is_found_beside_an_answer_whose_sender_may_wait(tmp_path: Path) -> None:
    """A transaction with such an answer does not check the file at its end."""

    async def scene() -> None:
        journal = Journal(tmp_path / "journal")
        number = await accept(journal, "1")
        (tmp_path / "journal").unlink()
        await asyncio.gather(journal.answer(number, b"", lambda: True), journal.check_file())
        assert isinstance(journal.last_error, JournalError)
        await journal.close()

    run(scene)


# --- arrivals -------------------------------------------------------------------------------------


def test_message_between_two_orders_matters_only_to_its_id(at_desk: AtDesk) -> None:
    async def scene(desk: Desk) -> None:
        desk.clock.run(10)  # after the time in which an order of the earlier run may come again
        for id, kind in (("other", "unanswered"), (":-)", "new")):
            await desk.kind("stop")
            desk.journal.came_between(id)
            assert await desk.kind("stop") == kind

    at_desk(scene)


def test_sessions_without_orders_are_counted(at_desk: AtDesk) -> None:
    async def scene(desk: Desk) -> None:
        for start in (0, 1, 2, 1):
            desk.journal.session_began(start)
        await desk.restart()
        assert desk.journal._file.run.session == 2

    at_desk(scene)


RUN = Run(
    number=1, is_new=True, identity="", began=0.0, seconds=0.0, session=0, fresh=(0, 0),
    earlier_host=None, order=0, newest=None, packets=frozenset(), hypervisor_state=None,
)  # fmt: skip


def test_order_may_come_again_within_the_window() -> None:
    arrivals = Arrivals(RUN, 5.0, 100.0, lambda session: None)
    assert arrivals.may_come_again(b"any", 104.9)  # one of the run before
    assert not arrivals.may_come_again(b"any", 105.0)
    arrivals.note(UNKNOWN_ORIGIN, b"known", 110.0, has_key=True)
    assert arrivals.may_come_again(b"known", 114.9)
    assert not arrivals.may_come_again(b"known", 115.0)
    assert not arrivals.may_come_again(b"other", 114.9)
    of_a_new_boot = Arrivals(RUN, 5.0, 0.0, lambda session: None)
    assert not of_a_new_boot.may_come_again(b"any", 5.0)


def test_ids_are_kept_in_the_order_in_which_they_came_last() -> None:
    arrivals = Arrivals(RUN, 5.0, 0.0, lambda session: None)
    for clock, id in ((100.0, None), (101.0, b"a"), (104.0, None), (107.0, b"b")):
        arrivals.note(UNKNOWN_ORIGIN, id, clock, has_key=False)
    assert arrivals.may_come_again(None, 107.0)
    assert list(arrivals._recent) == [None, b"b"]


def test_running_time_without_orders_is_stored_at_the_end(at_desk: AtDesk) -> None:
    async def scene(desk: Desk) -> None:
        desk.clock.run(50)
        await desk.restart()
        assert desk.journal._file.run.seconds == 50.0

    at_desk(scene)
