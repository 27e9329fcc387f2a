"""Orders that expire while they wait in a simulated cluster, in virtual time."""

import asyncio
from typing import Any

import pytest

from fastlib import (
    Evacuate,
    EvacuateParameter,
    Migrate,
    MigrateParameter,
    Repin,
    Resume,
    Start,
    Stop,
    Suspend,
    SwapWith,
    Task,
)
from fastlib.migfra import Context, HypervisorError, TaskExpiredError
from fastlib.migfra.plugin_api.expiry import Expiry
from fastlib.migfra.virt.migration_limits import QUEUED
from tests.support.clock import LoopClock
from tests.support.migfra.simulation import GIB, Progress, Simulation, cluster_of, live, simulated

BANDWIDTH = 1024
"""MiB a second, so a domain of 4 GiB takes 4 s."""


def context(seconds: float, **more: Any) -> Context:
    """Return a context whose order expires in a number of seconds."""
    clock = LoopClock()
    return Progress().context(expiry=Expiry(clock.now() + seconds, host="a", clock=clock), **more)


def cluster(*names: str, **more: Any) -> Any:
    domains = [(name, "a", {"memory": 4 * GIB}) for name in names]
    return cluster_of(*domains, ("there", "b", {"memory": 4 * GIB}), bandwidth=BANDWIDTH, **more)


def migrate(name: str, **more: Any) -> Migrate:
    return Migrate(vm_name=name, destination="b", parameter=live(**more))


@pytest.mark.parametrize("swap", [None, SwapWith(vm_name="there")])
def test_migration_does_not_begin_when_its_order_has_expired_in_the_queue(
    swap: SwapWith | None,
) -> None:
    async def scenario(simulation: Simulation) -> None:
        first = asyncio.create_task(simulation["a"].migrate(migrate("vm1"), context(1)))
        await asyncio.sleep(0.1)
        late = context(1)
        with pytest.raises(TaskExpiredError, match="never begun, and never will be"):
            await simulation["a"].migrate(migrate("vm2", swap_with=swap), late)
        assert asyncio.get_running_loop().time() == pytest.approx(1.1)
        assert not late.expiry.begun
        await first  # it had begun, so it is not ended
        assert simulation.where("vm1") == ("b", "running")
        assert simulation.where("vm2") == ("a", "running")
        assert simulation["a"].migration_limits().queued == 0
        await simulation["a"].migrate(migrate("vm2"), context(1))
        assert simulation.where("vm2") == ("b", "running")

    simulated(cluster("vm1", "vm2"), scenario, outgoing_migrations=1, call_seconds=0)


def test_evacuation_that_has_not_begun_expires_as_a_whole() -> None:
    async def scenario(simulation: Simulation) -> None:
        first = asyncio.create_task(simulation["a"].migrate(migrate("vm1"), context(100)))
        await asyncio.sleep(0.1)
        task = Evacuate(destinations=["b", "c"], vm_name="vm2")
        [result] = await simulation["a"].evacuate(task, context(1))
        assert (result.vm_name, result.status) == ("vm2", "error")
        assert "never begun, and never will be: the order expired at" in result.details
        await first
        assert simulation.where("vm2") == ("a", "running")

    simulated(cluster("vm1", "vm2"), scenario, outgoing_migrations=1, call_seconds=0)


def test_evacuation_that_has_begun_moves_all_its_domains() -> None:
    """The last domain waits for its turn long after the expiry: it is one order."""

    async def scenario(simulation: Simulation) -> None:
        results = await simulation["a"].evacuate(Evacuate(destinations=["b"]), context(1))
        assert [result.status for result in results] == ["success"] * 3
        assert asyncio.get_running_loop().time() > 10

    simulated(cluster("vm1", "vm2", "vm3"), scenario, outgoing_migrations=1, call_seconds=0)


def test_failed_domain_of_an_evacuation_is_not_tried_again_after_the_expiry() -> None:
    async def scenario(simulation: Simulation) -> None:
        parameter = EvacuateParameter(retry_counter=5, timeout=2, migration_type="live")
        task = Evacuate(destinations=["b"], parameter=parameter)
        [result] = await simulation["a"].evacuate(task, context(2.5))
        assert "the daemon does not try it again: the order expires at" in result.details
        assert simulation.where("vm1") == ("a", "running")

    simulated(cluster("vm1"), scenario, call_seconds=0)


@pytest.mark.parametrize(
    "task", [Stop(vm_name="vm1"), Suspend(vm_name="vm1"), Repin(vm_name="vm1", vcpu_map=[[0]])]
)
def test_task_that_waits_for_a_migration_expires(task: Task) -> None:
    async def scenario(simulation: Simulation) -> None:
        migrating = asyncio.create_task(simulation["a"].migrate(migrate("vm1"), context(100)))
        await asyncio.sleep(0.1)
        method = getattr(simulation["a"], type(task).__name__.lower())
        with pytest.raises(TaskExpiredError):
            await method(task, context(1))
        await migrating
        assert simulation.where("vm1") == ("b", "running")

    simulated(cluster("vm1"), scenario, call_seconds=0)


@pytest.mark.parametrize(
    "task",
    [
        Start(vm_name="off", probe_with_ssh=False),
        Stop(vm_name="vm1"),
        Stop(regex="vm.*"),
        Suspend(vm_name="vm1"),
        Resume(vm_name="vm1"),
        Repin(vm_name="vm1", vcpu_map=[[0]]),
        migrate("vm1"),
        Migrate(
            vm_name="off", destination="b", parameter=MigrateParameter(migration_type="offline")
        ),
        Evacuate(destinations=["b"]),
    ],
    ids=lambda task: type(task).__name__,
)
def test_each_task_notes_that_it_has_begun(task: Task) -> None:
    async def scenario(simulation: Simulation) -> None:
        method = getattr(simulation["a"], type(task).__name__.lower())
        late = context(-1)
        if isinstance(task, Evacuate) or getattr(task, "regex", None):
            results = await method(task, late)  # one of each domain
            assert len(results) == 2
            assert all("the order expired" in result.details for result in results)
        else:
            with pytest.raises(TaskExpiredError):
                await method(task, late)
        assert not late.expiry.begun
        given = context(1000)
        await method(task, given)
        assert given.expiry.begun

    description = cluster_of(
        ("vm1", "a"), ("vm2", "a"), ("off", "a", {"state": "shut off"}), ("far", "b")
    )
    simulated(description, scenario)


@pytest.mark.parametrize("swap", [None, SwapWith(vm_name="there")])
def test_migration_that_only_waited_before_a_restart_expires(swap: SwapWith | None) -> None:
    async def scenario(simulation: Simulation) -> None:
        late = context(-1, saved_state={QUEUED: ["vm1"]})
        late.expiry._begun = True  # as the daemon sets it for what an earlier run has begun
        with pytest.raises(TaskExpiredError):
            await simulation["a"].recover(migrate("vm1", swap_with=swap), late)
        assert simulation.where("vm1") == ("a", "running")
        begun = context(-1)
        begun.expiry._begun = True
        with pytest.raises(HypervisorError, match="the daemon ended while this was in progress"):
            await simulation["a"].recover(migrate("vm1", swap_with=swap), begun)

    simulated(cluster("vm1"), scenario)


@pytest.mark.parametrize("waiting", [["vm1", "vm2"], ["vm2"]])
def test_recovered_evacuation_expires_only_if_no_migration_had_begun(waiting: list[str]) -> None:
    async def scenario(simulation: Simulation) -> None:
        placements = {"vm1": "b", "vm2": "b"}
        late = context(-1, saved_state={"placements": placements, QUEUED: waiting})
        late.expiry._begun = True
        task = Evacuate(destinations=["b"])
        results = {r.vm_name: r for r in await simulation["a"].recover(task, late)}
        if len(waiting) == 2:
            assert all("the order expired" in result.details for result in results.values())
            assert simulation.where("vm2") == ("a", "running")
        else:
            assert "the daemon ended while this was in progress" in results["vm1"].details
            assert results["vm2"].status == "success"
            assert simulation.where("vm2") == ("b", "running")

    simulated(cluster("vm1", "vm2"), scenario)
