"""The check that a domain finds its files at the destination, through libvirt of both hosts.

The hosts are fakes. The first one sees the files of this machine, the second one only some folders.
"""

import errno
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from fastlib import Migrate, MigrateParameter
from fastlib.migfra import HypervisorError
from fastlib.migfra.hypervisors.libvirt.domain import host_info
from fastlib.migfra.hypervisors.libvirt.migration.storage_checks import (
    check_shared_file,
    check_storage,
)
from fastlib.migfra.hypervisors.simulated import run_virtual
from fastlib.migfra.virt.migration_spec import MigrationSpec
from tests.support.libvirt.fake_domain import SHUT_OFF, FakeDomain, refusal
from tests.support.libvirt.fake_libvirt import FakeHost, FakeHosts
from tests.support.libvirt.qcow2 import write_qcow2


class ProbeDomain:
    """The temporary domain that checks files."""

    def __init__(self, host, xml):
        self.host = host
        root = ElementTree.fromstring(xml)
        self.name = root.findtext("name")
        assert root.find("devices/disk/readonly") is not None
        self.paths = {
            disk.find("target").get("dev"): disk.find("source").get("file")
            for disk in root.iterfind("devices/disk")
        }

    def blockInfo(self, disk):
        content = self.host.content(self.paths[disk])
        return [len(content), len(content), len(content)]

    def blockPeek(self, disk, offset, size, flags):
        return self.host.content(self.paths[disk])[offset : offset + size]

    def undefine(self):
        self.host.log("undefine")
        self.host.probes.remove(self.name)


class StorageHost(FakeHost):
    """A host with files."""

    def __init__(self, name, log):
        super().__init__(name, log)
        self.probes = []
        self.hidden = []
        """Folders of this machine that the host does not see."""
        self.own = {}
        """Files of its own."""
        self.pools = {}

    def content(self, path):
        if path in self.own:
            found = self.own[path]
            if isinstance(found, Exception):
                raise found
            return found
        if any(Path(path).is_relative_to(folder) for folder in self.hidden):
            raise system_error(errno.ENOENT)
        try:
            return Path(path).read_bytes()
        except OSError as error:
            raise system_error(error.errno) from None

    def defineXML(self, xml):
        self._called("define")
        domain = ProbeDomain(self, xml)
        self.probes.append(domain.name)
        return domain

    def storagePoolLookupByName(self, name):
        if self.pools is None:
            raise refusal("NO_SUPPORT", "this function is not supported by the connection driver")
        if name not in self.pools:
            raise refusal("NO_STORAGE_POOL", f"Storage pool not found: {name}")
        return self.pools[name]


class Pool:
    def __init__(self, volumes, *, active=True, appears_by_refresh=()):
        self.volumes, self.active, self.later = dict(volumes), active, dict(appears_by_refresh)

    def isActive(self):
        return self.active

    def refresh(self, flags):
        self.volumes.update(self.later)

    def storageVolLookupByName(self, name):
        if name not in self.volumes:
            raise refusal("NO_STORAGE_VOL", "Storage volume not found")
        return Volume(self.volumes[name])


class Volume:
    def __init__(self, path):
        self._path = path

    def path(self):
        return self._path

    def info(self):
        return [0, 1 << 20, 1 << 20]


def system_error(number):
    error = refusal("SYSTEM_ERROR", "Failed to open file")
    error.err = (*error.err[:7], number, -1)
    return error


class Storage(FakeHosts):
    """Two hosts with files; vm1 on the first one is shut off."""

    def __init__(self, *files, **options):
        super().__init__(**options)
        self.source = self._with_files(self.source)
        self.destination = self._with_files(self.destination)
        self.runtime.connections.hosts.update(node01=self.source, node02=self.destination)
        self.domain.state_now = [SHUT_OFF, 1]
        self.domain.devices = list(files)

    def _with_files(self, host):
        other = StorageHost(host.getHostname(), self.calls.append)
        for domain in host.domains.values():
            other.add(domain)
        return other

    def check(self, kind="offline", source="node01", **parameter):
        return self.run_check(kind, source, **parameter).notes

    def run_check(self, kind="offline", source="node01", **parameter):
        destination = "node02" if source == "node01" else "node01"
        task = Migrate(
            vm_name="vm1",
            destination=destination,
            parameter=MigrateParameter(migration_type=kind, **parameter),
        )
        spec = MigrationSpec.from_task(task, source)
        try:
            return run_virtual(check_storage(self.runtime, spec, self.context))
        finally:
            assert self.source.probes == self.destination.probes == []

    def refusal(self, **options):
        with pytest.raises(HypervisorError) as caught:
            self.check(**options)
        return str(caught.value)


class WrittenDevice:
    """A device that the domain writes all the time, so each read has other content."""

    def __init__(self, size):
        self.size, self.reads = size, 0

    def __len__(self):
        return self.size

    def __getitem__(self, part):
        self.reads += 1
        return self.reads.to_bytes(4, "little")


def disk(path, target="vda", format="raw", kind="file", attribute="file", cache="none"):
    return (
        f"<disk type='{kind}' device='disk'><driver type='{format}' cache='{cache}'/>"
        f"<source {attribute}='{path}'/><target dev='{target}'/></disk>"
    )


def image(folder, name="disk.img", content=b"data" * 300):
    path = folder / name
    path.write_bytes(content)
    return path


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


def test_volumes_of_pools_are_checked(tmp_path):
    path = image(tmp_path)
    source = "<source pool='images' volume='x'/><target dev='vda'/>"
    storage = Storage(f"<disk type='volume' device='disk'>{source}</disk>")
    storage.source.pools["images"] = Pool({"x": str(path)})
    lacks = "node02 lacks the volume x (disk vda) of vm1: "
    assert storage.refusal() == (
        f"{lacks}there is no storage pool images; define and start it there"
    )
    storage.destination.pools["images"] = Pool({}, active=False)
    assert "the storage pool images is not active; start it" in storage.refusal()
    storage.destination.pools["images"] = Pool({})
    assert "the storage pool images has no volume x" in storage.refusal()
    storage.destination.pools["images"] = Pool({}, appears_by_refresh={"x": str(path)})
    assert storage.check() == []
    storage.destination.hidden = [tmp_path]
    storage.destination.own[str(path)] = path.read_bytes()
    assert "is another file on node02" in storage.refusal()
    storage.destination.pools["images"] = Pool({"x": "/elsewhere/x"})
    (note,) = storage.check()
    assert note == "whether the volume x (disk vda) is the same on both hosts could not be checked"


def volume_disk(cache="none"):
    return (
        f"<disk type='volume' device='disk'><driver type='raw' cache='{cache}'/>"
        "<source pool='images' volume='x'/><target dev='vda'/></disk>"
    )


def with_volume(path, **options):
    storage = Storage(volume_disk(**options))
    for host in (storage.source, storage.destination):
        host.pools["images"] = Pool({"x": str(path)})
    return storage


@pytest.mark.parametrize("parameter", [{}, {"copy_storage": "all"}])
def test_volume_in_a_shared_folder_is_a_shared_disk(tmp_path, parameter):
    plan = with_volume(image(tmp_path)).run_check("live", **parameter).plan
    assert (plan.copies, plan.shows_shared, plan.has_unlocked) == ((), True, True)


def test_volume_in_a_shared_folder_needs_a_cache_that_hides_nothing(tmp_path):
    path = image(tmp_path)
    refusal = with_volume(path, cache="writeback").refusal(kind="live")
    assert f"disk vda ({path}) of vm1 has cache='writeback' on storage that " in refusal


def test_volume_in_a_folder_of_each_host_is_refused(tmp_path):
    path = image(tmp_path)
    storage = with_volume(path)
    storage.destination.hidden = [tmp_path]
    storage.destination.own[str(path)] = path.read_bytes()
    refusal = storage.refusal(kind="live")
    assert f"{path} (disk vda) of vm1 is another file on node02" in refusal
    assert "copy-storage" not in refusal
    refusal = storage.refusal(kind="live", copy_storage="all")
    assert "is a volume of a storage pool, and copy-storage copies image files only" in refusal


def test_volume_that_is_a_device_is_a_device(tmp_path):
    storage = with_volume("/dev/vg/x")
    for host in (storage.source, storage.destination):
        host.own["/dev/vg/x"] = bytes(1 << 20)
    storage.domain.devices.append(disk(image(tmp_path), "vdb"))
    assert storage.run_check("live").plan.shows_shared
    storage.destination.own["/dev/vg/x"] = bytes(2 << 20)
    assert "/dev/vg/x (disk vda) of vm1 is another file" in storage.refusal(kind="live")


def test_host_without_storage_driver_is_reported():
    source = "<source pool='images' volume='x'/><target dev='vda'/>"
    storage = Storage(f"<disk type='volume' device='disk'>{source}</disk>")
    storage.source.pools["images"] = Pool({"x": "rbd/x"})
    storage.destination.pools = None
    (note,) = storage.check()
    assert note.startswith("whether node02 has the volume x (disk vda) could not be checked: ")
    storage.destination.pools = {"images": Pool({"x": "rbd/x"})}
    assert storage.check() == []


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
