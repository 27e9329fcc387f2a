"""Disks without an image file of their own: block devices, network disks, volumes of pools.

QEMU does not lock them between hosts. So the domain arrives paused, and the daemon resumes it once
the source has ended.
"""

import contextlib

import pytest

from tests.support import end_of_run
from tests.support.lab.bios_guests import define, disk_xml
from tests.support.lab.fleet import PATIENCE, assert_error, assert_success
from tests.support.lab.last_call import act_in_last_call
from tests.support.lab.local_disks import FOLDER, make_folder, remove_images
from tests.support.lab.loop_devices import loop_device, missing_for_loop_devices
from tests.support.lab.shared_disks import SharedDisks
from tests.support.waiting import wait_until

pytestmark = pytest.mark.laboratory
POOL = "fastlib-test"
DEVICE = FOLDER / "device"
"""A link of each host to a device."""


def device_xml(path):
    return disk_xml("").replace("type='file'", "type='block'").replace('file=""', f"dev='{path}'")


def volume_xml(name, target, format):
    xml = disk_xml("", target, format).replace("type='file'", "type='volume'")
    return xml.replace('file=""', f"pool='{POOL}' volume='{name}'")


def migrate(fleet, source, destination, **options):
    handle = fleet.client.migrate("vm1", source, destination, migration_type="live", **options)
    return handle.result(PATIENCE)


@pytest.fixture
def network_disk(fleet):
    with SharedDisks(fleet.lab, ["vm1"]) as [disk]:
        yield disk


@pytest.fixture
def pool(fleet):
    """A folder that all hosts share, with two images, and with a pool on two hosts.

    The end of the pools comes after that of all domains, and before that of the other disks.
    """
    folder = fleet.lab.layout.guests / "pool"
    folder.mkdir(exist_ok=True)
    hosts = [fleet.lab.host(name) for name in ("hostA", "hostB")]
    for name in "volume.qcow2", "file.qcow2":
        hosts[0].run(["qemu-img", "create", "-q", "-f", "qcow2", folder / name, "1M"])
    xml = fleet.lab.layout.guests / "pool.xml"
    xml.write_text(
        f"<pool type='dir'><name>{POOL}</name><target><path>{folder}</path></target></pool>"
    )
    for host in hosts:
        host.virsh("pool-create", xml)
    yield folder
    fleet.reset()
    for host in hosts:
        host.virsh("pool-destroy", POOL)


@pytest.fixture
def devices(fleet, request):
    """Two devices with different content. The link of each host leads to the first one."""
    if (why := missing_for_loop_devices()) is not None:
        end_of_run.skip_now(request.node, "migrations with block devices are not tested", why)
    with contextlib.ExitStack() as stack:
        made = []
        for number in range(2):
            image = fleet.lab.layout.guests / f"device-{number}.raw"
            image.write_bytes(bytes([number]) * (1 << 20))
            made.append(stack.enter_context(loop_device(image)))
        for host in fleet.lab.hosts:
            remove_images(host)
            make_folder(host)
            host.run(["ln", "-s", made[0], DEVICE])
        yield made
        for host in fleet.lab.hosts:
            remove_images(host)


def test_disks_of_all_kinds_are_found_again(fleet, devices, network_disk, pool):
    """`pool` is the last fixture, because it ends the domain before the others end its disks."""
    here, there = fleet.lab.host("hostA"), fleet.lab.host("hostB")
    define(
        fleet,
        "vm1",
        device_xml(DEVICE),
        network_disk.xml,
        volume_xml("volume.qcow2", "vdb", "qcow2"),
        disk_xml(pool / "file.qcow2", "vdc", "qcow2"),
    )
    here.virsh("start", "vm1")
    there.run(["ln", "-sfn", devices[1], DEVICE])
    assert_error(
        migrate(fleet, "hostA", "hostB"),
        rf"{DEVICE} \(disk vda\) of vm1 is another file on hostB than on hostA",
    )
    there.run(["ln", "-sfn", devices[0], DEVICE])
    assert_success(migrate(fleet, "hostA", "hostB"))
    assert fleet.lab.running_on("vm1") == ["hostB"]
    refusal = assert_error(
        migrate(fleet, "hostB", "hostA", copy_storage="all"), "vda .*is a block device"
    )
    assert "vdb" not in refusal  # which both hosts share, and which is then not copied
    assert fleet.lab.running_on("vm1") == ["hostB"]


def test_domain_runs_once_a_killed_daemon_is_back(fleet, network_disk, request):
    """The daemon ends in libvirt's last call. Until it is back, the domain is paused."""
    if not request.config.getoption("--long"):
        pytest.skip("takes long; with --long")
    there, daemon = fleet.lab.host("hostB"), fleet.daemons["hostA"]
    guest = fleet.run_guest("hostA", "vm1", disk=network_disk)
    handle = fleet.client.migrate("vm1", "hostA", "hostB", migration_type="live")
    act_in_last_call(there, "vm1", daemon.kill)
    wait_until(
        lambda: fleet.domain_states()["hostA"].get("vm1") in (None, "shut off"),
        lambda: f"the domain has left its source: {fleet.domain_states()}",
        PATIENCE,
    )
    assert there.domains()["vm1"] == "paused"
    daemon.start()
    assert_success(handle.result(PATIENCE))
    fleet.assert_runs_only_on("vm1", "hostB")
    there.virsh("destroy", "vm1")
    last = guest.heartbeats[-1]
    assert last.stale == 0
    assert last.disk <= network_disk.count <= last.disk + 1
