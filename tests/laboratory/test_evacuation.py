"""A host is evacuated to two others, of which one has a domain already."""

import os

import pytest

from fastlib.migfra.virt.placement import Destination, Guest, place
from tests.support.lab.fleet import PATIENCE, error, fleet_of, success
from tests.support.waiting import wait_until

pytestmark = pytest.mark.laboratory
NAMES = ["vm1", "vm2", "vm3", "vm4"]
HOSTS = ["hostC", "hostB"]


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    with fleet_of(tmp_path_factory.mktemp("three"), 3) as fleet:
        yield fleet


@pytest.fixture
def full(three):
    """Four domains on hostA, one on hostC."""
    three.clear()
    guest = three.lab.define_guest("other", bios=True)
    started = three.client.start("hostC", xml=guest.xml, probe_with_ssh=False)
    success(started.result(PATIENCE))
    three.all_running("hostA", NAMES)
    yield three
    three.clear()
    three.answered_once()


def expected(**options):
    """Where the rules put them. That the rules are right is shown without hosts."""
    cpus = os.cpu_count()
    hosts = [
        Destination(name="hostC", cpus=cpus, active=1),
        Destination(name="hostB", cpus=cpus, active=0),
    ]
    return {
        each.guest: each.host for each in place([Guest(name=n) for n in NAMES], hosts, **options)
    }


@pytest.mark.parametrize("mode", ["auto", "compact", "scatter"])
def test_each_mode(full, mode):
    results = full.client.evacuate(
        "hostA", ["nowhere", *HOSTS], mode=mode, migration_type="live", time_measurement=True
    ).result(PATIENCE)
    assert [(each.vm_name, each.status) for each in results] == [
        (name, "success") for name in NAMES
    ], results
    for name, host in expected(mode=mode).items():
        full.check(name, host)
    for name, result in zip(NAMES, results, strict=True):
        assert {"overall", "migrate", f"downtime-{name}"} <= set(result.time_measurement.timings)


def test_without_overbooking(full):
    results = full.client.evacuate(
        "hostA", HOSTS, mode="scatter", overbooking=False, migration_type="warm"
    ).result(PATIENCE)
    wanted = expected(mode="scatter", overbooking=False)
    for result in results:
        host = wanted[result.vm_name]
        if host is None:
            error(result, f"{result.vm_name} stays on hostA: hostC has no free CPU and overbooking")
        else:
            success(result)
        full.check(result.vm_name, host or "hostA")


def test_cancelled(full):
    handle = full.client.evacuate("hostA", HOSTS, migration_type="live", bandwidth_limit=3)
    full.begun(handle)
    success(handle.cancel().result(PATIENCE))
    for result in handle.result(PATIENCE):
        error(result, f"cancelled; {result.vm_name} runs on hostA")
        full.check(result.vm_name, "hostA")


def test_daemon_killed(full):
    """What libvirt moves goes on without the daemon, and each domain has a result."""
    handle = full.client.evacuate("hostA", HOSTS, migration_type="live", bandwidth_limit=3)
    full.begun(handle)
    daemon = full.daemons["hostA"]
    daemon.kill()
    daemon.start()
    results = handle.result(3 * PATIENCE)
    assert [(each.vm_name, each.status, each.details) for each in results] == [
        (name, "success", "found done after the daemon's restart") for name in NAMES
    ]
    for name, host in expected().items():
        full.check(name, host)


def test_one_that_ends_meanwhile(full):
    """It is killed in mid-migration; the others arrive."""
    handle = full.client.evacuate("hostA", HOSTS, migration_type="live", bandwidth_limit=5)
    full.begun(handle)
    full.lab.host("hostA").qemu("vm2").kill()
    results = {each.vm_name: each for each in handle.result(3 * PATIENCE)}
    error(results.pop("vm2"), "vm2 is active neither on hostA nor on")
    for name, result in results.items():
        success(result)
        full.check(name, expected()[name])
    wait_until(lambda: full.lab.running_on("vm2") == [], lambda: str(full.states()))
