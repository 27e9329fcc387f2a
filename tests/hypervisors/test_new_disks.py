"""The disks of a start: defaults, and the contradictions of an order that need no host."""

import pytest

from fastlib import NewDisk, Start, Stop, ValidationError, load
from fastlib.migfra import HypervisorError
from fastlib.migfra.virt.new_disks import MIB, check_removal, plan_disks
from fastlib.migfra.virt.xml_values import XmlPolicy

CHECKED = XmlPolicy(directories=("/srv/images",))
FOLDER = "/var/lib/new"


def plan(*disks, policy=CHECKED, **options):
    return plan_disks(Start(vm_name="vm1", disks=disks, **options), "vm1", policy, FOLDER)


def test_defaults_come_from_the_names_of_domain_and_disk():
    overlay, empty, own = plan(
        NewDisk(target="vda", base="/srv/images/base.qcow2"),
        NewDisk(target="sdb", size=5, format="raw"),
        NewDisk(target="hdc", size=1, path="/srv//images/x.img", bus="sata", cache="writeback"),
    )
    assert (overlay.path, overlay.format, overlay.size) == (
        f"{FOLDER}/vm1-vda.qcow2",
        "qcow2",
        None,
    )
    assert (overlay.bus, overlay.cache) == ("virtio", "none")
    assert (empty.path, empty.size, empty.bus) == (f"{FOLDER}/vm1-sdb.raw", 5 * MIB, "scsi")
    assert (own.path, own.bus, own.cache) == ("/srv/images/x.img", "sata", "writeback")
    assert plan(NewDisk(target="hda", size=1))[0].bus == "ide"
    assert plan_disks(Start(vm_name="vm1"), "vm1", CHECKED, FOLDER) == ()


@pytest.mark.parametrize(
    ("disk", "why"),
    [
        ({"target": "vd1", "size": 1}, "'vd1' cannot be the target of a disk"),
        ({"target": "xvda", "size": 1}, "expected vd, sd or hd and letters, such as vda"),
        ({"target": "vda/../x", "size": 1}, "cannot be the target of a disk"),
        ({"base": "/srv/images/b", "format": "raw"}, "a base and the format raw"),
        ({"base": "/srv/images/b", "path": "/srv/images/b"}, "same path as its base"),
        ({"base": "/srv/images/b", "path": "/srv//images/b"}, "same path as its base"),
        ({"base": "b"}, "'b' as its base, .* an absolute path"),
        ({"base": "/srv/images/../../etc/shadow"}, "without '..'"),
        ({"size": 1, "path": "/"}, "an absolute path of a file"),
        ({"size": 1, "path": "/dev/vda"}, "an image file, not a device"),
        ({"base": "/dev/mapper/a"}, "an image file, not a device"),
        ({"base": "/etc/shadow"}, "a path below /srv/images or /var/lib/new; choose another"),
        ({"size": 1, "path": "/srv/images"}, "a path below /srv/images"),
        ({"size": 1, "path": "/srv/images2/a"}, "a path below /srv/images"),
        ({"size": 1, "path": "/srv/images/a\nb"}, "an absolute path of a file"),
    ],
)
def test_disk_that_cannot_be_is_refused(disk, why):
    with pytest.raises(HypervisorError, match=why):
        plan(NewDisk(**{"target": "vda", **disk}))


def test_all_problems_are_reported_at_once():
    one = NewDisk(target="vda", size=1)
    other = NewDisk(target="vdb", size=1, path="/srv/images/a")
    with pytest.raises(HypervisorError) as error:
        plan(one, one, other, NewDisk(target="x", size=1), NewDisk(target="vdc", base="/etc/x"))
    for word in ("the target 'vda' twice", "'x' cannot be", "'/etc/x' as its base"):
        assert word in str(error.value)
    with pytest.raises(HypervisorError, match="the path '/srv/images/a' twice"):
        plan(other, NewDisk(target="vdc", size=1, path="/srv/images/a"))


def test_operator_may_allow_any_path_but_no_device():
    free = XmlPolicy(allow="any")
    assert plan(NewDisk(target="vda", base="/home/b"), policy=free)[0].base == "/home/b"
    with pytest.raises(HypervisorError, match="not a device"):
        plan(NewDisk(target="vda", base="/dev/sda"), policy=free)
    # Without XML in tasks, disks are still possible below the folders.
    closed = XmlPolicy(allow="defined-only", directories=("/srv/images",))
    assert plan(NewDisk(target="vda", base="/srv/images/b"), policy=closed)
    with pytest.raises(HypervisorError, match="below /srv/images"):
        plan(NewDisk(target="vda", base="/home/b"), policy=closed)


def test_transient_domain_has_no_new_disks():
    with pytest.raises(HypervisorError, match="leave out transient, and stop it with undefine"):
        plan(NewDisk(target="vda", size=1), transient=True, xml="<domain/>")


def test_removal_needs_the_removal_of_the_definition():
    check_removal(Stop(vm_name="vm1", undefine=True, remove_storage=True))
    check_removal(Stop(vm_name="vm1", remove_storage=False, undefine=False))
    with pytest.raises(HypervisorError, match="remove-storage needs undefine: true"):
        check_removal(Stop(vm_name="vm1", undefine=False, remove_storage=True))
    with pytest.raises(ValidationError, match="remove-storage: needs undefine"):
        load("task: stop vm\nlist: [{vm-name: vm1, remove-storage: true}]")


def test_disk_needs_a_base_or_a_size():
    with pytest.raises(ValidationError, match="needs base or size"):
        load("task: start vm\nvm-configurations: [{vm-name: a, disks: [{target: vda}]}]")
