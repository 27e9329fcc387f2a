"""Answers name a host only after it was asked: a domain may leave while a task waits.

The hosts are fakes (see fake_libvirt.py) and time is virtual.
"""

import asyncio

import pytest

from fastlib import Migrate, MigrateParameter, Repin, Resume, Start, Stop, Suspend
from fastlib.migfra import HypervisorError
from fastlib.migfra.hypervisors.libvirt import LibvirtHypervisor
from fastlib.migfra.hypervisors.libvirt.domain import control
from fastlib.migfra.hypervisors.libvirt.domain.state import (
    SHUT_OFF_BY_MIGRATION,
    SHUT_OFF_BY_SAVING,
)
from fastlib.migfra.hypervisors.libvirt.migration import checks
from fastlib.migfra.hypervisors.libvirt.tasks import start as start_task
from fastlib.migfra.hypervisors.libvirt.tasks.recovery import recover
from fastlib.migfra.hypervisors.libvirt.tasks.ssh_probe import NoAnswerError
from fastlib.migfra.hypervisors.libvirt.tasks.start import start
from fastlib.migfra.hypervisors.libvirt.tasks.stop import stop
from fastlib.migfra.hypervisors.libvirt.whereabouts import find_domain
from fastlib.migfra.hypervisors.simulated import run_virtual
from fastlib.migfra.plugin_api.cancel_scope import CancelScope
from fastlib.migfra.virt.migration_spec import MigrationSpec
from tests.support.libvirt.fake_domain import PAUSED, RUNNING, SHUT_OFF, FakeDomain
from tests.support.libvirt.fake_libvirt import FakeHosts


class Hosts(FakeHosts):
    """Two hosts; each knows the other one as one of `nodes`."""

    def __init__(self, **options):
        super().__init__(**{"nodes": ["node01", "node02"], "stop_timeout": 4, **options})

    def leave(self, *, stays_defined=False):
        """Another program migrates the domain."""
        self.destination.add(FakeDomain())
        if stays_defined:
            self.domain.state_now = [SHUT_OFF, SHUT_OFF_BY_MIGRATION]
        else:
            self.source.domains.clear()

    def end(self):
        self.domain.state_now = [SHUT_OFF, 1]

    def stop(self, **options):
        return stop(self.runtime, Stop(vm_name="vm1", **options), self.context)

    async def beside(self, task, meanwhile):
        """Run a task that waits for the domain's lock while another action changes the domain."""
        scope = CancelScope()
        with scope:
            async with self.runtime.exclusive("vm1", None, scope):
                running = asyncio.ensure_future(task)
                await asyncio.sleep(1)
                meanwhile()
        return await running


def run(scenario):
    async def main():
        async with asyncio.timeout(100):
            return await scenario

    return run_virtual(main())


def error(scenario):
    with pytest.raises(HypervisorError) as caught:
        run(scenario)
    return str(caught.value)


# Stop

NOT_HERE = "vm1 is not active on node01: it runs on node02"
ELSEWHERE = "vm1 has left in the meantime: it runs on node02; stop it there"


@pytest.mark.parametrize("stays_defined", [False, True])
@pytest.mark.parametrize("force", [False, True])
def test_stop_that_waited_for_a_migration_says_where_the_domain_is(force, stays_defined):
    hosts = Hosts()
    task = hosts.stop(force=force)
    leave = lambda: hosts.leave(stays_defined=stays_defined)  # noqa: E731
    assert error(hosts.beside(task, leave)) == f"{NOT_HERE}; stop it there"
    assert hosts.destination.domains["vm1"].isActive()


def test_second_stop_says_that_the_domain_is_shut_off():
    hosts = Hosts()
    hosts.domain.on["shutdown"] = hosts.end

    async def both():
        return await asyncio.gather(hosts.stop(), hosts.stop(), return_exceptions=True)

    first, second = run(both())
    assert first is None
    assert str(second) == "vm1 is shut off on node01 already"


@pytest.mark.parametrize("stays_defined", [False, True])
def test_domain_that_migrates_instead_of_shutting_down_was_not_stopped(stays_defined):
    """The daemon of the other host migrates it, as in a swap."""
    hosts = Hosts()
    hosts.domain.on["shutdown"] = lambda: hosts.leave(stays_defined=stays_defined)
    assert error(hosts.stop(undefine=True)) == f"vm1 was not stopped: {ELSEWHERE}"
    assert hosts.destination.domains["vm1"].isActive()


def test_domain_that_migrates_before_it_is_destroyed_was_not_stopped(monkeypatch):
    hosts = Hosts()

    def destroy_too_late(connection, name):
        hosts.leave()
        return control_destroy(connection, name)

    control_destroy = control.destroy
    monkeypatch.setattr(control, "destroy", destroy_too_late)
    assert error(hosts.stop(force=True)) == f"vm1 was not stopped: {ELSEWHERE}"
    assert hosts.destination.domains["vm1"].isActive()


def test_domain_that_migrated_to_an_unknown_host_was_not_stopped():
    hosts = Hosts(nodes=[])
    hosts.source.ends["vm1"] = "migrated"
    hosts.domain.on["shutdown"] = hosts.source.domains.clear
    assert error(hosts.stop()) == (
        "vm1 was not stopped: it has migrated away from node01, and vm1 is no longer on node01; no "
        "other host could be queried for it; check the other hosts"
    )


def test_transient_domain_that_ended_was_stopped():
    hosts = Hosts()
    hosts.destination.is_there = False  # and nobody needs to ask it
    hosts.source.ends["vm1"] = "stopped"
    hosts.domain.on["shutdown"] = hosts.source.domains.clear
    assert run(hosts.stop()) is None


def test_cancelled_stop_says_that_the_domain_may_still_shut_down():
    hosts = Hosts()
    hosts.domain.on["shutdown"] = hosts.cancellation.cancel
    assert error(hosts.stop(undefine=True)) == (
        "cancelled; the shutdown of vm1 was requested and may still complete; now it runs on node01"
    )


def test_stop_that_is_cancelled_once_the_domain_is_off_is_a_success():
    hosts = Hosts()

    def end():
        hosts.end()
        hosts.cancellation.cancel()

    hosts.domain.on["shutdown"] = end
    assert run(hosts.stop()) is None


def test_stop_that_is_cancelled_before_it_begins_asks_for_nothing():
    hosts = Hosts()
    hosts.cancellation.cancel()
    assert error(hosts.stop()) == "cancelled"
    assert hosts.calls == []


def test_stop_at_its_timeout_reports_the_state_of_the_domain():
    hosts = Hosts()
    assert "vm1 has not shut down within 4 s and runs on node01; its" in error(hosts.stop())


def test_recovered_stop_of_a_domain_that_left_fails():
    hosts = Hosts()
    hosts.leave()
    found = error(recover(hosts.runtime, Stop(vm_name="vm1"), hosts.context))
    assert found == f"the daemon ended while this was in progress; {NOT_HERE}; stop it there"


# Suspend, resume, repin


@pytest.mark.parametrize(
    ("task", "verb"),
    [
        (Suspend(vm_name="vm1"), "suspend"),
        (Resume(vm_name="vm1"), "resume"),
        (Repin(vm_name="vm1", vcpu_map=[[0]]), "repin"),
    ],
)
def test_task_for_a_domain_that_left_says_where_it_is(task, verb):
    hosts = Hosts()
    hypervisor = LibvirtHypervisor(hosts.runtime.options, hosts.runtime.node)
    hypervisor._runtime = hosts.runtime
    hosts.leave()
    found = error(getattr(hypervisor, verb)(task, hosts.context))
    assert found == f"{NOT_HERE}; {verb} it there"


# Migrate


def check(hosts, destination="node02", kind="live"):
    parameter = MigrateParameter(migration_type=kind)
    task = Migrate(vm_name="vm1", destination=destination, parameter=parameter)
    spec = MigrationSpec.from_task(task, "node01")
    return checks.check(hosts.runtime, spec, hosts.context)


@pytest.mark.parametrize("kind", ["live", "offline"])
def test_second_migration_says_where_the_domain_is(kind):
    hosts = Hosts()
    hosts.leave()
    hosts.destination.domains["vm1"].state_now = [PAUSED, 1]
    assert error(check(hosts, kind=kind)) == "vm1 is not active on node01: it is paused on node02"


# Start


def test_start_beside_an_arriving_migration_is_refused():
    hosts = Hosts()
    hosts.source.domains.clear()
    hosts.source.add(FakeDomain(state=PAUSED, reason=11)).job = {}

    def arrive():
        hosts.source.domains["vm1"].job = None
        hosts.source.domains["vm1"].state_now = [RUNNING, 2]

    async def scenario():
        asyncio.get_running_loop().call_later(2, arrive)
        await start(hosts.runtime, Start(vm_name="vm1", probe_with_ssh=False), hosts.context)

    assert "vm1 runs on node01 already" in error(scenario())


def test_start_of_a_domain_that_a_migration_left_behind_is_refused():
    hosts = Hosts()
    hosts.domain.state_now = [PAUSED, 12]
    assert error(start(hosts.runtime, Start(vm_name="vm1"), hosts.context)) == (
        "vm1 is paused on node01 after a migration or a restore that did not end; check whether "
        "it runs on another host: if not, resume it with virsh resume, else destroy it here"
    )


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ([RUNNING, 1], "vm1 runs, but it is silent"),
        ([SHUT_OFF, 2], "vm1 is shut off on node01 by now, but it is silent"),
    ],
)
def test_start_without_answer_reports_the_state_of_the_domain(monkeypatch, state, words):
    hosts = Hosts()
    hosts.end()

    async def probe(*_):
        hosts.domain.state_now = state
        raise NoAnswerError("it is silent")

    monkeypatch.setattr(start_task, "probe", probe)
    assert error(start(hosts.runtime, Start(vm_name="vm1"), hosts.context)) == words


# The sentence


def sentence(hosts, *others):
    return run(find_domain(hosts.runtime, "vm1", None, others)).sentence


def test_sentence_reports_known_and_unknown_places():
    hosts = Hosts()
    assert sentence(hosts) == "vm1 runs on node01"
    hosts.end()
    assert sentence(hosts) == "vm1 has been shut off in the meantime"
    hosts.domain.state_now = [SHUT_OFF, SHUT_OFF_BY_SAVING]
    assert sentence(hosts) == "vm1 has been saved and shut off in the meantime"
    hosts.domain.state_now = [SHUT_OFF, SHUT_OFF_BY_MIGRATION]
    assert sentence(hosts) == "vm1 has migrated in the meantime, and is not active on node02"
    hosts.destination.is_there = False
    assert sentence(hosts) == (
        "vm1 has migrated in the meantime; no other host could be queried for it; it is not known "
        "whether it runs on node02, which cannot be queried: check there"
    )
    hosts.end()
    assert sentence(hosts) == (
        "vm1 has been shut off in the meantime; it is not known whether it runs on node02, which "
        "cannot be queried: check there"
    )


# A broken post-copy


@pytest.mark.parametrize("state", [[PAUSED, 13], [RUNNING, 11]])
@pytest.mark.parametrize("order", [Stop, Start])
def test_order_does_not_wait_for_a_broken_post_copy(state, order):
    """It ends only after an operator repairs it, on either host."""
    hosts = Hosts()
    hosts.domain.state_now = state
    hosts.domain.job = {}
    function = stop if order is Stop else start
    assert "the memory of vm1 is divided between two hosts" in error(
        function(hosts.runtime, order(vm_name="vm1"), hosts.context)
    )
    assert hosts.calls == []
