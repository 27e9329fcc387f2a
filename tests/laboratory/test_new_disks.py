"""Starts that create disks, and stops that remove their images, with real hosts and guests."""

import random
import time

import pytest

from fastlib import NewDisk, Start
from tests.support.lab.fleet import PATIENCE, assert_error, assert_success
from tests.support.lab.local_disks import (
    FOLDER,
    LocalDisk,
    images_on,
    make_folder,
    outside,
    remove_images,
)
from tests.support.lab.saved_guests import BOOT_PATIENCE
from tests.support.waiting import wait_until

pytestmark = pytest.mark.laboratory
LONG = PATIENCE
BASE = FOLDER / "base.qcow2"
OVERLAY = NewDisk(target="hda", base=str(BASE))
ONLY_BASE = ["base.qcow2"]


@pytest.fixture
def daemon_options():
    return {"image-directory": FOLDER}


@pytest.fixture
def base(fleet):
    """An image on hostA for overlays. Afterwards all images are removed."""
    for host in fleet.lab.hosts:
        remove_images(host)
        make_folder(host)
    disk = LocalDisk(fleet.lab.host("hostA"), "base")
    disk.write(b"")
    yield disk
    fleet.reset()
    for host in fleet.lab.hosts:
        remove_images(host)


def bios_xml(fleet, name):
    return fleet.lab.define_guest(name, bios=True).xml


def order(fleet, name="vm1", disks=(OVERLAY,), xml=None, **options):
    xml = bios_xml(fleet, name) if xml is None else xml
    return fleet.client.start("hostA", xml=xml, disks=disks, probe_with_ssh=False, **options)


def start(*arguments, **options):
    return order(*arguments, **options).result(PATIENCE)


def stop(fleet, name="vm1", host="hostA", **options):
    options = {"force": True, "undefine": True, "remove_storage": True, **options}
    return fleet.client.stop(host, name, **options).result(PATIENCE)


def images(fleet, host="hostA"):
    return images_on(fleet.lab.host(host))


def domains(fleet, host="hostA"):
    return fleet.domain_states()[host]


def test_guest_keeps_its_overlay_through_restarts_and_migrations(fleet, base):
    digest = base.digest
    guest = fleet.lab.define_guest("vm1", dirty=4, rate=1)
    fleet.guests["vm1"] = guest
    disk = NewDisk(target="hda", base=str(BASE), size=128)
    result = start(fleet, disks=[disk], xml=guest.xml)
    assert_success(result)
    overlay = LocalDisk(fleet.lab.host("hostA"), "vm1-hda")
    assert result.details == f"created hda ({overlay.path})"
    state = overlay.file.stat()
    assert (state.st_uid, state.st_gid, state.st_mode & 0o7777) == (0, 0, 0o600)
    info = fleet.lab.host("hostA").run(["qemu-img", "info", "-U", overlay.path]).stdout
    assert "virtual size: 128 MiB" in info
    assert "backing file format: qcow2" in info
    guest.wait_for_heartbeat(patience=BOOT_PATIENCE)
    assert_error(start(fleet, disks=[disk], xml=guest.xml), "vm1 runs on hostA already")
    # The base stays as it is. The domain keeps the disk when it is started again.
    assert_success(stop(fleet, undefine=False, remove_storage=False))
    last = guest.heartbeats[-1]
    assert last.disk <= overlay.count <= last.disk + 1
    assert (base.count, base.digest) == (0, digest)
    assert_success(fleet.client.start("hostA", "vm1", probe_with_ssh=False).result(PATIENCE))
    # It counts on from the number on its disk.
    wait_until(lambda: guest.heartbeats[-1].disk > last.disk, "a beat of the second run", LONG)
    # It migrates with its data alone, then with all of it, and the record of its image with it.
    there = outside(fleet.lab.host("hostB"), BASE)
    there.write_bytes(base.file.read_bytes())
    options = {"migration_type": "live", "source_disks": "remove"}
    moved = fleet.client.migrate("vm1", "hostA", "hostB", copy_storage="incremental", **options)
    assert_success(moved.result(LONG))
    assert images(fleet) == ONLY_BASE
    moved = fleet.client.migrate("vm1", "hostB", "hostC", copy_storage="all", **options)
    assert_success(moved.result(LONG))
    assert images(fleet, "hostC") == ["vm1-hda.qcow2"]
    assert guest.wait_for_heartbeat().stale == 0
    result = stop(fleet, host="hostC")
    assert_success(result)
    assert result.details == f"removed hda ({overlay.path})"
    assert images(fleet, "hostC") == []
    assert images(fleet, "hostB") == ONLY_BASE
    assert domains(fleet, "hostC") == {}


def test_virtual_cluster_is_one_container_and_each_start_is_on_its_own(fleet, base):
    names = [f"node{number}" for number in range(8)]
    disks = {name: [OVERLAY] for name in names}
    disks["node3"] = [NewDisk(target="hda", base=str(FOLDER / "missing.qcow2"))]
    members = [
        Start(xml=bios_xml(fleet, name), disks=disks[name], probe_with_ssh=False) for name in names
    ]
    results = fleet.client.submit("hostA", members).result(LONG).results
    by_name = {result.vm_name: result for result in results}
    assert_error(by_name.pop("node3"), "the base .*missing.qcow2 .* there is no file")
    for result in by_name.values():
        assert_success(result)
    assert images(fleet) == sorted([*ONLY_BASE, *(f"{name}-hda.qcow2" for name in by_name)])
    assert set(domains(fleet)) == set(by_name)
    results = fleet.client.stop(
        "hostA", regex="node[0-9]", force=True, undefine=True, remove_storage=True
    ).result(LONG)
    for result in results:
        assert_success(result)
    assert images(fleet) == ONLY_BASE
    assert domains(fleet) == {}
    assert fleet.lab.host("hostA").virsh("pool-list", "--all", "--name").strip() == ""


def test_disks_of_a_container_have_room_together_also_when_they_are_full(fleet, base):
    """Each start alone has enough. The room is free again when the images are removed."""
    host = fleet.lab.host("hostA")
    small = FOLDER / "small"
    host.run(["mkdir", small])
    host.run(["mount", "-t", "tmpfs", "-o", "size=64m", "small", small])

    def member(name):
        disk = NewDisk(target="vda", size=20, path=str(small / name))
        return Start(xml=bios_xml(fleet, name), disks=[disk], probe_with_ssh=False)

    names = [f"node{number}" for number in range(6)]
    results = fleet.client.submit("hostA", [*map(member, names)]).result(LONG).results
    refused = [result for result in results if result.status == "error"]
    assert len(refused) == 3
    for result in refused:
        assert_error(
            result,
            "of other starts and of arriving domains may take .* disk vda of node. may need 20",
        )
    started = set(domains(fleet))
    assert started == {name for name in names if name not in {each.vm_name for each in refused}}
    again = fleet.client.submit("hostA", [member(refused[0].vm_name)])
    assert_error(again.result(LONG).results[0], "may take .* overcommit-disks: true")
    assert_success(stop(fleet, started.pop()))
    [result] = fleet.client.submit("hostA", [member(refused[0].vm_name)]).result(LONG).results
    assert_success(result)
    fleet.reset()
    host.run(["umount", small])


def test_failed_start_leaves_the_host_as_it_was(fleet, base):
    host = fleet.lab.host("hostA")
    gone = "<disk type='file'><source file='/gone'/><target dev='vdz' bus='virtio'/></disk>"
    bad = bios_xml(fleet, "vm1").replace("</devices>", f"{gone}</devices>")
    assert_error(start(fleet, xml=bad), "/gone")
    assert (images(fleet), domains(fleet)) == (ONLY_BASE, {})
    # A definition of before is restored.
    path = fleet.lab.layout.guests / "bad.xml"
    path.write_text(bad)
    host.virsh("define", path)
    before = host.virsh("dumpxml", "vm1")
    again = fleet.client.start("hostA", "vm1", disks=[OVERLAY], probe_with_ssh=False)
    assert_error(again.result(PATIENCE), "/gone")
    assert images(fleet) == ONLY_BASE
    assert host.virsh("dumpxml", "vm1") == before
    host.virsh("undefine", "vm1")
    # The disk is full: the file system has room for two files.
    small = FOLDER / "small"
    host.run(["mkdir", small])
    host.run(["mount", "-t", "tmpfs", "-o", "size=64m,nr_inodes=3", "small", small])
    try:
        paths = [str(small / f"{number}.qcow2") for number in range(3)]
        names = ["vda", "vdb", "vdc"]
        disks = [NewDisk(target=n, size=1, path=p) for n, p in zip(names, paths, strict=True)]
        assert_error(start(fleet, disks=disks), "2.qcow2 for disk vdc .*No space left on device")
        assert host.run(["ls", small]).stdout == ""
        disks = [NewDisk(target=n, size=40, path=p) for n, p in zip(names, paths, strict=True)]
        assert_error(start(fleet, disks=disks), "64 MiB free in .* vda, vdb, vdc .* 120 MiB")
    finally:
        host.run(["umount", small])
        host.run(["rmdir", small])
    assert (images(fleet), domains(fleet)) == (ONLY_BASE, {})


def test_starts_are_refused_before_anything_changes(fleet, base):
    host = fleet.lab.host("hostA")
    host.run(["qemu-img", "create", "-q", "-f", "vmdk", FOLDER / "a.vmdk", "1M"])
    host.run(["ln", "-s", "/nowhere", FOLDER / "link"])
    host.run(["mkdir", FOLDER / "folder"])
    before = images(fleet)

    def disk(**options):
        return NewDisk(**{"target": "vda", **options})

    for options, why in (
        ({"base": str(BASE), "size": 15}, "size of 15 MiB, .* make it at least 16 MiB"),
        ({"base": str(BASE), "format": "raw"}, "a base and the format raw"),
        ({"base": str(FOLDER / "a.vmdk")}, "it has the format vmdk; convert it"),
        ({"base": str(FOLDER / "folder")}, "it is a folder"),
        ({"base": str(FOLDER / "none")}, "there is no file"),
        ({"size": 1, "path": str(FOLDER / "a.vmdk")}, "has a file .*a.vmdk already"),
        ({"size": 1, "path": str(FOLDER / "link")}, "has a file .*link already"),
        ({"size": 1, "path": "/no/such/folder/a"}, "cannot use the folder /no/such/folder"),
        ({"size": 1 << 30}, "MiB free in .* may need 1073741824 MiB"),
    ):
        assert_error(start(fleet, disks=[disk(**options)]), why)
    writer = f"<disk type='file'><driver name='qemu' type='qcow2'/><source file='{BASE}'/>"
    writer += "<target dev='vda' bus='virtio'/></disk></devices>"
    xml = bios_xml(fleet, "vm1").replace("</devices>", writer)
    assert_error(start(fleet, xml=xml, disks=[disk(size=1)]), "vm1 has a disk vda already")
    assert_success(start(fleet, xml=xml, disks=None))
    assert_error(start(fleet, "vm2"), "base.qcow2 is disk vda of vm1, which is active .* a copy")
    assert images(fleet) == before
    assert domains(fleet) == {"vm1": "running"}
    assert_error(stop(fleet, undefine=False), "remove-storage needs undefine: true")
    assert domains(fleet) == {"vm1": "running"}
    result = stop(fleet)
    assert_success(result)
    assert result.details == "no start has created images for vm1"
    assert images(fleet) == before


def test_images_in_use_are_not_removed(fleet, base):
    host = fleet.lab.host("hostA")
    assert_success(start(fleet))
    assert_success(stop(fleet, undefine=False, remove_storage=False))
    mine = FOLDER / "vm1-hda.qcow2"
    # Another domain, which runs, and then one that is shut off, has the image behind its own.
    assert_success(start(fleet, "vm2", disks=[NewDisk(target="hda", base=str(mine))]))
    assert_error(stop(fleet), f"{mine} is a backing file of disk hda of vm2 on hostA")
    assert_success(stop(fleet, "vm2", undefine=False, remove_storage=False))
    assert_error(stop(fleet), f"{mine} is a backing file of disk hda of vm2 on hostA")
    assert_success(stop(fleet, "vm2"))
    # So has an image that is of no domain.
    create = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", mine]
    host.run([*create, FOLDER / "other"])
    assert_error(stop(fleet), f"{mine} is the backing file of {FOLDER / 'other'}")
    host.run(["rm", FOLDER / "other"])
    # A domain of another host may share the storage.
    foreign = bios_xml(fleet, "vm3").replace(
        "</devices>",
        f"<disk type='file'><source file='{mine}'/><target dev='vda'/></disk></devices>",
    )
    path = fleet.lab.layout.guests / "foreign.xml"
    path.write_text(foreign)
    fleet.lab.host("hostB").virsh("define", path)
    assert_error(stop(fleet), f"{mine} is disk vda of vm3 on hostB")
    fleet.lab.host("hostB").virsh("undefine", "vm3")
    assert images(fleet) == [*ONLY_BASE, mine.name]
    # An external snapshot makes it the backing file of the domain's own disk.
    assert_success(fleet.client.start("hostA", "vm1", probe_with_ssh=False).result(PATIENCE))
    host.virsh("snapshot-create-as", "vm1", "s1", "--disk-only", "--no-metadata")
    assert_error(stop(fleet), "probably because of an external snapshot")
    assert domains(fleet) == {"vm1": "running"}
    host.virsh("blockcommit", "vm1", "hda", "--active", "--pivot", "--wait")
    host.run(["rm", FOLDER / "vm1-hda.s1"])
    result = stop(fleet)
    assert_success(result)
    assert images(fleet) == ONLY_BASE


def test_record_of_images_is_the_daemons_own(fleet, base):
    """A task cannot make the daemon remove a file, and a new XML forgets no image."""
    forged = f"<fastlib:disk target='hda' path='{BASE}'/>"
    record = f"<fastlib:disks xmlns:fastlib='urn:fastlib:disks'>{forged}</fastlib:disks>"
    xml = bios_xml(fleet, "vm1")
    with_record = xml.replace("<memory", f"<metadata>{record}</metadata><memory", 1)
    assert_success(start(fleet, xml=with_record, disks=None))
    result = stop(fleet)
    assert_success(result)
    assert result.details == "no start has created images for vm1"
    assert_success(start(fleet, xml=xml))
    assert_success(stop(fleet, undefine=False, remove_storage=False))
    assert_success(start(fleet, xml=xml, disks=None))
    assert_success(stop(fleet))
    assert images(fleet) == ONLY_BASE


def test_order_that_is_repeated_creates_its_disks_once(fleet, base):
    xml = bios_xml(fleet, "vm1")
    first = start(fleet, xml=xml, id="same", idempotency_key="once")
    assert_success(first)
    second = start(fleet, xml=xml, id="same", idempotency_key="once")
    assert second.details == first.details
    assert images(fleet) == [*ONLY_BASE, "vm1-hda.qcow2"]


# Faults


DISKS = [OVERLAY, *(NewDisk(target=f"vd{letter}", size=1) for letter in "abc")]


def wait_for_moment(fleet, handle, moment):
    """Wait until a start has created a number of images, or until its domain is defined."""

    def has_come():
        count = len(images(fleet)) - len(ONLY_BASE)
        return handle.done() or (count >= moment if moment <= len(DISKS) else domains(fleet))

    wait_until(has_come, f"moment {moment}", PATIENCE)


@pytest.mark.parametrize("victim", ["daemon", "libvirtd"])
def test_killed_start_leaves_a_domain_with_its_disks_or_nothing(fleet, base, victim, request):
    """The number of images at the kill is drawn, and a short delay after it."""
    draw = random.Random(11)
    kills = 40 if request.config.getoption("--long") else 5
    for number in range(kills):
        moment = number % (len(DISKS) + 2) if kills > 5 else number + 1
        handle = order(fleet, disks=DISKS)
        wait_for_moment(fleet, handle, moment)
        # A part of the kills is between two moments.
        time.sleep(draw.choice([0.0, 0.05, 0.2, 0.5]))
        if victim == "daemon":
            fleet.daemons["hostA"].kill()
            fleet.daemons["hostA"].start()
        else:
            fleet.lab.host("hostA").libvirtd.kill()
            fleet.lab.host("hostA").libvirtd.start()
        result = handle.result(LONG)
        expected = sorted([*ONLY_BASE, "vm1-hda.qcow2", *(f"vm1-vd{x}.qcow2" for x in "abc")])
        if result.status == "success":
            assert domains(fleet) == {"vm1": "running"}, result
            assert images(fleet) == expected, result
            assert_success(stop(fleet))
        elif domains(fleet):
            assert images(fleet) == expected, result
            assert_success(stop(fleet))
        assert images(fleet) == ONLY_BASE, result
        assert domains(fleet) == {}, result
