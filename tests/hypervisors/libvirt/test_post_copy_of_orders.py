"""Orders whose post-copy is interrupted, to their result, also after a restart of the daemon.

The hosts are fakes (see fake_libvirt.py) and time is virtual.
"""

import asyncio

import msgspec
import pytest

from fastlib import Migrate, MigrateParameter
from fastlib.migfra import Context, FinalError, HypervisorError
from fastlib.migfra.hypervisors.libvirt.connection.api import api
from fastlib.migfra.hypervisors.libvirt.errors import LostError
from fastlib.migfra.hypervisors.libvirt.migration import migration, post_copy
from fastlib.migfra.hypervisors.libvirt.tasks import migrate, recovery
from fastlib.migfra.hypervisors.simulated import run_virtual
from fastlib.migfra.plugin_api.context import DaemonServices
from tests.support.libvirt.fake_domain import PAUSED, RUNNING, SHUT_OFF, FakeDomain
from tests.support.libvirt.fake_libvirt import FakeHosts

ORDER = Migrate(
    vm_name="vm1",
    destination="node02",
    parameter=MigrateParameter(migration_type="live", on_timeout="post-copy", timeout=1),
)


class Killed(BaseException):
    """The end of the daemon."""


class Orders:
    """Two hosts, and the order to move vm1 by post-copy, whose link is cut."""

    def __init__(self, monkeypatch, **options):
        self.hosts = FakeHosts(**options)
        self.begun = []
        """The arguments of the calls that begin a migration."""
        self.resumed = []
        """The arguments of the calls that resume one."""
        self.last = None
        """The context of the last run of the daemon."""
        self.daemon_ends = False
        self.cut_after_begin = False
        self.monkeypatch = monkeypatch
        monkeypatch.setattr(migration, "run_migration", self.begin)
        monkeypatch.setattr(post_copy, "run_migration", self.resume)

    async def begin(self, runtime, spec, arguments, scope, context):
        self.begun.append(arguments)
        there = self.hosts.destination.add(FakeDomain())
        there.state_now = [RUNNING, 11]
        self.hosts.domain.state_now = [PAUSED, 13]
        self.hosts.domain.job = {"data_remaining": 900, "data_total": 1000, "data_processed": 100}
        if self.daemon_ends:
            raise Killed
        self.hosts.destination.is_there = not self.cut_after_begin
        raise LostError("client socket is closed")

    async def resume(self, runtime, spec, arguments, scope, context, *, in_post_copy):
        self.resumed.append(arguments)
        self.arrive()

    def arrive(self):
        del self.hosts.source.domains["vm1"]
        self.hosts.destination.domains["vm1"].state_now = [RUNNING, 2]

    def context(self):
        """A context with what the last one has saved in the journal."""
        services = DaemonServices(report=self.hosts.progress.append)
        saved = {} if self.last is None else self.last.saved_state
        self.last = Context("node01", saved_state=saved, services=services)
        return self.last

    def send(self):
        return run_virtual(migrate.migrate(self.hosts.runtime, ORDER, self.context()))

    def restart(self):
        """Recover the order in the next run of the daemon, whose runtime knows nothing of it."""
        return run_virtual(recovery.recover(self.hosts.runtime, ORDER, self.context()))


@pytest.fixture
def orders(monkeypatch):
    return Orders(monkeypatch)


def test_result_says_that_post_copy_was_resumed(orders):
    result = orders.send()
    assert result.status == "success"
    assert result.details == (
        "its post-copy was interrupted, and then resumed (the error was: client socket is closed)"
    )
    [begun], [resumed] = orders.begun, orders.resumed
    assert resumed.flags == begun.flags | api().VIR_MIGRATE_POSTCOPY_RESUME
    assert resumed.parameters == begun.parameters
    assert resumed.destination_uri == begun.destination_uri


def test_result_of_an_order_that_was_not_resumed_in_time(orders):
    orders.cut_after_begin = True
    with pytest.raises(FinalError) as caught:
        orders.send()
    assert str(caught.value) == (
        "vm1 did not migrate to node02: client socket is closed; its post-copy was interrupted, "
        "and nothing has moved for 1200 s; the memory of vm1 is divided between node01 and node02, "
        "as post-copy has not ended; destroy neither, repair the link, and order the migration "
        "from node01 to node02 again with on-timeout: post-copy, which resumes it"
    )


def give_up(orders):
    """Send an order that is not resumed in time, which is short here. Then repair the link."""
    runtime = orders.hosts.runtime
    runtime.options = msgspec.structs.replace(runtime.options, recover_timeout=15.0)
    orders.cut_after_begin = True
    with pytest.raises(FinalError, match="order the migration from node01 to node02 again"):
        orders.send()
    orders.hosts.destination.is_there = True
    orders.last = None  # the second order has a record of its own


@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize("restarted", [False, True])
def test_repeated_order_resumes_a_post_copy_that_was_given_up(orders, restarted, encrypted):
    """Also in the next run of the daemon, which knows only what both hosts answer."""
    if encrypted:
        orders.hosts.give_certificates()
    orders.hosts.domain.starts_with_host = True
    give_up(orders)
    if restarted:
        orders.hosts.runtime.divided.clear()
    result = orders.send()
    assert result.status == "success"
    assert result.encrypted is encrypted
    assert result.details == "its post-copy was interrupted, and then resumed"
    [begun], [resumed] = orders.begun, orders.resumed
    assert resumed.flags == begun.flags | api().VIR_MIGRATE_POSTCOPY_RESUME
    assert resumed.parameters == begun.parameters
    assert orders.hosts.runtime.divided == {}
    assert orders.hosts.destination.domains["vm1"].starts_with_host


def test_repeated_order_that_is_not_resumed_either_can_be_repeated(orders):
    give_up(orders)

    async def refuse(*arguments, **options):
        raise HypervisorError("refused")

    orders.monkeypatch.setattr(post_copy, "run_migration", refuse)
    with pytest.raises(FinalError, match=r"interrupted before.*resume: refused; the memory of vm1"):
        orders.send()
    orders.monkeypatch.setattr(post_copy, "run_migration", orders.resume)
    orders.last = None
    assert orders.send().status == "success"


def test_second_repetition_waits_for_the_first_one(orders):
    give_up(orders)

    async def send(context):
        return await migrate.migrate(orders.hosts.runtime, ORDER, context)

    async def both():
        contexts = [orders.context(), orders.context()]
        return await asyncio.gather(*map(send, contexts), return_exceptions=True)

    first, second = run_virtual(both())
    assert first.status == "success"
    assert "vm1 is not active on node01: it runs on node02" in str(second)
    assert len(orders.resumed) == 1


def test_order_to_a_third_host_does_not_resume(orders):
    """The other half of the memory must be at its destination."""
    give_up(orders)
    orders.hosts.destination.domains["vm1"].uuid = "another"
    with pytest.raises(HypervisorError, match="the memory of vm1 is divided between two hosts"):
        orders.send()
    assert orders.resumed == []


def test_order_without_post_copy_does_not_resume(orders):
    give_up(orders)
    order = msgspec.structs.replace(ORDER, parameter=MigrateParameter(migration_type="live"))
    with pytest.raises(HypervisorError, match="migration again with on-timeout: post-copy"):
        run_virtual(migrate.migrate(orders.hosts.runtime, order, orders.context()))


def test_killed_daemon_recovers_the_repeated_order(orders):
    give_up(orders)

    async def end(*arguments, **options):
        raise Killed

    orders.monkeypatch.setattr(post_copy, "run_migration", end)
    with pytest.raises(Killed):
        orders.send()
    orders.monkeypatch.setattr(post_copy, "run_migration", orders.resume)
    assert orders.restart().details == (
        "found done after the daemon's restart; its post-copy was interrupted, and then resumed"
    )


@pytest.mark.parametrize("host", ["node01", "node02"])
def test_domain_is_called_lost_when_qemu_of_a_host_has_ended(orders, host):
    async def begin(*arguments):
        with pytest.raises(LostError):
            await orders_begin(*arguments)
        place = orders.hosts.source if host == "node01" else orders.hosts.destination
        place.domains["vm1"].state_now = [SHUT_OFF, 3]
        raise HypervisorError("client socket is closed")

    orders_begin = orders.begin
    orders.monkeypatch.setattr(migration, "run_migration", begin)
    with pytest.raises(FinalError, match=f"vm1 is lost: .*its copy on {host} has ended before"):
        orders.send()
    assert orders.resumed == []


@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize("persistent", [False, True])
def test_restarted_daemon_resumes_with_the_same_arguments(orders, encrypted, persistent):
    if encrypted:
        orders.hosts.give_certificates()
    orders.hosts.domain.persistent = persistent
    orders.daemon_ends = True
    with pytest.raises(Killed):
        orders.send()
    result = orders.restart()
    assert result.status == "success"
    assert result.encrypted is encrypted
    assert result.details == (
        "found done after the daemon's restart; its post-copy was interrupted, and then resumed"
    )
    [begun], [resumed] = orders.begun, orders.resumed
    assert resumed.flags == begun.flags | api().VIR_MIGRATE_POSTCOPY_RESUME
    assert resumed.parameters == begun.parameters
    assert bool(resumed.flags & api().VIR_MIGRATE_TLS) == encrypted
    assert bool(resumed.flags & api().VIR_MIGRATE_PERSIST_DEST) == persistent


def test_definition_on_the_source_stays_if_the_destination_has_none(orders):
    """A post-copy whose end libvirt misses may leave the domain there without a definition."""

    async def resume(*arguments, **options):
        orders.hosts.domain.state_now = [SHUT_OFF, 4]
        there = orders.hosts.destination.domains["vm1"]
        there.state_now, there.persistent = [RUNNING, 2], False

    orders.monkeypatch.setattr(post_copy, "run_migration", resume)
    result = orders.send()
    assert "node02 runs it without a definition; take the definition of node01" in result.details
    assert "vm1" in orders.hosts.source.domains
