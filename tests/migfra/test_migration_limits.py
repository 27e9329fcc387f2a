"""Limits of migrations for coroutines: turns, positions, cancellation, and other hosts' answers."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastlib.migfra import Context, DaemonServices, HypervisorError, TaskCancelledError
from fastlib.migfra.hypervisors.simulated import run_virtual
from fastlib.migfra.plugin_api.cancel_scope import CancelScope
from fastlib.migfra.plugin_api.cancellation import Cancellation
from fastlib.migfra.virt.migration_limits import POLL_SECONDS, MigrationLimits
from fastlib.migfra.virt.migration_queue import Slot, slots_between

GIB = 1 << 20
TO_B = slots_between("a", "b")


class Keeper:
    """Answers for another host, and records the requests."""

    def __init__(self, *answers, seconds=0.0):
        self.answers = list(answers)
        self.seconds = seconds
        self.asked = []
        self.given_back = 0

    async def take(self):
        self.asked.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.seconds)
        answer = self.answers.pop(0) if self.answers else True
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def give_back(self):
        self.given_back += 1


class Migrations:
    """Migrations from host a with a limit, and their reports."""

    def __init__(self, outgoing=1):
        self.limits = MigrationLimits({Slot("a", "outgoing"): outgoing})
        self.begun = []
        self.ended = []
        self.positions = []
        self.cancellations = {}

    @asynccontextmanager
    async def running(self, name, *, slots=TO_B, keeper=None, runs_already=False):
        """A migration from its begin to the end of the block."""
        cancellation = self.cancellations[name] = Cancellation()
        context = Context(
            "a", cancellation=cancellation, services=DaemonServices(report=self._report)
        )
        with CancelScope(context) as scope:
            turn = self.limits.enqueued(name, slots, GIB, keeper, runs_already=runs_already)
            async with turn as turn:
                if not runs_already:
                    await turn.wait(scope, context)
                self.begun.append(name)
                yield

    def _report(self, facts):
        assert facts.phase == "queued"
        self.positions.append((facts.vm_name, facts.position))

    async def migrate(self, name, seconds=10.0, **more):
        async with self.running(name, **more):
            await asyncio.sleep(seconds)
        self.ended.append((name, asyncio.get_running_loop().time()))


def test_migrations_wait_for_their_turn_and_report_their_place():
    async def scenario():
        migrations = Migrations()
        await asyncio.gather(*(migrations.migrate(name) for name in ("vm1", "vm2", "vm3")))
        assert migrations.ended == [("vm1", 10.0), ("vm2", 20.0), ("vm3", 30.0)]
        assert migrations.positions == [("vm2", 1), ("vm3", 2), ("vm3", 1)]
        assert (migrations.limits.running, migrations.limits.queued) == (0, 0)

    run_virtual(scenario())


def test_waiting_migration_is_cancelled_at_once():
    async def scenario():
        migrations = Migrations()
        first = asyncio.ensure_future(migrations.migrate("vm1"))
        second = asyncio.ensure_future(migrations.migrate("vm2"))
        third = asyncio.ensure_future(migrations.migrate("vm3"))
        await asyncio.sleep(1)
        assert (migrations.limits.running, migrations.limits.queued) == (1, 2)
        migrations.cancellations["vm2"].cancel()
        with pytest.raises(TaskCancelledError, match="cancelled"):
            await second
        assert asyncio.get_running_loop().time() == 1
        await asyncio.gather(first, third)
        assert migrations.ended == [("vm1", 10.0), ("vm3", 20.0)]

    run_virtual(scenario())


def test_full_host_is_asked_again_after_a_pause():
    async def scenario():
        keeper = Keeper(False, False)
        migrations = Migrations()
        await migrations.migrate("vm1", keeper=keeper)
        assert keeper.asked == [0, POLL_SECONDS, 2 * POLL_SECONDS]
        assert keeper.given_back == 1
        assert migrations.positions == [("vm1", 1)]

    run_virtual(scenario())


def test_only_the_next_one_asks_a_full_host():
    async def scenario():
        keepers = [Keeper(False), Keeper(), Keeper()]
        migrations = Migrations(outgoing=3)
        await asyncio.gather(
            *(migrations.migrate(f"vm{i}", keeper=keeper) for i, keeper in enumerate(keepers))
        )
        assert [keeper.asked for keeper in keepers] == [[0, 1], [1], [1]]

    run_virtual(scenario())


def test_simultaneous_migrations_ask_one_after_the_other_and_none_is_queued():
    async def scenario():
        keepers = [Keeper(seconds=0.5) for _ in range(3)]
        migrations = Migrations(outgoing=3)
        await asyncio.gather(
            *(migrations.migrate(f"vm{i}", keeper=keeper) for i, keeper in enumerate(keepers))
        )
        assert [keeper.asked for keeper in keepers] == [[0], [0.5], [1.0]]
        assert migrations.positions == []

    run_virtual(scenario())


def test_migration_to_another_host_passes_one_that_waits_for_a_full_host():
    async def scenario():
        migrations = Migrations()
        full = asyncio.ensure_future(migrations.migrate("vm1", keeper=Keeper(*[False] * 5)))
        await migrations.migrate("vm2", slots=slots_between("a", "c"), keeper=Keeper())
        assert migrations.ended == [("vm2", 10.0)]
        await full

    run_virtual(scenario())


def test_cancellation_returns_slots_without_waiting_for_the_other_host():
    async def scenario():
        keeper = Keeper(seconds=100.0)
        migrations = Migrations()
        task = asyncio.ensure_future(migrations.migrate("vm1", keeper=keeper))
        await asyncio.sleep(1)
        migrations.cancellations["vm1"].cancel()
        with pytest.raises(TaskCancelledError):
            await task
        assert asyncio.get_running_loop().time() == 1
        assert keeper.given_back == 0
        assert migrations.limits.running == 0
        await asyncio.sleep(100)
        assert keeper.given_back == 1

    run_virtual(scenario())


def test_host_that_cannot_be_asked_is_an_error_and_frees_the_turn():
    async def scenario():
        migrations = Migrations()
        away = Keeper(HypervisorError("b is away"))
        results = await asyncio.gather(
            migrations.migrate("vm1", keeper=away),
            migrations.migrate("vm2", keeper=Keeper()),
            return_exceptions=True,
        )
        assert str(results[0]) == "b is away"
        assert migrations.ended == [("vm2", 10.0)]
        await asyncio.sleep(0)
        assert away.given_back == 1

    run_virtual(scenario())


def test_migration_of_an_earlier_run_counts():
    async def scenario():
        migrations = Migrations()
        await asyncio.gather(
            migrations.migrate("vm1", runs_already=True),
            migrations.migrate("vm2", runs_already=True),
            migrations.migrate("vm3"),
        )
        assert migrations.ended == [("vm1", 10.0), ("vm2", 10.0), ("vm3", 20.0)]

    run_virtual(scenario())


def test_failed_migration_frees_its_turn():
    async def scenario():
        migrations = Migrations()

        async def fail():
            async with migrations.running("vm1"):
                raise HypervisorError("it broke")

        failed, _ = await asyncio.gather(fail(), migrations.migrate("vm2"), return_exceptions=True)
        assert isinstance(failed, HypervisorError)
        assert migrations.ended == [("vm2", 10.0)]

    run_virtual(scenario())


def test_repeated_migration_goes_behind_those_that_had_no_turn():
    async def scenario():
        migrations = Migrations()

        async def retry():
            await migrations.migrate("vm1", seconds=1.0)
            await migrations.migrate("vm1", seconds=1.0)

        await asyncio.gather(
            retry(), *(migrations.migrate(name, seconds=1.0) for name in ("vm2", "vm3"))
        )
        assert migrations.begun == ["vm1", "vm2", "vm3", "vm1"]

    run_virtual(scenario())


ARRIVALS = st.lists(
    st.tuples(
        st.integers(0, 5),  # when it comes
        st.integers(1, 5),  # how long it takes
        st.none() | st.integers(0, 9),  # after how long it is cancelled
        st.sampled_from("bc"),
        st.integers(0, 3),  # how often the destination has no slot
        st.integers(0, 3),  # how long the destination takes to answer
    ),
    max_size=20,
)


@given(ARRIVALS, st.integers(1, 3))
def test_everything_ends_and_no_wake_up_is_lost(arrivals, outgoing):
    """Migrations come, are cancelled and refused at any moment: the limit holds, and all end."""

    async def scenario():
        migrations = Migrations(outgoing)
        running = most = 0
        keepers = []

        async def one(name, come, seconds, cancel, to, refusals, answer):
            nonlocal running, most
            await asyncio.sleep(come)
            keeper = Keeper(*[False] * refusals, seconds=answer)
            keepers.append(keeper)
            slots = slots_between("a", to)

            async def migrate():
                nonlocal running, most
                async with migrations.running(name, slots=slots, keeper=keeper):
                    running += 1
                    most = max(most, running)
                    try:
                        await asyncio.sleep(seconds)
                    finally:
                        running -= 1

            task = asyncio.ensure_future(migrate())
            if cancel is not None:
                await asyncio.wait({task}, timeout=cancel)
                waits = name not in migrations.begun
                migrations.cancellations[name].cancel()
                if waits:
                    now = asyncio.get_running_loop().time()
                    with pytest.raises(TaskCancelledError):
                        await task
                    assert asyncio.get_running_loop().time() == now
                    return
            await task

        names = [f"vm{index}" for index in range(len(arrivals))]
        async with asyncio.timeout(1000):
            await asyncio.gather(
                *(one(name, *each) for name, each in zip(names, arrivals, strict=True))
            )
        await asyncio.sleep(10)
        assert most <= outgoing
        assert (migrations.limits.running, migrations.limits.queued) == (0, 0)
        assert all(keeper.given_back == bool(keeper.asked) for keeper in keepers)

    run_virtual(scenario())
