"""Migrations that copy disks: what arrives, what stays, what is refused, and what a fault leaves.

The guest writes its disk, flushes it and compares what it reads. The rest of the disk has random
data.
"""

import pytest

from tests.support import end_of_run
from tests.support.lab.bios_guests import cdrom_xml, define, disk_xml, make
from tests.support.lab.fleet import PATIENCE, assert_error, assert_success
from tests.support.lab.local_disks import (
    FOLDER,
    GROUP,
    MODE,
    OWNER,
    LocalDisk,
    images_on,
    make_folder,
    make_folder_on_ext4,
    outside,
    remove_images,
)
from tests.support.lab.loop_devices import missing_for_loop_devices
from tests.support.lab.phases import Phases
from tests.support.waiting import wait_until

pytestmark = pytest.mark.laboratory
LONG = PATIENCE


@pytest.fixture
def place(fleet):
    """The folders of images on all hosts. Afterwards they are removed."""
    for host in fleet.lab.hosts:
        remove_images(host)
        make_folder(host)
    yield
    fleet.reset()
    for host in fleet.lab.hosts:
        remove_images(host)


def local_disk(fleet, kind="qcow2", name="vm1", host="hostA"):
    disk = LocalDisk(fleet.lab.host(host), name, kind)
    if kind == "overlay":
        disk.write(b"")
        disk.copy_backing(fleet.lab.host("hostB"))
    return disk


def migrate(fleet, name="vm1", source="hostA", destination="hostB", **options):
    options = {"migration_type": "live", "copy_storage": "all", **options}
    return fleet.client.migrate(name, source, destination, **options)


def assert_disk_is_right(fleet, disk, host):
    """End the guest, and check that the disk on a host has all that it has written, and the rest.

    The guest compares what it reads with what it has written.
    """
    guest = fleet.guests[disk.name]
    last = guest.wait_for_heartbeat()
    assert last.stale == 0
    fleet.lab.host(host).virsh("destroy", disk.name)
    last = guest.heartbeats[-1]
    arrived = disk.on(fleet.lab.host(host))
    assert last.disk <= arrived.count <= last.disk + 1  # it may have written without a line since
    assert arrived.digest == disk.right_digest


@pytest.mark.parametrize(
    ("kind", "file_system"), [("qcow2", "ext4"), ("raw", "ext4"), ("overlay", "tmpfs")]
)
@pytest.mark.both_modes(only_long=True)
def test_copied_disk_has_all_data_and_the_properties_of_the_image(
    fleet, place, kind, file_system, request, add_figure
):
    if file_system == "ext4":
        if (why := missing_for_loop_devices()) is not None:
            end_of_run.skip_now(request.node, "copies of disks are not tested on ext4", why)
        for host in fleet.lab.hosts[:2]:
            make_folder_on_ext4(fleet.lab, host)
    disk = local_disk(fleet, kind)
    fleet.run_guest("hostA", "vm1", disk=disk)
    mode = "incremental" if kind == "overlay" else "all"
    result = migrate(fleet, copy_storage=mode).result(PATIENCE)
    assert_success(result)
    assert result.details == f"copied hda ({disk.path}); hostA keeps its images"
    fleet.assert_runs_only_on("vm1", "hostB")
    there = disk.on(fleet.lab.host("hostB")).file
    state, before = there.stat(), disk.file.stat()
    assert (state.st_uid, state.st_gid, state.st_mode & 0o7777) == (OWNER, GROUP, MODE)
    add_figure(f"KiB on {file_system}: {before.st_blocks >> 1}, the copy {state.st_blocks >> 1}")
    assert state.st_blocks * 512 < before.st_blocks * 512 + (2 << 20)
    assert_disk_is_right(fleet, disk, "hostB")


def test_cancelled_copy_leaves_the_source_and_no_image_at_the_destination(fleet, place):
    disk = local_disk(fleet)
    fleet.run_guest("hostA", "vm1", disk=disk)
    handle = migrate(fleet, bandwidth_limit=2)
    progress = wait_for_disk_bytes(handle, 1 << 20)
    assert images_on(fleet.lab.host("hostB")) == ["vm1.qcow2"]
    assert progress.phase == "copy disks"
    assert 0 < progress.disk_transferred <= progress.transferred
    assert progress.disk_transferred + progress.disk_remaining == progress.disk_total
    assert_success(handle.cancel().result(PATIENCE))
    assert_error(handle.result(PATIENCE), "cancelled; vm1 runs on hostA$")
    assert images_on(fleet.lab.host("hostB")) == []
    fleet.assert_runs_only_on("vm1", "hostA")
    # The daemon's restart in the middle of the copy changes nothing.
    handle = migrate(fleet, bandwidth_limit=2, source_disks="remove")
    wait_for_disk_bytes(handle, 1 << 20)
    fleet.daemons["hostA"].kill()
    fleet.daemons["hostA"].start()
    fleet.lift_bandwidth_limit("hostA", "vm1")
    result = handle.result(LONG)
    assert_success(result)
    assert result.details == (
        "found done after the daemon's restart; "
        f"copied hda ({disk.path}); removed the images on hostA"
    )
    assert images_on(fleet.lab.host("hostA")) == []
    assert_disk_is_right(fleet, disk, "hostB")


def test_copy_that_times_out_is_undone(fleet, place):
    disk = local_disk(fleet, "raw")
    fleet.run_guest("hostA", "vm1", disk=disk)
    result = migrate(fleet, bandwidth_limit=1, migration_timeout=1).result(PATIENCE)
    assert_error(result, "not finished within the timeout of 1 s .*vm1 runs on hostA")
    assert images_on(fleet.lab.host("hostB")) == []


def test_post_copy_begins_after_the_disks_have_arrived(fleet, place):
    """The timeout is over before the disks have arrived."""
    disk = local_disk(fleet)
    fleet.run_guest("hostA", "vm1", disk=disk, dirty=16, rate=32)
    handle = migrate(fleet, bandwidth_limit=4, migration_timeout=0, on_timeout="post-copy")
    Phases(handle).wait_for("post-copy")
    fleet.lift_bandwidth_limit("hostA", "vm1", post_copy=True)
    assert_success(handle.result(LONG))
    fleet.assert_runs_only_on("vm1", "hostB")
    assert_disk_is_right(fleet, disk, "hostB")


def test_domain_runs_until_its_disks_have_arrived_also_if_warm(fleet, place):
    disk = local_disk(fleet, "raw")
    fleet.run_guest("hostA", "vm1", disk=disk)
    handle = migrate(fleet, migration_type="warm", bandwidth_limit=1)
    wait_for_disk_bytes(handle, 1 << 20)
    assert fleet.lab.host("hostA").domains() == {"vm1": "running"}
    fleet.lift_bandwidth_limit("hostA", "vm1")
    assert_success(handle.result(PATIENCE))
    fleet.assert_runs_only_on("vm1", "hostB")


def wait_for_disk_bytes(handle, least):
    """Wait until a migration has copied a part of a disk. Returns its progress then."""

    def has_copied():
        progress = handle.progress
        is_enough = progress is not None and (progress.disk_transferred or 0) >= least
        return progress if is_enough or handle.done() else None

    progress = wait_until(has_copied, lambda: f"disks are copied: {handle.progress}", PATIENCE)
    assert not handle.done(), handle.result(1)
    return progress


# Refusals


@pytest.fixture
def run_bios(fleet, place):
    """Let a domain without an operating system run on hostA, with disks."""

    def run_bios(*disks):
        define(fleet, "vm1", *disks)
        fleet.lab.host("hostA").virsh("start", "vm1")

    return run_bios


def test_every_image_of_a_chain_must_be_at_the_destination(fleet, run_bios):
    base, middle, top = [FOLDER / name for name in ("base.img", "middle.qcow2", "top.qcow2")]
    for host in "hostA", "hostB":
        make(fleet, host, base)
        create = ["qemu-img", "create", "-q", "-f", "qcow2"]
        fleet.lab.host(host).run([*create, "-b", base, "-F", "raw", middle])
    fleet.lab.host("hostA").run([*create, "-b", middle, "-F", "qcow2", top])
    run_bios(disk_xml(top, format="qcow2"))
    fleet.lab.host("hostB").run(["rm", base])
    result = migrate(fleet, copy_storage="incremental").result(PATIENCE)
    assert_error(result, rf"hostB lacks {base}, the backing file of disk vda of vm1; copy it there")
    assert images_on(fleet.lab.host("hostB")) == ["middle.qcow2"]
    make(fleet, "hostB", base)
    assert_success(migrate(fleet, copy_storage="incremental").result(PATIENCE))


def test_unshared_disks_are_refused_with_a_remedy(fleet, run_bios):
    one, other = FOLDER / "one.img", FOLDER / "other.img"
    for path in (one, other):
        make(fleet, "hostA", path)
    shared = fleet.lab.layout.guests / "shared.img"
    make(fleet, "hostA", shared)
    run_bios(disk_xml(one), disk_xml(other, "vdb"), disk_xml(shared, "vdc"))
    result = migrate(fleet, copy_storage=None).result(PATIENCE)
    for name, path in (("vda", one), ("vdb", other)):
        assert_error(
            result,
            rf"disk {name} \({path}\) of vm1 is not on storage that hostA and hostB share; order "
            "copy-storage: all, which copies it, or put it on shared storage",
        )
    assert "vdc" not in result.details
    result = migrate(fleet, copy_disks=["vda"]).result(PATIENCE)
    assert_error(result, r"disk vdb .* share; add vdb to copy-disks")
    result = migrate(fleet, copy_disks=["vda", "vdb", "vdc", "vdx"]).result(PATIENCE)
    assert_error(
        result,
        r"disk vdc .*would overwrite itself; leave it out of copy-disks",
        "copy-disks has 'vdx', but vm1 writes only the disks vda, vdb, vdc",
    )
    make(fleet, "hostB", one)
    result = migrate(fleet).result(PATIENCE)
    assert_error(result, rf"hostB has another file {one} already")
    assert images_on(fleet.lab.host("hostB")) == ["one.img"]
    fleet.lab.host("hostB").run(["rm", "-r", FOLDER])
    result = migrate(fleet).result(PATIENCE)
    assert_error(
        result,
        rf"hostB has no place for disk vda, vdb of vm1: libvirt cannot use the folder {FOLDER}",
    )
    make_folder(fleet.lab.host("hostB"))
    assert fleet.lab.host("hostB").virsh("pool-list", "--all", "--name").strip() == ""
    result = migrate(fleet, source_disks="remove").result(PATIENCE)
    assert_success(result)
    assert result.details == (f"copied vda ({one}), vdb ({other}); removed the images on hostA")
    assert images_on(fleet.lab.host("hostA")) == []
    assert images_on(fleet.lab.host("hostB")) == ["one.img", "other.img"]
    for host in fleet.lab.hosts:
        assert host.virsh("pool-list", "--all", "--name").strip() == ""


def test_files_that_the_destination_lacks_are_named_with_their_disks(fleet, run_bios):
    own, cd, optional = FOLDER / "own.img", FOLDER / "cd.iso", FOLDER / "optional.iso"
    for path in own, cd, optional, FOLDER / "transient.img":
        make(fleet, "hostA", path)
    make_folder(fleet.lab.host("hostB"))
    run_bios(
        disk_xml(own),
        disk_xml(FOLDER / "transient.img", "vdb", more="<transient/>"),
        cdrom_xml(cd, "hdc"),
        cdrom_xml(optional, "hdd", "startupPolicy='requisite'"),
    )
    details = assert_error(
        migrate(fleet).result(PATIENCE),
        r"disk vdb \(.*\) of vm1 is transient, and libvirt does not migrate such a disk",
        rf"hostB lacks files of vm1: {cd} \(cdrom hdc\); put them there",
    )
    assert "optional.iso" not in details
    assert images_on(fleet.lab.host("hostB")) == []


def test_inactive_pool_of_the_folder_is_named(fleet, run_bios):
    path = FOLDER / "one.img"
    make(fleet, "hostA", path)
    run_bios(disk_xml(path))
    for host, words in ("hostB", "hostB has no place for disk vda of vm1"), ("hostA", "on hostA"):
        pool = fleet.lab.host(host)
        pool.virsh("pool-define-as", "images", "dir", "--target", FOLDER)
        make_folder(pool)
        try:
            result = migrate(fleet).result(PATIENCE)
            assert_error(
                result, f"{words}: the storage pool images of {FOLDER} is not active; start it"
            )
        finally:
            pool.virsh("pool-undefine", "images")
    assert_success(migrate(fleet).result(PATIENCE))


def test_images_that_the_source_still_needs_stay_there(fleet, run_bios):
    """For domains that are shut off: as a backing file, by a link, as a volume. And a link."""
    host = fleet.lab.host("hostA")
    base, linked, volume, link, own = [FOLDER / f"{n}.img" for n in ("a", "b", "c", "d", "e")]
    elsewhere = FOLDER / "elsewhere"
    for path in linked, volume, own, elsewhere / "real.img":
        make(fleet, "hostA", path)
    host.run(["qemu-img", "create", "-q", "-f", "qcow2", base, "1M"])
    overlay = elsewhere / "overlay.qcow2"
    host.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", overlay])
    host.run(["ln", "-s", linked, elsewhere / "link.img"])
    host.run(["ln", "-s", elsewhere / "real.img", link])
    define(fleet, "vm2", disk_xml(overlay, format="qcow2"))
    define(fleet, "vm3", disk_xml(elsewhere / "link.img"))
    xml = disk_xml("").replace("type='file'", "type='volume'")
    define(fleet, "vm4", xml.replace('file=""', f"pool='images' volume='{volume.name}'"))
    assert f"volume='{volume.name}'" in host.virsh("dumpxml", "vm4")
    make_folder(fleet.lab.host("hostB"))
    run_bios(
        disk_xml(base, format="qcow2"),
        *(
            disk_xml(path, f"vd{letter}")
            for path, letter in zip((linked, volume, link, own), "bcde", strict=True)
        ),
    )
    host.virsh("pool-define-as", "images", "dir", "--target", FOLDER)
    host.virsh("pool-start", "images")
    try:
        result = migrate(fleet, source_disks="remove").result(PATIENCE)
    finally:
        for command in "pool-destroy", "pool-undefine":
            host.virsh(command, "images")
    assert_success(result)
    for words in (
        f"vda could not be removed there: {base} is the backing file of {overlay}",
        f"vdb could not be removed there: {linked} belongs to vm3",
        f"vdc could not be removed there: {volume} belongs to vm4",
        f"vdd could not be removed there: {link} is a link to {elsewhere}/real.img",
    ):
        assert words in result.details
    assert "vde could not" not in result.details
    assert images_on(host) == ["a.img", "b.img", "c.img", "d.img", "elsewhere"]
    assert images_on(fleet.lab.host("hostB")) == ["a.img", "b.img", "c.img", "d.img", "e.img"]


def test_raw_disk_that_the_guest_has_encrypted_is_copied_whole(fleet, run_bios):
    """libvirt's storage driver takes it for a smaller image."""
    path = FOLDER / "luks.img"
    host = fleet.lab.host("hostA")
    make_folder(host)
    make_folder(fleet.lab.host("hostB"))
    secret = ["--object", "secret,id=s,data=abc", "-o", "key-secret=s,iter-time=10"]
    host.run(["qemu-img", "create", "-q", "-f", "luks", *secret, path, "8M"])
    run_bios(disk_xml(path))
    assert_success(migrate(fleet).result(PATIENCE))
    sums = [fleet.lab.host(name).run(["sha256sum", path]).stdout for name in ("hostA", "hostB")]
    assert sums[0] == sums[1]


def test_disks_that_find_no_room_or_no_backing_file_are_refused(fleet, run_bios):
    large = FOLDER / "large.img"
    make(fleet, "hostA", large, "10G")
    disk = local_disk(fleet, "overlay")
    disk.write(b"")
    make(fleet, "hostB", disk.backing)
    run_bios(disk_xml(large), disk_xml(disk.path, "vdb", "qcow2"))
    result = migrate(fleet, copy_storage="incremental").result(PATIENCE)
    assert_error(
        result,
        rf"{disk.backing}, the backing file of disk vdb of vm1, is not the same file on hostB",
        r"hostB has \d+ MiB free in .* and disk vda, vdb of vm1 may need 102\d\d MiB",
    )
    fleet.lab.host("hostB").run(["rm", disk.backing])
    result = migrate(fleet, copy_storage="incremental").result(PATIENCE)
    assert_error(result, rf"hostB lacks {disk.backing}, the backing file of disk vdb of vm1; copy")
    assert images_on(fleet.lab.host("hostB")) == []


@pytest.mark.usefixtures("only_long")
def test_copies_from_several_hosts_have_room_together(fleet, place):
    """Each alone has room. The second one waits until the first one has ended."""
    there = fleet.lab.host("hostB")
    there.run(["mount", "-t", "tmpfs", "-o", "size=170m", "images", FOLDER])
    # At 1 MiB/s the first copy takes longer than the second migration needs to wait for it.
    for name, host, size in (("vm1", "hostA", 160), ("vm2", "hostC", 16)):
        image = FOLDER / f"{name}.img"
        make(fleet, host, image)
        outside(fleet.lab.host(host), image).write_bytes(bytes([7]) * (size << 20))
        define(fleet, name, disk_xml(image), host=host)
        fleet.lab.host(host).virsh("start", name)
    first = migrate(fleet, bandwidth_limit=1)
    wait_for_disk_bytes(first, 1)
    second = migrate(fleet, "vm2", "hostC")
    phases = []
    second.on_progress(lambda progress: phases.append(progress.phase))
    wait_until(lambda: second.done() or "wait for room" in phases, lambda: f"{phases}", LONG)
    assert not second.done(), second.result(1)
    assert images_on(there) == ["vm1.img"]
    assert_success(first.cancel().result(LONG))
    assert_error(first.result(LONG), "cancelled; vm1 runs on hostA$")
    assert_success(second.result(LONG))
    assert images_on(there) == ["vm2.img"]


def test_shared_disk_with_a_cache_is_refused_with_a_remedy(fleet, run_bios):
    shared = fleet.lab.layout.guests / "shared.img"
    make(fleet, "hostA", shared)
    run_bios(disk_xml(shared, cache="writeback"))
    result = migrate(fleet).result(PATIENCE)
    assert_error(
        result, rf"disk vda \({shared}\) of vm1 has cache='writeback' .*set cache='none' in the"
    )
