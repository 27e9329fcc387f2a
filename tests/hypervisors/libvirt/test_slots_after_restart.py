"""Migrations that wait for their slots, or have them, when their daemon restarts."""

import asyncio

import msgspec

from fastlib import Evacuate, EvacuateParameter, Migrate, MigrateParameter
from fastlib.migfra.hypervisors.libvirt.migration.record import MigrationState
from fastlib.migfra.hypervisors.libvirt.slots.notices import (
    Note,
    define_notice,
    slot_notice,
)
from fastlib.migfra.hypervisors.libvirt.tasks.evacuation import evacuate
from fastlib.migfra.hypervisors.libvirt.tasks.recovery import recover
from tests.support.libvirt.fake_domain import RUNNING
from tests.support.libvirt.slot_daemons import (
    ArrivingDomain,
    Order,
)


def test_queued_migration_continues_after_a_restart(run_scenario):
    async def scenario(daemons):
        daemons.add("a", "vm1")
        task = Migrate(
            vm_name="vm1", destination="b", parameter=MigrateParameter(migration_type="live")
        )
        order = Order("a", saved={"queued": True})
        assert (await recover(daemons.runtimes["a"], task, order.context)).details is None
        assert "vm1" in daemons.hosts["b"].domains

    run_scenario(scenario)


def test_queued_part_of_an_evacuation_continues_after_a_restart(run_scenario):
    async def scenario(daemons):
        daemons.add("a", "vm1", "vm2", "vm3", "vm4")
        order = Order("a")
        task = Evacuate(destinations=["b"], parameter=EvacuateParameter(migration_type="live"))
        evacuating = asyncio.ensure_future(evacuate(daemons.runtimes["a"], task, order.context))
        await asyncio.sleep(5)
        evacuating.cancel()  # the daemon dies; libvirt moves two of them without it
        await asyncio.wait({evacuating})
        assert sorted(daemons.begun) == ["vm1", "vm2"]
        for name in daemons.begun:
            daemons.hosts["b"].domains.pop(name)
            daemons.hosts["b"].add(daemons.hosts["a"].domains.pop(name)).job = None
        daemons.start_daemon("a")
        again = Order("a", saved=order.context.saved_state)
        results = await recover(daemons.runtimes["a"], task, again.context)
        assert {each.vm_name: (each.status, each.details) for each in results} == {
            "vm1": ("success", "found done after the daemon's restart"),
            "vm2": ("success", "found done after the daemon's restart"),
            "vm3": ("success", None),
            "vm4": ("success", None),
        }

    run_scenario(scenario)


def test_migration_that_continues_after_a_restart_counts(run_scenario):
    async def scenario(daemons):
        daemons.add("a", "vm1", "vm2")
        domain = daemons.hosts["a"].domains["vm1"]
        domain.job = {"data_total": 100, "data_remaining": 50}
        copy = daemons.hosts["b"].add(ArrivingDomain("vm1", 3, 2))
        copy.uuid = domain.uuid
        define_notice(
            daemons.hosts["b"], slot_notice("incoming", 1, Note(by="a", domains=("vm1",)))
        )
        state = MigrationState(source="a", destination="b", uuid=domain.uuid, phase="move")
        saved = {"migrations": {"vm1": msgspec.to_builtins(state)}}
        task = Migrate(
            vm_name="vm1", destination="b", parameter=MigrateParameter(migration_type="live")
        )
        runtime = daemons.runtimes["a"]
        recovering = asyncio.ensure_future(recover(runtime, task, Order("a", saved).context))
        await asyncio.sleep(1)
        second, order = daemons.migrate("vm2", "a", "b")
        await asyncio.sleep(5)
        assert (daemons.begun, order.places) == ([], [1])
        assert (runtime.limits.running, runtime.limits.queued) == (1, 1)
        domain.job = None
        del daemons.hosts["a"].domains["vm1"]
        del daemons.hosts["b"].domains["vm1"]
        daemons.hosts["b"].add(domain)
        domain.state_now = [RUNNING, 3]
        assert (await recovering).details == "found done after the daemon's restart"
        await second

    run_scenario(scenario, all={"outgoing_migrations": 1, "incoming_migrations": 1})
