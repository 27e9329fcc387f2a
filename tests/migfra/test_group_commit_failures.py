"""Operations and commits that fail in a group commit."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from fastlib.migfra import JournalError
from fastlib.migfra.journal.group_commit import GroupCommit
from tests.support.migfra.bench import patiently
from tests.support.migfra.planted import Planted, fails, logged
from tests.support.waiting import wait_until_async


class Commits:
    """A group commit on a database in a file, and the failures that it reports."""

    def __init__(self, directory: Path) -> None:
        self.connection = sqlite3.connect(
            directory / "db", isolation_level=None, check_same_thread=False
        )
        self.connection.execute("CREATE TABLE t (n UNIQUE)")
        self.failures: list[tuple[str, str]] = []
        self.group = GroupCommit(
            self.connection, lambda part, error: self.failures.append((part, str(error)))
        )

    def insert(self, number: int) -> "asyncio.Future[Any]":
        return self.group.submit(
            lambda connection: connection.execute("INSERT INTO t VALUES (?)", (number,)).rowcount
        )

    def numbers(self) -> list[int]:
        return [n for (n,) in self.connection.execute("SELECT n FROM t ORDER BY n")]

    async def close(self) -> None:
        await self.group.close(1)
        self.connection.close()


def play_commits(directory: Path, scene: Callable[[Commits], Awaitable[None]]) -> None:
    """Play a scene with a group commit, which is closed at its end."""

    async def main() -> None:
        commits = Commits(directory)
        await scene(commits)
        await commits.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    "statement",
    ["INSERT INTO t VALUES (?, ?)", "INSERT INTO no_such_table VALUES (?)", "no SQL ?"],
)
def test_operation_with_a_wrong_statement_fails_alone(tmp_path: Path, statement: str) -> None:
    async def scene(commits: Commits) -> None:

        def wrong(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT INTO t VALUES (100)")
            connection.execute(statement, (1,))

        first, bad, last = commits.insert(1), commits.group.submit(wrong), commits.insert(2)
        assert await patiently(asyncio.gather(first, last)) == [1, 1]
        with pytest.raises(sqlite3.Error):
            await bad
        assert commits.numbers() == [1, 2]  # nothing of the failed operation is committed
        assert commits.failures == []
        assert commits.group.last_error is None

    play_commits(tmp_path, scene)


def test_operations_that_fail_do_not_fail_others_of_the_batch(tmp_path: Path) -> None:
    async def scene(commits: Commits) -> None:
        futures = [commits.insert(n) if n % 3 else commits.group.submit(fails) for n in range(30)]
        results = await patiently(asyncio.gather(*futures, return_exceptions=True))
        assert [type(result) for result in results] == [
            int if n % 3 else Planted for n in range(30)
        ]
        assert commits.numbers() == [n for n in range(30) if n % 3]

    play_commits(tmp_path, scene)


def test_failure_of_the_commit_itself_is_reported_and_fails_the_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(commits: Commits) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(GroupCommit, "_commit", fails)
            outcome = await patiently(
                asyncio.gather(commits.insert(1), commits.insert(2), return_exceptions=True)
            )
        assert [str(error) for error in outcome] == ["the journal failed: Planted: by a test"] * 2
        assert all(isinstance(error, JournalError) for error in outcome)
        assert commits.failures == [("the journal", "by a test")]
        assert isinstance(commits.group.last_error, Planted)
        assert await patiently(commits.insert(3)) == 1
        assert commits.numbers() == [3]
        assert commits.group.last_error is None

    play_commits(tmp_path, scene)


def test_database_that_is_closed_too_early_is_reported(tmp_path: Path) -> None:
    async def scene(commits: Commits) -> None:
        commits.connection.close()
        with pytest.raises(JournalError, match=r"the journal failed: ProgrammingError: .*closed"):
            await patiently(commits.insert(1))
        assert [part for part, _ in commits.failures] == ["the journal"]
        await commits.group.close(1)

    play_commits(tmp_path, scene)


def test_error_of_an_operation_without_waiter_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(commits: Commits) -> None:
        commits.group.submit_later(fails)
        await patiently(commits.insert(1))
        await commits.close()
        commits.group.submit_later(fails)  # after the end it is not an error

    play_commits(tmp_path, scene)
    logged(caplog, "an entry of the journal was not written")
    assert len(caplog.records) == 1


def test_close_fails_entries_that_cannot_be_written(tmp_path: Path) -> None:
    async def scene(commits: Commits) -> None:
        other = sqlite3.connect(tmp_path / "db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        commits.connection.execute("PRAGMA busy_timeout = 0")
        waiting = commits.insert(1)
        await wait_until_async(lambda: commits.group.last_error is not None)
        await commits.group.close(0)
        with pytest.raises(JournalError, match="the journal was closed: database is locked"):
            await waiting
        with pytest.raises(JournalError, match="the journal is closed"):
            await commits.insert(2)
        other.close()
        assert commits.numbers() == []

    play_commits(tmp_path, scene)


def test_failure_reaches_only_those_that_still_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(commits: Commits) -> None:
        errors: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, error: errors.append(error))
        with monkeypatch.context() as patch:
            patch.setattr(GroupCommit, "_commit", fails)
            commits.group.submit_later(lambda _: None)  # no caller waits
            commits.insert(1).cancel()
            with pytest.raises(JournalError, match="the journal failed: Planted: by a test"):
                await patiently(commits.insert(2))
        assert errors == []

    play_commits(tmp_path, scene)


def test_callers_learn_at_once_of_a_commit_to_a_lost_file(tmp_path: Path) -> None:
    async def scene(commits: Commits) -> None:
        damage: list[str] = []
        group = GroupCommit(
            commits.connection,
            find_problem=lambda: damage[0] if damage else None,
            on_commit=lambda results: len(results),
        )
        assert await patiently(group.submit(lambda _: 1)) == 1
        damage.append("was deleted")
        group.submit_later(lambda _: group.check_file())
        assert await patiently(group.submit(lambda _: 2)) == 2
        assert group.lost is not None
        assert group._patient == 0
        await group.close(1)

    play_commits(tmp_path, scene)


@pytest.mark.parametrize(
    ("patient", "waiting", "settles"),
    [(0, 1, True), (1, 1, False), (1, 2, True), (2, 2, False)],
)
def test_commit_settles_at_once_unless_all_its_callers_are_patient(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patient: int, waiting: int, settles: bool
) -> None:
    settled: list[bool] = []
    must_settle = GroupCommit._must_settle

    def observed(group: GroupCommit) -> bool:
        """Called in the thread right after a commit."""
        settled.append(must_settle(group))
        return settled[-1]

    monkeypatch.setattr(GroupCommit, "_must_settle", observed)

    async def scene(commits: Commits) -> None:
        group = GroupCommit(commits.connection, on_commit=lambda results: patient)
        group.submit_later(lambda _: None)
        await patiently(asyncio.gather(*(group.submit(lambda _: None) for _ in range(waiting))))
        await group.close(1)

    play_commits(tmp_path, scene)
    assert settled == [settles]
