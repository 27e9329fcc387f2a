"""Orders that expire while they wait for a slot."""

import asyncio

import pytest

from fastlib import Evacuate, Migrate, SwapWith
from fastlib.migfra import (
    HypervisorError,
    TaskExpiredError,
)
from fastlib.migfra.hypervisors.libvirt.tasks.recovery import recover
from tests.support.libvirt.slot_daemons import (
    Order,
)


def test_migration_expires_in_the_queue_and_not_once_it_has_begun(run_scenario):
    async def scenario(daemons):
        daemons.add("a", "vm1", "vm2", "vm3")
        first, begun = daemons.migrate("vm1", "a", "b", Order("a", expires=5.0))
        await asyncio.sleep(1)
        waits, late = daemons.migrate("vm2", "a", "b", Order("a", expires=5.0))
        with pytest.raises(TaskExpiredError, match="never begun, and never will be"):
            await waits
        assert asyncio.get_running_loop().time() == pytest.approx(5.0)
        assert not late.context.expiry.begun
        await first
        assert begun.context.expiry.begun
        assert "vm2" in daemons.hosts["a"].domains
        await daemons.migrate("vm3", "a", "b")[0]
        assert daemons.begun == ["vm1", "vm3"]

    run_scenario(scenario, all={"outgoing_migrations": 1})


def test_swap_expires_in_the_queue(run_scenario):
    async def scenario(daemons):
        daemons.add("a", "vm1", "vm2")
        daemons.add("b", "vm3")
        first, _ = daemons.migrate("vm1", "a", "c")
        await asyncio.sleep(1)
        swap_with = SwapWith(vm_name="vm3")
        waits, _ = daemons.migrate("vm2", "a", "b", Order("a", expires=5.0), swap_with=swap_with)
        with pytest.raises(TaskExpiredError):
            await waits
        await first
        assert daemons.begun == ["vm1"]

    run_scenario(scenario, all={"outgoing_migrations": 1})


def test_evacuation_expires_only_as_long_as_none_of_its_domains_has_begun(run_scenario):
    async def scenario(daemons):
        daemons.add("a", "vm1", "vm2", "vm3")
        results = await daemons.evacuate("a", "b", order=Order("a", expires=5.0))
        assert {status for status, _ in results.values()} == {"success"}
        assert asyncio.get_running_loop().time() > 25
        daemons.add("c", "vm4", "vm5", "vm6")
        first, _ = daemons.migrate("vm4", "c", "b")
        await asyncio.sleep(1)
        now = asyncio.get_running_loop().time()
        results = await daemons.evacuate("c", "b", order=Order("c", expires=now + 5.0))
        assert "never begun, and never will be" in results["vm5"][1]
        assert "never begun, and never will be" in results["vm6"][1]
        assert len(daemons.begun) == 4
        await first

    run_scenario(scenario, all={"outgoing_migrations": 1})


@pytest.mark.parametrize("begun", [True, False])
def test_migration_that_only_waited_before_a_restart_expires(run_scenario, begun):
    async def scenario(daemons):
        daemons.add("a", "vm1")
        await asyncio.sleep(10)
        task = Migrate(vm_name="vm1", destination="b")
        saved = {} if begun else {"queued": True}
        order = Order("a", saved, expires=5.0, begun=True)
        words = "ended before vm1 began to migrate" if begun else "never begun, and never will be"
        with pytest.raises(HypervisorError, match=words):
            await recover(daemons.runtimes["a"], task, order.context)
        assert daemons.begun == []

    run_scenario(scenario)


def test_recovered_evacuation_that_only_waited_expires(run_scenario):
    async def scenario(daemons):
        daemons.add("a", "vm1", "vm2")
        await asyncio.sleep(10)
        placements = {"vm1": "b", "vm2": "b"}
        uuids = {name: daemons.hosts["a"].domains[name].uuid for name in placements}
        saved = {"placements": placements, "uuids": uuids, "queued": True}
        order = Order("a", saved, expires=5.0, begun=True)
        results = await recover(daemons.runtimes["a"], Evacuate(destinations=["b"]), order.context)
        assert all("never begun, and never will be" in result.details for result in results)
        assert daemons.begun == []

    run_scenario(scenario)
