"""The watch over a migration: what it tells, when it intervenes, and when it gives up.

The host is played (see played.py) and time is virtual, so that what libvirt says at which moment is
the test's to choose.
"""

import asyncio
from concurrent.futures import Future

import pytest

from fastlib import Migrate, MigrateParameter
from fastlib.migfra import HypervisorError, TaskCancelledError
from fastlib.migfra.hypervisors.libvirt import job
from fastlib.migfra.hypervisors.libvirt.cancel_scope import Stopping
from fastlib.migfra.hypervisors.libvirt.errors import LostError
from fastlib.migfra.hypervisors.libvirt.migrate import trip_of
from fastlib.migfra.hypervisors.simulated import run_virtual
from tests.support.libvirt.played import PAUSED, RUNNING, Stage, refusal

MIB = 1024 * 1024
LONGEST = 1000.0
"""Virtual seconds after which a scene is given up."""


def busy():
    return refusal("OPERATION_TIMEOUT", "cannot acquire state change lock")


class Watched(Stage):
    """A migration under way, and the watch over it. It is made within the loop."""

    def __init__(self, *, saving=False, moving=True, **parameter):
        super().__init__()
        parameter.setdefault("migration_type", "live")
        task = Migrate(vm_name="vm1", destination="node02", parameter=MigrateParameter(**parameter))
        self.loop = asyncio.get_running_loop()
        self.trip = trip_of(self.site, task)
        self.end = self.loop.create_future()
        self.stopping = Stopping(self.context)
        self.watch = job.Watch(self.site, self.trip, self.stopping, self.context, saving=saving)
        self.at = {}
        """When something was done to the host."""
        self.domain.host.log = self._log
        self.sends()
        if moving:
            self.domain.on["jobStats"] = self._move

    def sends(self, remaining=100, *, total=400, rate=100, dirty=100, iteration=3):
        """What libvirt says from now on, in MiB and MiB a second."""
        self.domain.job = {
            "data_remaining": remaining * MIB,
            "data_processed": 300 * MIB,
            "data_total": total * MIB,
            "memory_iteration": iteration,
            "memory_bps": rate * MIB,
            "memory_dirty_rate": dirty * MIB // 4096,
            "memory_page_size": 4096,
        }

    def _move(self):
        self.domain.job["data_processed"] += MIB

    def _log(self, what):
        self.told.append(what)
        self.at[what] = self.loop.time()

    def ends(self, *_):
        """The call returns."""
        if not self.end.done():
            self.end.set_result(None)

    def ends_at(self, seconds):
        self.loop.call_at(seconds, self.ends)

    async def trouble(self):
        """Why it was aborted, if it was."""
        async with asyncio.timeout(LONGEST):
            with self.stopping:
                return await self.watch.until(self.end)


def play(scene, **told):
    """What a scene returns that has a migration that is watched."""

    async def main():
        return await scene(Watched(**told))

    return run_virtual(main())


def test_it_ends_by_itself():
    async def scene(watched):
        watched.sends(dirty=1)
        watched.ends_at(60)
        assert await watched.trouble() is None
        assert watched.told == []

    play(scene)


def test_a_longer_downtime():
    async def scene(watched):
        watched.ends_at(60)
        assert await watched.trouble() is None
        assert watched.told == ["downtime 1100"]  # once, and a tenth more than it takes

    play(scene, max_downtime=2000)


@pytest.mark.parametrize("parameter", [{}, {"max_downtime": 900}])
def test_no_longer_downtime_than_is_allowed(parameter):
    async def scene(watched):
        watched.ends_at(60)
        assert await watched.trouble() is None
        assert watched.told == []

    play(scene, **parameter)


def test_a_pause():
    async def scene(watched):
        watched.ends_at(60)
        assert await watched.trouble() is None
        assert watched.told == ["suspend"]
        assert watched.at["suspend"] == pytest.approx(10, abs=0.3)
        assert watched.phases == ["migrate", "downtime"]

    play(scene, timeout=10, on_timeout="pause")


def test_post_copy():
    async def scene(watched):
        watched.ends_at(60)
        assert await watched.trouble() is None
        assert watched.told == ["post-copy"]
        assert watched.at["post-copy"] == pytest.approx(10, abs=0.3)
        assert watched.phases == ["migrate", "post-copy"]

    play(scene, timeout=10, on_timeout="post-copy")


@pytest.mark.parametrize("kind", ["live", "warm"])
def test_the_timeout(kind):
    async def scene(watched):
        watched.domain.on["abort"] = watched.ends
        trouble = await watched.trouble()
        assert type(trouble) is HypervisorError
        assert str(trouble).startswith("not finished within the timeout of 10 s (100 MiB remain")
        assert watched.told == ["abort"]
        assert watched.at["abort"] == pytest.approx(10, abs=0.3)
        assert watched.phases[-1] == "abort"

    play(scene, timeout=10, migration_type=kind)


def test_it_stalls():
    async def scene(watched):
        watched.domain.on["abort"] = watched.ends
        trouble = await watched.trouble()
        assert type(trouble) is HypervisorError
        assert str(trouble) == "nothing has moved for 30 s"
        assert watched.told == ["abort"]
        assert watched.at["abort"] == pytest.approx(30, abs=0.6)

    play(scene, moving=False)


def test_what_moves_now_and_then_does_not_stall():
    async def scene(watched):
        for seconds in range(20, 200, 20):
            watched.loop.call_at(seconds, watched._move)
        watched.ends_at(200)
        assert await watched.trouble() is None

    play(scene, moving=False)


def test_a_source_that_tells_nothing_stalls():
    """It cannot be told to abort either, so that is tried for a while, and no longer."""

    async def scene(watched):
        watched.source.is_there = False
        trouble = await watched.trouble()
        assert str(trouble) == "nothing has moved for 30 s"
        assert not watched.end.done()
        assert watched.told == []
        assert watched.progress[-1].phase == "abort"
        assert watched.loop.time() == pytest.approx(30 + job._GRACE, abs=1.5)

    play(scene)


def test_an_abort_is_tried_until_it_is_heard():
    """Before anything is sent, there is nothing to abort."""

    async def scene(watched):
        refused = refusal("OPERATION_INVALID", "no job is active on the domain")
        watched.domain.refuses["abort"] = refused
        watched.loop.call_at(33.5, watched.domain.refuses.clear)
        watched.domain.on["abort"] = watched.ends
        assert str(await watched.trouble()) == "nothing has moved for 30 s"
        assert watched.end.done()
        assert len(watched.told) in (4, 5)

    play(scene, moving=False)


def test_a_cancellation():
    async def scene(watched):
        watched.domain.on["abort"] = watched.ends
        watched.loop.call_at(7.1, watched.cancellation.cancel)
        trouble = await watched.trouble()
        assert type(trouble) is TaskCancelledError
        assert str(trouble) == "cancelled"
        assert watched.told == ["abort"]
        assert watched.at["abort"] == pytest.approx(7.1)  # at once, not with the next look

    play(scene)


def test_a_partner_that_failed():
    async def scene(watched):
        watched.domain.on["abort"] = watched.ends
        watched.loop.call_at(7.1, watched.stopping.stop, "given up with its partner")
        trouble = await watched.trouble()
        assert type(trouble) is TaskCancelledError
        assert str(trouble) == "given up with its partner"

    play(scene)


@pytest.mark.parametrize(
    ("on_timeout", "call", "words"),
    [("pause", "suspend", "pause the guest"), ("post-copy", "post-copy", "switch to post-copy")],
)
def test_what_keeps_failing(on_timeout, call, words):
    async def scene(watched):
        watched.domain.refuses[call] = busy()
        watched.domain.on["abort"] = watched.ends
        trouble = await watched.trouble()
        assert str(trouble).startswith(f"could not {words}: vm1 is busy on node01")
        assert watched.told[0] == call
        assert watched.told[-1] == "abort"
        assert watched.at["abort"] == pytest.approx(10 + job._GRACE, abs=0.6)

    play(scene, timeout=10, on_timeout=on_timeout)


def test_what_fails_for_a_while():
    async def scene(watched):
        watched.domain.refuses["suspend"] = busy()
        watched.loop.call_at(15, watched.domain.refuses.clear)
        watched.ends_at(60)
        assert await watched.trouble() is None
        assert set(watched.told) == {"suspend"}
        assert watched.domain.state() == [PAUSED, 1]

    play(scene, timeout=10, on_timeout="pause")


def test_two_failures_with_peace_between_them_are_not_a_long_one():
    async def scene(watched):
        watched.domain.refuses["downtime"] = busy()
        watched.loop.call_at(1.1, watched.sends, 1)
        watched.loop.call_at(50.0, watched.sends)
        watched.loop.call_at(51.1, watched.domain.refuses.clear)
        watched.ends_at(60)
        assert await watched.trouble() is None
        assert set(watched.told) == {"downtime 1100"}

    play(scene, max_downtime=2000)


# In post-copy


def test_in_post_copy_nobody_can_go_back():
    async def scene(watched):
        watched.loop.call_at(20, watched.cancellation.cancel)
        watched.ends_at(60)
        assert await watched.trouble() is None
        assert watched.loop.time() == pytest.approx(60, abs=0.6)
        assert watched.told == ["post-copy"]

    play(scene, timeout=10, on_timeout="post-copy")


@pytest.mark.parametrize("reason", [12, 13])
def test_in_post_copy_since_before_a_restart(reason):
    """Nobody has told the watch but libvirt, and it is cancelled before the first look."""

    async def scene(watched):
        watched.domain.state_now = [PAUSED, reason]
        watched.cancellation.cancel()
        watched.ends_at(60)
        assert await watched.trouble() is None
        assert watched.told == []
        assert watched.phases == ["post-copy"]

    play(scene)


@pytest.mark.parametrize("cancelled", [False, True])
def test_what_stalls_in_post_copy_is_left_alone(cancelled):
    """An abort would end the domain."""

    async def scene(watched):
        watched.domain.state_now = [PAUSED, 12]
        if cancelled:
            watched.loop.call_at(5, watched.cancellation.cancel)
        trouble = await watched.trouble()
        assert type(trouble) is HypervisorError
        assert str(trouble) == "nothing has moved for 30 s in post-copy"
        assert not watched.end.done()
        assert watched.told == []

    play(scene, moving=False)


def test_the_timeout_means_nothing_in_post_copy():
    async def scene(watched):
        watched.domain.state_now = [PAUSED, 12]
        watched.ends_at(60)
        assert await watched.trouble() is None
        assert watched.told == []

    play(scene, timeout=10)


# What is told


def test_progress():
    async def scene(watched):
        watched.sends(100, total=400, rate=50, dirty=25)
        watched.ends_at(0.3)
        await watched.trouble()
        (facts,) = watched.progress
        assert (facts.phase, facts.vm_name, facts.percent) == ("migrate", "vm1", 75.0)
        assert (facts.transferred, facts.total) == (300 * MIB, 400 * MIB)
        assert (facts.remaining, facts.dirty_rate) == (100 * MIB, 25 * MIB)
        assert facts.expected == pytest.approx(4.0)

    play(scene, moving=False)


def test_nothing_is_told_before_anything_is_known():
    async def scene(watched):
        watched.domain.job = None
        watched.ends_at(1)
        await watched.trouble()
        assert watched.progress == []

    play(scene, moving=False)


def test_no_part_of_nothing():
    async def scene(watched):
        watched.sends(0, total=0)
        watched.ends_at(0.3)
        await watched.trouble()
        assert watched.progress[0].percent is None

    play(scene, moving=False)


def test_a_domain_that_is_paused_first_is_not_helped():
    async def scene(watched):
        watched.ends_at(60)
        assert await watched.trouble() is None
        assert watched.told == []
        assert watched.phases == ["downtime"]

    play(scene, migration_type="warm", max_downtime=2000)


# On storage


@pytest.mark.parametrize("on_timeout", ["abort", "pause", "post-copy"])
def test_saving_can_only_be_aborted(on_timeout):
    async def scene(watched):
        watched.domain.on["abort"] = watched.ends
        trouble = await watched.trouble()
        assert str(trouble).startswith("not finished within the timeout of 10 s (100 MiB remain")
        assert watched.told == ["abort"]
        assert watched.phases == ["save", "abort"]

    play(scene, saving=True, timeout=10, on_timeout=on_timeout, max_downtime=2000)


def test_saving_stalls():
    async def scene(watched):
        watched.domain.on["abort"] = watched.ends
        assert str(await watched.trouble()) == "nothing has moved for 30 s"

    play(scene, saving=True, moving=False)


def test_saving_is_cancelled():
    async def scene(watched):
        watched.domain.on["abort"] = watched.ends
        watched.loop.call_at(5, watched.cancellation.cancel)
        assert type(await watched.trouble()) is TaskCancelledError

    play(scene, saving=True)


# The call


def call_of(watched, error=None):
    """A call of libvirt's that ends with an abort, with this error."""
    call = Future()

    def end():
        if not call.done():
            call.set_exception(error) if error else call.set_result(None)

    watched.domain.on["abort"] = end
    return call, end


async def awaited(watched, call):
    async with asyncio.timeout(LONGEST):
        with watched.stopping:
            await job.await_call(watched.watch, call)


def test_a_call_that_returns():
    async def scene(watched):
        call, end = call_of(watched)
        watched.loop.call_at(5, end)
        await awaited(watched, call)

    play(scene)


def test_a_call_that_fails():
    async def scene(watched):
        call, end = call_of(watched, HypervisorError("no route to node02"))
        watched.loop.call_at(5, end)
        with pytest.raises(HypervisorError, match="no route to node02"):
            await awaited(watched, call)

    play(scene)


def test_a_call_that_fails_as_it_was_aborted():
    """Why it was aborted says more."""

    async def scene(watched):
        call, _ = call_of(watched, HypervisorError("it was aborted"))
        with pytest.raises(HypervisorError, match="nothing has moved"):
            await awaited(watched, call)

    play(scene, moving=False)


def test_a_call_that_returns_in_spite_of_the_abort():
    async def scene(watched):
        call, _ = call_of(watched)
        await awaited(watched, call)
        assert watched.told == ["abort"]

    play(scene, moving=False)


def test_a_call_that_does_not_return():
    async def scene(watched):
        with pytest.raises(HypervisorError, match="nothing has moved for 30 s"):
            await awaited(watched, Future())
        assert watched.loop.time() == pytest.approx(30 + job._GRACE, abs=1.5)

    play(scene, moving=False)


@pytest.mark.parametrize("there", [True, False])
def test_which_connection_is_lost(there):
    """libvirt on the source says what has become of its own connection to the destination."""

    async def scene(watched):
        def lost():
            watched.source.is_there = there
            raise refusal("SYSTEM_ERROR", "Cannot recv data: Connection reset by peer")

        watched.domain.migrateToURI3 = lambda *_: lost()
        order = job.order_of(watched.trip, persistent=True, peer="qemu:///", migration_uri=None)
        with pytest.raises(HypervisorError) as caught, watched.stopping:
            await job.run(watched.site, watched.trip, order, watched.stopping, watched.context)
        if there:
            assert str(caught.value) == (
                "the connection to libvirt on node02 is lost (Cannot recv data: Connection reset by"
                " peer); look at that host, its network and its libvirtd"
            )
        else:
            assert isinstance(caught.value, LostError)
            assert "libvirt on node01 is lost" in str(caught.value)

    play(scene)


def test_following_a_migration_that_goes_on_without_us():
    async def scene(watched):
        def over():
            watched.domain.job = None
            watched.domain.state_now = [RUNNING, 1]

        watched.loop.call_at(50, over)
        with watched.stopping:
            assert await job.follow(watched.site, watched.trip, watched.watch) is None
        assert watched.loop.time() == pytest.approx(50, abs=0.6)

    play(scene)


@pytest.mark.parametrize("gone", [10, 40])
def test_following_waits_for_a_source_that_is_away_for_a_while(gone):
    async def scene(watched):
        def away(is_there):
            watched.source.is_there = is_there

        watched.loop.call_at(5, away, False)
        watched.loop.call_at(5 + gone, away, True)
        watched.loop.call_at(100, setattr, watched.domain, "job", None)
        await job.ended(watched.site, watched.trip)
        ended = 100 if gone < job._AWAY else 5 + job._AWAY
        assert watched.loop.time() == pytest.approx(ended, abs=0.6)

    play(scene)
