"""The limits of migrations if a host cannot be reached, or its libvirt refuses secrets."""

import asyncio

import pytest

from fastlib.migfra import (
    HypervisorError,
)
from fastlib.migfra.hypervisors.libvirt import LibvirtHypervisor, LibvirtOptions
from fastlib.migfra.hypervisors.libvirt.slots.keeper import (
    AWAY_SECONDS,
    RENEW_SECONDS,
    MigrationSlots,
)
from fastlib.migfra.hypervisors.libvirt.slots.notices import (
    read_notices,
)
from fastlib.migfra.plugin_api.hypervisor import NodeContext
from fastlib.migfra.virt.migration_queue import Slot
from tests.support.libvirt.fake_domain import refusal
from tests.support.libvirt.slot_daemons import (
    ArrivingDomain,
    now,
)


@pytest.mark.parametrize(("seconds", "outcome"), [(10, "success"), (300, "b is away")])
def test_queued_migration_outlasts_a_restart_of_libvirt(run_scenario, seconds, outcome):
    async def scenario(daemons):
        daemons.add("a", "vm1")
        for name in ("x", "y"):
            daemons.hosts["b"].add(ArrivingDomain(name, 3, 2))
        task, _ = daemons.migrate("vm1", "a", "b")
        await asyncio.sleep(5)
        daemons.hosts["b"].is_there = False
        await asyncio.wait({task}, timeout=seconds)
        daemons.hosts["b"].is_there = True
        daemons.hosts["b"].domains.clear()
        if outcome == "success":
            assert not task.done()
            await task
        else:
            assert now() == pytest.approx(5 + AWAY_SECONDS, abs=3)
            with pytest.raises(HypervisorError, match=outcome):
                await task

    run_scenario(scenario)


def test_all_queued_migrations_wait_together_for_an_unreachable_host(run_scenario):
    async def scenario(daemons):
        names = [f"vm{number}" for number in range(20)]
        daemons.add("a", *names)
        for name in ("x", "y"):
            daemons.hosts["b"].add(ArrivingDomain(name, 3, 2))
        tasks = [daemons.migrate(name, "a", "b")[0] for name in names]
        await asyncio.sleep(5)
        daemons.hosts["b"].is_there = False
        await asyncio.wait(tasks)
        assert now() == pytest.approx(5 + AWAY_SECONDS, abs=5)
        assert all("b is away" in str(task.exception()) for task in tasks)
        daemons.hosts["b"].secrets.clear()  # they are ephemeral

    run_scenario(scenario)


def test_without_secrets_arrivals_are_counted(run_scenario):
    async def scenario(daemons):
        daemons.hosts["b"].refuses["secrets"] = refusal("NO_SUPPORT", "no secrets")
        daemons.hosts["a"].refuses["secrets"] = refusal("ACCESS_DENIED", "not permitted")
        daemons.add("a", "vm1", "vm2")
        daemons.hosts["b"].add(ArrivingDomain("x", 3, 2))
        first, _ = daemons.migrate("vm1", "a", "b")
        second, order = daemons.migrate("vm2", "a", "b")
        await asyncio.sleep(1)
        assert (daemons.begun, order.places) == (["vm1"], [1])
        del daemons.hosts["b"].domains["x"]
        await asyncio.gather(first, second)

    run_scenario(scenario)


def test_own_migrations_are_counted_where_secrets_may_be_read_alone(run_scenario):
    async def scenario(daemons):
        daemons.hosts["b"].refuses["define secret"] = refusal("ACCESS_DENIED", "not permitted")
        names = [f"vm{number}" for number in range(5)]
        daemons.add("a", *names)
        await asyncio.gather(*(daemons.migrate(name, "a", "b")[0] for name in names))
        assert daemons.most[("b", "incoming")] == 1
        assert now() == pytest.approx(50, abs=5)

    run_scenario(scenario, all={"incoming_migrations": 1, "outgoing_migrations": 4})


FAILURES = [("INTERNAL_ERROR", "out of luck"), ("SYSTEM_ERROR", "Too many open files")]


@pytest.mark.parametrize("where", ["secrets", "define secret"])
@pytest.mark.parametrize(("code", "text"), FAILURES)
def test_migration_is_refused_if_its_slot_cannot_be_counted(run_scenario, code, text, where):
    """Such an error does not mean that the host has no secrets."""

    async def scenario(daemons):
        daemons.add("a", "vm1")
        daemons.hosts["b"].refuses[where] = refusal(code, text)
        why = rf"vm1 did not migrate: .* b cannot be counted \(libvirt on b: {text}\); read"
        with pytest.raises(HypervisorError, match=why):
            await daemons.migrate("vm1", "a", "b")[0]
        assert daemons.begun == []
        del daemons.hosts["b"].refuses[where]
        await daemons.migrate("vm1", "a", "b")[0]
        assert daemons.begun == ["vm1"]

    run_scenario(scenario)


@pytest.mark.parametrize(("seconds", "outcome"), [(10, "success"), (300, "out of luck")])
@pytest.mark.parametrize("where", ["secrets", "define secret"])
def test_queued_migration_tries_again_if_its_slot_cannot_be_counted(
    run_scenario, seconds, outcome, where
):
    async def scenario(daemons):
        async with daemons.all_slots_taken():
            third, _ = daemons.migrate("vm3", "a", "b")
            await asyncio.sleep(9)
            daemons.hosts["b"].refuses[where] = refusal("INTERNAL_ERROR", "out of luck")
            await asyncio.wait({third}, timeout=seconds)
            daemons.hosts["b"].refuses.clear()
            if outcome == "success":
                assert not third.done()
                assert daemons.begun == ["vm1", "vm2"]
                await third
            else:
                assert now() == pytest.approx(10 + AWAY_SECONDS, abs=4)
                with pytest.raises(HypervisorError, match=outcome):
                    await third

    run_scenario(scenario)


@pytest.mark.parametrize("error", [None, *FAILURES])
def test_migration_that_continues_takes_its_slot_once_its_host_is_reachable(run_scenario, error):
    async def scenario(daemons):
        daemons.add("a", "vm1")
        notices = daemons.runtimes["a"].notices
        slot = Slot("b", "incoming")
        keeper = MigrationSlots(notices, frozenset({slot}), ["vm1"], None, None)
        host = daemons.hosts["b"]
        if error is None:
            host.is_there = False
        else:
            host.refuses["secrets"] = refusal(*error)
        await keeper.adopt()
        assert host.secrets == {}
        host.is_there = True
        host.refuses.clear()
        await asyncio.sleep(2 * RENEW_SECONDS)
        assert daemons.secrets == {"b": ["migfra incoming 1"]}
        await keeper.give_back()

    run_scenario(scenario)


def test_notice_that_cannot_be_renewed_is_reported_once_and_renewed_later(run_scenario, caplog):
    async def scenario(daemons):
        daemons.add("a", "vm1")
        keeper = MigrationSlots(
            daemons.runtimes["a"].notices, frozenset({Slot("b", "incoming")}), ["vm1"], None, None
        )
        host = daemons.hosts["b"]
        assert await keeper.take()
        host.refuses["define secret"] = refusal("INTERNAL_ERROR", "out of luck")
        await asyncio.sleep(3 * RENEW_SECONDS)
        warnings = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
        assert warnings == [
            "the migrations of other hosts are not counted exactly on b: its notices cannot be "
            "renewed: libvirt on b: out of luck"
        ]
        (before,) = read_notices(host).notices
        host.refuses.clear()
        await asyncio.sleep(RENEW_SECONDS)
        (after,) = read_notices(host).notices
        assert after.note.beat > before.note.beat
        await keeper.give_back()

    run_scenario(scenario)


def test_daemon_starts_although_its_limits_cannot_be_published(run_scenario, caplog):
    async def scenario(daemons):
        hypervisor = LibvirtHypervisor(LibvirtOptions(), NodeContext("b"))
        hypervisor._runtime = daemons.runtimes["b"]
        daemons.hosts["b"].refuses["secrets"] = refusal("INTERNAL_ERROR", "out of luck")
        await hypervisor.open()
        assert (
            "the limits of migrations are published with the next migration: libvirt on b: "
            "out of luck"
        ) in caplog.text
        daemons.hosts["b"].is_there = False
        with pytest.raises(HypervisorError, match="libvirt on b is away"):
            await hypervisor.open()

    run_scenario(scenario)


def test_migration_that_continues_counts_on_hosts_without_secrets(run_scenario):
    async def scenario(daemons):
        daemons.add("a", "vm1", "vm2")
        daemons.hosts["b"].refuses["secrets"] = refusal("NO_SUPPORT", "no secrets")
        notices = daemons.runtimes["a"].notices
        slot = Slot("b", "incoming")
        keeper = MigrationSlots(notices, frozenset({slot}), ["vm1"], None, None)
        await keeper.adopt()
        second, order = daemons.migrate("vm2", "a", "b")
        await asyncio.sleep(5)
        assert (daemons.begun, order.places) == ([], [1])
        await keeper.give_back()
        await second

    run_scenario(scenario, all={"incoming_migrations": 1})
