"""Evacuations of a simulated cluster, in virtual time."""

import asyncio

import pytest

from fastlib import (
    Evacuate,
    EvacuateParameter,
    Migrate,
    TimeMeasurement,
)
from fastlib.migfra.hypervisors.simulated import Fault
from fastlib.migfra.plugin_api.cancellation import Cancellation
from fastlib.migfra.plugin_api.context import Context
from tests.support.migfra.simulation import (
    BUSY,
    GIB,
    LIVE,
    cluster_of,
    simulated,
)


def test_cancelled_evacuation_says_where_each_domain_is():
    async def scenario(simulation):
        cancellation = Cancellation()
        asyncio.get_running_loop().call_later(15, cancellation.cancel)
        results = await simulation["a"].evacuate(
            Evacuate(destinations=["b"], parameter=EvacuateParameter(migration_type="live")),
            Context("a", cancellation=cancellation),
        )
        assert [(result.vm_name, result.details) for result in results] == [
            ("busy", "cancelled; busy runs on a"),
            ("small", None),
        ]

    simulated(
        cluster_of(("busy", "a", BUSY), ("small", "a", {"memory": 1024}), bandwidth=100), scenario
    )


@pytest.mark.parametrize(
    ("mode", "hosts"), [("auto", "bcbc"), ("compact", "bbbb"), ("scatter", "bcbc")]
)
def test_evacuation_places_by_mode(mode, hosts):
    async def scenario(simulation):
        task = Evacuate(
            destinations=["a", "b", "c"],
            parameter=EvacuateParameter(mode=mode, migration_type="live"),
        )
        results = await simulation["a"].evacuate(task, Context("a"))
        assert [result.status for result in results] == ["success"] * 4
        assert [result.vm_name for result in results] == ["vm0", "vm1", "vm2", "vm3"]
        assert simulation.where("off") == ("a", "shut off")
        nobody = await simulation["a"].evacuate(task, Context("a"))
        assert nobody == "no domain is active on a"
        return "".join(simulation.where(f"vm{i}")[0] for i in range(4))

    domains = [(f"vm{i}", "a") for i in range(4)]
    description = cluster_of(*domains, ("off", "a", {"state": "shut off"}))
    assert simulated(description, scenario) == hosts


def test_evacuation_reports_domains_without_room():
    async def scenario(simulation):
        task = Evacuate(destinations=["b"], parameter=EvacuateParameter(overbooking=False))
        results = await simulation["a"].evacuate(task, Context("a"))
        assert [result.details for result in results] == [
            None,
            "vm1 stays on a: b has no free CPU and overbooking is off",
        ]
        assert simulation.where("vm1") == ("a", "running")

    simulated(cluster_of(("vm0", "a"), ("vm1", "a"), cpus=1), scenario)


def test_evacuation_retries_each_domain():
    faults = [
        Fault(kind="error", task="migrate", vm_name="vm1", percent=10, times=2),
        Fault(kind="error", task="migrate", vm_name="vm2", percent=10),
    ]

    async def scenario(simulation):
        measurement = TimeMeasurement()
        results = await simulation["a"].evacuate(
            Evacuate(destinations=["b"], parameter=EvacuateParameter(retry_counter=2)),
            Context("a", measurement=measurement),
        )
        assert [(result.status, result.details) for result in results] == [
            ("success", "0"),
            ("success", "2"),
            ("error", "vm2 did not migrate to b: broken off at 10 %; vm2 runs on a"),
        ]
        assert {"overall", "migrate", "downtime-vm1"} <= set(results[1].time_measurement.timings)

    simulated(cluster_of(*((f"vm{i}", "a") for i in range(3)), faults=faults), scenario)


def test_evacuation_of_one_domain_moves_only_that():
    async def scenario(simulation):
        task = Evacuate(destinations=["b"], vm_name="vm1")
        (result,) = await simulation["a"].evacuate(task, Context("a"))
        assert (result.vm_name, result.status) == ("vm1", "success")
        assert simulation.where("vm0") == ("a", "running")

    simulated(cluster_of(("vm0", "a"), ("vm1", "a")), scenario)


def test_evacuation_waits_for_migrations_in_progress():
    async def scenario(simulation):
        a = simulation["a"]
        _, results = await asyncio.gather(
            a.migrate(Migrate(vm_name="vm0", destination="b", parameter=LIVE), Context("a")),
            a.evacuate(Evacuate(destinations=["c"]), Context("a")),
        )
        assert [(result.vm_name, result.details) for result in results] == [
            ("vm0", "vm0 has left in the meantime: it runs on b"),
            ("vm1", None),
        ]
        assert simulation.where("vm0") == ("b", "running")
        assert simulation.where("vm1") == ("c", "running")

    simulated(cluster_of(("vm0", "a"), ("vm1", "a"), bandwidth=100), scenario)


def test_parallel_evacuations_do_not_share_room():
    async def scenario(simulation):
        task = Evacuate(destinations=["c"], parameter=EvacuateParameter(migration_type="live"))
        ends = await asyncio.gather(
            simulation["a"].evacuate(task, Context("a")),
            simulation["b"].evacuate(task, Context("b")),
        )
        statuses = [result.status for end in ends for result in end]
        assert sorted(statuses) == ["error"] * 2 + ["success"] * 4
        assert simulation.cluster.problems() == []

    domains = [(f"vm{i}", "ab"[i % 2]) for i in range(6)]
    simulated(cluster_of(*domains, memory=4 * GIB), scenario)
