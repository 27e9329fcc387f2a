"""The evacuation of a host: one migration for each active domain, with retries, and its recovery.

The hosts are fakes (see fake_libvirt.py) and time is virtual.
"""

import asyncio
import itertools

import pytest

from fastlib import Evacuate, EvacuateParameter
from fastlib.migfra import FinalError, HypervisorError, TaskCancelledError
from fastlib.migfra.hypervisors.libvirt.migration import migration
from fastlib.migfra.hypervisors.libvirt.tasks.evacuation import evacuate
from fastlib.migfra.hypervisors.simulated import run_virtual
from tests.support.libvirt.fake_libvirt import SHUT_OFF, FakeDomain, FakeHosts


class Evacuation(FakeHosts):
    """Two hosts, and the errors that the next migrations of a domain raise."""

    def __init__(self, **options):
        super().__init__(**options)
        self.errors = {}
        self.moves = []
        """When each migration began, by virtual time."""

    async def run_migration(self, runtime, spec, arguments, scope, context):
        self.moves.append((spec.name, asyncio.get_running_loop().time()))
        if self.errors.get(spec.name):
            raise self.errors[spec.name].pop(0)
        self.destination.add(self.source.domains.pop(spec.name))

    async def evacuate(self, *, vm_name=None, destinations=("node02",), **parameter):
        task = Evacuate(
            destinations=destinations, vm_name=vm_name, parameter=EvacuateParameter(**parameter)
        )
        results = await evacuate(self.runtime, task, self.context)
        if isinstance(results, str):
            return results
        return {result.vm_name: (result.status, result.details) for result in results}


@pytest.fixture
def run(monkeypatch):
    """Run a scenario with an evacuation, whose migrations are computed."""

    def run(scenario, **options):
        async def main():
            evacuation = Evacuation(**options)
            monkeypatch.setattr(migration, "run_migration", evacuation.run_migration)
            async with asyncio.timeout(1000):
                await scenario(evacuation)

        run_virtual(main())

    return run


def test_evacuation_moves_each_active_domain(run):
    async def scenario(evacuation):
        evacuation.source.add(FakeDomain("vm2"))
        evacuation.source.add(FakeDomain("off", SHUT_OFF, 0))
        assert await evacuation.evacuate() == {"vm1": ("success", None), "vm2": ("success", None)}
        assert set(evacuation.destination.domains) == {"vm1", "vm2"}
        assert evacuation.context.saved_state["placements"] == {"vm1": "node02", "vm2": "node02"}

    run(scenario)


def test_evacuation_moves_only_the_named_domain(run):
    async def scenario(evacuation):
        evacuation.source.add(FakeDomain("vm2"))
        assert set(await evacuation.evacuate(vm_name="vm2")) == {"vm2"}
        with pytest.raises(HypervisorError, match="vm9 is not active on node01"):
            await evacuation.evacuate(vm_name="vm9")

    run(scenario)


def test_evacuation_of_empty_host_says_so(run):
    async def scenario(evacuation):
        del evacuation.source.domains["vm1"]
        assert await evacuation.evacuate() == "no domain is active on node01"

    run(scenario)


def test_evacuation_retries_with_doubling_pauses(run):
    async def scenario(evacuation):
        evacuation.errors["vm1"] = [HypervisorError("it broke")] * 7
        assert await evacuation.evacuate(retry_counter=7) == {"vm1": ("success", "7")}
        times = [time for _, time in evacuation.moves]
        pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert pauses == pytest.approx([1, 2, 4, 8, 16, 30, 30])
        assert evacuation.phases.count("retry") == 7

    run(scenario)


def test_evacuation_reports_last_error_without_retries_left(run):
    async def scenario(evacuation):
        evacuation.errors["vm1"] = [HypervisorError("first"), HypervisorError("second")]
        found = await evacuation.evacuate(retry_counter=1)
        assert found == {
            "vm1": ("error", "vm1 did not migrate to node02: second; vm1 runs on node01")
        }
        assert len(evacuation.moves) == 2

    run(scenario)


@pytest.mark.parametrize("kind", [FinalError, TaskCancelledError])
def test_evacuation_does_not_retry_final_errors(run, kind):
    async def scenario(evacuation):
        evacuation.errors["vm1"] = [kind("it must not be repeated")]
        ((status, details),) = (await evacuation.evacuate(retry_counter=3)).values()
        assert status == "error"
        assert "it must not be repeated" in details
        assert len(evacuation.moves) == 1

    run(scenario)


def test_evacuation_ends_a_pause_when_cancelled(run):
    async def scenario(evacuation):
        evacuation.errors["vm1"] = [HypervisorError("it broke")] * 9
        loop = asyncio.get_running_loop()
        loop.call_later(2.5, evacuation.cancellation.cancel)
        assert await evacuation.evacuate(retry_counter=9) == {"vm1": ("error", "cancelled")}
        assert loop.time() == pytest.approx(2.5)

    run(scenario)


def test_evacuation_skips_domain_that_was_shut_off_meanwhile(run):
    async def scenario(evacuation):
        evacuation.errors["vm1"] = [HypervisorError("it broke")]

        def shut_off():
            evacuation.domain.state_now = [SHUT_OFF, 1]

        asyncio.get_running_loop().call_later(0.5, shut_off)
        found = await evacuation.evacuate(retry_counter=3)
        assert found == {"vm1": ("success", "vm1 has been shut off meanwhile")}

    run(scenario)


def test_evacuation_reports_unexpected_error_as_result(run):
    async def scenario(evacuation):
        evacuation.errors["vm1"] = [ValueError("a mistake")]
        ((status, details),) = (await evacuation.evacuate()).values()
        assert status == "error"
        assert "ValueError: a mistake" in details

    run(scenario)


def test_evacuation_reports_domains_without_room(run):
    async def scenario(evacuation):
        evacuation.destination.free = 1000  # the domain has 1024 KiB
        found = await evacuation.evacuate()
        assert found == {
            "vm1": ("error", "vm1 stays on node01: node02 has 1000 KiB free of 1024 KiB needed")
        }

    run(scenario)


def test_evacuation_refuses_destinations_that_cannot_be_asked(run):
    async def scenario(evacuation):
        evacuation.destination.is_there = False
        with pytest.raises(HypervisorError, match=r"no destination .* node02 is away"):
            await evacuation.evacuate()
        with pytest.raises(HypervisorError, match="name others than the host itself"):
            await evacuation.evacuate(destinations=["node01"])
        with pytest.raises(HypervisorError, match="running domains do not migrate offline"):
            await evacuation.evacuate(migration_type="offline")

    run(scenario)
