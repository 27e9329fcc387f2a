"""The monitor of a migration: what it reports, when it acts, and when it gives up.

The host is a fake (see fake_libvirt.py) and time is virtual. So a test chooses what libvirt says at
which moment.
"""

import pytest

from fastlib.migfra import HypervisorError, TaskCancelledError
from fastlib.migfra.hypervisors.libvirt.migration import monitor
from tests.support.libvirt.fake_domain import PAUSED, refusal
from tests.support.libvirt.watched_migration import MIB, run_scenario


def busy():
    return refusal("OPERATION_TIMEOUT", "cannot acquire state change lock")


def test_monitor_does_nothing_when_migration_converges():
    async def scenario(watched):
        watched.sends(dirty=1)
        watched.ends_at(60)
        assert await watched.problem() is None
        assert watched.calls == []

    run_scenario(scenario)


def test_monitor_raises_downtime_once_when_not_converging():
    async def scenario(watched):
        watched.ends_at(60)
        assert await watched.problem() is None
        assert watched.calls == ["downtime 1100"]  # once, and a tenth more than it takes

    run_scenario(scenario, max_downtime=2000)


@pytest.mark.parametrize("parameter", [{}, {"max_downtime": 900}])
def test_monitor_never_raises_downtime_above_its_limit(parameter):
    async def scenario(watched):
        watched.ends_at(60)
        assert await watched.problem() is None
        assert watched.calls == []

    run_scenario(scenario, **parameter)


def test_monitor_pauses_at_timeout():
    async def scenario(watched):
        watched.ends_at(60)
        assert await watched.problem() is None
        assert watched.calls == ["suspend"]
        assert watched.at["suspend"] == pytest.approx(10, abs=0.3)
        assert watched.phases == ["migrate", "downtime"]

    run_scenario(scenario, timeout=10, on_timeout="pause")


def test_monitor_switches_to_post_copy_at_timeout():
    async def scenario(watched):
        watched.ends_at(60)
        assert await watched.problem() is None
        assert watched.calls == ["post-copy"]
        assert watched.at["post-copy"] == pytest.approx(10, abs=0.3)
        assert watched.phases == ["migrate", "post-copy"]

    run_scenario(scenario, timeout=10, on_timeout="post-copy")


@pytest.mark.parametrize("kind", ["live", "warm"])
def test_monitor_aborts_at_timeout(kind):
    async def scenario(watched):
        watched.domain.on["abort"] = watched.ends
        problem = await watched.problem()
        assert type(problem) is HypervisorError
        assert str(problem).startswith("not finished within the timeout of 10 s (100 MiB remain")
        assert watched.calls == ["abort"]
        assert watched.at["abort"] == pytest.approx(10, abs=0.3)
        assert watched.phases[-1] == "abort"

    run_scenario(scenario, timeout=10, migration_type=kind)


def test_monitor_aborts_stalled_migration():
    async def scenario(watched):
        watched.domain.on["abort"] = watched.ends
        problem = await watched.problem()
        assert type(problem) is HypervisorError
        assert str(problem) == "nothing has moved for 30 s"
        assert watched.calls == ["abort"]
        assert watched.at["abort"] == pytest.approx(30, abs=0.6)

    run_scenario(scenario, moving=False)


def test_monitor_accepts_slow_progress():
    async def scenario(watched):
        for seconds in range(20, 200, 20):
            watched.loop.call_at(seconds, watched._move)
        watched.ends_at(200)
        assert await watched.problem() is None

    run_scenario(scenario, moving=False)


def test_monitor_gives_up_when_source_does_not_answer():
    """The source does not answer the abort. The monitor repeats it for a limited time."""

    async def scenario(watched):
        watched.source.is_there = False
        problem = await watched.problem()
        assert str(problem) == "nothing has moved for 30 s"
        assert not watched.end.done()
        assert watched.calls == []
        assert watched.progress[-1].phase == "abort"
        assert watched.loop.time() == pytest.approx(30 + monitor._GRACE_SECONDS, abs=1.5)

    run_scenario(scenario)


def test_monitor_repeats_abort_until_it_succeeds():
    """An abort fails before the first byte is sent."""

    async def scenario(watched):
        refused = refusal("OPERATION_INVALID", "no job is active on the domain")
        watched.domain.refuses["abort"] = refused
        watched.loop.call_at(33.5, watched.domain.refuses.clear)
        watched.domain.on["abort"] = watched.ends
        assert str(await watched.problem()) == "nothing has moved for 30 s"
        assert watched.end.done()
        assert len(watched.calls) in (4, 5)

    run_scenario(scenario, moving=False)


def test_monitor_aborts_at_once_when_cancelled():
    async def scenario(watched):
        watched.domain.on["abort"] = watched.ends
        watched.loop.call_at(7.1, watched.cancellation.cancel)
        problem = await watched.problem()
        assert type(problem) is TaskCancelledError
        assert str(problem) == "cancelled"
        assert watched.calls == ["abort"]
        assert watched.at["abort"] == pytest.approx(7.1)  # at once, not with the next look

    run_scenario(scenario)


def test_monitor_aborts_when_swap_partner_failed():
    async def scenario(watched):
        watched.domain.on["abort"] = watched.ends
        watched.loop.call_at(7.1, watched.scope.cancel, "given up with its partner")
        problem = await watched.problem()
        assert type(problem) is TaskCancelledError
        assert str(problem) == "given up with its partner"

    run_scenario(scenario)


@pytest.mark.parametrize(
    ("on_timeout", "call", "words"),
    [("pause", "suspend", "pause the guest"), ("post-copy", "post-copy", "switch to post-copy")],
)
def test_monitor_aborts_when_its_action_keeps_failing(on_timeout, call, words):
    async def scenario(watched):
        watched.domain.refuses[call] = busy()
        watched.domain.on["abort"] = watched.ends
        problem = await watched.problem()
        assert str(problem).startswith(f"could not {words}: vm1 is busy on node01")
        assert watched.calls[0] == call
        assert watched.calls[-1] == "abort"
        assert watched.at["abort"] == pytest.approx(10 + monitor._GRACE_SECONDS, abs=0.6)

    run_scenario(scenario, timeout=10, on_timeout=on_timeout)


def test_monitor_repeats_action_that_fails_for_a_while():
    async def scenario(watched):
        watched.domain.refuses["suspend"] = busy()
        watched.loop.call_at(15, watched.domain.refuses.clear)
        watched.ends_at(60)
        assert await watched.problem() is None
        assert set(watched.calls) == {"suspend"}
        assert watched.domain.state() == [PAUSED, 1]

    run_scenario(scenario, timeout=10, on_timeout="pause")


def test_post_copy_begins_once_memory_is_sent():
    async def scenario(watched):
        watched.domain.job = {}  # libvirt still starts QEMU at the destination
        watched.domain.on.clear()
        watched.loop.call_at(25, watched.sends)
        watched.ends_at(40)
        assert await watched.problem() is None
        assert watched.at["post-copy"] == pytest.approx(25, abs=0.6)

    run_scenario(scenario, timeout=10, on_timeout="post-copy")


def test_failure_timer_resets_after_success():
    async def scenario(watched):
        watched.domain.refuses["downtime"] = busy()
        watched.loop.call_at(1.1, watched.sends, 1)
        watched.loop.call_at(50.0, watched.sends)
        watched.loop.call_at(51.1, watched.domain.refuses.clear)
        watched.ends_at(60)
        assert await watched.problem() is None
        assert set(watched.calls) == {"downtime 1100"}

    run_scenario(scenario, max_downtime=2000)


# In post-copy


def test_cancellation_has_no_effect_in_post_copy():
    async def scenario(watched):
        watched.loop.call_at(20, watched.cancellation.cancel)
        watched.ends_at(60)
        assert await watched.problem() is None
        assert watched.loop.time() == pytest.approx(60, abs=0.6)
        assert watched.calls == ["post-copy"]

    run_scenario(scenario, timeout=10, on_timeout="post-copy")


@pytest.mark.parametrize("reason", [12, 13])
def test_cancellation_has_no_effect_in_post_copy_of_an_earlier_run(reason):
    """Only libvirt knows of the post-copy, and the cancellation comes before the first poll."""

    async def scenario(watched):
        watched.domain.state_now = [PAUSED, reason]
        watched.cancellation.cancel()
        watched.ends_at(60)
        assert await watched.problem() is None
        assert watched.calls == []
        assert watched.phases == ["post-copy"]

    run_scenario(scenario)


@pytest.mark.parametrize("cancelled", [False, True])
def test_monitor_does_not_abort_stalled_post_copy(cancelled):
    """An abort would end the domain."""

    async def scenario(watched):
        watched.domain.state_now = [PAUSED, 12]
        if cancelled:
            watched.loop.call_at(5, watched.cancellation.cancel)
        problem = await watched.problem()
        assert type(problem) is HypervisorError
        assert str(problem) == "nothing has moved for 30 s in post-copy"
        assert not watched.end.done()
        assert watched.calls == []

    run_scenario(scenario, moving=False)


def test_timeout_has_no_effect_in_post_copy():
    async def scenario(watched):
        watched.domain.state_now = [PAUSED, 12]
        watched.ends_at(60)
        assert await watched.problem() is None
        assert watched.calls == []

    run_scenario(scenario, timeout=10)


# Reports


def test_monitor_reports_progress():
    async def scenario(watched):
        watched.sends(100, total=400, rate=50, dirty=25)
        watched.ends_at(0.3)
        await watched.problem()
        (facts,) = watched.progress
        assert (facts.phase, facts.vm_name, facts.percent) == ("migrate", "vm1", 75.0)
        assert (facts.transferred, facts.total) == (300 * MIB, 400 * MIB)
        assert (facts.remaining, facts.dirty_rate) == (100 * MIB, 25 * MIB)
        assert facts.expected == pytest.approx(4.0)

    run_scenario(scenario, moving=False)


def test_domain_that_is_paused_at_the_timeout_writes_nothing_more():
    """libvirt goes on to report the rate of before."""

    async def scenario(watched):
        watched.sends(100, total=400, rate=50, dirty=60)
        watched.ends_at(20)
        await watched.problem()
        last = watched.progress[-1]
        assert (watched.progress[0].dirty_rate, watched.progress[0].expected) == (60 * MIB, None)
        assert (last.phase, last.dirty_rate) == ("downtime", 0)
        assert last.expected == pytest.approx(2.0)

    run_scenario(scenario, moving=False, timeout=10, on_timeout="pause")


def test_monitor_reports_nothing_before_first_statistics():
    async def scenario(watched):
        watched.domain.job = None
        watched.ends_at(1)
        await watched.problem()
        assert watched.progress == []

    run_scenario(scenario, moving=False)


def test_progress_has_no_percent_without_total():
    async def scenario(watched):
        watched.sends(0, total=0)
        watched.ends_at(0.3)
        await watched.problem()
        assert watched.progress[0].percent is None

    run_scenario(scenario, moving=False)


def test_monitor_does_nothing_for_warm_migration():
    async def scenario(watched):
        watched.ends_at(60)
        assert await watched.problem() is None
        assert watched.calls == []
        assert watched.phases == ["downtime"]

    run_scenario(scenario, migration_type="warm", max_downtime=2000)


# On storage


@pytest.mark.parametrize("on_timeout", ["abort", "pause", "post-copy"])
def test_saving_is_aborted_at_any_timeout(on_timeout):
    async def scenario(watched):
        watched.domain.on["abort"] = watched.ends
        problem = await watched.problem()
        assert str(problem).startswith("not finished within the timeout of 10 s (100 MiB remain")
        assert watched.calls == ["abort"]
        assert watched.phases == ["save", "abort"]

    run_scenario(scenario, saving=True, timeout=10, on_timeout=on_timeout, max_downtime=2000)


def test_saving_is_aborted_when_stalled():
    async def scenario(watched):
        watched.domain.on["abort"] = watched.ends
        assert str(await watched.problem()) == "nothing has moved for 30 s"

    run_scenario(scenario, saving=True, moving=False)


def test_saving_is_aborted_when_cancelled():
    async def scenario(watched):
        watched.domain.on["abort"] = watched.ends
        watched.loop.call_at(5, watched.cancellation.cancel)
        assert type(await watched.problem()) is TaskCancelledError

    run_scenario(scenario, saving=True)
