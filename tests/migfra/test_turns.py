"""An order that finds the daemon idle begins with its acceptance: one commit notes both."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from fastlib import Start, Stop, TaskContainer
from fastlib.message import Cancel, Quit
from fastlib.migfra.journal.begins import Beginning
from fastlib.migfra.journal.group_commit import GroupCommit
from fastlib.migfra.journal.journal import Journal
from fastlib.migfra.tasks.turns import Place, Places, Situation, Taken, Turn, may_begin_at_once
from tests.support.migfra.bench import Bench, Play, order, patiently
from tests.support.migfra.scripted import Scripted
from tests.support.waiting import wait_until_async

IDLE = Situation(accepting=0, waiting=0, is_idle=True, has_expired=False)


def container(*names: str, **more: Any) -> TaskContainer:
    return TaskContainer(tasks=[Start(vm_name=name) for name in names], **more)


@pytest.mark.parametrize(
    ("container", "situation", "expected"),
    [
        (container("vm1"), IDLE, True),
        (container("vm1", concurrent_execution=True), IDLE, True),
        (container("vm1", concurrent_execution=False), IDLE, False),
        (container("vm1", "vm2"), IDLE, False),
        (TaskContainer(tasks=[Cancel(id="1")]), IDLE, False),
        (TaskContainer(tasks=[Quit()]), IDLE, False),
        (container("vm1"), Situation(1, 0, is_idle=True, has_expired=False), False),
        (container("vm1"), Situation(0, 1, is_idle=True, has_expired=False), False),
        (container("vm1"), Situation(0, 0, is_idle=False, has_expired=False), False),
        (container("vm1"), Situation(0, 0, is_idle=True, has_expired=True), False),
    ],
)
def test_order_begins_with_its_acceptance_if_it_overtakes_nothing(
    container: TaskContainer, situation: Situation, expected: bool
) -> None:
    assert may_begin_at_once(container, situation) is expected


class Owner:
    """Gives turns, and counts what is taken."""

    def __init__(self, begins: Beginning | None) -> None:
        self.begins = begins
        self.places = Places(2)
        self.waiting = 0
        self.turn = Turn(self._take, self._give_back)

    def _take(self) -> Taken | None:
        if self.begins is None:
            self.waiting += 1
            return None
        assert self.places.take(1)
        assert self.places.take(1)
        return Taken(self.begins, Place(self.places), Place(self.places), 0)

    def _give_back(self, taken: Taken | None) -> None:
        if taken is None:
            self.waiting -= 1
        else:
            taken.container_place.give_up()
            taken.member_place.give_up()


@pytest.mark.parametrize("begins", ["acts", "waits", None])
def test_turn_is_decided_once_and_gives_back_what_it_has_taken(begins: Beginning | None) -> None:
    owner = Owner(begins)
    assert owner.turn.begins is None
    owner.turn.decide()
    owner.turn.decide()
    assert owner.turn.begins == begins
    assert (owner.places.taken, owner.waiting) == ((2, 0) if begins else (0, 1))
    owner.turn.end()
    owner.turn.end()
    assert (owner.places.taken, owner.waiting) == (0, 0)


def test_turn_that_ended_takes_nothing() -> None:
    owner = Owner("acts")
    owner.turn.end()
    owner.turn.decide()
    assert (owner.turn.begins, owner.places.taken) == (None, 0)


def test_turn_that_is_used_gives_nothing_back() -> None:
    owner = Owner("acts")
    owner.turn.decide()
    owner.turn.use()
    owner.turn.end()
    assert owner.places.taken == 2


class Crash:
    """Lets the journal write no more from a commit on: as if the process had been killed there."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left: int | None = None
        """Commits that still succeed; None for all."""
        self.commits = 0
        original = GroupCommit._execute_all

        def execute_all(group: GroupCommit, operations: list[Any]) -> list[Any]:
            if self.left == 0:
                raise sqlite3.OperationalError("database is locked")
            if self.left is not None:
                self.left -= 1
            self.commits += 1
            return original(group, operations)

        monkeypatch.setattr(GroupCommit, "_execute_all", execute_all)


@pytest.fixture
def crash(monkeypatch: pytest.MonkeyPatch) -> Crash:
    return Crash(monkeypatch)


def test_order_of_an_idle_daemon_needs_two_commits(play: Play, crash: Crash) -> None:
    async def scene(bench: Bench) -> None:
        daemon = await bench.daemon()
        await daemon.runtime.journal.check_file()
        crash.commits = 0
        answer = await bench.ask(order(Start(vm_name="vm1"), expires=60))
        assert [result.status for result in answer.results] == ["success"]
        # The confirmation of the answer is written along with something else, or later.
        assert crash.commits <= 3
        events = (await daemon.runtime.journal.history(vm_name="vm1"))[0].events
        assert [event.kind for event in events] == [
            "accepted", "begun", "ended", "answered", "confirmed",
        ]  # fmt: skip

    play(scene)


@pytest.mark.parametrize(
    ("commits", "calls", "status"),
    [
        (0, [], "success"),  # neither accepted nor begun: the broker sends it to the next run
        (1, [("start", "vm1")], "error"),  # executed, and its answer is not stored
        (2, [("start", "vm1")], "success"),  # answered, and not confirmed
    ],
)
def test_crash_after_each_commit_loses_no_order_and_repeats_none(
    play: Play, crash: Crash, commits: int, calls: list[tuple[str, str]], status: str
) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        daemon = await bench.daemon(hypervisor)
        await daemon.runtime.journal.check_file()
        crash.left = commits
        await bench.send(order(Start(vm_name="vm1"), expires=60, id="1"))
        journal = daemon.runtime.journal
        await wait_until_async(
            lambda: not crash.left and (commits == 2 or journal.last_error is not None)
        )
        assert hypervisor.calls == calls
        await patiently(daemon.kill())
        crash.left = None
        after = Scripted()
        await bench.daemon(after)
        answer = await bench.result()
        assert (answer.id, [result.status for result in answer.results]) == ("1", [status])
        assert hypervisor.calls + after.calls == [("start", "vm1")]

    play(scene)


def test_acceptance_that_nobody_awaits_any_more_takes_its_begin_back(tmp_path: Path) -> None:
    async def main() -> None:
        journal = Journal(tmp_path / "journal")
        owner = Owner("acts")
        accepting = asyncio.create_task(journal.accept("1", b"d", b"p", key="k", turn=owner.turn))
        while owner.turn.begins is None:
            await asyncio.sleep(0)
        accepting.cancel()  # while the thread writes
        with pytest.raises(asyncio.CancelledError):
            await accepting
        await journal.close()
        journal = Journal(tmp_path / "journal")
        (left,) = await journal.unfinished()
        assert (left.id, left.members) == ("1", {})
        assert (await journal.history("1"))[0].began is None
        await journal.close()

    asyncio.run(main())


def test_known_order_does_not_begin_again_by_its_turn(tmp_path: Path) -> None:
    async def main() -> None:
        journal = Journal(tmp_path / "journal")
        for kind in ("new", "under way"):
            owner = Owner("acts")
            known = await journal.accept("1", b"d", b"p", key="k", turn=owner.turn)
            assert known.kind == kind
            owner.turn.end()
            assert owner.places.taken == 0
        (left,) = await journal.unfinished()
        assert list(left.members) == [0]
        (record,) = await journal.history("1")
        assert [event.kind for event in record.events] == ["accepted", "begun", "repeated"]
        await journal.close()

    asyncio.run(main())


def test_orders_begin_in_order_whether_they_wait_or_not(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        await bench.daemon(hypervisor)
        names = [f"vm{number}" for number in range(40)]
        for number, name in enumerate(names):
            alone = number % 7 == 3
            await bench.send(container(name, concurrent_execution=False if alone else None))
        await bench.send(TaskContainer(tasks=[Stop(vm_name="last")]))
        for _ in range(41):
            await bench.result()
        assert hypervisor.calls == [*(("start", name) for name in names), ("stop", "last")]

    play(scene)
