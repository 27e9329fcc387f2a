"""Evacuate a host with three domains to two others; one of these has a domain already."""

import os

import pytest

from fastlib.migfra.virt.placement import Destination, Guest, place
from tests.support.lab.fleet import PATIENCE, assert_error, assert_success
from tests.support.lab.layout import address
from tests.support.waiting import wait_until

pytestmark = pytest.mark.laboratory
NAMES = ["vm1", "vm2", "vm3"]
HOSTS = ["hostC", "hostB"]
MIB = 1 << 20


@pytest.fixture
def daemon_options():
    """All domains migrate at once; test_migration_limits.py has the limits."""
    return {"outgoing-migrations": 3, "incoming-migrations": 3}


@pytest.fixture
def full(fleet):
    """The fleet with three domains on hostA, and one on hostC."""
    run_other(fleet, "hostC")
    fleet.run_guests("hostA", NAMES)
    return fleet


def run_other(fleet, host):
    guest = fleet.lab.define_guest(f"other-{host}", on=host, bios=True)
    fleet.lab.host(host).virsh("start", guest.name)


def begin_slow_evacuation(full):
    """Return an evacuation that has sent some memory of each domain."""
    handle = full.client.evacuate("hostA", HOSTS, migration_type="live", bandwidth_limit=1)
    begun = set()

    def note(progress):
        if (progress.transferred or 0) > MIB:
            begun.add(progress.vm_name)

    handle.on_progress(note)
    wait_until(
        lambda: handle.done() or begun == set(NAMES), lambda: f"memory is sent: {begun}", PATIENCE
    )
    assert not handle.done(), handle.result(1)
    return handle


def is_running(fleet, handle):
    """Return whether the daemon of hostA executes an order."""
    report = fleet.client.query("hostA").result(PATIENCE).node
    return ("running", handle.id) in [(task.state, task.id) for task in report.tasks]


def results_without_limit(full, handle, *names):
    """Return the results by domain."""
    results = full.result_without_limit(handle, *(("hostA", name) for name in names))
    return {result.vm_name: result for result in results}


def expected(*, on_b=0, **options):
    """Return the host of each domain by the rules of placement, which have separate tests."""
    cpus = os.cpu_count()
    hosts = [
        Destination(name="hostC", cpus=cpus, active=1),
        Destination(name="hostB", cpus=cpus, active=on_b),
    ]
    return {
        each.guest: each.host for each in place([Guest(name=n) for n in NAMES], hosts, **options)
    }


def test_evacuation_without_overbooking_leaves_the_rest(full):
    """Of two CPUs, both destinations have one left. The other tests have the mode auto.

    test_placement.py has all modes; here the daemon's mode is that of the order.
    """
    run_other(full, "hostB")
    results = full.client.evacuate(
        "hostA",
        ["nowhere", *HOSTS],
        mode="scatter",
        overbooking=False,
        migration_type="warm",
        time_measurement=True,
    ).result(PATIENCE)
    wanted = expected(mode="scatter", overbooking=False, on_b=1)
    for result in results:
        host = wanted[result.vm_name]
        if host is None:
            assert_error(
                result, f"{result.vm_name} stays on hostA: hostC has no free CPU and overbooking"
            )
        else:
            assert_success(result)
            timings = result.time_measurement.timings
            assert {"overall", "migrate", f"downtime-{result.vm_name}"} <= set(timings)
        full.assert_runs_only_on(result.vm_name, host or "hostA")


def test_cancelled_evacuation_leaves_all_domains(full):
    handle = begin_slow_evacuation(full)
    assert_success(handle.cancel().result(PATIENCE))
    for result in handle.result(PATIENCE):
        assert_error(result, f"cancelled; {result.vm_name} runs on hostA")
        full.assert_runs_only_on(result.vm_name, "hostA")


def test_evacuation_continues_when_the_daemon_is_killed(full):
    """libvirt migrates without the daemon, and each domain has a result."""
    handle = begin_slow_evacuation(full)
    daemon = full.daemons["hostA"]
    daemon.kill()
    daemon.start()
    results = results_without_limit(full, handle, *NAMES)
    assert {name: (each.status, each.details) for name, each in results.items()} == dict.fromkeys(
        NAMES, ("success", "found done after the daemon's restart")
    )
    for name, host in expected().items():
        full.assert_runs_only_on(name, host)


def test_evacuation_continues_when_one_domain_ends(full):
    """A domain's QEMU is killed during its migration; the other domains arrive."""
    handle = begin_slow_evacuation(full)
    full.lab.host("hostA").qemu("vm2").kill()
    results = results_without_limit(full, handle, "vm1", "vm3")
    assert_error(results.pop("vm2"), "vm2 is active neither on hostA nor on")
    for name, result in results.items():
        assert_success(result)
        full.assert_runs_only_on(name, expected()[name])
    wait_until(
        lambda: full.lab.running_on("vm2") == [], lambda: str(full.domain_states()), PATIENCE
    )


def test_evacuation_knows_hosts_under_each_of_their_names(fleet):
    """The host itself is not a destination, another one counts once; with two evacuations."""
    fleet.run_guest("hostA", "vm1")
    names = ["HOSTA", "localhost", address("hostA"), "hostB", address("hostB")]
    first = fleet.client.evacuate("hostA", names, migration_type="live", bandwidth_limit=1)
    fleet.wait_for_transfer(first)
    second = fleet.client.evacuate("hostA", ["hostC"], migration_type="live")
    wait_until(lambda: is_running(fleet, second), "the second evacuation begins", PATIENCE)
    (moved,) = fleet.result_without_limit(first, ("hostA", "vm1"))
    (left,) = second.result(PATIENCE)
    assert_success(moved)
    assert (left.status, left.details) == (
        "success",
        "vm1 has left in the meantime: it runs on hostB",
    )
    fleet.assert_runs_only_on("vm1", "hostB")
    for name in ("hostB.", address("hostB")):
        result = fleet.client.migrate("vm1", "hostB", name).result(PATIENCE)
        assert_error(result, "is also the destination|is hostB itself")
    fleet.assert_runs_only_on("vm1", "hostB")
