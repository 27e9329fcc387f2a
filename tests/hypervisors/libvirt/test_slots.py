"""The limits of migrations between daemons of several hosts, which share only libvirt."""

import asyncio
import itertools

import pytest

from fastlib import Stop, SwapWith
from fastlib.migfra import (
    HypervisorError,
    TaskCancelledError,
)
from fastlib.migfra.hypervisors.libvirt.migration import migration
from fastlib.migfra.hypervisors.libvirt.slots.keeper import (
    STALE_SECONDS,
)
from fastlib.migfra.hypervisors.libvirt.slots.notices import (
    Note,
    define_notice,
    images_of_others,
    read_notices,
    remove_notices,
    slot_notice,
)
from fastlib.migfra.hypervisors.libvirt.tasks.stop import stop
from tests.support.libvirt.fake_domain import SHUT_OFF, refusal
from tests.support.libvirt.slot_daemons import (
    ArrivingDomain,
    LeavingDomain,
    Order,
    now,
)


def test_evacuation_migrates_two_at_once(run_scenario):
    async def scenario(daemons):
        names = [f"vm{i}" for i in range(7)]
        daemons.add("a", *names)
        order = Order("a")
        results = await daemons.evacuate("a", "b", "c", order=order)
        assert results == dict.fromkeys(names, ("success", None))
        assert daemons.most[("a", "outgoing")] == 2
        assert sorted(order.places, reverse=True)[:1] == [5]
        assert now() == pytest.approx(40, abs=1)

    run_scenario(scenario)


def test_incoming_limit_holds_over_several_sources_which_take_turns(run_scenario):
    async def scenario(daemons):
        for host in "bcd":
            daemons.add(host, *(f"{host}{i}" for i in range(4)))
        results = await asyncio.gather(*(daemons.evacuate(host, "a") for host in "bcd"))
        for each in results:
            assert {status for status, _ in each.values()} == {"success"}
        assert daemons.most[("a", "incoming")] == 2
        sources = [name[0] for name in daemons.begun]
        for index in range(3, 12):
            counts = [sources[:index].count(source) for source in "bcd"]
            assert max(counts) - min(counts) <= 2, daemons.begun
        assert now() == pytest.approx(60, abs=8)

    run_scenario(scenario)


def test_notice_shows_the_images_of_its_migration_until_its_end(run_scenario):
    async def scenario(daemons):
        daemons.add("a", "vm1", "vm2")
        found = []

        def read():
            notices = read_notices(daemons.hosts["b"])
            found.append(images_of_others(notices, "c"))
            assert images_of_others(notices, "a") == []
            return found[-1]

        running = daemons.migrate("vm1", "a", "b")[0]
        other = daemons.migrate("vm2", "a", "b")[0]
        await asyncio.sleep(1)
        notices = daemons.runtimes["a"].notices
        assert read() == []
        await notices.announce_images("b", "vm1", ["/one"])
        await notices.announce_images("b", "vm1", ["/two"])
        await notices.announce_images("b", "vm9", ["/none"])
        assert read() == ["/one", "/two"]
        await asyncio.sleep(6)  # it has been renewed
        assert read() == ["/one", "/two"]
        daemons.hosts["b"].refuses["define secret"] = refusal("ACCESS_DENIED", "access denied")
        await notices.announce_images("b", "vm2", ["/three"])
        del daemons.hosts["b"].refuses["define secret"]
        assert read() == ["/one", "/two"]
        await asyncio.gather(running, other)
        assert read() == []
        assert notices.keepers == set()

    run_scenario(scenario)


def test_limit_of_the_destination_is_that_of_its_own_daemon(run_scenario):
    async def scenario(daemons):
        await daemons.publish("b")
        daemons.add("a", *(f"vm{i}" for i in range(4)))
        await daemons.evacuate("a", "b")
        assert daemons.most[("b", "incoming")] == 1
        assert daemons.most[("a", "outgoing")] == 1

    run_scenario(scenario, a={"outgoing_migrations": 4, "incoming_migrations": 4},
        b={"incoming_migrations": 1})  # fmt: skip


def test_two_hosts_that_evacuate_to_each_other_and_swap_do_not_wait_for_each_other(run_scenario):
    async def scenario(daemons):
        daemons.add("a", *(f"a{i}" for i in range(4)))
        daemons.add("b", *(f"b{i}" for i in range(4)))
        swaps = [
            daemons.migrate("a0", "a", "b", swap_with=SwapWith(vm_name="b0")),
            daemons.migrate("b1", "b", "a", swap_with=SwapWith(vm_name="a1")),
        ]
        single = [daemons.migrate("a2", "a", "b"), daemons.migrate("b2", "b", "a")]
        await asyncio.gather(*(task for task, _ in (*swaps, *single)))
        assert set(daemons.most.values()) <= {0, 1}
        assert set(daemons.hosts["a"].domains) == {"b0", "b1", "b2", "a3"}
        assert set(daemons.hosts["b"].domains) == {"a0", "a1", "a2", "b3"}
        assert now() == pytest.approx(30, abs=12)

    run_scenario(scenario, all={"outgoing_migrations": 1, "incoming_migrations": 1})


def test_waiting_order_is_cancelled_at_once_and_holds_nothing(run_scenario):
    async def scenario(daemons):
        async with daemons.all_slots_taken():
            third, order = daemons.migrate("vm3", "a", "b")
            await asyncio.sleep(1)
            assert order.places == [1]
            # The domain of an order that waits can be stopped, and the order is cancelled.
            await stop(daemons.runtimes["a"], Stop(vm_name="vm3", force=True), Order("a").context)
            assert now() == pytest.approx(1)
            order.cancellation.cancel()
            with pytest.raises(TaskCancelledError, match="cancelled"):
                await third
            assert now() == pytest.approx(1)

    run_scenario(scenario)


def test_domain_is_checked_again_after_the_wait(run_scenario):
    async def scenario(daemons):
        async with daemons.all_slots_taken():
            third, _ = daemons.migrate("vm3", "a", "b")
            await asyncio.sleep(1)
            daemons.hosts["a"].domains["vm3"].state_now = [SHUT_OFF, 1]
            with pytest.raises(HypervisorError, match="vm3 is shut off on a; start it first"):
                await third
            assert now() == pytest.approx(10)

    run_scenario(scenario)


def test_order_that_cannot_succeed_is_refused_before_it_waits(run_scenario):
    async def scenario(daemons):
        async with daemons.all_slots_taken():
            await asyncio.sleep(1)
            with pytest.raises(HypervisorError, match="there is no domain vm9 on a"):
                await daemons.migrate("vm9", "a", "b")[0]
            daemons.hosts["d"].is_there = False
            away = "vm3 did not migrate to d: libvirt on d is away"
            with pytest.raises(HypervisorError, match=away):
                await daemons.migrate("vm3", "a", "d")[0]
            assert now() == pytest.approx(1)

    run_scenario(scenario)


def test_offline_migration_does_not_wait(run_scenario):
    async def scenario(daemons):
        async with daemons.all_slots_taken():
            await asyncio.sleep(1)
            third, order = daemons.migrate("vm3", "a", "b", migration_type="offline")
            with pytest.raises(HypervisorError, match="vm3 is active on a, but only"):
                await third
            assert order.places == []

    run_scenario(scenario)


def test_timers_of_the_migration_begin_after_the_wait(run_scenario):
    async def scenario(daemons):
        async with daemons.all_slots_taken():
            order = Order("a")
            phases = order.progress
            await daemons.migrate("vm3", "a", "b", order)[0]
            assert now() == pytest.approx(20)
            names = [facts.phase for facts in phases]
            assert names.index("queued") < names.index("migrate")
            assert names[names.index("queued") + 1 :].count("check") == 1, "checked again"

    run_scenario(scenario)


def test_domain_that_arrives_by_other_means_counts(run_scenario):
    async def scenario(daemons):
        daemons.add("a", "vm1", "vm2")
        for name in ("x", "y"):
            daemons.hosts["b"].add(ArrivingDomain(name, 3, 2))
        task, order = daemons.migrate("vm1", "a", "b")
        await asyncio.sleep(5)
        assert daemons.begun == []
        assert order.places == [1]
        del daemons.hosts["b"].domains["x"]
        await task
        assert now() == pytest.approx(16, abs=1.1)
        del daemons.hosts["b"].domains["y"]

    run_scenario(scenario)


def test_daemon_that_died_keeps_no_slot(run_scenario):
    """Its notices on b are not renewed, and its domains do not arrive there."""

    async def scenario(daemons):
        daemons.add("a", "vm1")
        for number in (1, 2):
            note = Note(by="d", domains=(f"gone{number}",))
            assert define_notice(daemons.hosts["b"], slot_notice("incoming", number, note))
        task, _ = daemons.migrate("vm1", "a", "b")
        await task
        assert now() == pytest.approx(STALE_SECONDS + 10, abs=2)

    run_scenario(scenario)


def test_migration_that_continues_without_its_daemon_keeps_its_slot(run_scenario):
    async def scenario(daemons):
        daemons.add("a", "vm1")
        notices = []
        for number in (1, 2):
            daemons.hosts["b"].add(ArrivingDomain(f"on{number}", 3, 2))
            notice = slot_notice("incoming", number, Note(by="d", domains=(f"on{number}",)))
            define_notice(daemons.hosts["b"], notice)
            notices.append(notice)
        task, _ = daemons.migrate("vm1", "a", "b")
        await asyncio.sleep(10 * STALE_SECONDS)
        assert daemons.begun == []
        daemons.hosts["b"].domains.clear()
        await task
        remove_notices(daemons.hosts["b"], [notices[1].uuid])

    run_scenario(scenario)


def test_own_notices_of_an_earlier_run_are_removed_at_once(run_scenario):
    async def scenario(daemons):
        daemons.add("a", "vm1")
        for number in (1, 2):
            note = Note(by="a", domains=(f"gone{number}",))
            define_notice(daemons.hosts["b"], slot_notice("incoming", number, note))
        await daemons.migrate("vm1", "a", "b")[0]
        assert now() == pytest.approx(10, abs=1.1)

    run_scenario(scenario)


def test_notices_are_renewed_while_a_migration_takes_long(run_scenario, monkeypatch):
    async def scenario(daemons):
        daemons.add("a", "vm1")
        daemons.add("c", "vm2")

        async def long(runtime, spec, arguments, scope, context, *more):
            daemons.begun.append(spec.name)
            await asyncio.sleep(200)
            domain = daemons.hosts[spec.source].domains.pop(spec.name)
            daemons.hosts[spec.destination].add(domain)

        monkeypatch.setattr(migration, "run_migration", long)
        first, _ = daemons.migrate("vm1", "a", "b")
        second, _ = daemons.migrate("vm2", "c", "b")
        await asyncio.sleep(150)
        assert daemons.begun == ["vm1"], "nothing else shows that it still runs"
        await asyncio.gather(first, second)
        assert now() == pytest.approx(400, abs=2)

    run_scenario(scenario, all={"incoming_migrations": 1})


def test_broken_post_copy_keeps_no_slot(run_scenario):
    """libvirt keeps the job on the destination until an operator resumes or ends the migration."""

    async def scenario(daemons):
        daemons.add("a", "vm1")
        for number, state in enumerate([(1, 11), (3, 13)], 1):
            daemons.hosts["b"].add(ArrivingDomain(f"broken{number}", *state))
            note = Note(by="d", domains=(f"broken{number}",))
            define_notice(daemons.hosts["b"], slot_notice("incoming", number, note))
        await daemons.migrate("vm1", "a", "b")[0]
        assert now() == pytest.approx(STALE_SECONDS + 10, abs=2)

    run_scenario(scenario)


def test_limit_holds_although_a_domain_leaves_while_notices_are_read(run_scenario):
    """Its name is in a notice, and it leaves while its job is queried."""

    async def scenario(daemons):
        daemons.add("a", "vm1")
        for number in (1, 2):
            daemons.hosts["b"].add(LeavingDomain(f"gone{number}"))
            note = Note(by="c", domains=(f"gone{number}",))
            define_notice(daemons.hosts["b"], slot_notice("incoming", number, note))
        task, order = daemons.migrate("vm1", "a", "b")
        await asyncio.sleep(5)
        assert (daemons.begun, order.places) == ([], [1])
        await task

    run_scenario(scenario)


def test_daemons_start_with_any_limits_at_any_time(run_scenario):
    """In every order of events, at most the limit arrives at once, and all domains arrive."""

    async def scenario(daemons):
        names = {}
        for host, count in zip("bcd", (5, 3, 4), strict=True):
            names[host] = [f"{host}{i}" for i in range(count)]
            for index, name in enumerate(names[host]):
                daemons.add(host, name, memory=1 << (4 * index))
        tasks = []
        for delay, (host, name) in enumerate(
            itertools.chain.from_iterable(
                zip(itertools.repeat(host), each, strict=False) for host, each in names.items()
            )
        ):
            tasks.append(daemons.migrate(name, host, "a")[0])
            await asyncio.sleep(delay % 4 * 0.7)
        await asyncio.gather(*tasks)
        assert daemons.most[("a", "incoming")] == 3
        assert max(daemons.most[(host, "outgoing")] for host in "bcd") == 2

    run_scenario(scenario, all={"incoming_migrations": 3})
