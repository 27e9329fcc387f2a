"""Many migrations, with the longest pause that each guest has noticed, and faults at any moment.

With `--long` the full series, whose figures stand in docs/reliability.md.
"""

import random
import statistics
from contextlib import suppress

import pytest

from fastlib.transport import WaitTimeoutError
from tests.support.lab.fleet import PATIENCE, success
from tests.support.waiting import wait_until

pytestmark = pytest.mark.laboratory
LOAD = {"dirty": 16, "rate": 64}
"""MiB that the guest rewrites, and how many a second."""


@pytest.fixture
def often(request):
    """How often something is done: in full with --long."""
    return lambda short, full: full if request.config.getoption("--long") else short


def told(what, seconds):
    middle, longest = statistics.median(seconds), max(seconds)
    return f"{what}: {middle:.2f} s in the middle, {longest:.2f} s at most"


@pytest.mark.parametrize("kind", ["live", "warm"])
def test_migrations_under_memory_load(clean, often, figures, kind):
    guest = clean.running("hostA", "vm1", **LOAD)
    pauses, times, downtimes = [], [], []
    source, destination = "hostA", "hostB"
    count = often(6, 50)
    for _ in range(count):
        before = guest.await_beat()
        result = clean.client.migrate(
            "vm1", source, destination, migration_type=kind, time_measurement=True
        ).result(PATIENCE)
        success(result)
        assert clean.lab.running_on("vm1") == [destination]
        timings = result.time_measurement.timings
        pauses.append(guest.longest_pause(since=before))
        times.append(timings["overall"].wall)
        downtimes.append(timings["downtime-vm1"].wall)
        source, destination = destination, source
    clean.check("vm1", source)
    figures(
        f"{count} migrations {kind}, none failed; {told('the guest stood still', pauses)}; "
        f"{told('by libvirt', downtimes)}; {told('each took', times)}"
    )


def test_swaps_under_memory_load(clean, often, figures):
    guests = [clean.running("hostA", "vm1", **LOAD), clean.running("hostB", "vm2", **LOAD)]
    pauses, times = [], []
    source, destination = "hostA", "hostB"
    count = often(2, 25)
    for _ in range(count):
        before = [guest.await_beat() for guest in guests]
        result = clean.client.migrate(
            "vm1", source, destination, migration_type="live", swap_with="vm2",
            time_measurement=True,
        ).result(PATIENCE)  # fmt: skip
        success(result)
        pauses += [
            guest.longest_pause(since=beat) for guest, beat in zip(guests, before, strict=True)
        ]
        times.append(result.time_measurement.timings["overall"].wall)
        source, destination = destination, source
    clean.check("vm1", source)
    clean.check("vm2", destination)
    figures(
        f"{count} swaps, none failed; {told('each guest stood still', pauses)}; "
        f"{told('each took', times)}"
    )


def cut(fleet):
    host = fleet.lab.host("hostB")
    host.cut()
    return host.mend


def kill_libvirtd(fleet):
    libvirtd = fleet.lab.host("hostB").libvirtd
    libvirtd.kill()
    return libvirtd.start


def kill_own_libvirtd(fleet):
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


FAULTS = [cut, kill_libvirtd, kill_own_libvirtd, freeze, kill_daemon, kill_broker, cancel]


@pytest.mark.both_ways(nightly=True)
def test_faults_at_any_moment(clean, often, figures):
    """Also at those that nobody aims at: the check, the switch-over, the finish.

    Whatever happens, it runs on one host then, which is the one that the result says.
    """
    seed = 20261126
    rng = random.Random(seed)
    ends = {"success": 0, "error": 0}
    count = often(len(FAULTS), 6 * len(FAULTS))
    for number in range(count):
        clean.clear()
        clean.running("hostA", "vm1", **LOAD)
        fault = FAULTS[number % len(FAULTS)]
        moment, outage = rng.uniform(0, 1.2), rng.uniform(0, 6)
        kind = rng.choice(["live", "warm"])
        about = f"{number}: {fault.__name__} after {moment:.3f} s for {outage:.1f} s, {kind}"
        handle = clean.handle = clean.client.migrate("vm1", "hostA", "hostB", migration_type=kind)
        after(handle, moment)
        mend = fault(clean)
        after(handle, outage)
        mend()
        result = handle.result(4 * PATIENCE)
        ends[result.status] += 1
        where = "hostB" if result.status == "success" else "hostA"
        about = f"{about}: {result.status}: {result.details}"
        wait_until(
            lambda where=where: clean.lab.running_on("vm1") == [where],
            lambda about=about: f"{about}: {clean.states()}",
        )
        clean.check("vm1", where)
    figures(f"{count} faults at any moment: {ends['success']} arrived, {ends['error']} stayed")


def after(handle, seconds):
    """The moment is what is tried; what has ended before needs no waiting."""
    with suppress(WaitTimeoutError):
        handle.result(seconds)
