"""The journal: repeated orders, forgotten orders, and faults of the disk."""

import asyncio
import math
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from fastlib import Start
from fastlib.migfra import JournalError
from fastlib.migfra.journal import group_commit, journal_file, layout, schema, trimming
from fastlib.migfra.journal.acceptance import Acceptance
from fastlib.migfra.journal.group_commit import GroupCommit
from fastlib.migfra.journal.journal import Journal
from fastlib.migfra.journal.schema import MemberState, Unconfirmed
from tests.support.clock import SetClock
from tests.support.migfra.bench import Bench, patiently
from tests.support.migfra.journals import accept, run
from tests.support.migfra.scripted import Scripted, gate
from tests.support.waiting import wait_until_async


def test_container_passes_all_states(tmp_path: Path) -> None:
    async def scene() -> None:
        journal = Journal(tmp_path / "deep" / "journal")
        number = await accept(journal, "é", b"payload")
        again = await journal.accept("é", b"payload", b"payload", key="é")
        assert (again.kind, again.number) == ("unanswered", number)
        assert (await journal.accept("é", b"2", b"2", key="é")).kind == "other"
        assert await journal.payload(number) == b"payload"
        await journal.begin(number, 0)
        await journal.save_state(number, 0, {"job": [1, None, "a"]})
        await journal.done(number, 1, b"[]")
        await journal.cancel(number)
        (unfinished,) = await journal.unfinished()
        assert (unfinished.number, unfinished.id, unfinished.cancelled) == (number, "é", True)
        assert unfinished.members == {
            0: MemberState(None, {"job": [1, None, "a"]}),
            1: MemberState(b"[]", {}),
        }
        await journal.answer(number, b"answer")
        assert await journal.unfinished() == []
        assert await journal.unconfirmed() == [Unconfirmed(number, "é", b"answer")]
        acceptance = await journal.accept("é", b"payload", b"payload", key="é")
        assert (acceptance.kind, acceptance.answer) == ("answered", b"answer")
        journal.confirmed(number)
        assert await journal.unconfirmed() == []
        await journal.close()

    run(scene)


def test_state_that_json_cannot_represent_fails_alone(tmp_path: Path) -> None:
    async def scene() -> None:
        journal = Journal(tmp_path / "journal")
        number = await accept(journal, None)
        await journal.begin(number, 0)
        wrong = journal.save_state(number, 0, {"no": object()})
        right = journal.save_state(number, 0, {"yes": 1})
        with pytest.raises(TypeError):
            await wrong
        await right
        await journal.close()
        with pytest.raises(JournalError, match="closed"):
            await journal.begin(number, 1)

    run(scene)


def test_conflict_fails_alone(tmp_path: Path) -> None:
    async def scene() -> None:
        journal = Journal(tmp_path / "journal")
        number = await accept(journal, None)
        await journal.begin(number, 0)
        twice = asyncio.create_task(journal.begin(number, 0))
        await patiently(journal.begin(number, 1))
        with pytest.raises(sqlite3.IntegrityError):
            await twice
        assert journal.last_error is None
        await journal.close()

    run(scene)


def test_number_is_not_reused(tmp_path: Path) -> None:
    """A late message for a forgotten order must not belong to another one."""

    async def scene() -> None:
        journal = Journal(tmp_path / "journal", max_age=-1)
        first = await accept(journal, "1")
        await journal.answer(first, b"")
        journal.confirmed(first)
        journal.trim()
        assert await accept(journal, "1") > first
        await journal.close()

    run(scene)


def test_concurrent_operations_share_a_transaction(tmp_path: Path) -> None:
    async def scene() -> None:
        connection = sqlite3.connect(tmp_path / "db", isolation_level=None, check_same_thread=False)
        statements: list[str] = []
        connection.set_trace_callback(statements.append)
        connection.execute("CREATE TABLE t (n)")
        group = GroupCommit(connection)
        futures = [
            group.submit(lambda c, n=n: c.execute("INSERT INTO t VALUES (?)", (n,)).rowcount)
            for n in range(500)
        ]
        assert await asyncio.gather(*futures) == [1] * 500
        assert statements.count("COMMIT") <= 2
        assert [n for (n,) in connection.execute("SELECT n FROM t")] == list(range(500))
        await group.close(1)
        connection.close()

    run(scene)


@pytest.mark.parametrize(
    ("boot", "latest"),
    [("first", 1060.0), ("second", 1080.0)],  # SetClock begins at 1000, the restart is at 1020
)
def test_restart_knows_how_much_time_was_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, boot: str, latest: float
) -> None:
    """After a boot it knows a bound."""

    async def scene() -> None:
        path, clock = tmp_path / "journal", SetClock()
        monkeypatch.setattr(journal_file, "_boot_id", lambda: "first")
        journal = Journal(path, clock=clock)
        await journal.accept("a", b"x", b"x", key="a", expires=clock.now() + 60)
        await journal.accept("b", b"x", b"x", key="b")
        await journal.close()
        clock.run(20)
        clock.jump(-3600)
        monkeypatch.setattr(journal_file, "_boot_id", lambda: boot)
        journal = Journal(path, clock=clock)
        found = [unfinished.latest_begin for unfinished in await journal.unfinished()]
        assert found == [latest, math.inf]
        await journal.close()

    run(scene)


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        ("DELETE FROM meta WHERE name = 'fresh-run'", "meta.fresh-run"),
        ("ALTER TABLE containers DROP COLUMN answered", "containers.answered"),
        ("DROP TABLE packets", "packets.connection, packets.container"),
    ],
)
def test_journal_of_an_unreleased_layout_is_refused(
    tmp_path: Path, change: str, missing: str
) -> None:
    async def scene() -> None:
        path = tmp_path / "journal"
        await Journal(path).close()
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(change)
        with pytest.raises(JournalError) as refused:
            Journal(path)
        assert str(refused.value).startswith(
            f"the journal {path} was made by an unreleased fastlib, and this one cannot read it "
            f"({missing}"
        )

    run(scene)


def test_file_other_than_a_journal_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_bytes(b"something else" * 1000)
    with pytest.raises(JournalError, match=r"journal.*file is not a database"):
        Journal(path)
    path.unlink()
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA user_version = 99")
    with pytest.raises(JournalError, match="of a newer fastlib"):
        Journal(path)
    with pytest.raises(JournalError, match="cannot be opened"):
        Journal(path / "below")


def open_files(path: Path) -> list[str]:
    """Return the open files of this process whose path has this beginning."""
    files = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # that of the folder itself
            files.append(os.readlink(descriptor))
    return [file for file in files if file.startswith(str(path))]


@pytest.mark.parametrize("part", ["open_tables", "begin_run"])
def test_journal_that_cannot_be_opened_leaves_no_file_open(
    tmp_path: Path, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal"
    asyncio.run(Journal(path).close())
    assert open_files(path) == []
    if part == "begin_run":
        monkeypatch.setattr(schema, part, lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            Journal(path)
    else:
        monkeypatch.setattr(schema, "BUSY_SECONDS", 0.0)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("PRAGMA locking_mode = EXCLUSIVE")
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(JournalError, match="locked"):
                Journal(path)
    assert open_files(path) == []


def test_cancelled_close_leaves_no_file_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "BUSY_SECONDS", 0.05)
    path = tmp_path / "journal"

    async def scene() -> None:
        journal = Journal(path)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            journal.trim()
            await wait_until_async(lambda: journal.last_error, "the error of the lock")
            closing_journal = asyncio.create_task(journal.close())
            await asyncio.sleep(0)
            closing_journal.cancel()
            with pytest.raises(asyncio.CancelledError):
                await closing_journal
            # The commit may still be in its thread, which ends with the loop.

    run(scene)
    assert open_files(path) == []


def _trouble(bench: Bench, kind: str) -> Callable[[], None]:
    """Make the journal unwritable. Return a function that repairs it."""
    if kind == "locked":
        other = sqlite3.connect(bench.journal, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        return other.close
    connection = bench.daemons[-1].runtime.journal._file.connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    return lambda: connection.execute("PRAGMA max_page_count = 1000000").close()


@pytest.mark.parametrize("kind", ["locked", "full"])
def test_unwritable_journal_loses_no_orders(
    tmp_path: Path,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("fastlib.migfra.journal.schema.BUSY_SECONDS", 0.05)

    async def main() -> None:
        async with Bench(tmp_path) as bench:
            hypervisor = Scripted()
            plan, begun, go = gate()
            hypervisor.plan["vm0"] = plan
            daemon = await bench.daemon(hypervisor)
            await bench.send(Start(vm_name="vm0"), "0")
            await patiently(begun.wait())
            mend = _trouble(bench, kind)
            long = "x" * 20_000  # more than fits into what the pages have left
            await bench.send(
                f"task: start vm\nid: '1'\nhost: {long}\nvm-configurations: [vm-name: vm1]"
            )
            await wait_until_async(lambda: daemon.runtime.journal.last_error is not None)
            go.set()
            # It lives and says how it is, takes nothing on and answers nothing.
            await bench.no_result()
            assert hypervisor.calls == [("start", "vm0")]
            session = bench.broker._sessions["fast-migfra-node01"]
            assert len(session.waiting) == 1
            mend()
            assert {(await bench.result()).id, (await bench.result()).id} == {"0", "1"}
            assert daemon.runtime.journal.last_error is None
            assert hypervisor.calls == [("start", "vm0"), ("start", "vm1")]

    asyncio.run(main())
    messages = [record.message for record in caplog.records if "journal" in record.message]
    assert len([line for line in messages if "cannot be written" in line]) == 1
    assert "the journal can be written again" in messages


def test_unwritable_journal_does_not_block_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastlib.migfra.runtime.CLOSE_SECONDS", 0.2)
    monkeypatch.setattr("fastlib.migfra.journal.schema.BUSY_SECONDS", 0.05)

    async def main() -> None:
        async with Bench(tmp_path) as bench:
            daemon = await bench.daemon(shutdown_timeout=0.1)
            mend = _trouble(bench, "locked")
            await bench.send(Start(vm_name="vm1"), "1")
            await wait_until_async(lambda: daemon.runtime.journal.last_error is not None)
            await patiently(daemon.close())
            mend()
            second = Scripted()
            await bench.daemon(second)
            assert (await bench.result()).id == "1"
            assert second.calls == [("start", "vm1")]

    asyncio.run(main())


# Exact boundaries and defaults


def rows(path: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as other:
        return other.execute(query).fetchall()


def test_default_values() -> None:
    assert (layout.VERSION, schema.BUSY_SECONDS, schema.TRIMMED_AT_ONCE) == (4, 2.0, 100)
    assert (schema.ACCEPTED, schema.ANSWERED, schema.CONFIRMED) == (0, 1, 2)
    assert (group_commit.LARGEST_BATCH, group_commit.PAUSES) == (1000, (0.05, 5.0))
    assert trimming.TRIM_EVERY == 1000
    journal = Journal(None)
    bounds = journal._trimming
    assert (bounds._max_age, bounds._max_size) == (604_800.0, 64 << 20)
    assert (journal.path, journal.size(), journal.waiting) == (None, 0, 0)
    assert Acceptance("new", 1).answer is None
    asyncio.run(journal.close())


@pytest.mark.parametrize(("version", "accepted"), [(4, True), (5, False)])
def test_version_of_the_tables_decides(tmp_path: Path, version: int, accepted: bool) -> None:
    path = tmp_path / "journal"
    asyncio.run(Journal(path).close())
    assert rows(path, "PRAGMA user_version") == [(4,)]
    with closing(sqlite3.connect(path)) as other:
        other.execute(f"PRAGMA user_version = {version}")
    if accepted:
        asyncio.run(Journal(path).close())
        return
    with pytest.raises(JournalError) as caught:
        Journal(path)
    assert str(caught.value) == (
        f"the journal {path} is of a newer fastlib (version 5 of its tables, this one knows 4); "
        "use that one, or another file"
    )


def test_states_and_columns_on_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "journal"

    async def scene() -> None:
        journal = Journal(path)
        number = await accept(journal, "a", b"payload")
        await journal.begin(number, 3)
        await journal.save_state(number, 3, {"x": 1})
        query = "SELECT id, key, digest, state, cancelled, payload, answer FROM containers"
        assert rows(path, query) == [(b"a", b"a", b"payload", 0, 0, b"payload", None)]
        assert rows(path, "SELECT * FROM members") == [(number, 3, None, b'{"x":1}')]
        await journal.cancel(number)
        assert rows(path, "SELECT cancelled, state FROM containers") == [(1, 0)]
        await journal.done(number, 3, b"[1]")
        assert rows(path, "SELECT results, notes FROM members") == [(b"[1]", b'{"x":1}')]
        await journal.answer(number, b"answer")
        assert rows(path, "SELECT state, payload, answer, confirmed FROM containers") == [
            (1, b"payload", b"answer", None)
        ]
        assert rows(path, "SELECT * FROM members") == []
        assert await journal.payload(number) == b"payload"
        assert await journal.payload(number + 1) is None
        before = time.time()
        journal.confirmed(number)
        await journal.unfinished()  # everything before it is written
        ((state, confirmed),) = rows(path, "SELECT state, confirmed FROM containers")
        assert state == 2
        assert isinstance(confirmed, float)
        assert before <= confirmed <= time.time()
        assert journal.size() == sum(
            file.stat().st_size for file in (path, Path(f"{path}-wal")) if file.exists()
        )
        await journal.close()

    run(scene)
    assert path.stat().st_mode & 0o777 == 0o600


def test_batch_has_at_most_a_thousand_operations(tmp_path: Path) -> None:
    async def scene() -> None:
        connection = sqlite3.connect(tmp_path / "db", isolation_level=None, check_same_thread=False)
        statements: list[str] = []
        connection.set_trace_callback(statements.append)
        commit = GroupCommit(connection)
        futures = [commit.submit(lambda _: None) for _ in range(1001)]
        assert len(commit) == 1001
        await asyncio.gather(*futures)
        assert statements.count("COMMIT") == 2
        futures = [commit.submit(lambda _: None) for _ in range(1000)]
        await asyncio.gather(*futures)
        assert statements.count("COMMIT") == 3
        assert len(commit) == 0
        await commit.close(1)
        connection.close()

    run(scene)


def test_unfinished_reports_a_possible_cancellation(tmp_path: Path) -> None:
    async def scene() -> None:
        journal = Journal(tmp_path / "journal")
        await accept(journal, "1", b"task: cancel task\nid: 1", task="cancel task")
        # What the text says elsewhere does not matter: it need not be read at the start.
        await accept(journal, None, b"task: start vm # cancel task", task="start vm")
        found = await journal.unfinished()
        assert [(one.id, one.maybe_cancel, one.cancelled, dict(one.members)) for one in found] == [
            ("1", True, False, {}),
            (None, False, False, {}),
        ]
        assert found[0].accepted <= found[1].accepted <= time.time()
        await journal.close()

    run(scene)
