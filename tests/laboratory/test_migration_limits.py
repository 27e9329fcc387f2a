"""At most two domains leave a host and arrive at it at once, seen by virsh from outside."""

import random
import re
import threading

import pytest

from fastlib import Evacuate, EvacuateParameter
from tests.support.lab.fleet import PATIENCE, assert_error, assert_success
from tests.support.lab.phases import Phases
from tests.support.waiting import wait_until

pytestmark = pytest.mark.laboratory
MEMORY_MIB = 128
DATA_MIB = 104
"""MiB of each guest's memory that are not empty. QEMU loads them. Their migration lasts more than a
minute and a half at 1 MiB/s. The tests lift that limit.
"""
LOADER = """\
<qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <qemu:arg value='-device'/>
  <qemu:arg value='loader,file={path},addr=0x1000000,force-raw=on'/>
</qemu:commandline>
"""
SLOW = {"migration_type": "live", "bandwidth_limit": 1}


class Watcher:
    """Counts the domains that arrive at a host and those that leave others, again and again."""

    def __init__(self, fleet, destination, *sources):
        self._destination = fleet.lab.host(destination)
        self._sources = [fleet.lab.host(source) for source in sources]
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.most_arriving = self.most_leaving = 0

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        self._thread.join()

    def _watch(self):
        while not self._end.is_set():
            states = self._destination.domains(PATIENCE)
            arriving = sum(state == "paused" for state in states.values())
            self.most_arriving = max(self.most_arriving, arriving)
            self.most_leaving = max(self.most_leaving, _leaving_together(self._sources))

    def wait_until_two_migrate(self):
        wait_until(
            lambda: min(self.most_arriving, self.most_leaving) >= 2,
            lambda: f"two migrate: {self.most_arriving} arrive, {self.most_leaving} leave",
            PATIENCE,
        )


def _leaving_together(sources):
    """Return the number of domains that migrate away at one moment.

    One is asked after the other, twice. Those that leave both times left together in between.
    """
    first, second = ([_leaving(source) for source in sources] for _ in range(2))
    return sum(len(one & other) for one, other in zip(first, second, strict=True))


def _leaving(source):
    """Return the domains that migrate away from a host. One is asked after the other."""
    names = [name for name, state in source.domains(PATIENCE).items() if state == "running"]
    asked = "; ".join(f"echo {name}; domjobinfo {name}" for name in names)
    answers = source.run(["virsh", asked], check=False).stdout if names else ""
    pattern = r"^(\w+)\nJob type:.*\nOperation: +Outgoing migration"
    return set(re.findall(pattern, answers, re.MULTILINE))


def start_guests(fleet, host, names):
    folder = fleet.lab.layout.guests
    data = folder / "data.bin"
    if not data.exists():
        data.write_bytes(random.Random(0).randbytes(DATA_MIB << 20))
    for name in names:
        guest = fleet.lab.define_guest(name, memory=MEMORY_MIB, bios=True)
        xml = folder / f"{name}.xml"
        xml.write_text(guest.xml.replace("</domain>", f"{LOADER.format(path=data)}</domain>"))
        for command in ("define", xml), ("start", name):
            fleet.lab.host(host).virsh(*command)


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
            Phases(handle).wait_for("migrate")
        waiting = fleet.client.migrate("vm3", "hostA", "hostB", on_progress=reports.append, **SLOW)
        Phases(waiting).wait_for("queued")
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
        Phases(stopped).wait_for("queued")
        assert_success(waiting.cancel().result(PATIENCE))
        assert assert_error(waiting.result(PATIENCE)) == "cancelled before it began"
        result = fleet.client.stop("hostA", "vm5", force=True).result(PATIENCE)
        assert_success(result)
        assert not any(handle.done() for handle in first)
        watcher.wait_until_two_migrate()
        for name, handle in zip(names, first, strict=False):
            assert_success(fleet.result_without_limit(handle, ("hostA", name)))
        for result in evacuation.result(PATIENCE).results:
            assert_success(result)
        assert_error(stopped.result(PATIENCE), "vm5 is shut off on hostA; start it first")
    assert watcher.most_arriving == watcher.most_leaving == 2
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
            fleet.client.evacuate(source, ["hostB"], **SLOW) for source in ("hostA", "hostC")
        ]
        watcher.wait_until_two_migrate()
        migrations = [("hostA", "a1"), ("hostA", "a2"), ("hostC", "c1"), ("hostC", "c2")]
        for evacuation in evacuations:
            for result in fleet.result_without_limit(evacuation, *migrations):
                assert_success(result)
    assert watcher.most_arriving == watcher.most_leaving == 2
    assert sorted(fleet.lab.host("hostB").domains()) == ["a1", "a2", "c1", "c2"]
    assert [slots(host) for host in fleet.lab.hosts] == [[], [], []]
