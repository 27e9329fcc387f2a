"""Migrations that a silent host has left to be decided: the answer, the journal, and the end.

The hosts are fakes (see fake_libvirt.py) and time is virtual.
`tests/laboratory/test_silent_destination.py` has real ones.
"""

import asyncio
import itertools
from concurrent.futures import Future

import pytest

from fastlib import Migrate, MigrateParameter, Stop
from fastlib.message.node import UnsettledReport
from fastlib.migfra import Context, FinalError, HypervisorError
from fastlib.migfra.hypervisors.libvirt.domain.snapshots import SnapshotRecord
from fastlib.migfra.hypervisors.libvirt.domain.volumes import Image
from fastlib.migfra.hypervisors.libvirt.errors import ArrivedError
from fastlib.migfra.hypervisors.libvirt.migration import disks_copy, migration, unsettled
from fastlib.migfra.hypervisors.libvirt.migration.record import DiskCopy, MigrationState
from fastlib.migfra.hypervisors.libvirt.migration.settling import Settler, settle_first
from fastlib.migfra.hypervisors.libvirt.migration.unsettled import (
    UnsettledMigration,
    UnsettledMigrations,
)
from fastlib.migfra.hypervisors.libvirt.tasks.migrate import migrate
from fastlib.migfra.hypervisors.libvirt.tasks.stop import stop
from fastlib.migfra.plugin_api.hypervisor import NodeContext
from tests.support.libvirt.fake_domain import PAUSED, RUNNING, SHUT_OFF, UUID, FakeDomain
from tests.support.libvirt.fake_libvirt import FakeHosts
from tests.support.libvirt.orders import migration_of, spec_of
from tests.support.virtual_time import run_bounded

LATER = "once node02 answers, the daemon"
DISK = DiskCopy(target="vda", image=Image(path="/images/a", format="raw", capacity=1), created=True)
LEFT = ["/images/a if it is unneeded"]
"""The images that are removed later."""


class Unsettled(FakeHosts):
    """Two hosts, of which one is silent when a migration of vm1 ends."""

    def __init__(self, monkeypatch):
        super().__init__()
        self.removed = []
        """The images that were removed on the destination."""
        self.journal = {}
        """The node's state in the journal."""
        monkeypatch.setattr(disks_copy, "remove_image", self._remove)
        monkeypatch.setattr(disks_copy, "remove_left_image", self._remove_left)
        self.runtime.node.keep_state({}, self._store)

    def _remove(self, connection, path):
        assert connection is self.destination
        self.removed.append(path)

    def _remove_left(self, connection, image):
        self._remove(connection, f"{image.path} if it is unneeded")

    def _store(self, state):
        self.journal = state
        stored = Future()
        stored.set_result(None)
        return stored

    def migration(self, *, disks=(DISK,), **state):
        """A migration of vm1 whose call has failed."""
        found = migration_of(self, spec_of(migration_type="live"))
        given = {"phase": "move", "uuid": UUID, "source": "node01", "destination": "node02"}
        given = {"arrives_paused": True, **given, **state}
        found.record.state = MigrationState(disks=disks, **given)
        return found

    async def fail(self, *, kind=HypervisorError, **state):
        """Return the text of the error with which a migration ends."""
        return str(await self.migration(**state).undo_after(kind("it broke")))

    def there(self, state, reason, *, vcpu_ns=0):
        """Put a copy on the destination."""
        copy = self.destination.add(FakeDomain("vm1", state, reason))
        copy.vcpu_ns = vcpu_ns
        return copy

    @property
    def entries(self):
        """The ends of the unsettled migrations."""
        return [entry.end for entry in self.runtime.unsettled.entries]

    async def settled(self, seconds=100.0):
        """Let the background work run until all is settled. Raises TimeoutError."""
        settler = Settler(self.runtime)
        settler.begin()
        try:
            async with asyncio.timeout(seconds):
                while self.entries:
                    await asyncio.sleep(0.1)
        finally:
            await settler.end()


@pytest.fixture
def run(monkeypatch):
    """Run a scenario."""
    return lambda scenario: run_bounded(scenario(Unsettled(monkeypatch)))


def resumed(hosts):
    """Let libvirt have resumed the source, because it treated the migration as failed."""
    hosts.domain.state_now = [RUNNING, 6]


def test_answer_says_what_the_daemon_does_later(run):
    async def scenario(hosts):
        resumed(hosts)
        hosts.destination.is_there = False
        text = await hosts.fail()
        assert text == (
            "vm1 did not migrate to node02: it broke; vm1 runs on node01; a paused copy that has "
            f"never run may be on node02, which cannot be queried; {LATER} removes it; the "
            "unfinished copy /images/a of disk vda may have stayed on node02 (libvirt on node02 is "
            "away); the daemon removes it once node02 answers"
        )
        assert hosts.entries == ["stayed"]
        (entry,) = hosts.runtime.unsettled.entries
        assert entry.report == UnsettledReport(
            vm_name="vm1", source="node01", destination="node02", since=entry.since
        )

    run(scenario)


def test_nothing_is_unsettled_when_both_hosts_answer(run):
    async def scenario(hosts):
        await hosts.fail()
        assert (hosts.entries, hosts.journal) == ([], {})
        assert hosts.removed == ["/images/a"]

    run(scenario)


@pytest.mark.parametrize("reason", [1, 2, 11])
def test_copy_that_never_ran_is_removed_with_definition_and_images(run, reason):
    async def scenario(hosts):
        resumed(hosts)
        hosts.destination.is_there = False
        await hosts.fail()
        hosts.there(PAUSED, reason)
        hosts.destination.is_there = True
        await hosts.settled()
        assert "vm1" not in hosts.destination.domains
        assert hosts.removed == LEFT
        assert hosts.domain.state_now == [RUNNING, 6]
        assert hosts.journal == {"unsettled": []}

    run(scenario)


def test_definition_that_was_there_before_stays(run):
    async def scenario(hosts):
        resumed(hosts)
        hosts.destination.is_there = False
        await hosts.fail(known_on_destination=True)
        hosts.there(SHUT_OFF, 1)
        hosts.destination.is_there = True
        await hosts.settled()
        assert "vm1" in hosts.destination.domains
        assert hosts.removed == LEFT

    run(scenario)


def test_copy_of_a_domain_without_copied_disks_is_removed_too(run):
    async def scenario(hosts):
        resumed(hosts)
        hosts.destination.is_there = False
        await hosts.fail(disks=(), known_on_destination=True)
        assert hosts.entries == ["stayed"]
        copy = hosts.there(PAUSED, 1)
        hosts.destination.is_there = True
        await hosts.settled()
        assert copy.state_now[0] == SHUT_OFF

    run(scenario)


def test_copy_that_runs_is_paused_and_keeps_its_images(run, caplog):
    async def scenario(hosts):
        resumed(hosts)
        hosts.destination.is_there = False
        await hosts.fail(arrives_paused=False)
        copy = hosts.there(RUNNING, 2, vcpu_ns=1 << 30)
        hosts.destination.is_there = True
        await hosts.settled()
        assert copy.state_now[0] == PAUSED
        assert hosts.domain.state_now == [RUNNING, 6]
        assert hosts.removed == []
        assert "node02: destroy" not in hosts.calls
        assert "destroy it there with virsh destroy vm1 once nothing of it is needed" in caplog.text

    run(scenario)


def test_domain_that_has_migrated_since_is_not_touched(run):
    async def scenario(hosts):
        resumed(hosts)
        hosts.destination.is_there = False
        await hosts.fail()
        hosts.destination.is_there = True
        hosts.destination.add(hosts.source.domains.pop("vm1"))
        hosts.domain.state_now = [RUNNING, 2]
        before = list(hosts.calls)
        await hosts.settled()
        assert hosts.domain.state_now == [RUNNING, 2]
        assert (hosts.calls, hosts.removed) == (before, [])

    run(scenario)


def test_destination_is_queried_less_and_less_often_while_it_is_silent(run, monkeypatch):
    async def scenario(hosts):
        resumed(hosts)
        hosts.destination.is_there = False
        await hosts.fail()
        loop, times = asyncio.get_running_loop(), []

        async def get(host, *arguments, get=hosts.runtime.connections.get):
            if host == "node02":
                times.append(loop.time())
            return await get(host, *arguments)

        monkeypatch.setattr(hosts.runtime.connections, "get", get)
        with pytest.raises(TimeoutError):
            await hosts.settled(seconds=600)
        pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert pauses[0] == pytest.approx(1, abs=0.1)
        assert all(later > earlier - 0.1 for earlier, later in itertools.pairwise(pauses))
        assert pauses[-1] == pytest.approx(30, abs=0.1)
        hosts.destination.is_there = True
        await hosts.settled(seconds=31)

    run(scenario)


def test_next_run_of_the_daemon_reads_the_journal(run):
    async def scenario(hosts):
        resumed(hosts)
        hosts.destination.is_there = False
        await hosts.fail()
        node = NodeContext("node01")
        node.keep_state(hosts.journal, lambda state: None)
        again = UnsettledMigrations(node)
        again.load()
        assert again.entries == hosts.runtime.unsettled.entries
        assert list(again.entries[0].state.disks) == [DISK]

    run(scenario)


def test_journal_of_another_fastlib_is_reported_and_left(caplog):
    node = NodeContext("node01")
    node.keep_state({"unsettled": [{"spec": 1}]}, lambda state: None)
    found = UnsettledMigrations(node)
    found.load()
    assert found.entries == ()
    assert "the unsettled migrations in the journal cannot be read" in caplog.text


def test_number_of_unsettled_migrations_is_bounded(run, monkeypatch, caplog):
    monkeypatch.setattr(unsettled, "MOST_ENTRIES", 2)

    async def scenario(hosts):
        spec = hosts.migration().spec
        for number in range(3):
            await hosts.runtime.unsettled.put(
                UnsettledMigration(
                    spec=spec, state=MigrationState(uuid=str(number)), end="stayed", since=0.0
                )
            )
        found = [entry.state.uuid for entry in hosts.runtime.unsettled.entries]
        assert found == ["1", "2"]
        assert "is forgotten: too many hosts are silent" in caplog.text

    run(scenario)


# A domain whose place was not known


@pytest.mark.parametrize("arrived", [True, False])
def test_domain_of_unknown_place_is_found_and_goes_on(run, arrived):
    async def scenario(hosts):
        hosts.domain.state_now = [PAUSED, 2]
        hosts.destination.is_there = False
        text = await hosts.fail(kind=FinalError)
        assert "it is not certain where vm1 runs" in text
        assert "the daemon decides that once both hosts answer" in text
        assert hosts.entries == ["unknown"]
        if arrived:
            hosts.there(PAUSED, 1)
        hosts.destination.is_there = True
        await hosts.settled()
        if arrived:
            assert hosts.destination.domains["vm1"].state_now[0] == RUNNING
            assert "vm1" not in hosts.source.domains
            assert hosts.removed == []
        else:
            assert hosts.domain.state_now[0] == RUNNING
            assert hosts.removed == LEFT

    run(scenario)


# A domain that has arrived paused


def arrived(hosts, *, vcpu_ns=0):
    copy = hosts.there(PAUSED, 1, vcpu_ns=vcpu_ns)
    del hosts.source.domains["vm1"]
    return copy


def test_all_last_steps_are_repeated_later(run):
    async def scenario(hosts):
        arrived(hosts)
        hosts.destination.is_there = False
        xml = "<domainsnapshot><name>first</name></domainsnapshot>"
        record = SnapshotRecord(name="first", xml=xml)
        with pytest.raises(ArrivedError):
            await hosts.migration(disks=(), snapshots=(record,), autostart=True).finish()
        hosts.destination.is_there = True
        await hosts.settled()
        domain = hosts.destination.domains["vm1"]
        assert [each.getName() for each in domain.snapshots] == ["first"]
        assert domain.starts_with_host

    run(scenario)


@pytest.mark.parametrize(("vcpu_ns", "state"), [(0, RUNNING), (1 << 30, PAUSED)])
def test_arrived_domain_is_resumed_later_unless_a_user_has_paused_it(run, vcpu_ns, state):
    async def scenario(hosts):
        copy = arrived(hosts, vcpu_ns=vcpu_ns)
        hosts.destination.is_there = False
        words = (
            r"^vm1 has arrived on node02, which does not answer now: could not resume: .* away; "
            "the daemon does that once node02 answers$"
        )
        with pytest.raises(ArrivedError, match=words):
            await hosts.migration(disks=()).finish()
        assert hosts.entries == ["arrived"]
        hosts.destination.is_there = True
        await hosts.settled()
        assert copy.state_now[0] == state

    run(scenario)


# Orders


def test_order_settles_first(run, monkeypatch):
    async def scenario(hosts):
        resumed(hosts)
        hosts.destination.is_there = False
        await hosts.fail()
        await settle_first(hosts.runtime, "vm1")
        assert hosts.entries == ["stayed"]
        hosts.there(PAUSED, 1)
        hosts.destination.is_there = True

        async def move(*arguments, **named):
            assert "vm1" not in hosts.destination.domains
            assert hosts.removed == LEFT
            raise HypervisorError("this is enough")

        monkeypatch.setattr(migration, "run_migration", move)
        with pytest.raises(HypervisorError, match="this is enough"):
            await migrate(
                hosts.runtime,
                Migrate(
                    vm_name="vm1",
                    destination="node02",
                    parameter=MigrateParameter(migration_type="live"),
                ),
                hosts.context,
            )
        assert hosts.entries == []

    run(scenario)


def test_repetition_that_is_refused_says_that_a_copy_may_be_there(run):
    async def scenario(hosts):
        resumed(hosts)
        hosts.destination.is_there = False
        await hosts.fail()
        text = await hosts.fail(phase="prepare", disks=())
        assert text == (
            "vm1 did not migrate to node02: it broke; a paused copy of it may be on node02, which "
            f"cannot be queried; {LATER} removes it"
        )
        assert hosts.entries == ["stayed"]

    run(scenario)


def test_stop_says_that_a_copy_may_be_there(run):
    async def scenario(hosts):
        resumed(hosts)
        hosts.destination.is_there = False
        await hosts.fail()
        details = await stop(hosts.runtime, Stop(vm_name="vm1", force=True), Context("node01"))
        assert details == (
            "a paused copy of it may be on node02, which cannot be queried; once node02 answers, "
            "the daemon removes it"
        )

    run(scenario)
