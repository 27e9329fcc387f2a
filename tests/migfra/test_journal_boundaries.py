"""The journal: exact errors, log lines and results at the boundaries."""

import asyncio
import gc
import logging
import math
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from fastlib.migfra import JournalError
from fastlib.migfra.journal import group_commit, schema
from fastlib.migfra.journal.acceptance import Acceptance
from fastlib.migfra.journal.group_commit import GroupCommit
from fastlib.migfra.journal.journal import Journal
from fastlib.migfra.journal.schema import Unconfirmed
from fastlib.migfra.journal.transaction import OperationError, is_temporary
from fastlib.migfra.telemetry import logs
from tests.support.migfra.journals import run
from tests.support.waiting import wait_until_async

LOG = "fastlib.migfra.journal.journal"


def memory() -> sqlite3.Connection:
    return sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)


def fail(error: Exception) -> Callable[[object], None]:
    def operation(_: object) -> None:
        raise error

    return operation


def sqlite_error(kind: type[sqlite3.Error], code: int | None = None) -> sqlite3.Error:
    error = kind("text")
    if code is not None:
        error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("kind", "code", "temporary"),
    [
        (sqlite3.OperationalError, sqlite3.SQLITE_BUSY, True),
        (sqlite3.OperationalError, sqlite3.SQLITE_FULL, True),
        (sqlite3.OperationalError, None, True),
        (sqlite3.DatabaseError, sqlite3.SQLITE_CORRUPT, True),
        (sqlite3.OperationalError, sqlite3.SQLITE_ERROR, False),
        (sqlite3.IntegrityError, sqlite3.SQLITE_CONSTRAINT, False),
        (sqlite3.DataError, None, False),
        (sqlite3.InterfaceError, None, False),
        (sqlite3.NotSupportedError, None, False),
        (sqlite3.ProgrammingError, None, False),
    ],
)
def test_error_of_the_database_is_temporary(
    kind: type[sqlite3.Error], code: int | None, temporary: bool
) -> None:
    assert is_temporary(sqlite_error(kind, code)) is temporary


def test_wrong_statement_fails_alone() -> None:
    async def scene() -> None:
        with closing(memory()) as connection:
            group = GroupCommit(connection)
            wrong = group.submit(lambda c: c.execute("no SQL"))
            right = group.submit(lambda c: c.execute("SELECT 5").fetchone())
            with pytest.raises(sqlite3.OperationalError, match='near "no": syntax error'):
                await wrong
            assert await right == (5,)
            assert group.last_error is None
            await group.close(1)

    run(scene)


def test_operation_that_raises_what_no_future_can_have_fails_alone() -> None:
    async def scene() -> None:
        with closing(memory()) as connection:
            group = GroupCommit(connection)
            right = group.submit(lambda c: c.execute("SELECT 5").fetchone())
            wrong = group.submit(fail(StopIteration(5)))
            with pytest.raises(RuntimeError, match=r"^it raised StopIteration\(5\)$"):
                await wrong
            assert await right == (5,)
            await group.close(1)

    run(scene)


def test_later_entries_are_written_when_due_despite_an_earlier_timer() -> None:
    written: list[str] = []

    async def scene() -> None:
        with closing(memory()) as connection:
            group = GroupCommit(connection)
            group.submit_along(lambda _: written.append("first"), 0.05)
            await group.submit(lambda _: None)  # writes it along
            while group._is_at_work:
                await asyncio.sleep(0)
            group.submit_along(lambda _: written.append("second"), 0.1)
            assert written == ["first"]
            await wait_until_async(lambda: written == ["first", "second"])
            assert not group._waiting
            await group.close(1)

    run(scene)


def test_no_timer_is_left_once_all_is_written() -> None:
    written: list[str] = []

    async def scene() -> None:
        with closing(memory()) as connection:
            group = GroupCommit(connection)
            group.submit_along(lambda _: written.append("along"), 0.01)
            await group.submit(lambda _: None)
            await wait_until_async(lambda: not group._is_at_work and group._timer is None)
            group.submit_along(lambda _: written.append("due"), 0.01)
            await wait_until_async(lambda: written == ["along", "due"] and not group._is_at_work)
            assert group._timer is None
            assert group._due == math.inf
            group.submit_along(lambda _: None, 3600.0)
            assert group._due > asyncio.get_running_loop().time() + 3000
            await group.close(1)

    run(scene)


def test_entry_that_comes_during_a_commit_is_written_when_due() -> None:
    begun, may_end = threading.Event(), threading.Event()
    written: list[str] = []

    def slow(_: object) -> None:
        begun.set()
        assert may_end.wait(60)

    async def scene() -> None:
        with closing(memory()) as connection:
            group = GroupCommit(connection)
            first = group.submit(slow)
            await wait_until_async(begun.is_set)
            group.submit_along(lambda _: written.append("along"), 0.01)
            may_end.set()
            await first
            await wait_until_async(lambda: written == ["along"])
            await group.close(1)

    run(scene)


def test_error_without_waiter_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    error = ValueError("wrong")

    async def scene() -> None:
        with closing(memory()) as connection:
            group = GroupCommit(connection)
            group.submit_later(fail(error))
            group.submit_later(lambda _: None)
            await group.submit(lambda _: None)
            await group.close(1)
            group.submit_later(lambda _: None)  # the journal is closed: nobody needs to know

    run(scene)
    (record,) = caplog.records
    assert (record.name, record.levelno) == (LOG, logging.ERROR)
    assert record.getMessage() == "an entry of the journal was not written"
    assert record.exc_info is not None
    assert record.exc_info[1] is error


def test_closed_journal_refuses_operations() -> None:
    async def scene() -> None:
        with closing(memory()) as connection:
            group = GroupCommit(connection)
            group.give_up()
            with pytest.raises(JournalError) as caught:
                await group.submit(lambda _: None)
            assert str(caught.value) == "the journal is closed"
            assert len(group) == 0
            await group.close(1)

    run(scene)


def test_operations_that_wait_fail_when_the_journal_is_closed() -> None:
    async def scene() -> None:
        with closing(memory()) as connection:
            group = GroupCommit(connection)
            future = group.submit(lambda _: None)
            group.give_up()
            await group.close(1)
            with pytest.raises(JournalError) as caught:
                await future
            assert str(caught.value) == "the journal was closed: None"

    run(scene)


def test_worker_is_not_about_the_task_of_the_first_writer() -> None:
    async def scene() -> None:
        with closing(memory()) as connection:
            group = GroupCommit(connection)
            logs.host.set("node01")
            logs.about.set(logs.About("1", "vm1"))
            found = await group.submit(lambda _: (logs.host.get(), logs.about.get()))
            assert found == ("node01", None)
            await group.close(1)

    run(scene)


def test_unexpected_error_fails_the_batch_and_is_reported() -> None:
    reported: list[tuple[str, BaseException]] = []

    async def scene() -> None:
        with closing(memory()) as connection:
            group = GroupCommit(connection, lambda *failure: reported.append(failure))
            error = RuntimeError("broken")

            def commit(_: object) -> list[object]:
                raise error

            group._commit = commit  # type: ignore[method-assign,assignment]
            with pytest.raises(JournalError) as caught:
                await group.submit(lambda _: None)
            assert str(caught.value) == "the journal failed: RuntimeError: broken"
            await wait_until_async(lambda: bool(reported))
            assert reported == [("the journal", error)]
            assert group.last_error is error
            await group.close(1)

    run(scene)


def test_log_prints_each_reason_once(caplog: pytest.LogCaptureFixture) -> None:
    with closing(memory()) as connection:
        group = GroupCommit(connection)
        locked, full = sqlite3.OperationalError("locked"), sqlite3.OperationalError("full")
        for error in (None, locked, locked, sqlite3.OperationalError("locked"), full, None, None):
            group._set_last_error(error)
            assert group.last_error is error
    tail = "; until it can, the daemon acknowledges no task and sends no result"
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("ERROR", f"the journal cannot be written: locked{tail}"),
        ("ERROR", f"the journal cannot be written: full{tail}"),
        ("WARNING", "the journal can be written again"),
    ]


def test_temporary_error_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "PAUSES", (0.001, 0.002))

    async def scene() -> None:
        with closing(memory()) as connection:
            group = GroupCommit(connection)
            left = [sqlite_error(sqlite3.OperationalError, sqlite3.SQLITE_FULL) for _ in range(3)]

            def operation(_: object) -> str:
                if left:
                    raise left.pop()
                return "written"

            assert await group.submit(operation) == "written"
            assert left == []
            assert not connection.in_transaction
            assert group.last_error is None
            await group.close(1)

    run(scene)


def test_open_transaction_is_rolled_back_first() -> None:
    with closing(memory()) as connection:
        group = GroupCommit(connection)
        connection.execute("CREATE TABLE t (n)")
        connection.execute("BEGIN")
        connection.execute("INSERT INTO t VALUES (1)")
        assert group._commit([lambda c: c.execute("INSERT INTO t VALUES (2)").rowcount]) == [1]
        assert connection.execute("SELECT n FROM t").fetchall() == [(2,)]
        assert not connection.in_transaction
        with pytest.raises(OperationError) as caught:
            group._commit([lambda c: c.execute("INSERT INTO t VALUES (3)"), fail(ValueError("x"))])
        assert caught.value.position == 1
        assert repr(caught.value.error) == "ValueError('x')"
        assert caught.value.__cause__ is caught.value.error
        assert connection.execute("SELECT n FROM t").fetchall() == [(2,)]
        assert not connection.in_transaction


def test_result_of_cancelled_operation_is_dropped() -> None:
    async def scene() -> None:
        with closing(memory()) as connection:
            group = GroupCommit(connection)
            first, second = group.submit(lambda _: 1), group.submit(lambda _: 2)
            third = group.submit(fail(ValueError("x")))
            first.cancel()
            third.cancel()
            assert await second == 2
            await group.close(1)
            assert first.cancelled()
            assert third.cancelled()

    run(scene)


def test_acceptance_has_number_and_answer() -> None:
    async def scene() -> None:
        journal = Journal(None)

        async def accept(digest: bytes) -> Acceptance:
            return await journal.accept("a", digest, b"payload", key="a")

        await journal.accept("first", b"d", b"p", key="first")
        assert await accept(b"d") == Acceptance("new", 2)
        assert await accept(b"d") == Acceptance("unanswered", 2)
        assert await accept(b"e") == Acceptance("other", 2, other_id=b"a")
        await journal.answer(2, b"answer")
        answered = (await journal.history("a"))[0].answered
        assert await accept(b"d") == Acceptance("answered", 2, b"answer", answered)
        journal.confirmed(2)
        journal.confirmed(1)
        assert journal._trimming._confirmed == 2
        await journal.close()

    run(scene)


@pytest.mark.parametrize("host", [None, "node01", "é"])
def test_unconfirmed_answer_has_the_host_of_its_order(host: str | None) -> None:
    async def scene() -> None:
        journal = Journal(None, host=host)
        await journal.accept("a", b"d", b"p")
        assert [found.host for found in await journal.unfinished()] == [host]
        await journal.answer(1, b"answer")
        assert await journal.unconfirmed() == [Unconfirmed(1, "a", b"answer", host)]
        await journal.close()

    run(scene)


@pytest.mark.parametrize("id", ["a", "é", "\ud800", ""])
def test_any_text_can_be_an_id(id: str) -> None:
    async def scene() -> None:
        journal = Journal(None)
        await journal.accept(id, b"d", b"p")
        assert [found.id for found in await journal.unfinished()] == [id]
        await journal.answer(1, b"answer")
        assert await journal.unconfirmed() == [Unconfirmed(1, id, b"answer")]
        await journal.close()

    run(scene)
    assert schema.key(id) == id.encode("utf-8", "surrogatepass")


def test_trim_gives_pages_back_although_the_rest_is_owed(tmp_path: Path) -> None:
    with closing(schema.open_tables(tmp_path / "journal")) as connection:
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO containers (digest, accepted, settled, state, answer)"
            " VALUES (x'', 0, 1, ?, zeroblob(5000))",
            [(schema.ANSWERED,), *[(schema.CONFIRMED,)] * 50],
        )
        connection.execute("COMMIT")
        schema.trim(connection, 0, 0)
        assert connection.execute("SELECT count(*) FROM containers").fetchone() == (1,)
        assert connection.execute("PRAGMA freelist_count").fetchone() == (0,)


def test_database_has_its_settings(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "deeper" / "journal"
    with closing(schema.open_tables(path)) as connection:
        for pragma, value in (
            ("auto_vacuum", 2),
            ("journal_mode", "wal"),
            ("synchronous", 2),
            ("user_version", 4),
            ("busy_timeout", 2000),
        ):
            assert connection.execute(f"PRAGMA {pragma}").fetchone() == (value,)
        assert connection.isolation_level is None
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    schema.open_tables(path).close()  # the folder exists
    with closing(schema.open_tables(None)) as connection:
        assert connection.execute("PRAGMA database_list").fetchall() == [(0, "main", "")]


def test_journal_that_cannot_be_opened_says_why(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_bytes(b"something else" * 1000)
    with pytest.raises(JournalError) as caught:
        Journal(path)
    assert str(caught.value) == (
        f"the journal {path} cannot be opened: file is not a database; replace it by a good "
        "copy, or move it away: a new journal does not have the earlier orders"
    )
    assert isinstance(caught.value.__cause__, sqlite3.DatabaseError)


def test_journal_passes_its_arguments_on(monkeypatch: pytest.MonkeyPatch) -> None:
    timeouts: list[float] = []

    async def close(_: GroupCommit, timeout: float) -> None:
        timeouts.append(timeout)

    monkeypatch.setattr(GroupCommit, "close", close)

    def on_failure(part: str, error: BaseException) -> None:
        raise AssertionError(part) from error

    journal = Journal(None, max_age=5.0, max_size=6, on_failure=on_failure)
    trimming = journal._trimming
    assert (trimming._max_age, trimming._max_size, trimming._confirmed) == (5.0, 6, 0)
    assert journal._group_commit._on_failure is on_failure
    assert journal._group_commit._connection is journal._file.connection
    asyncio.run(journal.close())
    asyncio.run(journal.close(0.5))
    assert timeouts == [10.0, 0.5]


def test_each_operation_needs_a_result() -> None:
    with pytest.raises(ValueError, match="longer"):
        group_commit._set_results([], [1])


def test_failure_without_waiters_raises_no_error_in_the_loop() -> None:
    async def scene() -> None:
        reported: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: reported.append(context)
        )
        with closing(memory()) as connection:
            group = GroupCommit(connection)
            group.give_up()
            group.submit(lambda _: None)
            gc.collect()
            assert reported == []
            await group.close(1)

    run(scene)


class FullDisk:
    """A connection that can be neither rolled back nor closed."""

    in_transaction = False

    def execute(self, statement: str) -> None:
        self.in_transaction = True
        if statement == "ROLLBACK":
            raise sqlite3.OperationalError("disk is full")

    def close(self) -> None:
        raise sqlite3.OperationalError("disk is full")


def test_rollback_that_fails_does_not_hide_the_first_error() -> None:
    group = GroupCommit(FullDisk())  # type: ignore[arg-type]
    with pytest.raises(OperationError) as caught:
        group._commit([fail(ValueError("first"))])
    assert repr(caught.value.error) == "ValueError('first')"


def test_journal_closes_although_the_disk_is_full() -> None:
    journal = Journal(None)
    connection = journal._file.connection
    journal._file.connection = FullDisk()  # type: ignore[assignment]
    asyncio.run(journal.close())
    connection.close()
