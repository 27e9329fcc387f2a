"""The order in which the group commit executes operations, and where a transaction ends."""

import asyncio
import sqlite3
import threading
from collections.abc import Awaitable, Callable
from contextlib import closing
from typing import Any

import pytest

from fastlib.migfra.errors import JournalError
from fastlib.migfra.journal import commit_thread, group_commit
from fastlib.migfra.journal.group_commit import GroupCommit


class Group:
    """A group commit that records its operations, by transaction."""

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self.transactions: list[list[str]] = []
        self.woken: list[str] = []
        self.connection.set_trace_callback(self._trace)
        self.commit = GroupCommit(self.connection)

    def _trace(self, statement: str) -> None:
        if statement.startswith("BEGIN"):
            self.transactions.append([])

    def submit(self, name: str, prepare: Any = None, *, ahead: bool = False) -> Awaitable[None]:
        future = self.commit.submit(
            lambda _: self.transactions[-1].append(name), prepare, ahead=ahead
        )
        future.add_done_callback(lambda _: self.woken.append(name))
        return future


def run(scene: Callable[[Group], Awaitable[None]]) -> None:
    async def main() -> None:
        group = Group()
        with closing(group.connection):
            await asyncio.wait_for(scene(group), 30)
            await group.commit.close(1)

    asyncio.run(main())


def test_operations_ahead_are_executed_and_awaited_first_in_their_order() -> None:
    async def scene(group: Group) -> None:
        await asyncio.gather(
            group.submit("accept 1"),
            group.submit("begin 1", ahead=True),
            group.submit("accept 2"),
            group.submit("begin 2", ahead=True),
        )
        assert group.transactions == [["begin 1", "begin 2", "accept 1", "accept 2"]]
        assert group.woken == group.transactions[0]

    run(scene)


def test_transaction_ends_before_an_operation_that_waits_for_the_next_one() -> None:
    async def scene(group: Group) -> None:
        asked: list[tuple[int, bool]] = []

        def prepare(number: int, may_wait: bool) -> bool:
            asked.append((number, may_wait))
            return not may_wait or number % 3 != 2

        futures = [
            group.submit(str(number), lambda may_wait, number=number: prepare(number, may_wait))
            for number in range(7)
        ]
        futures.append(group.submit("behind"))
        await asyncio.gather(*futures)
        assert group.transactions == [["0", "1"], ["2", "3", "4"], ["5", "6", "behind"]]
        assert asked == [
            (0, False), (1, True), (2, True), (2, False), (3, True), (4, True), (5, True),
            (5, False), (6, True),
        ]  # fmt: skip
        assert len(group.commit) == 0

    run(scene)


def test_operations_ahead_do_not_wait_with_one_that_waits() -> None:
    async def scene(group: Group) -> None:
        futures = [group.submit(name, lambda may_wait: not may_wait) for name in ("1", "2", "3")]
        await futures[0]
        await asyncio.gather(group.submit("ahead", ahead=True), *futures)
        assert group.transactions == [["1"], ["ahead", "2"], ["3"]]

    run(scene)


def test_operation_fails_alone_if_its_preparation_fails() -> None:
    async def scene(group: Group) -> None:
        failures: list[tuple[str, BaseException]] = []
        group.commit._on_failure = lambda what, error: failures.append((what, error))

        def prepare(_: bool) -> bool:
            raise ValueError("unexpected")

        bad = group.submit("bad", prepare)
        good = group.submit("good")
        outcomes = await asyncio.gather(bad, good, return_exceptions=True)
        assert str(outcomes[0]) == "the journal failed: ValueError: unexpected"
        assert outcomes[1] is None
        assert [(part, str(error)) for part, error in failures] == [("the journal", "unexpected")]
        assert group.transactions == [["good"]]

    run(scene)


class Failing(Group):
    """A group commit that reports its failures."""

    def __init__(self, **hooks: Any) -> None:
        super().__init__()
        self.failures: list[str] = []
        self.commit = GroupCommit(
            self.connection, lambda part, error: self.failures.append(f"{part}: {error}"), **hooks
        )


def raise_error(*_: object) -> Any:
    raise ValueError("unexpected")


def look_once() -> Callable[[], str | None]:
    """Return a check of the file that raises an error after the first transaction."""
    looks = 0

    def find_problem() -> str | None:
        nonlocal looks
        looks += 1
        return raise_error() if looks == 1 else None

    return find_problem


@pytest.mark.parametrize(
    "hooks",
    [lambda: {"on_commit": raise_error}, lambda: {"find_problem": look_once()}],
    ids=["hook", "check"],
)
def test_failure_after_a_commit_is_reported_and_the_operations_have_their_results(
    hooks: Callable[[], dict[str, Any]],
) -> None:
    async def main() -> None:
        group = Failing(**hooks())
        with closing(group.connection):
            await group.submit("1")
            assert group.transactions == [["1"]]
            await group.commit.close(1)
            assert group.failures == ["the journal: unexpected"]

    asyncio.run(main())


def test_failing_observer_does_not_block_close() -> None:
    async def main() -> None:
        group = Failing()
        with closing(group.connection):
            group.commit.on_change = raise_error
            group.commit._change(sqlite3.OperationalError("full"))
            await group.submit("1")
            await group.commit.close(1)
            assert group.failures == ["the journal: unexpected"] * 2
            assert group.commit.last_error is None

    asyncio.run(main())


def test_thread_that_cannot_be_started_fails_the_operations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        group = Failing()
        with closing(group.connection):
            monkeypatch.setattr(group.commit._thread, "submit", raise_error)
            with pytest.raises(JournalError) as caught:
                await group.submit("1")
            assert str(caught.value) == "the journal failed: ValueError: unexpected"
            monkeypatch.undo()
            await group.submit("2")
            assert group.transactions == [["2"]]
            assert group.failures == ["the journal: unexpected"]
            await group.commit.close(1)

    asyncio.run(main())


def test_operation_that_stops_an_iteration_fails_alone() -> None:
    async def scene(group: Group) -> None:
        bad = group.commit.submit(lambda _: next(iter(())))
        good = group.submit("good")
        with pytest.raises(RuntimeError, match=r"it raised StopIteration\(\)"):
            await bad
        await good

    run(scene)


def test_preparation_that_waits_although_it_must_not_is_overruled() -> None:
    async def scene(group: Group) -> None:
        await group.submit("1", lambda may_wait: False)
        assert group.transactions == [["1"]]

    run(scene)


def test_abandoned_entries_are_not_written_after_a_pause() -> None:
    async def scene(group: Group) -> None:
        group.connection.execute("PRAGMA query_only = 1")
        future = group.commit.submit(lambda connection: connection.execute("CREATE TABLE t (n)"))
        while group.commit._pause is None:
            await asyncio.sleep(0)
        group.commit.give_up()
        assert not group.commit._is_at_work
        assert len(group.commit) == 1
        await group.commit.close(0)
        with pytest.raises(JournalError, match="the journal was closed: attempt to write"):
            await future

    run(scene)


def test_thread_has_a_name_for_lists_of_threads() -> None:
    async def scene(group: Group) -> None:
        name = await group.commit.submit(lambda _: threading.current_thread().name)
        assert name == "fastlib journal"

    run(scene)


@pytest.mark.parametrize("ahead", [False, True])
def test_transaction_has_a_bounded_number_of_operations(
    monkeypatch: pytest.MonkeyPatch, ahead: bool
) -> None:
    monkeypatch.setattr(group_commit, "LARGEST_BATCH", 3)

    async def scene(group: Group) -> None:
        await asyncio.gather(*(group.submit(name, ahead=ahead) for name in "1234567"))
        assert group.transactions == [[*"123"], [*"456"], ["7"]]

    run(scene)


def test_operation_may_wait_only_behind_one_that_was_prepared() -> None:
    async def scene(group: Group) -> None:
        asked: list[bool] = []

        def prepare(may_wait: bool) -> bool:
            asked.append(may_wait)
            return True

        await asyncio.gather(
            group.submit("1"), group.submit("2", prepare), group.submit("3", prepare)
        )
        assert asked == [False, True]
        assert group.transactions == [["1", "2", "3"]]

    run(scene)


def test_lost_file_is_logged_once_and_nobody_waits_for_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        problems: list[str] = []
        committed: list[list[object]] = []
        changes: list[Exception | None] = []
        group = Failing(
            find_problem=lambda: problems[-1] if problems else None, on_commit=committed.append
        )
        commit = group.commit
        commit.on_change = lambda: changes.append(commit.last_error)
        with closing(group.connection):
            group.connection.execute("CREATE TABLE t (n)")
            insert = "INSERT INTO t VALUES (1)"
            assert await commit.submit(lambda c: c.execute(insert).rowcount) == 1
            assert (len(committed), changes, commit.lost) == (1, [], None)
            problems.append("it was deleted")
            assert await commit.submit(lambda c: c.execute(insert).rowcount) == 1
            problems.append("it was replaced")
            group.connection.execute("PRAGMA query_only = 1")
            assert await commit.submit(lambda c: c.execute(insert).rowcount) is None
            assert len(committed) == 2  # that the file was lost is found after a commit
            assert changes == [commit.lost]
            assert str(commit.last_error) == "it was deleted"
            await commit.close(1)
            assert group.failures == []

    asyncio.run(main())
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("ERROR", "it was deleted")
    ]


def test_attempt_that_is_cancelled_closes_the_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(group: Group) -> None:
        attempt = asyncio.get_running_loop().create_future()
        monkeypatch.setattr(group.commit._thread, "submit", lambda *_: attempt)
        future = group.commit.submit(lambda _: 1)
        while group.commit._batch == []:
            await asyncio.sleep(0)
        attempt.cancel()
        await group.commit._wait_until_idle()
        with pytest.raises(JournalError, match="the journal is closed"):
            await group.commit.submit(lambda _: 2)
        await group.commit.close(1)
        with pytest.raises(JournalError, match="the journal was closed: None"):
            await future

    run(scene)


def test_error_of_the_database_that_no_retry_mends_fails_the_operations() -> None:
    async def main() -> None:
        group = Failing()
        group.connection.close()
        with pytest.raises(JournalError) as caught:
            await group.submit("1")
        reason = "Cannot operate on a closed database."
        assert str(caught.value) == f"the journal failed: ProgrammingError: {reason}"
        assert group.failures == [f"the journal: {reason}"]
        assert str(group.commit.last_error) == reason
        await group.commit.close(1)

    asyncio.run(main())


def test_effects_of_the_two_turns_after_a_commit_share_the_next_transaction() -> None:
    async def scene(group: Group) -> None:
        late: list[Awaitable[None]] = []

        def in_the_first_turn(_: object) -> None:
            late.append(group.submit("first turn"))
            asyncio.get_running_loop().call_soon(lambda: late.append(group.submit("second turn")))

        future = group.submit("1")
        assert isinstance(future, asyncio.Future)
        future.add_done_callback(in_the_first_turn)
        await future
        while len(late) < 2:
            await asyncio.sleep(0)
        await asyncio.gather(*late)
        assert group.transactions == [["1"], ["first turn", "second turn"]]

    run(scene)


def test_error_that_ends_programs_fails_the_operations_and_its_reason_is_kept() -> None:
    class End(BaseException):
        pass

    async def main() -> None:
        group = Failing()
        with closing(group.connection):

            def end(_: sqlite3.Connection) -> None:
                raise End("now")

            with pytest.raises(JournalError) as caught:
                await group.commit.submit(end)
            assert str(caught.value) == "the journal failed: End: now"
            assert isinstance(group.commit.last_error, JournalError)
            assert str(group.commit.last_error) == "End: now"
            await group.submit("2")
            await group.commit.close(1)

    asyncio.run(main())


def test_operation_along_is_prepared_with_false() -> None:
    async def scene(group: Group) -> None:
        asked: list[bool] = []

        def prepare(may_wait: bool) -> bool:
            asked.append(may_wait)
            return False

        group.commit.submit_along(lambda _: group.transactions[-1].append("along"), 60, prepare)
        await group.submit("1")
        assert asked == [False]
        assert group.transactions == [["along", "1"]]

    run(scene)


def test_close_waits_only_for_its_timeout() -> None:
    async def scene(group: Group) -> None:
        group.connection.execute("PRAGMA query_only = 1")
        future = group.commit.submit(lambda connection: connection.execute("CREATE TABLE t (n)"))
        await group.commit.close(0.01)
        with pytest.raises(JournalError, match="the journal was closed: attempt to write"):
            await future

    run(scene)


class Patient(Group):
    """A group commit in which some callers of each commit may learn of it late."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, patient: int = 1) -> None:
        super().__init__()
        monkeypatch.setattr(commit_thread, "LONGEST_SECONDS", 3600.0)
        self.commit = GroupCommit(self.connection, on_commit=lambda results: patient)

    async def written(self) -> None:
        while not self.commit._thread._outcomes:
            await asyncio.sleep(0)


@pytest.mark.parametrize("how", ["settle", "submit", "submit_later", "close"])
def test_commit_that_is_not_urgent_is_settled_by_the_next_work(
    monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    async def main() -> None:
        group = Patient(monkeypatch)
        with closing(group.connection):
            first = group.submit("1")
            await group.written()
            assert group.woken == []
            second = None
            if how == "settle":
                group.commit.settle()
            elif how == "submit":
                second = group.submit("2")
            elif how == "submit_later":
                group.commit.submit_later(lambda _: None)
            else:
                await group.commit.close(60)
            await first
            if second is not None:
                await group.written()
                group.commit.settle()
                await second
                assert group.transactions == [["1"], ["2"]]
            await group.commit.close(60)

    asyncio.run(asyncio.wait_for(main(), 30))


@pytest.mark.parametrize("patient", [0, 1])
def test_commit_is_urgent_if_one_caller_must_learn_of_it(
    monkeypatch: pytest.MonkeyPatch, patient: int
) -> None:
    async def main() -> None:
        group = Patient(monkeypatch, patient)
        with closing(group.connection):
            await asyncio.gather(group.submit("1"), group.submit("2"))
            await group.commit.close(60)

    asyncio.run(asyncio.wait_for(main(), 30))


def test_commit_is_urgent_while_operations_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        group = Patient(monkeypatch)
        with closing(group.connection):
            both = [group.submit(name, lambda may_wait: not may_wait) for name in ("1", "2")]
            await both[0]
            await group.written()
            group.commit.settle()
            await both[1]
            assert group.transactions == [["1"], ["2"]]
            await group.commit.close(60)

    asyncio.run(asyncio.wait_for(main(), 30))


def test_file_is_checked_once_in_each_transaction() -> None:
    async def main() -> None:
        made: list[str] = []
        group = Failing(
            find_problem=lambda: made.append("check"), on_commit=lambda _: made.append("committed")
        )
        with closing(group.connection):
            await group.submit("1")
            assert made == ["committed", "check"]
            for name in ("first", "second"):
                group.commit.submit_later(lambda _: group.commit.check_file())
                group.commit.submit_later(lambda _, name=name: made.append(name))
            await group.submit("2")
            assert made[2:] == ["check", "first", "second", "committed"]
            group.commit._on_commit = lambda _: 1
            await group.submit("3")
            assert len(made) == 6  # its caller may learn of it late, and so may others of the check
            await group.commit.close(60)

    asyncio.run(main())
