"""Each reason not to copy a disk, in all its words, and each bound of a decision.

`./dev mutation disks` changes the decision, and these tests must notice it.
"""

from typing import Any

import pytest

from fastlib.migfra.hypervisors.libvirt.domain.disks_xml import Disk
from fastlib.migfra.hypervisors.libvirt.domain.file_probe import FileFacts
from fastlib.migfra.hypervisors.libvirt.migration.disks_decision import DiskFacts, decide
from tests.support.libvirt.orders import spec_of

ABSENT = FileFacts(presence="absent")
PRESENT = FileFacts(presence="present", size=1)
UNKNOWN = FileFacts(presence="unknown", error="no permission")
ALL = {"copy_storage": "all"}
NAMED = {"copy_storage": "all", "copy_disks": ["vda"]}


def file(target: str = "vda", **fields: Any) -> Disk:
    return Disk(target=target, kind="file", path=f"/{target}", **fields)


@pytest.mark.parametrize(
    ("disk", "parameter", "facts", "text"),
    [
        (
            Disk(target="vda", kind="block", path="/dev/x"), ALL, {},
            "disk vda (/dev/x) of vm1 is a block device, and copy-storage copies image files only; "
            "if node01 and node02 share it, order no copy-storage",
        ),
        (
            Disk(target="vda", kind="volume", path="v"), NAMED, {},
            "disk vda (v) of vm1 is a volume of a storage pool, and copy-storage copies image "
            "files only; leave it out of copy-disks",
        ),
        (
            file(cache="none"), NAMED, {"there": PRESENT, "sharing": "shared"},
            "disk vda (/vda) of vm1 is on storage that node01 and node02 share, so a copy would "
            "overwrite itself; leave it out of copy-disks",
        ),
        (
            file(cache="writeback"), {}, {"there": PRESENT, "sharing": "shared"},
            "disk vda (/vda) of vm1 has cache='writeback' on storage that node01 and node02 share, "
            "so node02 could read old data; set cache='none' in the <driver> of the disk, and "
            "start the domain again",
        ),
        (
            file(), {}, {"there": ABSENT},
            "disk vda (/vda) of vm1 is not on storage that node01 and node02 share; "
            "order copy-storage: all, which copies it, or put it on shared storage",
        ),
        (
            file(is_shareable=True), ALL, {"there": ABSENT},
            "disk vda (/vda) of vm1 is not on storage that node01 and node02 share; "
            "put it on shared storage, because several domains may write it",
        ),
        (
            file(), {}, {"there": PRESENT, "sharing": "separate"},
            "disk vda (/vda) of vm1 is another file on node02 than on node01, such as an older "
            "copy; remove it there, and order copy-storage: all, which copies it, or put it on "
            "shared storage",
        ),
        (
            file(is_shareable=True), ALL, {"there": PRESENT, "sharing": "separate"},
            "disk vda (/vda) of vm1 is another file on node02 than on node01, such as an older "
            "copy; remove it there, and put it on shared storage, because several domains may "
            "write it",
        ),
        (
            file(is_shareable=True), NAMED, {"there": ABSENT},
            "disk vda (/vda) of vm1 is not copied, because several domains may write it; "
            "leave it out",
        ),
        (
            file(format="a format of more than twenty letters"), ALL, {"there": ABSENT},
            "disk vda (/vda) of vm1 has the format 'a format of more tha', and copy-storage copies "
            "raw and qcow2 only; convert it with qemu-img convert while the domain is shut off",
        ),
        (
            file(is_encrypted=True), ALL, {"there": ABSENT},
            "disk vda (/vda) of vm1 is encrypted by libvirt, and copy-storage copies no such disk; "
            "put it on shared storage",
        ),
        (
            file(names_backing=True), ALL, {"there": ABSENT},
            "the definition of vm1 names the backing file of disk vda (/vda), which its copy would "
            "not have; remove <backingStore> from the definition and start the domain again, or "
            "order copy-storage: incremental",
        ),
        (
            file(), ALL, {"there": UNKNOWN},
            "whether node02 has a file for disk vda (/vda) of vm1 already could not be found out: "
            "no permission",
        ),
        (
            file(), ALL, {"there": None},
            "whether node02 has a file for disk vda (/vda) of vm1 already could not be found out: "
            "libvirt did not answer",
        ),
        (
            file(), ALL, {"there": PRESENT, "sharing": "separate"},
            "node02 has another file /vda already, where the copy of disk vda of vm1 belongs; "
            "remove it there, or move it away",
        ),
        (
            file(), ALL, {"there": PRESENT, "sharing": "unknown"},
            "node02 has a file /vda too, and whether it is the one of node01 could not be found "
            "out, so a copy of disk vda of vm1 could overwrite itself; let the daemon write to "
            "that folder, or remove the file on node02 if it is another one",
        ),
        (
            file(), {"copy_storage": "all", "copy_disks": ["vda", "x" * 41]}, {"there": ABSENT},
            f"copy-disks has '{'x' * 40}', but vm1 writes only the disks vda",
        ),
    ],
)  # fmt: skip
def test_reason_names_disk_hosts_and_remedy(
    disk: Disk, parameter: dict[str, Any], facts: dict[str, Any], text: str
) -> None:
    there = facts.get("there")
    found = decide(
        spec_of(**parameter),
        [disk],
        DiskFacts(
            sharing={disk.path: facts["sharing"]} if "sharing" in facts else {},
            there={} if there is None else {disk.path: there},
        ),
    )
    assert found.problems == [text]


def test_other_disks_to_copy_are_named_only_if_there_are_some() -> None:
    device = Disk(target="vda", kind="block", path="/dev/x")
    (problem,) = decide(spec_of(**ALL), [device, file("vdb")], DiskFacts()).problems[:1]
    assert problem.endswith("if node01 and node02 share it, name the other disks in copy-disks")


def test_every_disk_of_the_domain_is_listed_beside_an_unknown_name() -> None:
    facts = DiskFacts(there={"/vda": ABSENT, "/vdb": ABSENT})
    spec = spec_of(copy_storage="all", copy_disks=["vda", "vdb", "vdc"])
    found = decide(spec, [file(), file("vdb")], facts)
    assert found.problems == ["copy-disks has 'vdc', but vm1 writes only the disks vda, vdb"]


def test_all_reasons_of_a_disk_are_given_and_the_next_disk_is_examined() -> None:
    disk = file(is_encrypted=True, format="vmdk", names_backing=True)
    named = {"copy_storage": "all", "copy_disks": ["vda", "vdb", "vdx"]}
    block = Disk(target="vdx", kind="block", path="/dev/x")
    facts = DiskFacts(there={"/vda": UNKNOWN, "/vdb": ABSENT})
    found = decide(spec_of(**named), [block, disk, file("vdb")], facts)
    assert len(found.problems) == 5
    assert [each.target for each in found.copied] == ["vdb"]
    assert found.decided == {"/vda", "/vdb"}


def test_file_that_is_neither_shared_nor_wanted_nor_absent_is_left_to_other_checks() -> None:
    for there in (PRESENT, UNKNOWN):
        found = decide(spec_of(), [file()], DiskFacts(there={"/vda": there}))
        assert (found.decided, found.problems, found.copied) == (frozenset(), [], [])


def test_shared_folder_without_the_file_shares_nothing() -> None:
    facts = DiskFacts(sharing={"/vda": "shared"}, there={"/vda": ABSENT})
    assert decide(spec_of(**ALL), [file()], facts).copied == [file()]
    found = decide(spec_of(), [file()], facts)
    (problem,) = found.problems
    assert "is not on storage that node01 and node02 share" in problem
    assert found.decided == {"/vda"}


def test_shared_file_whose_presence_is_unknown_is_shared() -> None:
    disk = file(cache="none")
    found = decide(spec_of(**ALL), [disk], DiskFacts(sharing={"/vda": "shared"}))
    assert (found.shared, found.copied, found.problems) == ([disk], [], [])
    assert found.decided == {"/vda"}


def test_file_on_a_network_is_no_shared_file_without_cache() -> None:
    facts = DiskFacts(
        sharing={"/vda": "shared"}, there={"/vda": PRESENT}, on_network=frozenset({"/vda"})
    )
    found = decide(spec_of(), [file()], facts)
    assert (found.shared, found.problems, found.decided) == ([], [], {"/vda"})
