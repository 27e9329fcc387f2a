"""An order that finds the daemon idle begins with its acceptance: one commit notes both."""

import asyncio
import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from fastlib import Start, Stop, TaskContainer
from fastlib.message import Cancel, Quit
from fastlib.migfra import Context
from fastlib.migfra.config.sections import LimitsSection
from fastlib.migfra.journal import group_commit
from fastlib.migfra.journal.begins import Beginning
from fastlib.migfra.journal.journal import Journal
from fastlib.migfra.tasks.turns import Place, Places, Situation, Taken, Turn, may_begin_at_once
from tests.support.migfra.bench import Bench, Play, order, patiently
from tests.support.migfra.scripted import Scripted
from tests.support.waiting import wait_until_async

IDLE = Situation(accepting=0, waiting=0, beginning=0, is_idle=True, has_expired=False)


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
        (container("vm1"), Situation(1, 0, 0, is_idle=True, has_expired=False), False),
        (container("vm1"), Situation(0, 1, 0, is_idle=True, has_expired=False), False),
        (container("vm1"), Situation(0, 0, 1, is_idle=True, has_expired=False), False),
        (container("vm1"), Situation(0, 0, 0, is_idle=False, has_expired=False), False),
        (container("vm1"), Situation(0, 0, 0, is_idle=True, has_expired=True), False),
    ],
)
def test_order_begins_with_its_acceptance_if_it_overtakes_nothing(
    container: TaskContainer, situation: Situation, expected: bool
) -> None:
    assert may_begin_at_once(container, situation) is expected


class Owner:
    """Gives turns, and counts the taken places."""

    def __init__(self, begins: Beginning | None) -> None:
        self.begins = begins
        self.places = Places(2)
        self.waiting = 0
        self.is_full = False
        self.turn = Turn(self._take, self._give_back, lambda: self.is_full)

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
def test_turn_is_decided_once_and_releases_its_places(begins: Beginning | None) -> None:
    owner = Owner(begins)
    assert owner.turn.begins is None
    owner.turn.decide(may_wait=False)
    owner.turn.decide(may_wait=False)
    assert owner.turn.begins == begins
    assert (owner.places.taken, owner.waiting) == ((2, 0) if begins else (0, 1))
    owner.turn.end()
    owner.turn.end()
    assert (owner.places.taken, owner.waiting) == (0, 0)


def test_turn_without_a_place_waits_for_the_next_transaction_if_it_may() -> None:
    owner = Owner("acts")
    owner.is_full = True
    assert owner.turn.decide(may_wait=True) is False
    assert (owner.turn.begins, owner.places.taken) == (None, 0)
    assert owner.turn.decide(may_wait=False) is True
    assert owner.turn.begins == "acts"
    assert owner.turn.decide(may_wait=True) is True


def test_turn_that_ended_takes_nothing() -> None:
    owner = Owner("acts")
    owner.turn.end()
    owner.turn.decide(may_wait=False)
    assert (owner.turn.begins, owner.places.taken) == (None, 0)


def test_turn_that_is_used_gives_nothing_back() -> None:
    owner = Owner("acts")
    owner.turn.decide(may_wait=False)
    owner.turn.use()
    owner.turn.end()
    assert owner.places.taken == 2


class Crash:
    """Lets the journal write no more from a commit on: as if the process had been killed there."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left: int | None = None
        """Commits that still succeed; None for all."""
        self.commits = 0
        original = group_commit.execute_all

        def execute_all(connection: sqlite3.Connection, operations: list[Any]) -> list[Any]:
            if self.left == 0:
                raise sqlite3.OperationalError("database is locked")
            if self.left is not None:
                self.left -= 1
            self.commits += 1
            return original(connection, operations)

        monkeypatch.setattr(group_commit, "execute_all", execute_all)


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
        assert await patiently(kinds_until_confirmed(daemon.runtime.journal)) == [
            "accepted", "begun", "ended", "answered", "confirmed",
        ]  # fmt: skip

    async def kinds_until_confirmed(journal: Journal) -> list[str]:
        kinds: list[str] = []
        while "confirmed" not in kinds:  # the broker confirms the answer after it came
            (record,) = await journal.history(vm_name="vm1")
            kinds = [event.kind for event in record.events]
        return kinds

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


def test_abandoned_acceptance_takes_back_its_begin(tmp_path: Path) -> None:
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
        for kind in ("new", "unanswered"):
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


@pytest.mark.parametrize("limits", [LimitsSection(containers=4), LimitsSection(members=3)])
def test_orders_beyond_the_places_begin_with_their_acceptance_too(
    play: Play, limits: LimitsSection
) -> None:
    """They do so if the orders before them end soon."""

    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        await bench.daemon(hypervisor, limits=limits)
        names = [f"vm{number}" for number in range(40)]
        await asyncio.gather(*(bench.send(container(name)) for name in names))
        for _ in names:
            await bench.result()
        assert hypervisor.calls == [("start", name) for name in names]
        with closing(sqlite3.connect(bench.journal)) as journal:
            query = "SELECT count(*) FROM containers WHERE began IS NOT NULL"
            assert journal.execute(query).fetchone() == (len(names),)

    play(scene)


def test_orders_without_places_are_accepted_while_others_work(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        daemon, go = await bench.busy(hypervisor, limits=LimitsSection(containers=1))
        await asyncio.gather(*(bench.send(container(f"new{number}")) for number in range(10)))
        await patiently(all_accepted(daemon.runtime.journal))
        assert hypervisor.calls == [("start", "vm1")]
        go.set()
        for _ in range(11):
            await bench.result()
        assert hypervisor.calls[1:] == [("start", f"new{number}") for number in range(10)]

    async def all_accepted(journal: Journal) -> None:
        while len(await journal.history(under_way=True)) < 11:
            pass

    play(scene)


SEEDS = 8


@pytest.fixture
def seeds(request: pytest.FixtureRequest) -> range:
    return range(SEEDS * 30 if request.config.getoption("--long") else SEEDS)


def test_members_begin_in_the_order_in_which_they_came(play: Play, seeds: range) -> None:
    """Orders of one or several members, while places get free and the daemon is idle in between."""

    async def pause(turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)

    async def turn_by_turn(bench: Bench, hypervisor: Scripted, seed: int) -> None:
        dice = random.Random(f"orders {seed}")
        names: list[str] = []
        turns: dict[str, int] = {}

        async def work(context: Context) -> None:
            await pause(turns[hypervisor.calls[-1][1]])

        orders = dice.randint(10, 50)
        longest = dice.choice((0, 3, 30))
        for _ in range(orders):
            size = dice.choice((1, 1, 1, 2, 3))
            group = [f"vm{seed}-{len(names) + more}" for more in range(size)]
            for name in group:
                turns[name] = dice.randint(0, longest)
                hypervisor.plan[name] = work
            names += group
            await bench.send(container(*group))
            await pause(dice.choice((0, 0, 1, 2, 5, 20)))
        for _ in range(orders):
            await bench.result()
        assert hypervisor.calls == [("start", name) for name in names]

    async def scene(bench: Bench) -> None:
        for seed in seeds:
            dice = random.Random(seed)
            hypervisor = Scripted()
            limits = LimitsSection(
                containers=dice.choice((1, 2, 4, 32)), members=dice.choice((1, 2, 3, 16))
            )
            daemon = await bench.daemon(hypervisor, limits=limits)
            try:
                await turn_by_turn(bench, hypervisor, seed)
            except AssertionError as error:
                raise AssertionError(f"with the seed {seed}") from error
            await patiently(daemon.close())

    play(scene)
