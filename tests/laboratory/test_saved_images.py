"""Saved images (managed save) and other data that libvirt keeps, with real libvirt and QEMU.

Each order either continues the domain with its newest memory, or is refused and changes nothing.
"""

import re
from pathlib import Path

import pytest

from tests.support.lab.fleet import PATIENCE, assert_error, assert_success
from tests.support.lab.libvirt_access import saved_images
from tests.support.lab.phases import Phases
from tests.support.lab.shared_disks import SharedDisks

pytestmark = pytest.mark.laboratory


@pytest.fixture
def daemon_options():
    """A stop lasts until the domain is saved, and a start until it is cancelled."""
    return {"stop-timeout": 300, "start-timeout": 300}


def start(fleet, host="hostA", name="vm1", **options):
    return fleet.client.start(host, name, probe_with_ssh=False, **options).result(PATIENCE)


def images(fleet):
    """The names of the domains with saved images, by host."""
    return {host.name: set(saved_images(host)) for host in fleet.lab.hosts}


def managed_saves(fleet, host):
    report = fleet.client.query(host).result(PATIENCE).node
    return {each.name: each.managed_save for each in report.domains}


def test_saved_domain_is_restored_or_the_order_is_refused(fleet):
    host = fleet.lab.host("hostA")
    with SharedDisks(fleet.lab, ["vm1"]) as [disk]:
        guest = fleet.run_guest("hostA", "vm1", disk=disk, vcpus=2)
        host.virsh("managedsave", "vm1")
        before = guest.wait_for_heartbeat()
        written = disk.read()
        definition = host.virsh("dumpxml", "vm1", "--inactive")
        assert managed_saves(fleet, "hostA") == {"vm1": True}
        for changes, words in (
            ({"memory": 131072}, r"memory \(131072 KiB, the image has 98304\)"),
            ({"vcpus": 1}, r"vcpus \(1, the image has 2\)"),
            ({"vcpu_map": [[0], [1]]}, "vcpu-map"),
            ({"vcpu_map": [[0], [1]], "saved_state": "restore"}, "vcpu-map"),
            ({"xml": guest.xml}, "xml"),
            ({"memory": 131072, "saved_state": "restore"}, "memory .131072 KiB, the image has.*"),
        ):
            name = None if "xml" in changes else "vm1"
            refused = start(fleet, name=name, **changes)
            assert_error(refused, f"which cannot be restored with {words}; .*saved-state: discard")
        elsewhere = fleet.client.start("hostB", xml=guest.xml, probe_with_ssh=False)
        assert_error(elsewhere.result(PATIENCE), "vm1 has a saved image on hostA, which may have")
        offline = fleet.client.migrate("vm1", "hostA", "hostB", migration_type="offline")
        assert_error(offline.result(PATIENCE), "has a saved image on hostA with its newest memory")
        forgotten = fleet.client.stop("hostA", "vm1", undefine=True)
        assert_error(forgotten.result(PATIENCE), "has a saved image on hostA with its newest")
        assert fleet.domain_states() == {"hostA": {"vm1": "shut off"}, "hostB": {}, "hostC": {}}
        assert images(fleet) == {"hostA": {"vm1"}, "hostB": set(), "hostC": set()}
        assert host.virsh("dumpxml", "vm1", "--inactive") == definition
        assert disk.read() == written

        restored = start(fleet, memory=98304, vcpus=2)
        assert_success(restored)
        assert restored.details == "continued from its saved image"
        assert managed_saves(fleet, "hostA") == {"vm1": None}
        fleet.assert_runs_only_on("vm1", "hostA")
        beat = guest.wait_for_heartbeat()
        assert beat.count > before.count
        assert beat.stale == 0

        host.virsh("suspend", "vm1")
        host.virsh("managedsave", "vm1")
        assert_success(start(fleet))
        fleet.assert_runs_only_on("vm1", "hostA")

        host.virsh("managedsave", "vm1")
        booted = start(fleet, memory=131072, saved_state="discard")
        assert_success(booted)
        assert booted.details == "its saved image is deleted"
        assert images(fleet)["hostA"] == set()
        assert host.virsh("dominfo", "vm1").split("Max memory:")[1].split()[0] == "131072"


def test_image_that_cannot_be_restored_is_kept(fleet):
    """libvirt deletes an image whose header is incomplete, and boots without an error."""
    host = fleet.lab.host("hostA")
    fleet.lab.define_guest("vm1", on="hostA", bios=True)
    assert_success(start(fleet))
    host.virsh("managedsave", "vm1")
    image = saved_images(host)["vm1"]
    whole = image.read_bytes()
    for damaged, words in (
        (whole[:50], r"cannot be restored \(.*failed to read qemu header\); it is kept"),
        (b"LibvirtQemudPart" + whole[16:], r"cannot be restored \(.*save image is incomplete\)"),
        (whole[:8192] + bytes(len(whole) - 8192), "its saved image is kept; saved-state: discard"),
    ):
        image.write_bytes(damaged)
        assert_error(start(fleet), words)
        assert image.read_bytes() == damaged
        assert host.domains() == {"vm1": "shut off"}
    assert_error(start(fleet, saved_state="restore"), "its saved image is kept")
    image.write_bytes(whole)
    assert start(fleet, saved_state="restore").details == "continued from its saved image"
    fleet.client.stop("hostA", "vm1", force=True).result(PATIENCE)
    refused = start(fleet, saved_state="restore")
    assert_error(refused, "vm1 has no saved image on hostA to restore; leave out saved-state")


def test_image_left_behind_by_a_migration_is_not_restored(fleet):
    """libvirt leaves the image on the source, and later says that the domain has none."""
    source, other = fleet.lab.host("hostA"), fleet.lab.host("hostB")
    fleet.lab.define_guest("vm1", on="hostA", bios=True)
    assert_success(start(fleet))
    source.virsh("managedsave", "vm1")
    move = ["migrate", "--offline", "--persistent", "--undefinesource", "vm1"]
    source.virsh(*move, "qemu+tcp://hostB/system")
    assert images(fleet)["hostA"] == {"vm1"}
    assert_error(start(fleet, "hostB"), "vm1 has a saved image on hostA, which may have its newest")
    started = start(fleet, "hostB", saved_state="discard")
    assert_success(started)
    file = "/var/lib/libvirt/qemu/save/vm1.save"
    assert re.search(f"hostA no longer knows vm1, .*; delete {file} there", started.details)
    for kind in ("live", "warm"):
        moved = fleet.client.migrate("vm1", "hostB", "hostA", migration_type=kind)
        assert_error(moved.result(PATIENCE), "hostA has a saved image of vm1, which a later start")
    evacuated = fleet.client.evacuate("hostB", ["hostA"]).result(PATIENCE)
    assert_error(evacuated[0], "vm1 stays on hostB: hostA has an old saved image of vm1")
    fleet.client.stop("hostB", "vm1", force=True).result(PATIENCE)
    other.virsh(*move, "qemu+tcp://hostA/system")
    assert "Managed save:   no" in source.virsh("dominfo", "vm1")
    assert managed_saves(fleet, "hostA") == {"vm1": True}
    assert_error(start(fleet, memory=131072), "memory .131072 KiB, the image has")
    assert start(fleet, saved_state="discard").details == "its saved image is deleted"
    assert source.domains() == {"vm1": "running"}
    assert images(fleet)["hostA"] == set()


def test_stop_deletes_an_image_that_is_older_than_the_run(fleet):
    host = fleet.lab.host("hostA")
    guest = fleet.lab.define_guest("vm1", on="hostA", bios=True)
    assert_success(start(fleet))
    host.virsh("managedsave", "vm1")
    description = Path(fleet.lab.layout.guests) / "transient.xml"
    description.write_text(guest.xml)
    host.virsh("create", description)  # which does not restore the image
    moved = fleet.client.migrate("vm1", "hostA", "hostB", migration_type="live")
    assert_error(moved.result(PATIENCE), "hostA has a saved image of vm1 that is older than the")
    stopped = fleet.client.stop("hostA", "vm1", force=True).result(PATIENCE)
    assert stopped.details == "its old saved image is deleted"
    assert images(fleet)["hostA"] == set()
    assert host.domains() == {"vm1": "shut off"}


def test_domain_that_is_saved_while_it_is_to_stop_keeps_its_image(fleet):
    """As libvirt-guests does it when the host shuts down. The guest ignores the power button."""
    host = fleet.lab.host("hostA")
    fleet.lab.define_guest("vm1", on="hostA", bios=True)
    assert_success(start(fleet, memory=20001))
    stopping = fleet.client.stop("hostA", "vm1", undefine=True)
    Phases(stopping).wait_for("shutdown")
    host.virsh("managedsave", "vm1")
    stopped = stopping.result(PATIENCE)
    assert_error(stopped, "vm1 has not shut down on hostA: it was saved in the meantime")
    assert images(fleet)["hostA"] == {"vm1"}
    # The image has 20480 KiB, as QEMU rounds up to MiB.
    restored = start(fleet, memory=20001)
    assert_success(restored)
    assert restored.details == "continued from its saved image"

    host.virsh("suspend", "vm1")
    host.virsh("managedsave", "vm1")
    host.virsh("start", "vm1")
    assert host.domains() == {"vm1": "paused"}
    resumed = fleet.client.resume("hostA", "vm1").result(PATIENCE)
    assert_error(
        resumed, "after a migration or a restore that did not end, .*resume it with virsh res"
    )
    ended = fleet.client.stop("hostA", "vm1", force=True, undefine=True).result(PATIENCE)
    assert_success(ended)
    assert host.domains() == {}


def test_cancelled_start_of_a_saved_domain_saves_it_again(fleet):
    guest = fleet.run_guest("hostA", "vm1")
    fleet.lab.host("hostA").virsh("managedsave", "vm1")
    handle = fleet.client.start("hostA", "vm1", probe_hostname="192.0.2.1")
    before = guest.wait_for_heartbeat()
    guest.wait_for_heartbeat(before)  # it runs, so its image is gone
    Phases(handle).wait_for("probe")
    latest = guest.wait_for_heartbeat()
    assert_success(handle.cancel().result(PATIENCE))
    assert_error(handle.result(PATIENCE), "cancelled")
    assert fleet.lab.host("hostA").domains() == {"vm1": "shut off"}
    assert images(fleet)["hostA"] == {"vm1"}
    assert start(fleet, saved_state="restore").details == "continued from its saved image"
    assert guest.wait_for_heartbeat(latest).count > latest.count
    fleet.assert_runs_only_on("vm1", "hostA")


def test_domain_with_a_checkpoint_does_not_migrate(fleet):
    """libvirt forgets it. `test_snapshots.py` has the snapshots, which travel."""
    host = fleet.lab.host("hostA")
    guest = fleet.lab.define_guest("vm1", bios=True)
    folder = Path(fleet.lab.layout.guests)
    image = folder / "checkpoint.qcow2"
    host.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "1M"])
    disk = (
        f"<disk type='file'><driver type='qcow2'/><source file='{image}'/>"
        "<target dev='hda'/></disk>"
    )
    xml = guest.xml.replace("<devices>", f"<devices>{disk}", 1)
    (folder / "domain.xml").write_text(xml)
    (folder / "checkpoint.xml").write_text(
        "<domaincheckpoint><name>first</name><creationTime>1</creationTime>"
        f"{xml}</domaincheckpoint>"
    )
    host.virsh("define", folder / "domain.xml")
    host.virsh("checkpoint-create", "vm1", folder / "checkpoint.xml", "--redefine")
    moved = fleet.client.migrate("vm1", "hostA", "hostB", migration_type="offline")
    assert_error(moved.result(PATIENCE), "vm1 has 1 checkpoint on hostA", "virsh checkpoint-delete")
    host.virsh("checkpoint-delete", "vm1", "first", "--metadata")
    assert fleet.domain_states() == {"hostA": {"vm1": "shut off"}, "hostB": {}, "hostC": {}}


def test_uefi_variables_migrate_with_a_running_domain_only(fleet):
    """libvirt leaves the file on the source of each migration."""
    guest = fleet.lab.define_guest("vm1", bios=True)
    folder = Path(fleet.lab.layout.guests)
    firmware = folder / "firmware.fd"
    firmware.write_bytes(bytes(1 << 20))
    path = "/var/lib/libvirt/qemu/nvram/vm1.fd"
    variables = {
        host.name: Path(f"/proc/{host.init_process.pid}/root{path}") for host in fleet.lab.hosts
    }
    for host, content in (("hostA", b"new"), ("hostB", b"old")):
        variables[host].parent.mkdir(exist_ok=True)
        variables[host].write_bytes(content.ljust(1 << 17))
    loader = f"<loader readonly='yes' type='pflash'>{firmware}</loader><nvram>{path}</nvram>"
    xml = guest.xml.replace("</type>", f"</type>{loader}", 1)
    xml = xml.replace("<devices>", "<features><acpi/></features><devices>", 1)
    started = fleet.client.start("hostA", xml=xml, probe_with_ssh=False)
    assert_success(started.result(PATIENCE))
    moved = fleet.client.migrate("vm1", "hostA", "hostB", migration_type="live")
    assert_success(moved.result(PATIENCE))
    assert variables["hostB"].read_bytes().startswith(b"new")
    stopped = fleet.client.stop("hostB", "vm1", force=True)
    assert_success(stopped.result(PATIENCE))
    variables["hostB"].write_bytes(b"newer".ljust(1 << 17))
    back = fleet.client.migrate("vm1", "hostB", "hostA", migration_type="offline")
    assert_error(back.result(PATIENCE), f"{path} .UEFI variables.* is another file on hostA")
    assert variables["hostA"].read_bytes().startswith(b"new")
    assert fleet.domain_states()["hostB"] == {"vm1": "shut off"}
