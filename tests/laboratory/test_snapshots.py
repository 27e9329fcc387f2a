"""Domains with snapshots: what libvirt records of them, and what an image has."""

import re

import pytest

from tests.support.lab.fleet import PATIENCE, assert_error, assert_success
from tests.support.lab.local_disks import FOLDER, images_on, make_folder, remove_images
from tests.support.waiting import wait_until

pytestmark = pytest.mark.laboratory
IMAGE = FOLDER / "vm1.qcow2"
OVERLAY = FOLDER / "vm1.second"


def run_from(host, image, folder):
    """Let vm1, which has no operating system, run from a qcow2 image. Returns the host."""
    host.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "16M"])
    disk = (
        "<disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='none'/>"
        f"<source file='{image}'/><target dev='vda' bus='virtio'/></disk>"
    )
    path = folder / "vm1.xml"
    path.write_text(path.read_text().replace("</devices>", f"{disk}</devices>"))
    for command in ("define", path), ("start", "vm1"):
        host.virsh(*command)
    return host


@pytest.fixture
def host(fleet):
    """hostA, where vm1 runs from an image of its own."""
    for each in fleet.lab.hosts:
        remove_images(each)
        make_folder(each)
    fleet.lab.define_guest("vm1", bios=True)
    yield run_from(fleet.lab.host("hostA"), IMAGE, fleet.lab.layout.guests)
    fleet.reset()
    for each in fleet.lab.hosts:
        remove_images(each)


def migrate(fleet, **options):
    options = {"migration_type": "live", "copy_storage": "all", **options}
    return fleet.client.migrate("vm1", "hostA", "hostB", **options).result(PATIENCE)


def snapshots_in(host, image=IMAGE):
    listed = host.run(["qemu-img", "snapshot", "-U", "-l", image]).stdout.splitlines()
    return [line.split()[1] for line in listed[2:]]


def test_domain_with_an_internal_snapshot_does_not_lose_it(fleet, host):
    host.virsh("snapshot-create-as", "vm1", "first")
    assert snapshots_in(host) == ["first"]
    for command in ("snapshot-list", "--name"), ("snapshot-delete", "first", "--metadata"):
        assert_error(
            migrate(fleet),
            rf"disk vda \({IMAGE}\) of vm1 has 1 internal snapshot, and its copy would have none; "
            "delete ",
        )
        # Without libvirt's records, only the image tells of the snapshot.
        name, *options = command
        host.virsh(name, "vm1", *options)
    assert snapshots_in(host) == ["first"]
    assert images_on(fleet.lab.host("hostB")) == []
    assert fleet.lab.running_on("vm1") == ["hostA"]
    host.virsh("destroy", "vm1")
    host.run(["qemu-img", "snapshot", "-d", "first", IMAGE])
    host.virsh("start", "vm1")
    assert_success(migrate(fleet))
    assert fleet.lab.running_on("vm1") == ["hostB"]


@pytest.fixture
def with_external_snapshot(fleet, host):
    """hostA, where vm1 runs from an overlay that an external snapshot has made."""
    host.virsh("snapshot-create-as", "vm1", "second", "--disk-only")
    assert images_on(host) == [IMAGE.name, OVERLAY.name]
    assert_error(
        migrate(fleet),
        "vm1 has 1 external snapshot on hostA, which libvirt does",
        "delete libvirt's records of them with virsh snapshot-delete vm1 --metadata; to merge "
        "their files first, use virsh blockcommit vm1 DISK --active --pivot$",
    )
    return host


def test_merged_snapshot_migrates_without_its_record(fleet, with_external_snapshot):
    host = with_external_snapshot
    host.virsh("blockcommit", "vm1", "vda", "--active", "--pivot")
    host.virsh("snapshot-delete", "vm1", "second", "--metadata")
    host.run(["rm", OVERLAY])  # else the image would stay as its backing file
    result = migrate(fleet, source_disks="remove")
    assert_success(result)
    assert result.details == f"copied vda ({IMAGE}); removed the images on hostA"
    assert fleet.lab.running_on("vm1") == ["hostB"]
    assert images_on(fleet.lab.host("hostB")) == [IMAGE.name]


def test_named_backing_file_is_copied_whole_once_the_definition_does_not_name_it(
    fleet, with_external_snapshot
):
    host = with_external_snapshot
    host.virsh("snapshot-delete", "vm1", "second", "--metadata")
    assert_error(
        migrate(fleet),
        r"the definition of vm1 names the backing file of disk vda \(.*remove <backingStore> from "
        "the definition and start the domain again, or order copy-storage: incremental",
    )
    assert fleet.lab.running_on("vm1") == ["hostA"]
    xml = host.virsh("dumpxml", "vm1", "--inactive")
    assert "<backingStore type" in xml
    path = fleet.lab.layout.guests / "vm1.xml"
    path.write_text(re.sub("<backingStore type.*?</backingStore>", "", xml, flags=re.DOTALL))
    host.virsh("destroy", "vm1")
    host.virsh("define", path)
    host.virsh("start", "vm1")
    assert_success(migrate(fleet))
    assert fleet.lab.running_on("vm1") == ["hostB"]
    there = fleet.lab.host("hostB")
    assert images_on(there) == [OVERLAY.name]
    assert "backing file" not in there.run(["qemu-img", "info", "-U", OVERLAY]).stdout


def test_newest_file_alone_migrates_to_the_other_files(fleet, with_external_snapshot):
    host, mode = with_external_snapshot, "incremental"
    host.virsh("snapshot-delete", "vm1", "second", "--metadata")
    assert_error(migrate(fleet, copy_storage=mode), f"hostB lacks {IMAGE}, the backing file")
    there = fleet.lab.host("hostB")
    there.run(["qemu-img", "create", "-q", "-f", "qcow2", IMAGE, "16M"])
    assert_success(migrate(fleet, copy_storage=mode))
    assert fleet.lab.running_on("vm1") == ["hostB"]
    assert str(IMAGE) in there.run(["qemu-img", "info", "-U", OVERLAY]).stdout
    assert images_on(host) == [IMAGE.name, OVERLAY.name]


@pytest.mark.both_modes(only_long=True)
def test_internal_snapshots_on_shared_storage_travel(fleet):
    """libvirt moves no domain with records of snapshots, so fastlib takes these along."""
    folder = fleet.lab.layout.guests
    image = folder / "shared.qcow2"
    fleet.lab.define_guest("vm1", bios=True)
    host, there = run_from(fleet.lab.host("hostA"), image, folder), fleet.lab.host("hostB")
    for name in ("first", "second"):
        host.virsh("snapshot-create-as", "vm1", name)
    host.virsh("snapshot-revert", "vm1", "first")
    refused = migrate(fleet, copy_storage=None, vcpu_map=[[4095]])
    assert_error(refused, "4095")
    assert records(host) == ["first", "second"]
    assert_success(migrate(fleet, copy_storage=None))
    assert fleet.lab.running_on("vm1") == ["hostB"]
    assert snapshots_in(there, image) == records(there) == ["first", "second"]
    assert there.virsh("snapshot-current", "vm1", "--name").strip() == "first"
    there.virsh("snapshot-revert", "vm1", "second")
    there.virsh("destroy", "vm1")
    back = fleet.client.migrate("vm1", "hostB", "hostA", migration_type="offline")
    assert_success(back.result(PATIENCE))
    assert records(host) == ["first", "second"]
    host.virsh("snapshot-revert", "vm1", "first")
    assert fleet.lab.running_on("vm1") == ["hostA"]


def test_killed_daemon_loses_no_record_of_a_snapshot(fleet):
    folder = fleet.lab.layout.guests
    fleet.lab.define_guest("vm1", bios=True)
    host = run_from(fleet.lab.host("hostA"), folder / "shared.qcow2", folder)
    host.virsh("snapshot-create-as", "vm1", "first")
    handle = fleet.client.migrate("vm1", "hostA", "hostB", migration_type="live")
    wait_until(lambda: handle.done() or records(host) == [], "the records are removed", PATIENCE)
    fleet.daemons["hostA"].kill()
    fleet.daemons["hostA"].start()
    result = handle.result(PATIENCE)
    (where,) = fleet.lab.running_on("vm1")
    assert (where == "hostB") == (result.status == "success"), result.details
    assert records(fleet.lab.host(where)) == ["first"]


def records(host):
    """The names of the snapshots of which libvirt has a record."""
    return host.virsh("snapshot-list", "vm1", "--name").split()
