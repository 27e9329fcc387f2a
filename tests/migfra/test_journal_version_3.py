"""A journal of version 3 of the tables, upgraded in place, and the numbers of orders.

In version 3, `domains` has all domains, `events` has all ends, and SQLite counts the orders.
"""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest

from fastlib.migfra.journal import schema
from fastlib.migfra.journal.journal import Journal
from fastlib.migfra.journal.repetition import Origin
from fastlib.migfra.journal.schema import MemberState
from tests.migfra.test_journal_version_2 import TABLES as VERSION_2
from tests.support.clock import SetClock

TABLES = f"""
{VERSION_2}
ALTER TABLE containers ADD COLUMN noted INTEGER NOT NULL DEFAULT 0;
ALTER TABLE containers ADD COLUMN began REAL;
PRAGMA user_version = 3;
"""
ROWS = """
INSERT INTO runs (boot) VALUES ('boot');
INSERT INTO meta VALUES ('identity', 'abc'), ('began', 1.0), ('seconds', 2.0), ('session', 3),
    ('fresh-run', 1), ('fresh-connection', 1);
INSERT INTO containers (id, key, digest, run, accepted, state, payload, noted, began)
    VALUES (x'61', x'6b31', x'01', 1, 5, 0, x'ff', 1, 5);
INSERT INTO containers (id, key, digest, run, accepted, answered, confirmed, settled, state, answer,
                        noted, began)
    VALUES (x'62', x'6b32', x'02', 1, 6, 8, 9, 2, 2, x'ee', 1, 6);
INSERT INTO containers (id, key, digest, run, accepted, answered, state, answer, host)
    VALUES (x'63', x'6b33', x'03', 1, 7, 8, 1, x'dd', x'68');
INSERT INTO containers (id, digest, run, accepted, state) VALUES (x'64', x'04', 1, 8, 0);
DELETE FROM containers WHERE number = 4;
INSERT INTO domains VALUES (1, x'766d31'), (2, x'766d31'), (2, x'766d32');
INSERT INTO events VALUES (2, 0, 7, 'ended', x'6f6b', NULL);
INSERT INTO packets VALUES (7, 1, 3, 1, 1);
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "journal"
    with closing(sqlite3.connect(path, isolation_level=None)) as old:
        old.executescript(TABLES)
        old.executescript(ROWS)
    return path


def play(path: Path | None, scene: Callable[[Journal], Awaitable[None]]) -> None:
    async def main() -> None:
        journal = Journal(path, host="node01", max_age=100.0, clock=SetClock())
        try:
            await scene(journal)
        finally:
            await journal.close()

    asyncio.run(main())


def test_version_3_is_upgraded_and_keeps_everything(path: Path) -> None:
    async def scene(journal: Journal) -> None:
        assert journal.identity == "abc"
        (left,) = await journal.unfinished()
        assert (left.number, left.members) == (1, {0: MemberState(None, {})})
        (owed,) = await journal.unconfirmed()
        assert (owed.number, owed.answer, owed.host) == (3, b"\xdd", "h")
        newest, oldest = await journal.history(vm_name="vm1")
        assert (newest.id, oldest.id) == ("b", "a")
        assert newest.vm_names == ("vm1", "vm2")
        assert [(event.kind, event.time, event.text) for event in newest.events] == [
            ("accepted", 6, ""),
            ("begun", 6, ""),
            ("ended", 7, "ok"),
            ("answered", 8, ""),
            ("confirmed", 9, ""),
        ]
        assert [found.id for found in await journal.history(vm_name="vm2")] == ["b"]
        assert [found.id for found in await journal.history(vm_name="vm1", under_way=True)] == ["a"]
        # The number of an order that was forgotten is not used again.
        assert (await journal.accept("e", b"\5", b"q", key="k5", origin=Origin(7))).number == 5

    play(path, scene)
    with closing(sqlite3.connect(path)) as upgraded:
        assert upgraded.execute("PRAGMA user_version").fetchone() == (4,)
        assert upgraded.execute("SELECT count(*) FROM domains").fetchone() == (1,)
        # An order with a key has come with the packet id of the first order.
        assert upgraded.execute("SELECT count(*) FROM packets").fetchone() == (0,)


def test_upgraded_journal_has_the_tables_of_a_new_one(path: Path, tmp_path: Path) -> None:
    with (
        closing(schema.open_tables(path)) as upgraded,
        closing(schema.open_tables(tmp_path / "new")) as new,
    ):
        parts = "SELECT type, name, sql FROM sqlite_master ORDER BY type, name"
        assert upgraded.execute(parts).fetchall() == new.execute(parts).fetchall()
        assert upgraded.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_number_of_a_forgotten_order_is_not_used_again(tmp_path: Path) -> None:
    """Also if no order is left, in the same run and in later ones."""

    async def forget_all(journal: Journal) -> None:
        number = (await journal.accept(None, b"d", b"p", key=str(journal._file.run.number))).number
        numbers.append(number)
        await journal.answer(number, b"")
        journal.confirmed(number)
        await journal.check_file()
        schema.trim(journal._file.connection, 1e12, 1 << 30)
        assert await journal.history() == []

    numbers: list[int] = []
    for _ in range(3):
        play(tmp_path / "journal", forget_all)
    assert numbers == [1, 2, 3]


def test_trim_looks_behind_orders_that_are_kept(tmp_path: Path) -> None:
    with closing(schema.open_tables(tmp_path / "journal")) as connection:
        states = [(1, None)] * 255 + [(2, 1.0), (2, 9.0)] + [(1, None)] * 255 + [(2, 1.0)]
        connection.executemany(
            "INSERT INTO containers (digest, accepted, state, settled) VALUES (x'', 5.0, ?, ?)",
            states,
        )
        assert schema.trim(connection, 9.0, 1 << 30) == 5.0
        left = [number for (number,) in connection.execute("SELECT number FROM containers")]
        assert 256 not in left
        assert left[-1] == len(states)  # too many between them: a later trim forgets it
        assert len(left) == len(states) - 1


def test_rows_in_further_tables_are_written_only_for_orders_that_need_them() -> None:
    async def scene(journal: Journal) -> None:
        def rows() -> list[int]:
            tables = ("domains", "events", "members", "packets")
            found = (journal._file.connection.execute(f"SELECT count(*) FROM {t}") for t in tables)
            return [count for ((count,),) in map(tuple, found)]

        number = (await journal.accept("a", b"d", b"p", key="k", vm_names=["vm1"])).number
        await journal.begin(number, 0, waits=True)
        await journal.answer(number, b"answer", outcome="success after 1 s")
        journal.confirmed(number)
        (found,) = await journal.history("a")
        assert [(event.kind, event.text) for event in found.events] == [
            ("accepted", ""),
            ("ended", "success after 1 s"),
            ("answered", ""),
            ("confirmed", ""),
        ]
        assert rows() == [0, 0, 0, 0]
        several = ["vm2", "vm1", "vm3"]
        number = (await journal.accept("b", b"d", b"p", vm_names=several, origin=Origin(1))).number
        journal.note(number, 0, "phase", "copy", vm_name="vm2")  # it is known by this name already
        await journal.begin(number, 1)
        await journal.done(number, 1, b"[]")
        await journal.check_file()
        assert rows() == [3, 2, 1, 1]
        for name in several:
            newest, *_ = await journal.history(vm_name=name)
            assert newest.number == number
        (found,) = await journal.history("b")
        assert found.vm_names == ("vm1", "vm2", "vm3")
        await journal.answer(number, b"answer")
        assert rows() == [3, 2, 0, 1]

    play(None, scene)


@pytest.mark.parametrize("made_by", ["begin", "save_state", "done"])
@pytest.mark.parametrize("restarted", [False, True])
def test_answer_removes_the_members(tmp_path: Path, made_by: str, restarted: bool) -> None:
    path = tmp_path / "journal"

    async def make(journal: Journal) -> None:
        await journal.accept("a", b"d", b"p", key="k")
        if made_by == "begin":
            await journal.begin(1, 1)
        elif made_by == "save_state":
            await journal.save_state(1, 0, {"x": 1})
        else:
            await journal.done(1, 0, b"[]")
        if not restarted:
            await journal.answer(1, b"answer")

    async def finish(journal: Journal) -> None:
        await journal.unfinished()
        await journal.answer(1, b"answer")

    play(path, make)
    if restarted:
        play(path, finish)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM members").fetchone() == (0,)


def test_packet_id_of_an_earlier_run_is_taken_by_an_order_with_a_key(tmp_path: Path) -> None:
    path = tmp_path / "journal"

    async def first(journal: Journal) -> None:
        assert (await journal.accept(None, b"a", b"a", origin=Origin(7, False, 1))).number == 1

    async def second(journal: Journal) -> None:
        origin = Origin(7, False, 1)
        assert (await journal.accept(None, b"b", b"b", key="k", origin=origin)).number == 2

    for scene, packets in ((first, 1), (second, 0)):
        play(path, scene)
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("SELECT count(*) FROM packets").fetchone() == (packets,)
