"""Orders that expire while no daemon runs, or beside a restart and a wrong clock."""

import pytest

from fastlib import Quit, Result, Start
from fastlib.migfra import Daemon
from fastlib.migfra.config.sections import LimitsSection
from tests.support.clock import SettableClock
from tests.support.migfra.bench import Bench, Play, order, patiently
from tests.support.migfra.expiring import check_expired, start
from tests.support.migfra.scripted import Recovering, Scripted, gate
from tests.support.waiting import wait_until_async


@pytest.mark.parametrize("killed", [True, False])
def test_order_that_expired_while_the_daemon_was_away_is_not_begun(
    play: Play, killed: bool
) -> None:
    """Only the task that had begun is recovered; the others have expired."""

    async def scene(bench: Bench) -> None:
        hypervisor = Recovering()
        daemon, _ = await bench.busy(
            hypervisor,
            start("vm1", expires=60, id="begun"),
            limits=LimitsSection(containers=1),
            shutdown_timeout=0.05,
        )
        await bench.send(start("vm2", expires=60, id="waiting"))
        await bench.send(order(Quit(), expires=60, id="q"))
        await bench.send(start("vm3", expires=3600, id="patient"))
        await bench.send(Start(vm_name="vm4"), "endless")
        await wait_until_async(lambda: daemon.runtime.dispatcher.queued == 4)
        await patiently(daemon.kill() if killed else daemon.close())
        second = Recovering()
        await bench.daemon(second, clock=SettableClock(ahead=600.0))
        answers = {answer.id: answer for answer in [await bench.result() for _ in range(5)]}
        assert answers["begun"].results[0].status == "success"
        check_expired(answers["waiting"], "vm2")
        check_expired(answers["q"], "n/a")
        assert answers["patient"].results[0].status == "success"
        assert answers["endless"].results[0].status == "success"
        assert sorted(second.calls) == [("recover", "vm1"), ("start", "vm3"), ("start", "vm4")]

    play(scene)


def test_expired_order_does_not_wait_for_its_turn_after_a_restart(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        daemon, _ = await bench.busy(
            Recovering(),
            start("vm1", expires=60, id="begun"),
            limits=LimitsSection(containers=1),
        )
        await bench.send(start("vm2", expires=60, id="waiting"))
        await wait_until_async(lambda: daemon.runtime.dispatcher.queued == 1)
        await patiently(daemon.kill())
        second = Recovering()
        plan, begun, go = gate()
        second.plan["vm1"] = plan
        await bench.daemon(
            second, limits=LimitsSection(containers=1), clock=SettableClock(ahead=600.0)
        )
        check_expired(await bench.result(), "vm2")
        await patiently(begun.wait())
        go.set()
        assert (await bench.result()).id == "begun"

    play(scene)


def test_members_that_had_not_begun_expire_beside_one_that_is_recovered(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        members = start("vm1", "vm2", expires=60, id="1")
        daemon, _ = await bench.busy(Recovering(), members, limits=LimitsSection(members=1))
        await patiently(daemon.kill())
        second = Recovering()
        await bench.daemon(second, clock=SettableClock(ahead=600.0))
        answer = await bench.result()
        assert [result.status for result in answer.results] == ["success", "error"]
        assert "the order expired" in str(answer.results[1].details)
        assert second.calls == [("recover", "vm1")]

    play(scene)


def test_quit_that_had_begun_does_not_expire(play: Play) -> None:
    """A daemon is killed while it ends; the next run says that it has ended."""

    async def scene(bench: Bench) -> None:
        daemon, _ = await bench.busy(Scripted())
        await bench.send(order(Quit(), expires=60, id="q"))
        await wait_until_async(lambda: daemon.stopping)
        daemon._killed = True
        daemon.stop_now()
        await patiently(_killed(daemon))
        await bench.daemon(Scripted(), clock=SettableClock(ahead=600.0))
        answers = {answer.id: answer for answer in [await bench.result(), await bench.result()]}
        assert answers["q"].results == (Result(vm_name="n/a", status="success"),)

    play(scene)


async def _killed(daemon: Daemon) -> None:
    """Wait for the end of a daemon of which nothing more is written."""
    daemon.runtime.journal.give_up()
    daemon.runtime.publisher.stop()
    await daemon.ended.wait()


@pytest.mark.parametrize("restarted", [False, True])
def test_order_expires_in_time_although_the_clock_is_set_back(
    play: Play, leaping: SettableClock, restarted: bool
) -> None:
    """It waits behind another one, here or in the journal of a daemon that is killed."""

    async def scene(bench: Bench) -> None:
        hypervisor = Recovering()
        limits = LimitsSection(containers=1)
        daemon, go = await bench.busy(hypervisor, clock=leaping, limits=limits)
        await bench.send(start("vm2", expires=60, id="2"))
        await wait_until_async(lambda: daemon.runtime.jobs.find("2"))
        leaping.ahead = -3600.0
        if restarted:
            await patiently(daemon.kill())
            hypervisor.plan["vm1"], _, go = gate()
            await bench.daemon(hypervisor, clock=leaping, limits=limits)
        leaping.passed = 60.0
        details = str((await bench.result()).results[0].details)
        assert details.startswith("never begun, and never will be: the order has expired, although")
        assert "at node01: that clock was set back after the order came" in details
        go.set()
        assert (await bench.result()).id == "1"
        assert ("start", "vm2") not in hypervisor.calls

    play(scene)


def test_order_whose_clock_is_set_back_stays_in_the_queue(play: Play) -> None:
    """It has not expired after all, and must not begin out of turn."""

    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        clock = SettableClock()
        daemon, go = await bench.busy(hypervisor, clock=clock, limits=LimitsSection(containers=1))
        await bench.send(start("vm2", expires=600, id="2"))
        await wait_until_async(lambda: daemon.runtime.jobs.find("2"))
        (job,) = daemon.runtime.jobs.find("2")
        daemon.runtime.dispatcher._begin_out_of_turn(job)
        await wait_until_async(lambda: daemon.runtime.dispatcher.running == 1)
        await bench.no_result()
        go.set()
        assert [(await bench.result()).id for _ in range(2)] == ["1", "2"]

    play(scene)
