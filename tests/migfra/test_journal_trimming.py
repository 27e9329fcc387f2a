"""The journal forgets old orders, by their age in running time and by the size of its file."""

import asyncio
from pathlib import Path

import pytest

from fastlib.migfra.journal import schema, trimming
from fastlib.migfra.journal.journal import Journal
from fastlib.migfra.journal.schema import Unconfirmed
from fastlib.migfra.journal.trimming import Trimming
from tests.support.clock import SetClock
from tests.support.migfra.journals import accept, run


def test_trim_forgets_by_running_time(tmp_path: Path) -> None:
    async def scene() -> None:
        clock = SetClock()
        journal = Journal(tmp_path / "journal", max_age=100, clock=clock)
        old, owed = await accept(journal, "old"), await accept(journal, "owed")
        slow = await accept(journal, "slow")  # its age counts from its end on
        await journal.answer(old, b"")
        journal.confirmed(old)
        clock.run(200)
        new = await accept(journal, "new")
        for number in (new, owed, slow):
            await journal.answer(number, b"")
        journal.confirmed(new)
        journal.confirmed(slow)
        journal.trim()
        for id in ("owed", "new", "slow"):
            assert (await journal.accept(id, b"x", b"x", key=id)).kind == "answered"
        assert (await journal.accept("old", b"x", b"x", key="old")).kind == "new"
        await journal.close()

    run(scene)


DAYS = 86_400


@pytest.mark.parametrize("days", [30, -30, 36_500])
@pytest.mark.parametrize("when", ["first run", "a start", "in a run"])
def test_wrong_wall_clock_makes_no_order_forgotten(tmp_path: Path, days: int, when: str) -> None:
    async def scene() -> None:
        path, clock = tmp_path / "journal", SetClock()
        for moment in ("first run", "before", "a start", "after"):
            if moment == when:
                clock.jump(days * DAYS)
            journal = Journal(path, max_age=7 * DAYS, clock=clock)
            number = await accept(journal, moment)
            if when == "in a run":
                clock.jump(days * DAYS)
            await journal.answer(number, b"")
            journal.confirmed(number)
            journal.trim()
            for known in await journal.history():
                again = await journal.accept(known.id, b"x", b"x", key=known.id)
                assert again.kind == "answered"
            await journal.close()
            if when in (moment, "in a run"):
                clock.jump(-days * DAYS)  # the clock is right again
        journal = Journal(path, max_age=7 * DAYS, clock=clock)
        journal.trim()
        assert len(await journal.history()) == 4
        await journal.close()

    run(scene)


def test_quiet_daemon_trims_its_journal_each_hour(tmp_path: Path) -> None:
    async def scene() -> None:
        clock = SetClock()
        journal = Journal(tmp_path / "journal", max_age=4000, clock=clock)
        number = await accept(journal, "a")
        await journal.answer(number, b"")
        journal.confirmed(number)
        found = []
        for _ in range(8):
            clock.run(1000)
            journal.trim_if_due()
            found.append(len(await journal.history()))
        assert found == [1, 1, 1, 1, 1, 1, 1, 0]  # trimmed after 4000 and 8000 s
        await journal.close()

    run(scene)


def test_journal_is_trimmed_after_exactly_an_hour() -> None:
    async def scene() -> None:
        clock = SetClock()
        journal = Journal(None, max_age=1, clock=clock)
        number = await accept(journal, "a")
        await journal.answer(number, b"")
        journal.confirmed(number)
        clock.run(3599)
        journal.trim_if_due()
        assert len(await journal.history()) == 1
        clock.run(1)
        journal.trim_if_due()
        assert await journal.history() == []
        await journal.close()

    run(scene)


def test_confirmation_trims_at_exactly_the_limit_of_stored_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trimming, "TRIM_BYTES", 100)

    async def scene() -> None:
        clock = SetClock()
        journal = Journal(None, clock=clock)
        grown = [journal._trimming.grown]
        clock.run(50)
        for name, size in (("too few", 99), ("enough", 1)):
            number = await accept(journal, name, bytes(size))
            journal.confirmed(number)
            grown.append(journal._trimming.grown)
        assert grown == [0, 99, 0]
        read = "SELECT value FROM meta WHERE name = 'seconds'"
        found = await journal._group_commit.submit(lambda tables: tables.execute(read).fetchone())
        assert found == (50.0,)  # a trimming stores the running time, too
        await journal.close()

    run(scene)


def test_running_time_is_added_up_over_runs(tmp_path: Path) -> None:
    async def scene() -> None:
        path, clock = tmp_path / "journal", SetClock()
        for earlier, left in enumerate([1, 1, 0]):
            journal = Journal(path, max_age=100, clock=clock)
            if not earlier:
                number = await accept(journal, "a")
                await journal.answer(number, b"")
                journal.confirmed(number)
            clock.run(45)
            journal.trim()
            assert len(await journal.history()) == left
            await journal.close()
            clock.run(1_000_000)  # nobody runs

    run(scene)


def test_trim_bounds_the_size(tmp_path: Path) -> None:
    async def scene() -> None:
        path = tmp_path / "journal"
        journal = Journal(path, max_size=1 << 20)
        owed = await accept(journal, "owed")
        numbers = await asyncio.gather(*(accept(journal, str(id)) for id in range(2000)))
        await asyncio.gather(*(journal.answer(number, b"a" * 2000) for number in numbers))
        for number in numbers:
            journal.confirmed(number)
        await journal.answer(owed, b"")  # and so everything before is written
        journal.trim()
        last = await journal.accept("1999", b"x", b"x", key="1999")
        first = await journal.accept("0", b"x", b"x", key="0")
        assert (last.kind, first.kind) == ("answered", "new")
        assert await journal.unconfirmed() == [Unconfirmed(owed, "owed", b"")]
        await journal.close()
        assert path.stat().st_size < 1.5 * (1 << 20)

    run(scene)


@pytest.mark.parametrize(("age", "kept"), [(100, True), (100.001, False), (99, True)])
def test_trim_forgets_only_older_orders(tmp_path: Path, age: float, kept: bool) -> None:
    async def scene() -> None:
        journal = Journal(tmp_path / "journal")
        number = await accept(journal, "a")
        await journal.answer(number, b"")
        connection = journal._file.connection
        connection.execute("UPDATE containers SET state = 2, settled = ?", (1000 - age,))
        schema.trim(connection, 1000 - 100, 1 << 30)
        assert (connection.execute("SELECT count(*) FROM containers").fetchone()[0] == 1) is kept
        await journal.close()

    run(scene)


def test_trim_deletes_the_oldest_hundred_beyond_the_size(tmp_path: Path) -> None:
    async def scene() -> None:
        journal = Journal(tmp_path / "journal")
        connection = journal._file.connection
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO containers (id, digest, accepted, settled, state, answer)"
            " VALUES (?, x'', 0, 1e12, ?, zeroblob(5000))",
            [(f"{n}".encode(), 1 if n == 0 else 2) for n in range(300)],
        )
        connection.execute("COMMIT")
        size = schema.size(connection)
        schema.trim(connection, 0, size)  # exactly the size is allowed
        assert connection.execute("SELECT count(*) FROM containers").fetchone() == (300,)
        schema.trim(connection, 0, size - 1)
        left = [int(id) for (id,) in connection.execute("SELECT id FROM containers")]
        assert sorted(left) == [0, *range(101, 300)]  # one that is not confirmed stays
        schema.trim(connection, 0, 0)
        assert connection.execute("SELECT id FROM containers").fetchall() == [(b"0",)]
        await journal.close()

    run(scene)


def test_trim_of_nothing_takes_no_longer_with_more_orders(tmp_path: Path) -> None:
    """The test counts instructions of SQLite, because no order is accepted during the trim."""
    connection = schema.open_tables(tmp_path / "journal")
    steps = []
    for _ in range(2):
        connection.executemany(
            "INSERT INTO containers (digest, accepted, settled, state) VALUES (x'', 0, ?, 2)",
            [(1000.0,)] * 500,
        )
        counted = 0

        def count() -> None:
            nonlocal counted
            counted += 1

        connection.set_progress_handler(count, 1)
        assert schema.trim(connection, 1000.0, 1 << 30) is None
        connection.set_progress_handler(None, 1)
        steps.append(counted)
    assert 0 < steps[1] == steps[0]
    connection.close()


def test_every_thousandth_confirmation_trims(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trims: list[Trimming] = []
    monkeypatch.setattr(Trimming, "trim", lambda each: trims.append(each))

    async def scene() -> None:
        journal = Journal(tmp_path / "journal")
        counts = []
        for number in range(1, 2001):
            journal.confirmed(number)
            if number in (999, 1000, 1999, 2000):
                counts.append(len(trims))
        assert counts == [0, 1, 1, 2]
        await journal.close()

    run(scene)


def test_large_orders_do_not_outgrow_the_size_before_the_thousandth_confirmation(
    tmp_path: Path,
) -> None:
    async def scene() -> None:
        path = tmp_path / "journal"
        journal = Journal(path, max_size=4 << 20)
        for number in range(40):
            stored = await accept(journal, str(number), b"x" * 300_000)
            await journal.answer(stored, b"answer")
            journal.confirmed(stored)
        await journal.check_file()  # and so everything before is written
        first = await journal.accept("0", b"x" * 300_000, b"x" * 300_000, key="0")
        assert first.kind == "new"
        await journal.close()
        assert path.stat().st_size < 6 << 20

    run(scene)
