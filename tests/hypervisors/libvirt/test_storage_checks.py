"""The check that a domain finds its files at the destination, through libvirt of both hosts.

The hosts are fakes. The first one sees the files of this machine, the second one only some folders.
"""

import errno

import pytest

from fastlib import Migrate, MigrateParameter
from fastlib.migfra import HypervisorError
from fastlib.migfra.hypervisors.libvirt.domain import host_info
from fastlib.migfra.hypervisors.libvirt.migration.storage_checks import (
    check_shared_file,
)
from fastlib.migfra.hypervisors.simulated import run_virtual
from fastlib.migfra.virt.migration_spec import MigrationSpec
from tests.support.libvirt.fake_domain import SHUT_OFF, FakeDomain, refusal
from tests.support.libvirt.fake_libvirt import FakeHosts
from tests.support.libvirt.qcow2 import write_qcow2
from tests.support.libvirt.storage_hosts import Storage, WrittenDevice, disk, image, system_error


def test_domain_without_files_needs_no_check():
    storage = Storage()
    assert storage.check() == []
    assert storage.calls == []


def test_shared_disk_is_accepted(tmp_path):
    storage = Storage(disk(image(tmp_path)))
    for kind in ("offline", "live", "warm"):
        assert storage.check(kind) == []
    assert [path.name for path in tmp_path.iterdir()] == ["disk.img"]
    assert set(storage.calls) == {
        f"{host}: {call}" for host in ("node01", "node02") for call in ("define", "undefine")
    }


def test_missing_files_are_refused_all_at_once(tmp_path):
    one, two = image(tmp_path, "a"), image(tmp_path, "b")
    storage = Storage(disk(one), disk(two, "vdb"), "<emulator>/bin/sh</emulator>")
    storage.destination.hidden = [tmp_path]
    assert storage.refusal() == (
        f"node02 lacks files of vm1: {one} (disk vda), {two} (disk vdb); put them there, best "
        "on storage that both hosts share, or take them out of the domain's definition"
    )


def test_many_files_are_checked_in_portions(tmp_path):
    storage = Storage(*(disk(image(tmp_path, str(number))) for number in range(40)))
    assert storage.check() == []
    storage.destination.hidden = [tmp_path]
    assert f"{tmp_path / '39'} (disk vda)" in storage.refusal()


@pytest.mark.parametrize("kind", ["offline", "live", "warm"])
def test_copy_of_a_disk_is_refused(tmp_path, kind):
    """It has the same path, size and content, but later writes go to another file."""
    path = image(tmp_path)
    storage = Storage(disk(path))
    storage.destination.hidden = [tmp_path]
    storage.destination.own[str(path)] = path.read_bytes()
    refusal = storage.refusal(kind=kind)
    assert str(path) in refusal
    assert "of vm1 is another file on node02 than on node01" in refusal


@pytest.mark.parametrize("kind", ["live", "warm"])
@pytest.mark.parametrize("content", [b"DATA" * 300, b"data" * 301, b""])
def test_medium_that_the_domain_reads_must_have_the_same_content_there(tmp_path, kind, content):
    """Else the guest, which may have it mounted, would suddenly read something else."""
    path = image(tmp_path, "cd.iso")
    cdrom = disk(path).replace("device='disk'", "device='cdrom'")
    read_only = disk(path).replace("</disk>", "<readonly/></disk>")
    for xml, role in (cdrom, "cdrom"), (read_only, "disk"):
        storage = Storage(xml)
        assert storage.check(kind) == []
        storage.destination.hidden = [tmp_path]
        storage.destination.own[str(path)] = path.read_bytes()
        assert storage.check(kind) == []
        storage.destination.own[str(path)] = content
        assert storage.refusal(kind=kind) == (
            f"{path} ({role} vda) of vm1 has other content on node02 than on node01, and the "
            "domain may have read it; copy it there, or take it out of the domain, such as a "
            "CD-ROM by virsh change-media --eject"
        )
        assert storage.check("offline") == []  # it reads the medium anew


def test_copy_is_refused_for_the_way_back_of_a_swap(tmp_path):
    path = image(tmp_path)
    storage = Storage()
    back = storage.destination.add(storage.source.domains.pop("vm1"))
    back.devices = [disk(path)]
    assert storage.check("live", source="node02") == []
    storage.destination.hidden = [tmp_path]
    storage.destination.own[str(path)] = path.read_bytes()
    assert "is another file on node01 than on node02" in storage.refusal(
        kind="live", source="node02"
    )


def test_running_domain_needs_only_its_disks_to_be_the_same(tmp_path):
    """libvirt refuses other missing files without this check."""
    storage = Storage("<emulator>/absent</emulator>", disk(image(tmp_path)))
    assert "/absent (emulator)" in storage.refusal()
    assert storage.check("live") == []


@pytest.mark.parametrize("kind", ["live", "warm"])
def test_running_domain_needs_the_files_that_its_disks_only_read(tmp_path, kind):
    cd, base = tmp_path / "cd.iso", tmp_path / "base.img"
    chain = f"<backingStore type='file'><format type='raw'/><source file='{base}'/></backingStore>"
    storage = Storage(
        disk(image(tmp_path)).replace("</disk>", f"{chain}</disk>"),
        disk(cd, "sda").replace("device='disk'", "device='cdrom'"),
        disk(tmp_path / "ro.img", "vdb").replace("</disk>", "<readonly/></disk>"),
        "<disk type='file' device='cdrom'><source file='/optional' startupPolicy='requisite'/>"
        "<target dev='sdb'/></disk>",
    )
    refusal = storage.refusal(kind=kind)
    assert refusal.startswith("node02 lacks files of vm1: ")
    for words in (
        f"{base} (backing file of disk vda)",
        f"{cd} (cdrom sda)",
        f"{tmp_path}/ro.img (disk vdb)",
    ):
        assert words in refusal
    assert "/optional" not in refusal
    for path in cd, base, tmp_path / "ro.img":
        path.write_bytes(b"data")
    assert storage.check(kind) == []


def test_running_domain_needs_the_volumes_of_its_disks():
    source = "<source pool='images' volume='x'/><target dev='vda'/>"
    storage = Storage(f"<disk type='volume' device='disk'>{source}</disk>")
    assert "node02 lacks the volume x (disk vda) of vm1: there is no storage pool images" in (
        storage.refusal(kind="live")
    )


def test_disk_is_compared_by_content_where_no_marker_can_be_made(tmp_path, monkeypatch):
    path = image(tmp_path)
    storage = Storage(disk(path))
    monkeypatch.setattr(
        "fastlib.migfra.hypervisors.libvirt.migration.storage_checks.make_markers", lambda *_: {}
    )
    (note,) = storage.check()
    assert note == (
        f"whether {path} (disk vda) is the same file on both hosts could not be checked"
    )
    storage.destination.own[str(path)] = path.read_bytes()[:-1] + b"!"
    assert "is another file on node02" in storage.refusal()


def test_marker_that_libvirt_does_not_see_here_says_nothing(tmp_path):
    """The daemon may have another folder at this path than libvirt."""
    path = image(tmp_path)
    storage = Storage(disk(path))
    for host in (storage.source, storage.destination):
        host.hidden = [tmp_path]
        host.own[str(path)] = b"data"
    (note,) = storage.check()
    assert "could not be checked" in note


def test_devices_are_compared_by_size_and_content():
    storage = Storage(disk("/dev/vg/vm1", kind="block", attribute="dev"))
    storage.source.own["/dev/vg/vm1"] = bytes(5 << 20)
    storage.destination.own["/dev/vg/vm1"] = bytes(5 << 20)
    assert storage.check() == storage.check("live") == []
    head = 1 << 20  # of the first partition
    storage.destination.own["/dev/vg/vm1"] = bytes(head) + b"!" + bytes((4 << 20) - 1)
    for kind in ("offline", "live"):
        refusal = storage.refusal(kind=kind)
        assert "/dev/vg/vm1 (disk vda) of vm1 is another file" in refusal
        assert "copy-storage" not in refusal  # which copies no device
    storage.destination.own["/dev/vg/vm1"] = bytes(6 << 20)
    assert "is another file" in storage.refusal(kind="live")


def test_device_that_is_written_during_the_check_is_not_taken_for_another_one():
    storage = Storage(disk("/dev/vg/vm1", kind="block", attribute="dev"))
    storage.source.own["/dev/vg/vm1"] = WrittenDevice(1 << 20)
    storage.destination.own["/dev/vg/vm1"] = bytes(1 << 20)
    assert storage.check("live") == []
    assert storage.source.own["/dev/vg/vm1"].reads > 0


@pytest.mark.parametrize(
    ("kind", "attribute", "source", "cache"),
    [
        ("block", "dev", "/dev/x", "none"),
        ("network", "protocol", "nbd", "none"),
        ("network", "protocol", "rbd", "writeback"),
    ],
)
def test_disks_that_libvirt_takes_as_shared_do_not_hide_that_a_file_is_shared(
    tmp_path, kind, attribute, source, cache
):
    """libvirt refuses all disks if it does not know the file system of one."""
    other = disk(source, "vdb", kind=kind, attribute=attribute, cache=cache)
    storage = Storage(disk(image(tmp_path)), other)
    for host in (storage.source, storage.destination):
        host.own["/dev/x"] = bytes(1 << 20)
    plan = storage.run_check("live").plan
    assert (plan.shows_shared, plan.has_unlocked) == (True, True)


@pytest.mark.parametrize(("kind", "attribute"), [("block", "dev"), ("network", "name")])
def test_cache_of_a_disk_without_a_file_is_left_to_libvirt(tmp_path, kind, attribute):
    """With `shows_shared` libvirt would not check it."""
    other = disk("/dev/x", "vdb", kind=kind, attribute=attribute, cache="writeback")
    storage = Storage(disk(image(tmp_path)), other)
    for host in (storage.source, storage.destination):
        host.own["/dev/x"] = bytes(1 << 20)
    assert not storage.run_check("live").plan.shows_shared


def test_backing_files_are_checked(tmp_path):
    shared, local = tmp_path / "shared", tmp_path / "local"
    shared.mkdir()
    local.mkdir()
    base = image(local)
    write_qcow2(shared / "top", base, "raw")
    storage = Storage(disk(shared / "top", format="qcow2"))
    assert storage.check() == []
    storage.destination.hidden = [local]
    assert f"{base} (backing file of disk vda)" in storage.refusal()


def test_unreadable_chain_is_reported(tmp_path):
    write_qcow2(tmp_path / "top", "nbd://host/x", "raw")
    storage = Storage(disk(tmp_path / "top", format="qcow2"))
    assert storage.check() == ["the backing file nbd://host/x could not be checked"]


def test_file_that_libvirt_may_not_open_is_reported(tmp_path):
    path = image(tmp_path)
    storage = Storage(disk(path))
    storage.destination.own[str(path)] = system_error(errno.EACCES)
    (note,) = storage.check()
    assert note == f"whether node02 has {path} (disk vda) could not be checked"


def test_libvirt_that_cannot_look_is_reported(tmp_path):
    path = image(tmp_path)
    storage = Storage(disk(path))
    storage.destination.refuses["define"] = refusal("NO_SUPPORT", "not supported")
    (note,) = storage.check()
    assert note == f"whether node02 has {path} (disk vda) could not be checked"


def test_uefi_variables_are_needed_only_if_the_source_has_them(tmp_path):
    storage = Storage()
    variables, template = tmp_path / "vars.fd", image(tmp_path, "template.fd")
    storage.domain.above_devices = (
        f"<os><type arch='x86_64'>hvm</type><nvram template='{template}'>{variables}</nvram></os>"
    )
    storage.destination.hidden = [variables]
    assert storage.check() == []  # they are made at the first start
    variables.write_bytes(b"boot entries")
    assert f"{variables} (UEFI variables)" in storage.refusal()
    variables.unlink()
    storage.destination.hidden = [template]
    assert f"{template} (template of the UEFI variables)" in storage.refusal()


def test_stopped_probe_leaves_no_definition(tmp_path):
    storage = Storage(disk(image(tmp_path)))
    broken = refusal("RPC", "Cannot recv data: Connection reset by peer")
    storage.destination.own[str(tmp_path / "disk.img")] = broken
    assert storage.check() != []  # and `check` sees that no domain is left


def test_description_of_a_host_leaves_out_temporary_domains():
    hosts = FakeHosts()
    hosts.source.add(FakeDomain("fastlib-check-0123-by-node02", SHUT_OFF))
    assert [each.name for each in host_info.read(hosts.source).domains] == ["vm1"]


def test_old_uefi_variables_at_the_destination_prevent_an_offline_migration_only(tmp_path):
    """In other migrations, QEMU sends them and writes them at the destination."""
    storage = Storage()
    variables, template = tmp_path / "vars.fd", image(tmp_path, "template.fd")
    storage.domain.above_devices = (
        f"<os><type arch='x86_64'>hvm</type><nvram template='{template}'>{variables}</nvram></os>"
    )
    storage.destination.own[str(variables)] = b"boot entries of an earlier run"
    words = f"{variables} (UEFI variables) of vm1 is another file on node02 than on node01"
    assert words in storage.refusal()  # the source has none yet
    variables.write_bytes(b"boot entries")
    assert words in storage.refusal()
    storage.domain.state_now = [1, 1]
    assert storage.check("live") == storage.check("warm") == []


# The file of a swap


def check_file(storage, path):
    task = Migrate(vm_name="vm1", destination="node02", parameter=MigrateParameter())
    spec = MigrationSpec.from_task(task, "node01")
    try:
        run_virtual(check_shared_file(storage.runtime, spec, storage.context, str(path)))
    finally:
        assert storage.source.probes == storage.destination.probes == []


def test_file_of_a_swap_must_be_shared(tmp_path):
    storage = Storage()
    path = tmp_path / "vm1.save"
    check_file(storage, path)
    storage.destination.hidden = [tmp_path]
    with pytest.raises(HypervisorError, match="but each has its own; set snapshot"):
        check_file(storage, path)
    assert list(tmp_path.iterdir()) == []


def test_file_of_a_swap_must_not_exist_on_either_host(tmp_path):
    """The destination would restore old memory."""
    storage = Storage()
    path = tmp_path / "vm1.save"
    storage.destination.own[str(path)] = b"old memory"
    with pytest.raises(HypervisorError, match=r"node02 already has a file .*vm1\.save"):
        check_file(storage, path)
