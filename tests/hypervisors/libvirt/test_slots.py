"""The limits of migrations between daemons of several hosts, which share libvirt alone.

The hosts are fakes (see fake_libvirt.py) and time is virtual.
"""

import asyncio
import itertools
from contextlib import asynccontextmanager

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastlib import Evacuate, EvacuateParameter, Migrate, MigrateParameter, Stop, SwapWith
from fastlib.migfra import (
    Context,
    DaemonServices,
    HypervisorError,
    TaskCancelledError,
    TaskExpiredError,
)
from fastlib.migfra.hypervisors.libvirt import LibvirtHypervisor, LibvirtOptions
from fastlib.migfra.hypervisors.libvirt.migration import migration
from fastlib.migfra.hypervisors.libvirt.migration.record import MigrationState
from fastlib.migfra.hypervisors.libvirt.runtime import LibvirtRuntime
from fastlib.migfra.hypervisors.libvirt.slots.keeper import (
    AWAY_SECONDS,
    RENEW_SECONDS,
    STALE_SECONDS,
    MigrationSlots,
)
from fastlib.migfra.hypervisors.libvirt.slots.notices import (
    HostNotices,
    Note,
    define_notice,
    free_slot,
    lowest_free,
    next_ticket,
    publish_limits,
    read_notices,
    remove_notices,
    slot_notice,
    ticket_notice,
)
from fastlib.migfra.hypervisors.libvirt.tasks.evacuation import evacuate
from fastlib.migfra.hypervisors.libvirt.tasks.migrate import migrate
from fastlib.migfra.hypervisors.libvirt.tasks.recovery import recover
from fastlib.migfra.hypervisors.libvirt.tasks.stop import stop
from fastlib.migfra.hypervisors.simulated import run_virtual
from fastlib.migfra.plugin_api.cancellation import Cancellation
from fastlib.migfra.plugin_api.expiry import Expiry
from fastlib.migfra.plugin_api.hypervisor import NodeContext
from fastlib.migfra.virt.migration_queue import Slot
from tests.support.clock import LoopClock
from tests.support.libvirt.fake_libvirt import (
    RUNNING,
    SHUT_OFF,
    FakeConnectionPool,
    FakeDomain,
    FakeHost,
    refusal,
)

HOSTS = ("a", "b", "c", "d")


class ArrivingDomain(FakeDomain):
    """A domain on the destination of its migration."""

    def jobInfo(self):
        raise refusal("OPERATION_UNSUPPORTED", "only the source has figures")


class LeavingDomain(FakeDomain):
    """A domain that is gone when its job is asked for."""

    def jobInfo(self):
        raise refusal("NO_DOMAIN", "Domain not found: no domain with matching name")


class Order:
    """An order that was sent to a host."""

    def __init__(self, host, saved=None, *, expires=None, begun=False):
        """`expires` is a time of the loop, `begun` an order that an earlier run has begun."""
        self.cancellation = Cancellation()
        self.progress = []
        self.context = Context(
            host,
            cancellation=self.cancellation,
            expiry=Expiry(expires, clock=LoopClock(), begun=begun),
            saved_state=saved,
            services=DaemonServices(report=self.progress.append),
        )

    @property
    def places(self):
        """The places in the queue that were reported."""
        return [facts.position for facts in self.progress if facts.phase == "queued"]


class Daemons:
    """Four hosts with a daemon each, and what migrates between them."""

    def __init__(self, **options):
        self.calls = []
        self.hosts = {name: FakeHost(name, self.calls.append) for name in HOSTS}
        for number, host in enumerate(self.hosts.values()):
            host.set_host_uuid(f"0000000{number}-0000-4000-8000-00000000000{number}")
            host.free = 1 << 30
        self.options = options
        self.runtimes = {}
        for name in HOSTS:
            self.start_daemon(name)
        self.moving = {}
        """Source and destination of each domain that moves now."""
        self.begun = []
        """The domains whose migrations began, in order."""
        self.most = {}
        """The most migrations at once, by host and direction."""

    def start_daemon(self, name):
        """Start the daemon of a host, also again after a crash."""
        options = LibvirtOptions(**{**self.options.get("all", {}), **self.options.get(name, {})})
        runtime = LibvirtRuntime(options, NodeContext(name))
        connections = FakeConnectionPool(name, options, runtime.node.log)
        connections.hosts = self.hosts
        runtime.connections = connections
        self.runtimes[name] = runtime

    async def publish(self, name):
        """Publish the limits of a host, as its daemon does at its start."""
        await self.runtimes[name].notices.publish(await self.runtimes[name].local())

    def add(self, host, *names, memory=1024):
        for name in names:
            domain = self.hosts[host].add(FakeDomain(name))
            domain.memory = memory
            domain.uuid = f"6695eb01-f6a4-8304-79aa-{name.encode().hex():0>12}"

    async def run_migration(self, runtime, spec, arguments, scope, context, *more):
        """Move a domain in ten seconds."""
        self.begun.append(spec.name)
        source, destination = self.hosts[spec.source], self.hosts[spec.destination]
        domain = source.domains[spec.name]
        copy = destination.add(ArrivingDomain(spec.name, 3, 2))
        copy.uuid = domain.uuid
        domain.job = {}
        self.moving[spec.name] = (spec.source, spec.destination)
        for index, direction in enumerate(("outgoing", "incoming")):
            for host in HOSTS:
                now = sum(way[index] == host for way in self.moving.values())
                key = (host, direction)
                self.most[key] = max(now, self.most.get(key, 0))
        try:
            await scope.sleep(10.0)
        except TaskCancelledError:
            domain.job = None
            del destination.domains[spec.name]
            raise
        finally:
            del self.moving[spec.name]
        domain.job = None
        del source.domains[spec.name]
        del destination.domains[spec.name]
        destination.add(domain)

    def migrate(self, name, source, destination, order=None, **parameter):
        """Order a migration; a task and its order."""
        order = order or Order(source)
        task = Migrate(
            vm_name=name,
            destination=destination,
            parameter=MigrateParameter(**{"migration_type": "live", **parameter}),
        )
        return asyncio.ensure_future(migrate(self.runtimes[source], task, order.context)), order

    @asynccontextmanager
    async def all_slots_taken(self):
        """Let vm1 and vm2 migrate from a to b, where no third migration begins before they end.

        vm3 is on a, too.
        """
        self.add("a", "vm1", "vm2", "vm3")
        both = [self.migrate(name, "a", "b")[0] for name in ("vm1", "vm2")]
        yield
        await asyncio.gather(*both)

    async def evacuate(self, source, *destinations, order=None, **parameter):
        task = Evacuate(
            destinations=destinations,
            parameter=EvacuateParameter(**{"migration_type": "live", **parameter}),
        )
        order = order or Order(source)
        results = await evacuate(self.runtimes[source], task, order.context)
        return {result.vm_name: (result.status, result.details) for result in results}

    @property
    def secrets(self):
        """The usages of the secrets that hold or await a slot, by host."""
        return {
            name: usages
            for name, host in self.hosts.items()
            if (
                usages := sorted(
                    each.usageID() for each in host.secrets.values()
                    if each.usageID() != "migfra limits"
                )
            )
        }  # fmt: skip


@pytest.fixture
def run(monkeypatch):
    def run(scenario, **options):
        async def main():
            daemons = Daemons(**options)
            monkeypatch.setattr(migration, "run_migration", daemons.run_migration)
            async with asyncio.timeout(10_000):
                await scenario(daemons)
                await asyncio.sleep(1)  # what is given back in the background
            assert daemons.secrets == {}

        run_virtual(main())

    return run


def now():
    return asyncio.get_running_loop().time()


def test_evacuation_migrates_two_at_once(run):
    async def scenario(daemons):
        names = [f"vm{i}" for i in range(7)]
        daemons.add("a", *names)
        order = Order("a")
        results = await daemons.evacuate("a", "b", "c", order=order)
        assert results == dict.fromkeys(names, ("success", None))
        assert daemons.most[("a", "outgoing")] == 2
        assert sorted(order.places, reverse=True)[:1] == [5]
        assert now() == pytest.approx(40, abs=1)

    run(scenario)


def test_incoming_limit_holds_over_several_sources_which_take_turns(run):
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

    run(scenario)


def test_limit_of_the_destination_is_that_of_its_own_daemon(run):
    async def scenario(daemons):
        await daemons.publish("b")
        daemons.add("a", *(f"vm{i}" for i in range(4)))
        await daemons.evacuate("a", "b")
        assert daemons.most[("b", "incoming")] == 1
        assert daemons.most[("a", "outgoing")] == 1

    run(scenario, a={"outgoing_migrations": 4, "incoming_migrations": 4},
        b={"incoming_migrations": 1})  # fmt: skip


def test_two_hosts_that_evacuate_to_each_other_and_swap_do_not_wait_for_each_other(run):
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

    run(scenario, all={"outgoing_migrations": 1, "incoming_migrations": 1})


def test_waiting_order_is_cancelled_at_once_and_holds_nothing(run):
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

    run(scenario)


def test_domain_is_checked_again_after_the_wait(run):
    async def scenario(daemons):
        async with daemons.all_slots_taken():
            third, _ = daemons.migrate("vm3", "a", "b")
            await asyncio.sleep(1)
            daemons.hosts["a"].domains["vm3"].state_now = [SHUT_OFF, 1]
            with pytest.raises(HypervisorError, match="vm3 is shut off on a; start it first"):
                await third
            assert now() == pytest.approx(10)

    run(scenario)


def test_order_that_cannot_succeed_is_refused_before_it_waits(run):
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

    run(scenario)


def test_offline_migration_does_not_wait(run):
    async def scenario(daemons):
        async with daemons.all_slots_taken():
            await asyncio.sleep(1)
            third, order = daemons.migrate("vm3", "a", "b", migration_type="offline")
            with pytest.raises(HypervisorError, match="vm3 is active on a, but only"):
                await third
            assert order.places == []

    run(scenario)


def test_timers_of_the_migration_begin_after_the_wait(run):
    async def scenario(daemons):
        async with daemons.all_slots_taken():
            order = Order("a")
            phases = order.progress
            await daemons.migrate("vm3", "a", "b", order)[0]
            assert now() == pytest.approx(20)
            names = [facts.phase for facts in phases]
            assert names.index("queued") < names.index("migrate")
            assert names[names.index("queued") + 1 :].count("check") == 1, "checked again"

    run(scenario)


def test_domain_that_arrives_by_other_means_counts(run):
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

    run(scenario)


def test_daemon_that_died_keeps_no_slot(run):
    """Its notices on b are not renewed, and its domains do not arrive there."""

    async def scenario(daemons):
        daemons.add("a", "vm1")
        for number in (1, 2):
            note = Note(by="d", domains=(f"gone{number}",))
            assert define_notice(daemons.hosts["b"], slot_notice("incoming", number, note))
        task, _ = daemons.migrate("vm1", "a", "b")
        await task
        assert now() == pytest.approx(STALE_SECONDS + 10, abs=2)

    run(scenario)


def test_migration_that_goes_on_without_its_daemon_keeps_its_slot(run):
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

    run(scenario)


def test_own_notices_of_an_earlier_run_are_removed_at_once(run):
    async def scenario(daemons):
        daemons.add("a", "vm1")
        for number in (1, 2):
            note = Note(by="a", domains=(f"gone{number}",))
            define_notice(daemons.hosts["b"], slot_notice("incoming", number, note))
        await daemons.migrate("vm1", "a", "b")[0]
        assert now() == pytest.approx(10, abs=1.1)

    run(scenario)


def test_notices_are_renewed_while_a_migration_takes_long(run, monkeypatch):
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

    run(scenario, all={"incoming_migrations": 1})


def test_broken_post_copy_keeps_no_slot(run):
    """libvirt keeps the job on the destination until somebody resumes or ends the migration."""

    async def scenario(daemons):
        daemons.add("a", "vm1")
        for number, state in enumerate([(1, 11), (3, 13)], 1):
            daemons.hosts["b"].add(ArrivingDomain(f"broken{number}", *state))
            note = Note(by="d", domains=(f"broken{number}",))
            define_notice(daemons.hosts["b"], slot_notice("incoming", number, note))
        await daemons.migrate("vm1", "a", "b")[0]
        assert now() == pytest.approx(STALE_SECONDS + 10, abs=2)

    run(scenario)


def test_limit_holds_although_a_domain_leaves_while_notices_are_read(run):
    """Its name is in a notice, and its job is asked for in the moment in which it goes."""

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

    run(scenario)


@pytest.mark.parametrize(("seconds", "outcome"), [(10, "success"), (300, "b is away")])
def test_queued_migration_outlasts_a_restart_of_libvirt(run, seconds, outcome):
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

    run(scenario)


def test_all_queued_migrations_wait_together_for_a_host_that_is_away(run):
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

    run(scenario)


def test_without_secrets_arrivals_are_counted(run):
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

    run(scenario)


def test_own_migrations_are_counted_where_secrets_may_be_read_alone(run):
    async def scenario(daemons):
        daemons.hosts["b"].refuses["define secret"] = refusal("ACCESS_DENIED", "not permitted")
        names = [f"vm{number}" for number in range(5)]
        daemons.add("a", *names)
        await asyncio.gather(*(daemons.migrate(name, "a", "b")[0] for name in names))
        assert daemons.most[("b", "incoming")] == 1
        assert now() == pytest.approx(50, abs=5)

    run(scenario, all={"incoming_migrations": 1, "outgoing_migrations": 4})


FAILURES = [("INTERNAL_ERROR", "out of luck"), ("SYSTEM_ERROR", "Too many open files")]


@pytest.mark.parametrize("where", ["secrets", "define secret"])
@pytest.mark.parametrize(("code", "text"), FAILURES)
def test_migration_is_refused_if_its_slot_cannot_be_counted(run, code, text, where):
    """Such an error does not mean that the host has no secrets."""

    async def scenario(daemons):
        daemons.add("a", "vm1")
        daemons.hosts["b"].refuses[where] = refusal(code, text)
        why = rf"vm1 did not migrate: .* b cannot be counted \(libvirt on b: {text}\); look"
        with pytest.raises(HypervisorError, match=why):
            await daemons.migrate("vm1", "a", "b")[0]
        assert daemons.begun == []
        del daemons.hosts["b"].refuses[where]
        await daemons.migrate("vm1", "a", "b")[0]
        assert daemons.begun == ["vm1"]

    run(scenario)


@pytest.mark.parametrize(("seconds", "outcome"), [(10, "success"), (300, "out of luck")])
@pytest.mark.parametrize("where", ["secrets", "define secret"])
def test_queued_migration_tries_again_if_its_slot_cannot_be_counted(run, seconds, outcome, where):
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

    run(scenario)


@pytest.mark.parametrize("error", [None, *FAILURES])
def test_migration_that_goes_on_takes_its_slot_once_its_host_can_be_asked(run, error):
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

    run(scenario)


def test_notice_that_cannot_be_renewed_is_reported_once_and_renewed_later(run, caplog):
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

    run(scenario)


def test_daemon_starts_although_its_limits_cannot_be_published(run, caplog):
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

    run(scenario)


def test_migration_that_goes_on_counts_where_there_are_no_secrets(run):
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

    run(scenario, all={"incoming_migrations": 1})


def test_queued_migration_goes_on_after_a_restart(run):
    async def scenario(daemons):
        daemons.add("a", "vm1")
        task = Migrate(
            vm_name="vm1", destination="b", parameter=MigrateParameter(migration_type="live")
        )
        order = Order("a", saved={"queued": True})
        assert await recover(daemons.runtimes["a"], task, order.context) is None
        assert "vm1" in daemons.hosts["b"].domains

    run(scenario)


def test_queued_part_of_an_evacuation_goes_on_after_a_restart(run):
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

    run(scenario)


def test_migration_that_goes_on_after_a_restart_counts(run):
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
        assert await recovering == "found done after the daemon's restart"
        await second

    run(scenario, all={"outgoing_migrations": 1, "incoming_migrations": 1})


def test_daemons_start_with_any_limits_at_any_time(run):
    """No order of events lets more than the limit arrive, and everything arrives."""

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

    run(scenario, all={"incoming_migrations": 3})


# The notices


@pytest.fixture
def host():
    return FakeHost("b", lambda _: None)


def test_slot_is_defined_once(host):
    one = slot_notice("incoming", 1, Note(by="a", domains=("vm1",)))
    other = slot_notice("incoming", 1, Note(by="c", domains=("vm2",)))
    assert define_notice(host, one)
    assert not define_notice(host, other)
    renewed = msgspec.structs.replace(one, note=msgspec.structs.replace(one.note, beat=7))
    assert define_notice(host, renewed)
    assert read_notices(host).notices == (renewed,)
    remove_notices(host, [other.uuid, one.uuid, one.uuid])
    assert define_notice(host, other)


def test_other_errors_of_a_definition_are_raised(host):
    host.refuses["secrets"] = refusal("ACCESS_DENIED", "not permitted")
    with pytest.raises(type(host.refuses["secrets"])):
        define_notice(host, slot_notice("incoming", 1, Note(by="a")))


def test_notice_is_defined_again_if_the_other_one_was_removed_meanwhile(host, monkeypatch):
    other = slot_notice("incoming", 1, Note(by="c"))
    define_notice(host, other)
    look_up = host.secretLookupByUsage

    def too_late(kind, usage):
        host.secrets.clear()
        return look_up(kind, usage)

    monkeypatch.setattr(host, "secretLookupByUsage", too_late)
    own = slot_notice("incoming", 1, Note(by="a"))
    assert define_notice(host, own)
    assert list(host.secrets) == [own.uuid]


def test_limits_are_published_although_their_notice_was_removed_meanwhile(host, monkeypatch):
    publish_limits(host, "b", {"outgoing": 2, "incoming": 2})
    (secret,) = host.secrets.values()

    def gone(flags=0):
        host.secrets.clear()
        raise refusal("NO_SECRET", "no secret with matching uuid")

    monkeypatch.setattr(secret, "XMLDesc", gone)
    publish_limits(host, "b", {"outgoing": 2, "incoming": 5})
    assert read_notices(host).limit("incoming") == 5


def test_arrivals_are_read_without_the_permission_for_secrets(host):
    host.add(ArrivingDomain("x", 3, 2))
    host.refuses["secrets"] = refusal("ACCESS_DENIED", "not permitted")
    found = read_notices(host)
    assert (found.without_secrets, found.arriving) == ("not permitted", {"x"})
    host.refuses["secrets"] = refusal("INTERNAL_ERROR", "out of luck")
    with pytest.raises(type(host.refuses["secrets"])):
        read_notices(host)


def test_secrets_of_others_are_left_alone(host):
    xml = (
        "<secret><uuid>6695eb01-f6a4-8304-79aa-97f2502e193f</uuid><description>{}</description>"
        "<usage type='ceph'><name>{}</name></usage></secret>"
    )
    host.secretDefineXML(xml.format("a disk", "client.admin"))
    assert read_notices(host).notices == ()
    host.secrets.clear()
    host.secretDefineXML(xml.format("by hand", "migfra incoming 2"))
    (notice,) = read_notices(host).notices
    assert (notice.number, notice.note) == (2, Note(by=""))


def test_limits_are_published_once_and_changed(host):
    for incoming in (2, 2, 5):
        publish_limits(host, "b", {"outgoing": 2, "incoming": incoming})
        assert len(host.secrets) == 1
        assert read_notices(host).limit("incoming") == incoming
    assert HostNotices().limit("incoming") is None


def notices_of(slots, tickets, arriving=()):
    notices = [slot_notice("incoming", number, Note(by="x", domains=(name,)))
               for number, name in slots]  # fmt: skip
    notices += [ticket_notice("incoming", number, Note(by=by)) for number, by in tickets]
    return HostNotices(notices=tuple(notices), arriving=frozenset(arriving))


@pytest.mark.parametrize(
    ("slots", "tickets", "arriving", "ticket", "expected"),
    [
        ([], [], [], None, (1, False)),
        ([(1, "vm1")], [], [], None, (2, False)),
        ([(2, "vm1")], [], ["vm1"], None, (1, False)),
        ([(1, "vm1")], [], ["vm1", "by hand"], None, (None, False)),
        ([(1, "vm1"), (2, "vm2")], [], [], None, (None, False)),
        ([(1, "vm1"), (5, "vm2")], [], [], None, (None, False)),
        ([(1, "vm1")], [(1, "c")], [], None, (None, True)),
        ([], [(1, "c")], [], None, (1, False)),
        ([], [(1, "c"), (2, "d")], [], None, (None, True)),
        ([(1, "vm1")], [(1, "c"), (2, "a")], [], 2, (None, True)),
        ([(1, "vm1")], [(3, "c"), (2, "a")], [], 2, (2, False)),
        ([(1, "vm1")], [(1, "a")], [], None, (2, False)),
    ],
)
def test_slot_is_free_for_the_next_daemon(slots, tickets, arriving, ticket, expected):
    found = notices_of(slots, tickets, arriving)
    taken = free_slot(found, "incoming", 2, by="a", stale=(), ticket=ticket, ignore_tickets=False)
    assert taken == expected


@given(st.sets(st.integers(1, 9)), st.sets(st.integers(1, 9)), st.integers(1, 5))
def test_slots_above_the_limit_are_never_given_out(slots, tickets, limit):
    found = notices_of([(n, f"vm{n}") for n in slots], [(n, "c") for n in tickets])
    number, waits = free_slot(
        found, "incoming", limit, by="a", stale=(), ticket=None, ignore_tickets=False
    )
    if number is not None:
        assert number not in slots
        assert len(slots) < limit
        assert not waits
    else:
        assert waits == (len(slots) < limit)
    stale = {notice.uuid for notice in found.notices}
    free = free_slot(found, "incoming", limit, by="a", stale=stale, ticket=None,
                     ignore_tickets=False)  # fmt: skip
    assert free == (1, False)
    assert next_ticket(found, "incoming") > max(tickets, default=0)
    assert lowest_free(slots) not in slots


# Expiry


def test_migration_expires_in_the_queue_and_not_once_it_has_begun(run):
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

    run(scenario, all={"outgoing_migrations": 1})


def test_swap_expires_in_the_queue(run):
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

    run(scenario, all={"outgoing_migrations": 1})


def test_evacuation_expires_only_as_long_as_none_of_its_domains_has_begun(run):
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

    run(scenario, all={"outgoing_migrations": 1})


@pytest.mark.parametrize("begun", [True, False])
def test_migration_that_only_waited_before_a_restart_expires(run, begun):
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

    run(scenario)


def test_recovered_evacuation_that_only_waited_expires(run):
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

    run(scenario)
