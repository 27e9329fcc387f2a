"""Series of migrations with the longest pause of each guest, and faults at random moments.

With `--long` the series is complete. docs/explanation/reliability.md has its figures.
"""

import random
import re
import statistics
from contextlib import suppress

import pytest

from fastlib.transport import WaitTimeoutError
from tests.support.lab.fleet import PATIENCE, assert_success
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.laboratory, pytest.mark.timeout(3600)]
LOAD = {"dirty": 16, "rate": 64}
"""MiB that the guest rewrites, and MiB that it rewrites in a second."""


@pytest.fixture
def often(request):
    """Return the first number, or the second with --long."""
    return lambda short, full: full if request.config.getoption("--long") else short


def run_settled_guest(fleet, host, name):
    """Run a guest until it has reported the pause of its restoration."""
    guest = fleet.run_guest(host, name, **LOAD)
    guest.longest_pause(since=guest.wait_for_heartbeat())
    return guest


def summary(what, seconds):
    middle, longest = statistics.median(seconds), max(seconds)
    return f"{what}: {middle:.2f} s in the middle, {longest:.2f} s at most"


@pytest.mark.parametrize("kind", ["live", "warm"])
def test_migrations_succeed_under_memory_load(fleet, often, add_figure, kind):
    guest = run_settled_guest(fleet, "hostA", "vm1")
    pauses, times, downtimes = [], [], []
    source, destination = "hostA", "hostB"
    count = often(2, 50)
    for _ in range(count):
        before = guest.wait_for_heartbeat()
        result = fleet.client.migrate(
            "vm1", source, destination, migration_type=kind, time_measurement=True
        ).result(PATIENCE)
        assert_success(result)
        assert fleet.lab.running_on("vm1") == [destination]
        timings = result.time_measurement.timings
        pauses.append(guest.longest_pause(since=before))
        times.append(timings["overall"].wall)
        downtimes.append(timings["downtime-vm1"].wall)
        source, destination = destination, source
    fleet.assert_runs_only_on("vm1", source)
    add_figure(
        f"{count} migrations {kind}, none failed; {summary('the guest stood still', pauses)}; "
        f"{summary('by libvirt', downtimes)}; {summary('each took', times)}"
    )


def test_swaps_succeed_under_memory_load(fleet, often, add_figure):
    guests = [run_settled_guest(fleet, "hostA", "vm1"), run_settled_guest(fleet, "hostB", "vm2")]
    pauses, times = [], []
    source, destination = "hostA", "hostB"
    count = often(1, 25)
    for _ in range(count):
        before = [guest.wait_for_heartbeat() for guest in guests]
        result = fleet.client.migrate(
            "vm1", source, destination, migration_type="live", swap_with="vm2",
            time_measurement=True,
        ).result(PATIENCE)  # fmt: skip
        assert_success(result)
        pauses += [
            guest.longest_pause(since=beat) for guest, beat in zip(guests, before, strict=True)
        ]
        times.append(result.time_measurement.timings["overall"].wall)
        source, destination = destination, source
    fleet.assert_runs_only_on("vm1", source)
    fleet.assert_runs_only_on("vm2", destination)
    add_figure(
        f"{count} swaps, none failed; {summary('each guest stood still', pauses)}; "
        f"{summary('each took', times)}"
    )


def disconnect(fleet):
    host = fleet.lab.host("hostB")
    host.disconnect()
    return host.reconnect


def kill_libvirtd(fleet):
    libvirtd = fleet.lab.host("hostB").libvirtd
    libvirtd.kill()
    return libvirtd.start


def kill_source_libvirtd(fleet):
    libvirtd = fleet.lab.host("hostA").libvirtd
    libvirtd.kill()
    return libvirtd.start


def freeze(fleet):
    host = fleet.lab.host("hostB")
    host.freeze()
    return host.thaw


def kill_daemon(fleet):
    daemon = fleet.daemons["hostA"]
    daemon.kill()
    return daemon.start


def kill_broker(fleet):
    fleet.kill_broker()
    return fleet.lab.broker.mosquitto.start


def cancel(fleet):
    fleet.handle.cancel()
    return lambda: None


FAULTS = [disconnect, kill_libvirtd, kill_source_libvirtd, freeze, kill_daemon, kill_broker, cancel]


@pytest.mark.both_modes(only_long=True)
def test_domain_runs_once_after_a_fault_at_a_random_moment(fleet, often, add_figure):
    """A random moment may also be in the checks, the switch-over or the finish.

    The domain then runs on one host: the host that the result names.
    """
    seed = 20261126
    rng = random.Random(seed)
    ends = {"success": 0, "error": 0}
    count = often(len(FAULTS), 6 * len(FAULTS))
    for number in range(count):
        fleet.reset()
        fleet.run_guest("hostA", "vm1", **LOAD)
        fault = FAULTS[number % len(FAULTS)]
        moment, outage = rng.uniform(0, 1.2), rng.uniform(0, 6)
        kind = rng.choice(["live", "warm"])
        about = f"{number}: {fault.__name__} after {moment:.3f} s for {outage:.1f} s, {kind}"
        handle = fleet.handle = fleet.client.migrate("vm1", "hostA", "hostB", migration_type=kind)
        wait_at_most(handle, moment)
        repair = fault(fleet)
        wait_at_most(handle, outage)
        repair()
        result = handle.result(2 * PATIENCE)
        ends[result.status] += 1
        where = host_of(result)
        about = f"{about}: {result.status}: {result.details}"
        wait_until(
            lambda where=where: fleet.lab.running_on("vm1") == [where],
            lambda about=about: f"{about}: {fleet.domain_states()}",
            PATIENCE,
        )
        fleet.assert_runs_only_on("vm1", where)
    add_figure(f"{count} faults at any moment: {ends['success']} arrived, {ends['error']} stayed")


def host_of(result):
    """Return the host on which the domain is by a result. It may arrive and need a later step."""
    has_arrived = re.search("vm1 (runs|has arrived) on hostB", str(result.details))
    return "hostB" if result.status == "success" or has_arrived else "hostA"


def wait_at_most(handle, seconds):
    """Wait for that time, or until the migration has ended."""
    with suppress(WaitTimeoutError):
        handle.result(seconds)
