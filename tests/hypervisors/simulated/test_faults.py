"""Planned and random faults of a simulated cluster, in virtual time."""

import asyncio

import pytest

from fastlib import (
    Migrate,
    Resume,
    Suspend,
)
from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.simulated import Fault
from fastlib.migfra.plugin_api.context import Context
from tests.support.migfra.simulation import (
    BUSY,
    LIVE,
    cluster_of,
    live,
    now,
    simulated,
)


def attempts(faults, count=4, task=None, **description):
    """Return the ends of a number of migrations of vm1 between a and b, one after the other."""

    async def scenario(simulation):
        ends = []
        for _ in range(count):
            here = simulation.cluster.domain("vm1").host
            there = "b" if here == "a" else "a"
            try:
                await simulation[here].migrate(
                    Migrate(vm_name="vm1", destination=there, parameter=LIVE), Context(here)
                )
                ends.append("done")
            except HypervisorError as error:
                assert simulation.where("vm1") == (here, "running")
                ends.append(str(error))
        return ends

    return simulated(cluster_of(("vm1", "a"), faults=faults, **description), scenario)


def test_fault_happens_at_its_percent():
    faults = [Fault(kind="error", task="migrate", vm_name="vm1", percent=40, times=2)]
    broken = "vm1 did not migrate to b: broken off at 40 %; vm1 runs on a"
    assert attempts(faults) == [broken, broken, "done", "done"]


def test_faults_of_other_domains_have_no_effect():
    faults = [
        Fault(kind="error", task="migrate", vm_name="vm2"),
        Fault(kind="error", task="start"),
        Fault(kind="error", host="c"),
        Fault(kind="error", begin=1e6),
        Fault(kind="error", rate=0.0),
    ]
    assert attempts(faults) == ["done"] * 4


def test_random_faults_follow_the_seed():
    faults = [Fault(kind="error", task="migrate", rate=0.5, text="bad luck")]
    ends = {seed: attempts(faults, 12, seed=seed) for seed in range(4)}
    assert all(attempts(faults, 12, seed=seed) == ends[seed] for seed in ends)
    assert len(set(map(tuple, ends.values()))) > 1
    assert {end for ends in ends.values() for end in ends} == {"done", "bad luck"}


def test_unreachable_host_stalls_migration_until_it_returns():
    faults = [Fault(kind="unreachable", host="b", begin=2, until=9)]

    async def scenario(simulation):
        task = Migrate(vm_name="vm1", destination="b", parameter=LIVE)
        await simulation["a"].migrate(task, Context("a"))
        return now()

    description = cluster_of(("vm1", "a"), bandwidth=100, faults=faults)
    assert simulated(description, scenario) == pytest.approx(10.24 + 7, abs=0.5)


def test_long_unreachable_host_aborts_migration():
    faults = [Fault(kind="unreachable", host="b", begin=2)]
    gone = "vm1 did not migrate to b: nothing has moved for 30 s; vm1 runs on a"
    unreachable = "vm1 did not migrate to b: b is unreachable; vm1 runs on a"
    assert attempts(faults, 2, bandwidth=100) == [gone, unreachable]


def test_hanging_call_ends_after_its_seconds():
    faults = [Fault(kind="hang", task="suspend", seconds=600), Fault(kind="hang", task="resume")]

    async def scenario(simulation):
        await simulation["a"].suspend(Suspend(vm_name="vm1"), Context("a"))
        assert now() > 600
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(10_000):
                await simulation["a"].resume(Resume(vm_name="vm1"), Context("a"))
        assert simulation.where("vm1") == ("a", "paused")

    simulated(cluster_of(("vm1", "a"), faults=faults), scenario)


def test_faults_of_the_daemon_apply():
    async def scenario(simulation):
        with pytest.raises(HypervisorError, match="no electricity"):
            await simulation["a"].suspend(Suspend(vm_name="vm1"), Context("a"))

    simulated(
        cluster_of(("vm1", "a")), scenario, faults=[Fault(kind="error", text="no electricity")]
    )


def test_broken_post_copy_pauses_domain_on_destination():
    faults = [Fault(kind="error", task="migrate", percent=99, begin=30)]

    async def scenario(simulation):
        task = Migrate(
            vm_name="vm1", destination="b", parameter=live(timeout=30, on_timeout="post-copy")
        )
        with pytest.raises(HypervisorError, match="vm1 is paused on b"):
            await simulation["a"].migrate(task, Context("a"))

    simulated(cluster_of(("vm1", "a", BUSY), bandwidth=100, faults=faults), scenario)
