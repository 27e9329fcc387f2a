"""At most two domains leave a host and arrive at it at once, seen by virsh from outside."""

import re
import threading

import pytest

from fastlib import Evacuate, EvacuateParameter
from tests.support.lab.fleet import PATIENCE, assert_error, assert_success

pytestmark = pytest.mark.laboratory
MEMORY_MIB = 1024
"""MiB of each guest. Empty pages are sent as nine bytes each, so this takes seconds at 1 MiB/s."""
SLOW = {"migration_type": "live", "bandwidth_limit": 1}


class Watcher:
    """Counts the domains that arrive at a host and those that leave others, again and again."""

    def __init__(self, fleet, destination, *sources):
        self._destination = fleet.lab.host(destination)
        self._sources = [fleet.lab.host(source) for source in sources]
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.arriving = []
        self.leaving = {source: [] for source in sources}

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        self._thread.join()

    def _watch(self):
        while not self._end.is_set():
            states = self._destination.domains()
            self.arriving.append(sum(state == "paused" for state in states.values()))
            for source in self._sources:
                self.leaving[source.name].append(len(_leaving_together(source)))


def _leaving_together(source):
    """The domains that migrate away from a host at one moment.

    One is asked after the other, twice. Those that leave both times left together in between.
    """
    names = [name for name, state in source.domains().items() if state == "running"]
    asked = "; ".join(f"echo {name}; domjobinfo {name}" for name in names)
    answers = source.run(["virsh", f"{asked}; echo; {asked}"], check=False).stdout if names else ""
    leaving = re.findall(
        r"^(\w+)\nJob type:.*\nOperation: +Outgoing migration", answers, re.MULTILINE
    )
    return {name for name in leaving if leaving.count(name) == 2}


def start_guests(fleet, host, names):
    for name in names:
        fleet.lab.define_guest(name, on=host, memory=MEMORY_MIB, bios=True)
        fleet.lab.host(host).virsh("start", name)


def where(fleet, name):
    return fleet.lab.running_on(name)


def slots(host):
    """The usages of the secrets by which the daemons count."""
    listed = host.virsh("secret-list")
    return sorted(re.findall(r"migfra (?:incoming|outgoing)[ a-z0-9]*", listed))


def test_limits_hold_for_an_evacuation_and_single_orders(fleet):
    """Five domains leave hostA for hostB, three by an evacuation, and one is cancelled."""
    names = ["vm1", "vm2", "vm3", "vm4", "vm5"]
    start_guests(fleet, "hostA", names)
    reports = []
    with Watcher(fleet, "hostB", "hostA") as watcher:
        first = [
            fleet.client.migrate(name, "hostA", "hostB", on_progress=reports.append, **SLOW)
            for name in names[:2]
        ]
        for handle in first:
            fleet.wait_for_phase(handle, "migrate")
        waiting = fleet.client.migrate("vm3", "hostA", "hostB", on_progress=reports.append, **SLOW)
        fleet.wait_for_phase(waiting, "queued")
        evacuation = fleet.client.submit(
            "hostA",
            Evacuate(
                destinations=["hostB"],
                vm_name="vm4",
                parameter=EvacuateParameter(migration_type="live"),
            ),
            on_progress=reports.append,
        )
        stopped = fleet.client.migrate("vm5", "hostA", "hostB", **SLOW)
        # What waits is cancelled at once, and does not keep its domain from others.
        fleet.wait_for_phase(stopped, "queued")
        assert_success(waiting.cancel().result(PATIENCE))
        assert assert_error(waiting.result(PATIENCE)) == "cancelled before it began"
        result = fleet.client.stop("hostA", "vm5", force=True).result(PATIENCE)
        assert_success(result)
        assert not any(handle.done() for handle in first), "the guests were too fast for this test"
        for name, handle in zip(names, first, strict=False):
            fleet.lift_bandwidth_limit("hostA", name)
            assert_success(handle.result(PATIENCE))
        for result in evacuation.result(PATIENCE).results:
            assert_success(result)
        assert_error(stopped.result(PATIENCE), "vm5 is shut off on hostA; start it first")
    assert max(watcher.arriving) == 2
    assert max(watcher.leaving["hostA"]) == 2
    queued = {(report.vm_name, report.position) for report in reports if report.phase == "queued"}
    assert ("vm3", 1) in queued
    assert {name for name, _ in queued} == {"vm3", "vm4"}
    assert [where(fleet, name) for name in names] == [
        ["hostB"], ["hostB"], ["hostA"], ["hostB"], []
    ]  # fmt: skip
    assert [slots(host) for host in fleet.lab.hosts] == [[], [], []]


def test_incoming_limit_holds_over_two_sources(fleet):
    """hostA and hostC evacuate two domains each to hostB; they take turns."""
    start_guests(fleet, "hostA", ["a1", "a2"])
    start_guests(fleet, "hostC", ["c1", "c2"])
    with Watcher(fleet, "hostB", "hostA", "hostC") as watcher:
        evacuations = [
            fleet.client.evacuate(source, ["hostB"], migration_type="live", bandwidth_limit=3)
            for source in ("hostA", "hostC")
        ]
        for evacuation in evacuations:
            for result in evacuation.result(PATIENCE):
                assert_success(result)
    assert max(watcher.arriving) == 2
    assert max(a + c for a, c in zip(*watcher.leaving.values(), strict=True)) == 2
    assert sorted(fleet.lab.host("hostB").domains()) == ["a1", "a2", "c1", "c2"]
    assert [slots(host) for host in fleet.lab.hosts] == [[], [], []]
