"""The files that a domain needs, the chains of its images, and the meaning of hosts' answers."""

import os
import struct

import pytest

from fastlib.migfra.hypervisors.libvirt.domain.file_probe import FileFacts
from fastlib.migfra.hypervisors.libvirt.domain.files_xml import DomainFile, PoolVolume, files_of
from fastlib.migfra.hypervisors.libvirt.domain.image_chain import (
    FIRST_BYTES,
    HEAD_BYTES,
    count_snapshots,
    naming_bytes,
    parse_head,
    read_chain,
)
from fastlib.migfra.hypervisors.libvirt.migration.shared_folders import (
    Marker,
    folders_of,
    is_network_file_system,
    make_markers,
    remove_markers,
)
from fastlib.migfra.hypervisors.libvirt.migration.storage_decision import (
    StorageDecision,
    StorageFacts,
    decide,
)
from tests.support.libvirt.qcow2 import qcow2_head, write_qcow2

# The XML


def found(inner, outside=""):
    """The paths and roles that a domain's XML names, and the other sources."""
    xml = f"<domain><uuid>11-22</uuid>{outside}<devices>{inner}</devices></domain>"
    needs = files_of(xml)
    return [(each.path, each.role) for each in needs.files], needs.volumes, needs.unknown


def disk(source, *, kind="file", device="disk", target="vda", inner=""):
    return (
        f"<disk type='{kind}' device='{device}'><source {source}/><target dev='{target}'/>"
        f"{inner}</disk>"
    )


@pytest.mark.parametrize(
    ("inner", "files"),
    [
        (disk("file='/a.img'"), [("/a.img", "disk vda")]),
        (disk("dev='/dev/sda'", kind="block"), [("/dev/sda", "disk vda")]),
        (disk("dir='/d'", kind="dir", device="floppy", target="fda"), [("/d", "floppy fda")]),
        (disk("file='/c.iso'", device="cdrom", target="hda"), [("/c.iso", "cdrom hda")]),
        (disk("file='/c.iso' startupPolicy='requisite'"), [("/c.iso", "disk vda")]),
        (disk("file='/c.iso' startupPolicy='optional'"), []),
        ("<disk type='file' device='cdrom'><target dev='hda'/></disk>", []),
        ("<filesystem><source dir='/exported'/></filesystem>", [("/exported", "file system")]),
        ("<emulator>/usr/bin/qemu</emulator>", [("/usr/bin/qemu", "emulator")]),
        ("<interface><rom bar='on' file='/r.rom'/></interface>", [("/r.rom", "ROM")]),
        ("<interface><rom bar='off'/></interface>", []),
        ("<memory model='nvdimm'><source><path>/n</path></source></memory>",
         [("/n", "nvdimm memory")]),
        ("<serial type='file'><source path='/log/vm1.log'/></serial>",
         [("/log", "folder of a serial log")]),
        ("<serial type='pty'><source path='/dev/pts/1'/></serial>", []),
        ("<tpm><backend type='emulator'/></tpm>",
         [("/var/lib/libvirt/swtpm/11-22", "state of its TPM")]),
        ("<tpm><backend type='passthrough'><device path='/dev/tpm0'/></backend></tpm>", []),
    ],
)  # fmt: skip
def test_files_of_devices_are_found(inner, files):
    assert found(inner) == (files, (), ())


def test_files_of_firmware_are_found():
    outside = """
      <os><loader>/l.fd</loader><nvram template='/t.fd'> /v.fd </nvram><kernel>/k</kernel>
      <initrd>/i</initrd><dtb>/d</dtb><acpi><table type='slic'>/s.dat</table></acpi></os>
      <sysinfo type='fwcfg'><entry name='x' file='/f'/><entry name='y'>z</entry></sysinfo>"""
    files, _, _ = found("", outside)
    assert files == [
        ("/l.fd", "loader"), ("/k", "kernel"), ("/i", "initrd"), ("/d", "dtb"),
        ("/s.dat", "ACPI table"), ("/v.fd", "UEFI variables"), ("/f", "firmware configuration"),
    ]  # fmt: skip


def test_other_sources_are_named():
    remote = disk("protocol='rbd' name='p/i'", kind="network")
    volume = disk("pool='images' volume='x'", kind="volume", target="vdb")
    files, volumes, unknown = found(remote + volume)
    assert files == []
    assert volumes == (
        PoolVolume(
            pool="images", volume="x", role="disk vdb", written=True, disk="vdb", is_top=True
        ),
    )
    assert unknown == ("disk vda (network rbd)",)


def test_backing_files_in_the_xml_are_found():
    behind = """<driver type='qcow2'/><backingStore type='file'><format type='qcow2'/>
      <source file='/b1'/><backingStore type='block'><format type='raw'/><source dev='/dev/b2'/>
      <backingStore/></backingStore></backingStore>"""
    xml = disk("file='/top'", inner=behind)
    (top, one, two) = files_of(f"<domain><devices>{xml}</devices></domain>").files
    assert (top.path, top.format, top.written, top.chain_known) == ("/top", "qcow2", True, True)
    assert (one.path, one.written, one.chain_known) == ("/b1", False, True)
    assert (two.path, two.role, two.block) == ("/dev/b2", "backing file of disk vda", True)


@pytest.mark.parametrize(
    ("xml", "written"),
    [
        (disk("file='/a'"), True),
        (disk("file='/a'", device="lun"), True),
        (disk("file='/a'", device="floppy"), True),
        (disk("file='/a'", inner="<shareable/>"), True),
        (disk("file='/a'", inner="<readonly/>"), False),
        (disk("file='/a'", inner="<transient/>"), False),
        (disk("file='/a'", device="cdrom"), False),
    ],
)
def test_only_written_disks_must_be_the_newest(xml, written):
    (file,) = files_of(f"<domain><devices>{xml}</devices></domain>").files
    assert file.written is written


@pytest.mark.parametrize(("model", "sent"), [("nvdimm", True), ("virtio-pmem", False)])
def test_live_migration_sends_the_memory_of_an_nvdimm(model, sent):
    xml = f"<memory model='{model}'><source><path>/n</path></source></memory>"
    (file,) = files_of(f"<domain><devices>{xml}</devices></domain>").files
    assert (file.written, file.sent) == (True, sent)


# Images


def test_chain_of_images_is_followed(tmp_path):
    top, middle, base = (tmp_path / name for name in ("top", "middle", "base"))
    write_qcow2(top, "middle", "qcow2")  # relative to the image
    write_qcow2(middle, base, "raw")
    base.write_bytes(qcow2_head("/evil", "raw", size=1))  # what a guest wrote is not interpreted
    chain = read_chain(str(top), "qcow2")
    assert (chain.backing, chain.unknown) == ((str(middle), str(base)), ())
    assert read_chain(str(top), "raw").backing == ()


def test_chain_names_files_that_cannot_be_followed(tmp_path):
    top = tmp_path / "top"
    (gone,) = read_chain(str(top), "qcow2").unknown
    assert gone == f"the backing files of {top} (No such file or directory)"
    for name in ("json:{}", "nbd://host/x", "rbd:pool/x"):
        write_qcow2(top, name, "raw")
        assert read_chain(str(top), "qcow2").unknown == (f"the backing file {name}",)
    write_qcow2(top, top, "qcow2")
    (endless,) = read_chain(str(top), "qcow2").unknown
    assert endless.endswith("too many")


def test_data_file_of_an_image_is_found(tmp_path):
    (tmp_path / "top").write_bytes(qcow2_head(None, None, size=1, data="/data.raw"))
    assert read_chain(str(tmp_path / "top"), "qcow2").data == ("/data.raw",)


@pytest.mark.parametrize("version", [2, 3])
def test_head_of_an_image_is_parsed(version):
    head = parse_head(qcow2_head("file:/b", "raw", size=1, version=version))
    assert head is not None
    assert (head.backing, head.format) == ("file:/b", "raw")


@pytest.mark.parametrize("head", [b"", b"QFI\xfb", bytes(200), b"QFI\xfb" + b"\xff" * 200])
def test_broken_head_is_not_parsed(head):
    assert parse_head(head) is None


@pytest.mark.parametrize("version", [2, 3])
def test_snapshots_of_an_image_are_counted(version):
    head = bytearray(qcow2_head(None, None, size=1, version=version))
    assert count_snapshots(head) == 0
    struct.pack_into(">I", head, 60, 3)
    assert count_snapshots(head) == 3
    assert count_snapshots(b"RAW!" + head[4:]) == 0
    assert count_snapshots(head[:63]) == 0


@pytest.mark.parametrize(
    ("data", "version", "count"), [("/data", 3, 1 << 16), (None, 3, 0), (None, 2, 0)]
)
def test_head_says_how_much_of_it_names_the_data_file(data, version, count):
    head = qcow2_head(None, None, size=1, data=data, version=version)[:FIRST_BYTES]
    assert naming_bytes(head) == count
    assert naming_bytes(b"RAW!" + head[4:]) == 0
    assert naming_bytes(head[:-1]) == 0


def test_head_with_an_absurd_cluster_is_not_read_whole():
    head = bytearray(qcow2_head(None, None, size=1, data="/data")[:FIRST_BYTES])
    struct.pack_into(">I", head, 20, 0xFFFFFFFF)
    assert naming_bytes(head) == HEAD_BYTES


# Folders


def test_folders_of_a_file_include_those_of_links(tmp_path):
    real, linked = tmp_path / "real", tmp_path / "linked"
    real.mkdir()
    linked.mkdir()
    (linked / "disk").symlink_to("../real/disk")
    assert folders_of(str(linked / "disk")) == [str(linked), f"{linked}/../real"]
    assert folders_of(str(real / "disk")) == [str(real)]


def test_markers_are_made_and_removed(tmp_path):
    made = make_markers("node01", [str(tmp_path), str(tmp_path / "absent")])
    assert list(made) == [str(tmp_path)]
    (marker,) = made.values()
    assert os.path.getsize(marker.path) == marker.size
    assert remove_markers([marker, marker]) == []
    assert list(tmp_path.iterdir()) == []
    (problem,) = remove_markers([Marker(f"{tmp_path}/x\0", 1), Marker(str(tmp_path), 1)][1:])
    assert "is no longer needed; remove it" in problem


def test_markers_of_a_killed_process_are_removed(tmp_path):
    for name in ("node01-0-ab", f"node01-{os.getpid()}-ab", "node011-0-ab"):
        (tmp_path / f".fastlib-check-{name}").touch()
    remove_markers(make_markers("node01", [str(tmp_path)]).values())
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [f".fastlib-check-node01-{os.getpid()}-ab", ".fastlib-check-node011-0-ab"]


def test_markers_of_a_host_with_a_longer_name_stay(tmp_path):
    """Its check is running. Without the marker, it would find a different folder."""
    others = make_markers("node01-2", [str(tmp_path)])
    remove_markers(make_markers("node01", [str(tmp_path)]).values())
    assert [str(path) for path in tmp_path.iterdir()] == [others[str(tmp_path)].path]


def test_file_systems_of_networks_are_recognised():
    mounts = (
        "1 0 8:1 / / rw - ext4 /dev/sda rw\n"
        "2 1 0:5 / /srv rw shared:1 - nfs4 server:/srv rw\n"
        "3 2 0:6 / /srv/local rw - xfs /dev/sdb rw\n"
        "4 2 0:7 / /srv/local/a\\040b rw - cifs //server/b rw\n"
    )
    assert is_network_file_system("/srv/local/a b/x.img", mounts)
    assert is_network_file_system("/srv/images/x.img", mounts)
    assert not is_network_file_system("/srv/local/x.img", mounts)
    assert not is_network_file_system("/srvother/x.img", mounts)
    assert not is_network_file_system("/")


# The decision

HERE = FileFacts(presence="present", size=100)
OTHER_SIZE = FileFacts(presence="present", size=200)
ABSENT = FileFacts(presence="absent")
UNKNOWN = FileFacts(presence="unknown", error="Permission denied")
DISK = DomainFile(path="/a", role="disk vda", written=True)
DEVICE = DomainFile(path="/a", role="disk vda", written=True, block=True)
CDROM = DomainFile(path="/a", role="cdrom hda")
VARIABLES = DomainFile(
    path="/a", role="UEFI variables", written=True, sent=True, if_on_source=True, template="/t"
)


def decided(file, here, there, **facts):
    decision = decide([file], StorageFacts(here={"/a": here}, there={"/a": there}, **facts))
    kinds = {name: getattr(decision, name) for name in StorageDecision.__struct_fields__}
    return {name: list(words) for name, words in kinds.items() if words}


@pytest.mark.parametrize(
    ("file", "here", "there", "facts", "kind"),
    [
        (CDROM, HERE, ABSENT, {}, "missing"),
        (CDROM, HERE, UNKNOWN, {}, "unasked"),
        (CDROM, HERE, OTHER_SIZE, {}, None),
        (CDROM, HERE, OTHER_SIZE, {"at_rest": False}, "unlike"),
        (CDROM, HERE, HERE, {"at_rest": False}, None),
        (CDROM, HERE, HERE, {"at_rest": False, "same_content": {"/a": False}}, "unlike"),
        (DISK, HERE, ABSENT, {}, "missing"),
        (DISK, ABSENT, ABSENT, {}, "missing"),
        (DISK, HERE, HERE, {"sharing": {"/a": "shared"}}, None),
        (DISK, HERE, HERE, {"sharing": {"/a": "separate"}}, "other"),
        (DISK, HERE, HERE, {}, "unshown"),
        (DISK, HERE, HERE, {"same_content": {"/a": True}}, "unshown"),
        (DISK, HERE, HERE, {"same_content": {"/a": False}}, "other"),
        (DISK, HERE, OTHER_SIZE, {}, "other"),
        # An image grows while its domain runs, also between two looks at it.
        (DISK, HERE, OTHER_SIZE, {"at_rest": False, "sharing": {"/a": "shared"}}, None),
        (DEVICE, HERE, HERE, {}, None),
        (DEVICE, HERE, HERE, {"same_content": {"/a": False}}, "other"),
        (DEVICE, HERE, OTHER_SIZE, {"at_rest": False}, "other"),
        (VARIABLES, HERE, ABSENT, {}, "missing"),
        # libvirt leaves the variables on the source of each migration, so a copy may be old.
        (VARIABLES, HERE, HERE, {"sharing": {"/a": "separate"}}, "other"),
        (VARIABLES, HERE, HERE, {"same_content": {"/a": False}}, "other"),
        (VARIABLES, HERE, HERE, {"sharing": {"/a": "shared"}}, None),
        (VARIABLES, ABSENT, HERE, {}, "other"),
    ],
)
def test_decision_from_the_answers_of_both_hosts(file, here, there, facts, kind):
    assert decided(file, here, there, **facts) == ({kind: [f"/a ({file.role})"]} if kind else {})


def test_file_that_is_made_at_the_first_start_needs_its_template():
    missing = {"missing": ["/t (template of the UEFI variables)"]}

    def of(file, template):
        facts = StorageFacts(here={"/a": ABSENT}, there={"/a": ABSENT, "/t": template})
        return decide([file], facts)

    assert list(of(VARIABLES, ABSENT).missing) == missing["missing"]
    assert of(VARIABLES, HERE) == StorageDecision(
        missing=[], other=[], unlike=[], unshown=[], unasked=[]
    )
    state = DomainFile(path="/a", role="state of its TPM", written=True, if_on_source=True)
    assert list(of(state, ABSENT).missing) == []


def test_file_that_no_host_was_asked_about_is_unasked():
    for file in (DISK, CDROM, DEVICE, VARIABLES):
        found = decide([file], StorageFacts())
        assert found == StorageDecision(
            unasked=[f"/a ({file.role})"], missing=[], other=[], unlike=[], unshown=[]
        )
    # Of the template, too, if only the source was asked about the file.
    found = decide([VARIABLES], StorageFacts(here={"/a": ABSENT}))
    assert list(found.unasked) == ["/t (template of the UEFI variables)"]


def test_file_that_the_source_was_not_asked_about_is_judged_by_the_rest():
    there = {"/a": HERE}
    assert list(decide([DISK], StorageFacts(there=there)).unshown) == ["/a (disk vda)"]
    shared = StorageFacts(there=there, sharing={"/a": "shared"})
    assert decide([DISK], shared) == StorageDecision(
        missing=[], other=[], unlike=[], unshown=[], unasked=[]
    )


def test_every_file_is_examined_after_one_that_the_source_lacks():
    state = DomainFile(path="/s", role="state of its TPM", written=True, if_on_source=True)
    next_one = DomainFile(path="/n", role="cdrom hda")
    for there in (ABSENT, HERE):
        facts = StorageFacts(here={"/s": ABSENT}, there={"/s": there, "/n": ABSENT})
        found = decide([state, next_one], facts)
        assert list(found.missing) == ["/n (cdrom hda)"]
        assert list(found.other) == ([] if there is ABSENT else ["/s (state of its TPM)"])


def test_only_a_written_file_is_looked_at_again_if_the_source_lacks_it():
    """One that the domain only reads is what the first start makes of its template."""
    file = DomainFile(path="/a", role="state", if_on_source=True, template="/t")
    facts = StorageFacts(here={"/a": ABSENT}, there={"/a": HERE, "/t": ABSENT})
    assert list(decide([file], facts).missing) == ["/t (template of the state)"]


def test_device_whose_samples_differ_is_another_one_unless_it_is_known_to_be_shared():
    different = {"same_content": {"/a": False}}
    assert list(decided(DEVICE, HERE, HERE, **different)) == ["other"]
    assert decided(DEVICE, HERE, HERE, sharing={"/a": "shared"}, **different) == {}
    assert list(decided(DEVICE, HERE, HERE, sharing={"/a": "separate"})) == ["other"]
    unknown_size = FileFacts(presence="present")
    assert decided(DEVICE, unknown_size, HERE) == {}
    assert decided(DEVICE, HERE, unknown_size) == {}
