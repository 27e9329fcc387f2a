"""Which disks a migration copies, and which ones prevent it. Pure."""

import pytest

from fastlib.migfra.hypervisors.libvirt.domain.disks_xml import Disk, disks_of
from fastlib.migfra.hypervisors.libvirt.domain.file_probe import FileFacts
from fastlib.migfra.hypervisors.libvirt.domain.volumes import Image, image_of, volume_xml
from fastlib.migfra.hypervisors.libvirt.migration.disks_decision import DiskFacts, decide
from tests.support.libvirt.orders import spec_of

ABSENT = FileFacts(presence="absent")
PRESENT = FileFacts(presence="present", size=1)
UNKNOWN = FileFacts(presence="unknown", error="no permission")


def file(target="vda", **fields):
    return Disk(target=target, kind="file", path=f"/{target}", **fields)


def decision(disks, *, there=ABSENT, sharing="separate", on_network=(), **parameter):
    disks = [disks] if isinstance(disks, Disk) else disks
    facts = DiskFacts(
        sharing={disk.path: sharing for disk in disks},
        there={disk.path: there for disk in disks},
        on_network=on_network,
    )
    return decide(spec_of(**parameter), disks, facts)


def only_problem(found):
    assert list(found.copied) == []
    (problem,) = found.problems
    return problem


@pytest.mark.parametrize("mode", ["all", "incremental"])
@pytest.mark.parametrize("sharing", ["separate", "unknown"])
def test_file_that_the_destination_lacks_is_copied(mode, sharing):
    """A file that both hosts share would be there."""
    found = decision([file(), file("vdb")], sharing=sharing, copy_storage=mode)
    assert [disk.target for disk in found.copied] == ["vda", "vdb"]
    assert found.problems == []
    assert found.decided == {"/vda", "/vdb"}


def test_shared_file_is_never_copied():
    found = decision(file(cache="none"), there=PRESENT, sharing="shared", copy_storage="all")
    assert (list(found.copied), found.problems) == ([], [])
    assert [disk.target for disk in found.shared] == ["vda"]
    named = decision(
        file(), there=PRESENT, sharing="shared", copy_storage="all", copy_disks=["vda"]
    )
    assert "would overwrite itself; leave it out of copy-disks" in only_problem(named)


@pytest.mark.parametrize("cache", ["default", "writeback", "writethrough", "unsafe"])
def test_shared_file_needs_a_cache_that_hides_nothing(cache):
    found = decision(file(cache=cache), there=PRESENT, sharing="shared")
    assert f"cache='{cache}'" in only_problem(found)
    assert "set cache='none'" in only_problem(found)
    # libvirt and QEMU care for the caches of these.
    found = decision(file(cache=cache), there=PRESENT, sharing="shared", on_network=["/vda"])
    assert (found.problems, list(found.shared)) == ([], [])


@pytest.mark.parametrize("disk", [file(cache="directsync"), file(is_shareable=True)])
def test_other_disks_without_cache_are_shared_too(disk):
    assert decision(disk, there=PRESENT, sharing="shared").shared == [disk]


@pytest.mark.parametrize(
    ("there", "sharing", "why"),
    [
        (PRESENT, "separate", "node02 has another file /vda already"),
        (PRESENT, "unknown", "whether it is the one of node01 could not be found out"),
        (UNKNOWN, "unknown", "could not be found out: no permission"),
        (UNKNOWN, "separate", "could not be found out: no permission"),
    ],
)
def test_file_that_may_be_there_is_not_overwritten(there, sharing, why):
    assert why in only_problem(decision(file(), there=there, sharing=sharing, copy_storage="all"))


@pytest.mark.parametrize(
    ("disk", "parameter", "why"),
    [
        (file(), {}, "order copy-storage: all, which copies it, or put it on shared storage"),
        (file(), {"copy_storage": "all", "copy_disks": ["vda"]}, None),
        (file("vdb"), {"copy_storage": "all", "copy_disks": ["vda"]}, "add vdb to copy-disks"),
        (
            file(is_shareable=True),
            {},
            "put it on shared storage, because several domains may write it",
        ),
        (file(is_shareable=True), {"copy_storage": "all"}, "several domains may write it"),
        (file(format="vmdk"), {"copy_storage": "all"}, "has the format 'vmdk'"),
        (file(is_encrypted=True), {"copy_storage": "all"}, "is encrypted by libvirt"),
        (file(is_slice=True), {"copy_storage": "all"}, "copies whole files only"),
        (file(names_backing=True), {"copy_storage": "all"}, "order copy-storage: incremental"),
        (file(names_backing=True), {"copy_storage": "incremental"}, None),
    ],
)
def test_disk_that_cannot_be_copied_is_refused_with_a_remedy(disk, parameter, why):
    found = decision([file(), disk] if disk.target == "vdb" else disk, **parameter)
    if why is None:
        assert list(found.copied) == [disk]
        assert found.problems == []
    else:
        (problem,) = found.problems
        assert why in problem
        assert disk.words in problem or f"/{disk.target}" in problem


@pytest.mark.parametrize("kind", ["block", "volume", "network", "other"])
def test_only_files_are_copied(kind):
    disk = Disk(target="vda", kind=kind, path="/dev/x")
    found = decision(disk, copy_storage="all")
    assert bool(found.problems) is (kind in ("block", "volume"))
    named = decision(disk, copy_storage="all", copy_disks=["vda"])
    assert "copies image files only; leave it out of copy-disks" in only_problem(named)
    other = decision([disk, file("vdb")], copy_storage="all", copy_disks=["vdb"])
    assert [each.target for each in other.copied] == ["vdb"]
    assert other.problems == []
    assert decision(disk).problems == []


@pytest.mark.parametrize("parameter", [{}, {"copy_storage": "all"}])
def test_transient_disk_is_refused_for_that_reason_alone(parameter):
    found = decision(file(is_transient=True, names_backing=True), there=UNKNOWN, **parameter)
    assert "is transient, and libvirt does not migrate such a disk" in only_problem(found)


def test_unknown_disk_is_named():
    found = decision(file(), copy_storage="all", copy_disks=["vda", "sda"])
    assert found.problems == ["copy-disks has 'sda', but vm1 writes only the disks vda"]
    found = decision(file(), copy_storage="all", copy_disks=["sda", "vda", "sda"])
    assert len(found.problems) == 1
    found = decision([], copy_storage="all", copy_disks=["sda"])
    assert found.problems == ["copy-disks has 'sda', but vm1 writes no disk"]


def test_disks_are_read_from_xml():
    xml = """\
<domain><devices>
  <disk type='file' device='disk'><driver type='qcow2' cache='none'/><source file='/a'/>
    <backingStore type='file'><source file='/base'/></backingStore><target dev='vda'/></disk>
  <disk type='file'><source file='/b'/><backingStore/><target dev='vdb'/><shareable/></disk>
  <disk type='block'><source dev='/dev/c'/><target dev='vdc'/></disk>
  <disk type='network'><source protocol='nbd' name='d'/><target dev='vdd'/></disk>
  <disk type='volume'><source pool='p' volume='e'/><target dev='vde'/></disk>
  <disk type='file'><source file='/f'><encryption format='luks'/></source><target dev='vdf'/></disk>
  <disk type='nvme'><source type='pci'/><target dev='vdg'/></disk>
  <disk type='file'><source file='/s'><slices><slice type='storage' offset='512' size='512'/>
    </slices></source><target dev='vds'/></disk>
  <disk type='file'><source file='/t'/><target dev='vdt'/><transient/></disk>
  <disk type='file'><source file='/r'/><target dev='vdr'/><readonly/></disk>
  <disk type='file' device='cdrom'><source file='/i'/><target dev='sda'/></disk>
  <disk type='file' device='floppy'><target dev='fda'/></disk>
</devices></domain>"""
    disks = disks_of(xml)
    assert [disk.target for disk in disks if not disk.is_locked] == ["vdc", "vdd", "vde", "vdg"]
    assert disks == (
        Disk(
            target="vda", kind="file", path="/a", format="qcow2", cache="none", names_backing=True
        ),
        Disk(target="vdb", kind="file", path="/b", is_shareable=True),
        Disk(target="vdc", kind="block", path="/dev/c"),
        Disk(target="vdd", kind="network", path="d", protocol="nbd"),
        Disk(target="vde", kind="volume", path="e"),
        Disk(target="vdf", kind="file", path="/f", is_encrypted=True),
        Disk(target="vdg", kind="other", path="nvme"),
        Disk(target="vds", kind="file", path="/s", is_slice=True),
        Disk(target="vdt", kind="file", path="/t", is_transient=True),
    )


@pytest.mark.parametrize(
    "image",
    [
        Image(path="/pool/a b.img", format="raw", capacity=5, owner=7, group=8, mode=0o640),
        Image(
            path="/pool/a", format="qcow2", capacity=1 << 40, compat="1.1",
            features=("lazy_refcounts",), cluster_bytes=4096, backing="/<base>",
            backing_format="qcow2",
        ),
    ],
)  # fmt: skip
def test_image_is_described_as_it_was_read(image):
    """libvirt writes the path besides."""
    xml = volume_xml(image).replace("<target>", "<target><path>" + image.path + "</path>")
    assert '<allocation unit="bytes">0</allocation>' in xml
    assert image_of(xml) == image
