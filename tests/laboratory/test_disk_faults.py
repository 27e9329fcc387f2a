"""Random faults while a migration copies a disk or memory.

Afterwards the domain runs on at most one host, with its newest disk, there is one result, and no
image is left that the result does not name. With --long there are ten times as many.
"""

import random

import pytest

from tests.support.lab.fleet import PATIENCE
from tests.support.lab.local_disks import LocalDisk, images_on, make_folder, remove_images
from tests.support.orders.faults import inject
from tests.support.orders.scenario import Fault
from tests.support.waiting import wait_until

pytestmark = pytest.mark.laboratory
FAULTS = 20
FAULTS_IF_LONG = 200
LONG = PATIENCE
BANDWIDTH = 16
"""MiB a second."""
MOST_BYTES = 40 << 20
"""The disk has 16 MiB, the half of them with data. The memory follows. With 40 MiB some faults hit
the end of the migration."""
KINDS = (
    ("cancel", "hostA"),
    ("kill daemon", "hostA"),
    ("kill libvirtd", "hostA"),
    ("kill libvirtd", "hostB"),
    ("freeze libvirtd", "hostB"),
    ("freeze host", "hostB"),
    ("disconnect", "hostB"),
    ("kill broker", "hostA"),
    ("kill QEMU", "hostA"),
    ("kill QEMU", "hostB"),
)
LASTING = ("freeze libvirtd", "freeze host", "disconnect")
"""Faults that last until the order has its result, in half of the cases."""


def pytest_generate_tests(metafunc):
    if "seed" in metafunc.fixturenames:
        count = FAULTS_IF_LONG if metafunc.config.getoption("--long") else FAULTS
        metafunc.parametrize("seed", range(count))


def test_domain_has_its_newest_disk_after_a_fault(fleet, seed):
    rng = random.Random(seed)
    kind, host = KINDS[seed % len(KINDS)]
    disk = LocalDisk(fleet.lab.host("hostA"), "vm1", rng.choice(["qcow2", "raw", "overlay"]))
    for each in fleet.lab.hosts:
        remove_images(each)
        make_folder(each)
    if disk.kind == "overlay":
        disk.write(b"")
        disk.copy_backing(fleet.lab.host("hostB"))
    guest = fleet.run_guest("hostA", "vm1", disk=disk)
    before = images_on(fleet.lab.host("hostB"))
    handle = fleet.client.migrate(
        "vm1",
        "hostA",
        "hostB",
        migration_type=rng.choice(["live", "warm"]),
        copy_storage="incremental" if disk.kind == "overlay" else "all",
        source_disks=rng.choice(["keep", "remove"]),
        bandwidth_limit=BANDWIDTH,
    )
    least = rng.randrange(0, MOST_BYTES)

    def is_time():
        progress = handle.progress
        return handle.done() or (progress is not None and (progress.transferred or 0) >= least)

    wait_until(is_time, lambda: f"{least} bytes are sent: {handle.progress}", PATIENCE)
    fault = Fault(kind=kind, host=host, domain="vm1", moment=0.0, outage=0.0)
    repair = inject(fleet, fault, handle)
    lasts = kind in LASTING and rng.random() < 0.5
    if repair is not None and not lasts:
        repair()
    result = handle.result(LONG)
    if repair is not None and lasts:
        repair()
    story = f"{kind} on {host} after {least} bytes ({disk.kind}): {result.status} {result.details}"
    wait_until(
        lambda: len(running_on(fleet)) == (0 if kind == "kill QEMU" and ended(fleet) else 1),
        lambda: f"{story}; {fleet.domain_states()}",
        PATIENCE,
    )
    fleet.wait_until_settled()
    check(fleet, disk, guest, before, result, story)


def running_on(fleet):
    """The hosts where the domain runs."""
    states = fleet.domain_states()
    return [host for host, domains in states.items() if domains.get("vm1") == "running"]


def ended(fleet):
    return fleet.lab.running_on("vm1") == []


def check(fleet, disk, guest, before, result, story):
    """Check the place of the domain, its disk, and what is left."""
    where = running_on(fleet)
    if where:
        last = guest.wait_for_heartbeat(guest.wait_for_heartbeat())
        assert (last.stale, last.faults) == (0, 0), story
        fleet.lab.host(where[0]).virsh("destroy", "vm1")
    details = str(result.details)
    there = [name for name in images_on(fleet.lab.host("hostB")) if name not in before]
    if where == ["hostA"]:
        assert not there or "; remove it there" in details, story
        newest = disk
    elif where == ["hostB"]:
        newest = disk.on(fleet.lab.host("hostB"))
    else:
        assert not there or "both hostA and hostB have images of hda" in details, story
        sides = [disk, *([disk.on(fleet.lab.host("hostB"))] if there else [])]
        newest = max(sides, key=lambda each: each.count)
    counts = [heartbeat.count for heartbeat in guest.heartbeats]
    assert counts == sorted(set(counts)), f"two copies of the guest have run: {story}"
    written = guest.heartbeats[-1].disk
    assert written <= newest.count <= written + 1, story
    assert newest.digest == disk.right_digest, story
    for host in fleet.lab.hosts:
        assert host.virsh("pool-list", "--all", "--name").strip() == "", story
        assert "fastlib-check" not in host.virsh("list", "--all", "--name"), story
