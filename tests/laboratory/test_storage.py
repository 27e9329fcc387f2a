"""Migrations of domains with disks: the files must be there, and be the same ones."""

import pytest

from tests.support.lab.fleet import PATIENCE, assert_error, assert_success
from tests.support.libvirt.qcow2 import write_qcow2

pytestmark = pytest.mark.laboratory
LOCAL = "/var/lib/fastlib-test/vm1.img"
"""Each host has a /var/lib of its own."""
DISK = """\
<disk type='file' device='disk'>
  <driver name='qemu' type='{format}' cache='none'/>
  <source file='{path}'/><target dev='vda' bus='virtio'/>
</disk>
"""


@pytest.fixture
def define(fleet):
    """Define a domain with disks on hostA. The files on the hosts are removed afterwards."""

    def define(*disks, os=""):
        guest = fleet.lab.define_guest("vm1", bios=True)
        xml = guest.xml.replace("</devices>", f"{''.join(disks)}</devices>")
        path = fleet.lab.layout.guests / "vm1.xml"
        path.write_text(xml.replace("</os>", f"{os}</os>"))
        fleet.lab.host("hostA").virsh("define", path)

    yield define
    for host in fleet.lab.hosts:
        host.run(["rm", "-rf", "/var/lib/fastlib-test"])


def make(fleet, host, path, text="data"):
    command = f"mkdir -p $(dirname {path}) && echo {text} >{path} && truncate -s 1M {path}"
    fleet.lab.host(host).run(["sh", "-c", command])


def shared(fleet, name="vm1.img"):
    """A file that all hosts see."""
    return fleet.lab.layout.guests / name


def defined(fleet):
    """Return the hosts on which the domain is defined. No other domain may be left."""
    states = fleet.domain_states()
    assert {name for domains in states.values() for name in domains} <= {"vm1"}
    return [host for host, domains in states.items() if "vm1" in domains]


def migrate_offline(fleet):
    return fleet.client.migrate("vm1", "hostA", "hostB", migration_type="offline").result(PATIENCE)


def test_offline_migration_needs_each_file_at_the_destination(fleet, define):
    make(fleet, "hostA", LOCAL)
    make(fleet, "hostA", "/var/lib/fastlib-test/kernel")
    define(
        DISK.format(format="raw", path=LOCAL), os="<kernel>/var/lib/fastlib-test/kernel</kernel>"
    )
    lacks = r"hostB lacks files of vm1: /var/lib/fastlib-test/vm1.img \(disk vda\), "
    assert_error(
        migrate_offline(fleet), lacks + r"/var/lib/fastlib-test/kernel \(kernel\); put them there"
    )
    assert defined(fleet) == ["hostA"]
    # The same path and content, and still another disk.
    make(fleet, "hostB", LOCAL)
    make(fleet, "hostB", "/var/lib/fastlib-test/kernel")
    assert_error(migrate_offline(fleet), r"vm1.img \(disk vda\) of vm1 is another file on hostB")
    assert defined(fleet) == ["hostA"]
    fleet.lab.host("hostA").virsh("start", "vm1")
    for kind in ("live", "warm"):
        result = fleet.client.migrate("vm1", "hostA", "hostB", migration_type=kind).result(PATIENCE)
        assert_error(result, r"disk vda \(.*/vm1.img\) of vm1 is another file on hostB")
    assert fleet.lab.running_on("vm1") == ["hostA"]
    assert list(shared(fleet).parent.glob(".fastlib*")) == []


def test_domain_on_shared_storage_migrates(fleet, define):
    """Its disk has a backing file that the definition does not name."""
    top, base = shared(fleet, "top.qcow2"), shared(fleet, "base.img")
    make(fleet, "hostA", base)
    write_qcow2(top, base, "raw")
    define(DISK.format(format="qcow2", path=top))
    result = migrate_offline(fleet)
    assert_success(result)
    assert result.details is None
    assert defined(fleet) == ["hostB"]
    assert_success(
        fleet.client.start("hostB", vm_name="vm1", probe_with_ssh=False).result(PATIENCE)
    )
    # libvirt does not take this file system for a shared one. The daemon has compared the hosts.
    result = fleet.client.migrate("vm1", "hostB", "hostA", migration_type="live").result(PATIENCE)
    assert_success(result)
    assert result.details is None
    assert fleet.lab.running_on("vm1") == ["hostA"]


def test_offline_migration_follows_backing_files_and_pools(fleet, define):
    base, top = "/var/lib/fastlib-test/base.img", shared(fleet, "top.qcow2")
    make(fleet, "hostA", base)
    write_qcow2(top, base, "raw")
    pool = "<disk type='volume'><source pool='images' volume='x.img'/><target dev='vdb'/></disk>"
    define(DISK.format(format="qcow2", path=top), pool)
    assert_error(
        migrate_offline(fleet),
        rf"{base} \(backing file of disk vda\)",
        r"hostB lacks the volume x.img \(disk vdb\) of vm1: there is no storage pool images",
    )
    assert defined(fleet) == ["hostA"]
