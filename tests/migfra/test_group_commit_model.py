"""The group commit beside a plain model, in drawn schedules of submissions, faults and ends.

Virtual time, a real SQLite, and a thread that is a timer: a commit takes as long as is drawn.
"""

import asyncio
import math
import sqlite3
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from hypothesis import example, given
from hypothesis import strategies as st

from fastlib.migfra.hypervisors.simulated.clock import VirtualLoop
from fastlib.migfra.journal.group_commit import GroupCommit
from fastlib.migfra.journal.rows_along import RowsAlong

COMMIT_SECONDS = 0.02
ALONG_SECONDS = (0.005, 0.1, 1.0)

Kind = Literal["submit", "ahead", "along", "later", "row", "begin"]
Turn = Literal["goes", "waits", "raises"]
Fault = Literal["none", "full", "unexpected", "in the hook"]

AHEAD = ("ahead", "along", "begin")
IN_HISTORY = ("row", "begin")
"""The kinds whose order the history of an order shows."""
BEHIND = ("submit", "later")


@dataclass(frozen=True)
class Submit:
    kind: Kind
    fails: bool = False
    turn: Turn | None = None
    """How its preparation ends the first time; None for an operation without one."""
    seconds: float = 1.0
    """Of one that is written along."""


class Cancel(NamedTuple):
    place: int
    """Of a future, the newest first."""


class SetFault(NamedTuple):
    fault: Fault


class Run(NamedTuple):
    turns: int


class Wait(NamedTuple):
    seconds: float


class CancelAll(NamedTuple):
    """Cancel every task that is not the test's, as the end of `asyncio.run` does."""


class Close(NamedTuple):
    """Begin to close; the next steps happen in this time."""

    timeout: float


class GiveUp(NamedTuple):
    """Write nothing more."""


Step = Submit | Cancel | SetFault | Run | Wait | CancelAll | Close | GiveUp

KINDS = st.sampled_from([*AHEAD, *BEHIND, "row"])
TURNS = st.sampled_from(["goes", "waits", "raises"])
SECONDS = st.sampled_from(ALONG_SECONDS)
STEP = st.one_of(
    st.builds(Submit, KINDS, st.just(False), st.none(), SECONDS),
    st.builds(Submit, st.sampled_from(["submit", "ahead", "later"]), st.just(True)),
    st.builds(Submit, st.just("submit"), st.just(False), TURNS),
    st.builds(Cancel, st.integers(0, 3)),
    st.builds(SetFault, st.sampled_from(["none", "none", "full", "unexpected", "in the hook"])),
    st.builds(Run, st.integers(1, 6)),
    st.builds(Wait, st.sampled_from([COMMIT_SECONDS / 2, COMMIT_SECONDS, 0.1, 2.0])),
    st.just(CancelAll()),
)
END = st.one_of(st.builds(Close, st.sampled_from([0.01, 1000.0])), st.just(GiveUp()))
SCHEDULE = st.tuples(
    st.lists(STEP, max_size=25), st.lists(END, max_size=1), st.lists(STEP, max_size=6)
).map(lambda parts: [step for part in parts for step in part])


class SlowLoop(VirtualLoop):
    """Executes each call for a thread after COMMIT_SECONDS, in one piece."""

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> "asyncio.Future[Any]":
        future = self.create_future()

        def call() -> None:
            try:
                result = func(*args)
            except Exception as error:
                if not future.cancelled():
                    future.set_exception(error)
            else:
                if not future.cancelled():
                    future.set_result(result)

        self.call_later(COMMIT_SECONDS, call)
        return future


class Disk:
    """A connection whose commit fails as long as there is a fault."""

    def __init__(self) -> None:
        self.fault: Fault = "none"
        self.on_begin: Callable[[], object] = lambda: None
        self.on_unexpected: Callable[[], object] = lambda: None
        self.real = sqlite3.connect(":memory:", isolation_level=None)
        self.real.execute("CREATE TABLE written (number INTEGER)")

    @property
    def in_transaction(self) -> bool:
        return self.real.in_transaction

    def execute(self, statement: str, *values: Any) -> Any:
        if statement.startswith("BEGIN"):
            self.on_begin()
        if statement == "COMMIT" and self.fault == "full":
            error = sqlite3.OperationalError("full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error
        if statement == "COMMIT" and self.fault == "unexpected":
            self.on_unexpected()
            raise RuntimeError("unexpected")
        return self.real.execute(statement, *values)

    def written(self) -> list[int]:
        return [n for (n,) in self.real.execute("SELECT number FROM written ORDER BY rowid")]

    def close(self) -> None:
        self.real.close()


@dataclass
class Entry:
    """An operation as the model knows it."""

    number: int
    step: Submit
    due: float
    is_taken: bool
    """Whether the group commit was open when it was submitted."""
    future: "asyncio.Future[Any] | None" = None
    is_prepared: bool = False
    is_dropped: bool = False
    """Whether it was in a transaction that failed in a way that nobody expects."""

    @property
    def ends_alone(self) -> bool:
        return self.step.fails or self.step.turn == "raises"


class Model:
    """Plays a schedule, and compares."""

    def __init__(self, disk: Disk) -> None:
        self.loop = asyncio.get_running_loop()
        self.disk = disk
        self.entries: list[Entry] = []
        self.failures: list[BaseException] = []
        self.executed: list[int] = []
        """The operations of the transaction at work."""
        self.had_fault = self.is_ending = self.has_time = False
        self.closing: asyncio.Task[None] | None = None
        self.group = GroupCommit(
            disk,  # type: ignore[arg-type]
            lambda part, error: self.failures.append(error),
            on_commit=self._on_commit,
        )
        self.rows = RowsAlong(self.group, self._write_rows, 0.1)
        disk.on_begin = self._on_begin
        disk.on_unexpected = self._on_unexpected

    # What happens

    def play(self, step: Step) -> None:
        match step:
            case Submit():
                self._submit(step)
            case Cancel(place):
                futures = [entry.future for entry in self.entries if entry.future is not None]
                if place < len(futures):
                    futures[-1 - place].cancel()
            case SetFault(fault):
                self.disk.fault = fault
                self.had_fault |= fault != "none"
            case CancelAll():
                for task in asyncio.all_tasks() - {asyncio.current_task(), self.closing}:
                    task.cancel()
            case Close(timeout):
                self.is_ending, self.has_time = True, timeout > 1
                self.closing = asyncio.create_task(self.group.close(timeout))
            case GiveUp():
                self.is_ending = True
                self.group.give_up()

    def _submit(self, step: Submit) -> None:
        is_open = not self.group._is_closed
        entry = Entry(len(self.entries), step, self.loop.time(), is_open)
        self.entries.append(entry)

        def operation(connection: sqlite3.Connection) -> int:
            self._write(connection, entry.number)
            if step.fails:
                raise ValueError("of its own")
            return entry.number

        match step.kind:
            case "submit":
                prepare = None if step.turn is None else self._prepare(entry)
                entry.future = self.group.submit(operation, prepare)
            case "ahead":
                entry.future = self.group.submit(operation, ahead=True)
            case "begin":
                self.rows.cut()
                entry.future = self.group.submit(operation, ahead=True)
            case "along":
                entry.due += step.seconds
                self.group.submit_along(operation, step.seconds)
            case "row":
                entry.due += 0.1
                self.rows.add((entry.number,))
            case "later":
                self.group.submit_later(operation)
        if entry.future is not None:
            entry.future.add_done_callback(lambda future: self._woken(entry, future))

    def _write(self, connection: sqlite3.Connection, number: int) -> None:
        self.executed.append(number)
        connection.execute("INSERT INTO written VALUES (?)", (number,))

    def _write_rows(self, connection: sqlite3.Connection, rows: list[Any]) -> None:
        assert rows
        for (number,) in rows:
            self._write(connection, number)

    def _prepare(self, entry: Entry) -> Callable[[bool], bool]:
        def prepare(may_wait: bool) -> bool:
            assert not entry.is_prepared, "prepared twice"
            assert not self.disk.in_transaction
            if entry.step.turn == "raises":
                raise KeyError(entry.number)
            if entry.step.turn == "waits" and may_wait:
                return False
            entry.is_prepared = True
            return True

        return prepare

    def _on_begin(self) -> None:
        self.executed = []
        written = {*self.disk.written()}
        now = self.loop.time()
        assert self.is_ending or any(
            entry.number not in written
            and (entry.step.kind not in ("along", "row") or entry.due <= now)
            for entry in self.entries
        ), "a transaction that nobody needs yet"

    def _on_unexpected(self) -> None:
        for number in self.executed:
            self.entries[number].is_dropped = True

    def _on_commit(self, results: list[Any]) -> None:
        written = self.disk.written()
        assert all(result in written for result in results if result is not None)
        if self.disk.fault == "in the hook":
            raise RuntimeError("in the hook")

    def _woken(self, entry: Entry, future: "asyncio.Future[Any]") -> None:
        if future.cancelled():
            return
        is_written = entry.number in self.disk.written()
        if future.exception() is None:
            assert future.result() == entry.number
            assert is_written, "woken before it is written"
        else:
            assert not is_written, "failed although it is written"

    # What must be true

    def check(self) -> None:
        """Compare the written entries and their order with the submitted ones."""
        timer = self.group._timer
        assert timer is None or timer.when() < math.inf, "a timer for nothing"
        written = self.disk.written()
        assert len(written) == len({*written}), "written twice"
        assert not any(self.entries[number].ends_alone for number in written)
        for kinds in (AHEAD, IN_HISTORY, BEHIND):
            same = [number for number in written if self.entries[number].step.kind in kinds]
            assert same == sorted(same), f"another order than that of submission: {kinds}"
        newest = -1
        for number in written:
            if self.entries[number].step.kind in BEHIND:
                newest = number
            else:
                assert number > newest, "overtaken by what goes behind it"

    def check_due(self) -> None:
        """Nothing that is due waits, while the disk has always been all right."""
        if self.had_fault or self.is_ending:
            return
        written = {*self.disk.written()}
        for entry in self.entries:
            # What waits for its turn takes a transaction of its own each time.
            turns = sum(one.step.turn == "waits" for one in self.entries)
            if self.loop.time() - entry.due > (3 + turns) * COMMIT_SECONDS:
                assert entry.number in written or entry.ends_alone, "not written when it was due"

    async def end(self) -> None:
        """Close with a good disk. Everybody is woken. With time enough, everything is written."""
        self.disk.fault = "none"
        if self.closing is None:
            self.has_time = not self.is_ending
            self.is_ending = True
            self.closing = asyncio.create_task(self.group.close(1000))
        await self.closing
        await asyncio.sleep(0)  # for the callbacks of the futures
        self.check()
        assert len(self.group) == 0
        written = self.disk.written()
        for entry in self.entries:
            assert entry.future is None or entry.future.done()
            if self.has_time and entry.is_taken and not entry.is_dropped and not entry.ends_alone:
                assert entry.number in written, f"{entry.number} is lost"
        await asyncio.sleep(1000)
        assert self.disk.written() == written, "written after the end"
        assert self.group._timer is None, "a timer of a closed journal"
        expected = ("unexpected", "in the hook", *(str(n) for n in range(len(self.entries))))
        assert all(str(failure) in expected for failure in self.failures), self.failures


def play(steps: list[Step]) -> None:
    async def main() -> None:
        with closing(Disk()) as disk:
            model = Model(disk)
            for step in steps:
                model.play(step)
                for _ in range(step.turns if isinstance(step, Run) else 0):
                    await asyncio.sleep(0)
                if isinstance(step, Wait):
                    await asyncio.sleep(step.seconds)
                    model.check_due()
                model.check()
            await model.end()

    with asyncio.Runner(loop_factory=SlowLoop) as runner:
        runner.run(main())


@example([Submit("along"), Submit("submit", turn="raises")])
@example([Submit("submit"), Run(2), CancelAll(), Wait(2.0)])
@example([Submit("submit"), Run(2), CancelAll(), Submit("ahead")])
@example([SetFault("in the hook"), Submit("submit"), Wait(2.0)])
@example([SetFault("full"), Submit("submit"), Wait(0.1), Submit("ahead"), Submit("along")])
@example([Submit("submit"), Close(1000.0), Run(1), Submit("along")])
@example([SetFault("unexpected"), Submit("row"), Wait(2.0), SetFault("none"), Submit("row")])
@example([Submit("row"), Submit("begin"), Submit("row")])
@example([Submit("submit"), Run(2), Submit("along", seconds=0.1), Wait(2.0)])
@example([Submit("along", seconds=0.1), Submit("submit"), Wait(2.0)])
@example(
    [
        *(Submit("submit"), Run(2), Submit("submit"), Close(1000.0)),
        *(Wait(COMMIT_SECONDS), Wait(COMMIT_SECONDS / 2), Submit("along")),
    ]
)
@example([Submit("submit"), Run(2), Submit("along", seconds=0.1), GiveUp(), Wait(2.0)])
@given(steps=SCHEDULE)
def test_every_operation_is_written_once_in_order_and_in_time(steps: list[Step]) -> None:
    play(steps)
