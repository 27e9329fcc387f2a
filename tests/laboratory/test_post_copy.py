"""Post-copy that is interrupted: the domain arrives with all of its memory, or nothing is lost.

Part of the memory is at each host when the fault happens. libvirt gives up a silent peer after 12 s
here, and reports a failed post-copy.
"""

import pytest

from fastlib import SwapWith
from tests.support.lab.bindings import assert_bound
from tests.support.lab.fleet import PATIENCE, assert_error, assert_success
from tests.support.lab.local_disks import LocalDisk, images_on, make_folder, remove_images
from tests.support.lab.phases import Phases
from tests.support.lab.qemu_certificates import certified
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.laboratory, pytest.mark.timeout(1200)]
OPTIONS = {"stall-timeout": 20, "recover-timeout": 200}
LIMIT = 1
"""MiB a second. The guest uses more than 60 MiB, so the stream lasts until each of the faults."""
ORDER = {
    "migration_type": "live", "on_timeout": "post-copy", "migration_timeout": 1,
    "bandwidth_limit": LIMIT,
}  # fmt: skip
LONG = 500.0


@pytest.fixture
def daemon_options():
    return OPTIONS


if_long = pytest.mark.usefixtures("only_long")


def run_guest(fleet, **options):
    return fleet.run_guest("hostA", "vm1", **{"dirty": 16, "rate": 32, **options})


def begin_post_copy(fleet, **options):
    """Migrate a guest until it runs at the destination, without all memory. Returns the handle.

    A disk may be copied with another limit. From the switch on, the memory has the usual one.
    """
    if "vm1" not in fleet.guests:
        run_guest(fleet)
    handle = fleet.client.migrate("vm1", "hostA", "hostB", **{**ORDER, **options})
    wait_for_post_copy(fleet, handle)
    return handle


def wait_for_post_copy(fleet, handle, source="hostA", destination="hostB"):
    handle.phases = Phases(handle)
    handle.phases.wait_for("post-copy")
    fleet.lab.host(source).virsh("migrate-setspeed", "vm1", LIMIT, "--postcopy")
    fleet.wait_until_it_has_run(destination, "vm1")


def wait_for_failed_post_copy(fleet, name="vm1", host="hostA"):
    """Wait until the source's libvirt has noticed the fault.

    Only for a fault that stays: else the daemon may resume the stream before libvirt is asked.
    """
    place = fleet.lab.host(host)
    wait_until(
        lambda: "post-copy failed" in place.virsh("domstate", name, "--reason"),
        lambda: place.virsh("domstate", name, "--reason"),
        PATIENCE,
    )


def finish(fleet, handle):
    """The domain arrives with all of its memory, and the result says how. Returns the result."""
    result = result_of(fleet, handle)
    assert_arrived(fleet, result)
    assert "recover" in handle.phases
    return result


def result_of(fleet, handle, *migrations):
    migrations = migrations or [("hostA", "vm1")]
    return fleet.result_without_limit(handle, *migrations, post_copy=True, seconds=LONG)


def assert_arrived(fleet, result, host="hostB"):
    assert result.status == "success", fleet.daemons["hostA"].log[-40:]
    assert "its post-copy was interrupted, and then " in result.details
    fleet.assert_runs_only_on(result.vm_name, host)
    definitions = fleet.lab.host(host).virsh("list", "--all", "--persistent", "--name").split()
    assert result.vm_name in definitions
    assert result.vm_name not in fleet.domain_states()["hostA"]


@pytest.mark.both_modes(only_long=True)
def test_cut_link_is_awaited(fleet):
    """The stream continues when the link is back, or it is resumed."""
    handle = begin_post_copy(fleet)
    fleet.lab.host("hostB").disconnect()
    wait_for_failed_post_copy(fleet)
    handle.phases.wait_for("recover")
    fleet.lab.host("hostB").reconnect()
    finish(fleet, handle)


@pytest.mark.both_modes(only_long=True)
def test_reset_connection_is_resumed_again_and_again(fleet):
    handle = begin_post_copy(fleet)
    for _ in range(2):
        fleet.lab.host("hostA").reset_migrations()
        handle.phases.wait_for("recover")
        handle.phases.wait_for("post-copy")
        speed = fleet.lab.host("hostA").virsh("migrate-getspeed", "vm1", "--postcopy")
        assert speed.strip() == str(LIMIT)
    assert "then resumed" in finish(fleet, handle).details


def test_encrypted_stream_is_resumed_encrypted_by_a_restarted_daemon(fleet):
    with certified(fleet.lab):
        handle = begin_post_copy(fleet, vcpu_map=[[1]], memnode_map=[[0]])
        fleet.daemons["hostA"].kill()
        fleet.lab.host("hostA").reset_migrations()
        wait_for_failed_post_copy(fleet)
        fleet.daemons["hostA"].start()
        result = finish(fleet, handle)
    assert result.encrypted is True
    assert "found done after the daemon's restart; " in result.details
    assert_bound(fleet.lab.host("hostB"), "vm1", ["1"], ["0"])


def test_restarted_daemon_waits_for_the_link(fleet):
    handle = begin_post_copy(fleet)
    fleet.lab.host("hostB").disconnect()
    wait_for_failed_post_copy(fleet)
    handle.phases.wait_for("recover")
    fleet.daemons["hostA"].kill()
    handle.phases.forget()
    fleet.daemons["hostA"].start()
    handle.phases.wait_for("recover")
    fleet.lab.host("hostB").reconnect()
    finish(fleet, handle)


def test_copied_disk_is_whole_after_a_resume(fleet):
    for host in fleet.lab.hosts:
        remove_images(host)
        make_folder(host)
    disk = LocalDisk(fleet.lab.host("hostA"), "vm1", "qcow2")
    disk.write(b"")
    digest = disk.digest
    run_guest(fleet, disk=disk)
    handle = begin_post_copy(fleet, copy_storage="all", source_disks="remove", bandwidth_limit=3)
    fleet.lab.host("hostA").reset_migrations()
    result = finish(fleet, handle)
    assert "removed the images on hostA" in result.details
    assert images_on(fleet.lab.host("hostA")) == []
    guest = fleet.guests["vm1"]
    count = guest.wait_for_heartbeat().disk
    fleet.lab.host("hostB").virsh("destroy", "vm1")
    there = disk.on(fleet.lab.host("hostB"))
    assert there.digest == digest
    assert there.count >= count
    assert guest.heartbeats[-1].stale == 0


@if_long
def test_swap_and_evacuation_recover_too(fleet):
    run_guest(fleet)
    fleet.run_guest("hostB", "vm2")
    swap = fleet.client.migrate("vm1", "hostA", "hostB", **ORDER, swap_with=SwapWith(vm_name="vm2"))
    wait_for_post_copy(fleet, swap)
    fleet.lab.host("hostA").reset_migrations()
    result = result_of(fleet, swap, ("hostA", "vm1"), ("hostB", "vm2"))
    assert_arrived(fleet, result)
    fleet.assert_runs_only_on("vm2", "hostA")
    evacuation = fleet.client.evacuate("hostB", ["hostC"], **ORDER)
    wait_for_post_copy(fleet, evacuation, "hostB", "hostC")
    fleet.lab.host("hostB").reset_migrations()
    [evacuated] = result_of(fleet, evacuation, ("hostB", "vm1"))
    assert_arrived(fleet, evacuated, "hostC")


def test_post_copy_that_was_given_up_is_resumed_by_the_same_order(fleet):
    handle = begin_post_copy(fleet)
    fleet.lab.host("hostB").disconnect()
    wait_for_failed_post_copy(fleet)
    handle.phases.wait_for("recover")
    handle.cancel()
    assert_error(
        handle.result(LONG),
        "the memory of vm1 is divided between hostA and hostB, as post-copy has not ended",
        "destroy neither, repair the link, and order the migration from hostA to hostB again with",
    )
    # The end of the stream at the destination: else it continues when the link is back.
    fleet.lab.host("hostB").reset_arriving_migrations()
    fleet.lab.host("hostB").reconnect()
    again = fleet.client.migrate("vm1", "hostA", "hostB", **ORDER)
    assert_arrived(fleet, result_of(fleet, again))


@if_long
@pytest.mark.parametrize("phase", ["recover", "post-copy"])
def test_libvirtd_of_the_source_may_be_killed_in_the_recovery(fleet, phase):
    """Before the daemon resumes it, and while libvirt resumes it."""
    handle = begin_post_copy(fleet)
    fleet.lab.host("hostA").reset_migrations()
    handle.phases.wait_for("recover")
    if phase == "post-copy":
        handle.phases.wait_for(phase)
    libvirtd = fleet.lab.host("hostA").libvirtd
    libvirtd.kill()
    libvirtd.start()
    finish(fleet, handle)


@if_long
def test_cancelled_order_does_not_wait_for_the_link(fleet):
    handle = begin_post_copy(fleet)
    fleet.lab.host("hostB").disconnect()
    wait_for_failed_post_copy(fleet)
    handle.phases.wait_for("recover")
    handle.cancel()
    assert_error(
        handle.result(LONG),
        "the memory of vm1 is divided between hostA and hostB, as post-copy has not ended",
        "destroy neither, repair the link, and order the migration from hostA to hostB again with",
    )
    fleet.lab.host("hostB").reconnect()
    fleet.assert_runs_only_on("vm1", "hostB")


def test_libvirtd_of_the_destination_may_restart_meanwhile(fleet):
    handle = begin_post_copy(fleet)
    libvirtd = fleet.lab.host("hostB").libvirtd
    libvirtd.kill()
    fleet.lab.host("hostA").reset_migrations()
    wait_for_failed_post_copy(fleet)
    libvirtd.start()
    finish(fleet, handle)


@pytest.mark.parametrize(("host", "other"), [("hostA", "hostB"), ("hostB", "hostA")])
def test_lost_domain_is_called_lost(fleet, host, other):
    """A part of its memory has ended with the QEMU of either host."""
    handle = begin_post_copy(fleet)
    fleet.lab.host("hostB").disconnect()
    wait_for_failed_post_copy(fleet)
    fleet.lab.host(host).qemu("vm1").kill()
    fleet.lab.host("hostB").reconnect()
    assert_error(
        handle.result(LONG),
        "vm1 is lost: it is ",
        f"its copy on {host} has ended before post-copy had moved all memory",
        "destroy it there, and start the domain again",
    )
    # libvirt keeps the job of the migration until the domain is destroyed.
    divided = "the memory of vm1 is divided"
    if other == "hostA":
        assert_error(fleet.client.suspend(other, "vm1").result(PATIENCE), divided)
        assert_error(fleet.client.migrate("vm1", other, "hostC").result(PATIENCE), divided)
    assert_success(fleet.client.stop(other, "vm1", force=True).result(PATIENCE))


@if_long
def test_stream_that_ended_at_the_source_alone_is_resumed_after_a_reset(fleet):
    """The destination's QEMU waits for data, so it does not notice. The operator ends its wait.

    TCP gives up after a few seconds here, usually after 16 min.
    """
    with fleet.lab.host("hostA").short_tcp():
        handle = begin_post_copy(fleet)
        with fleet.lab.host("hostA").lose_migrations():
            wait_for_failed_post_copy(fleet)
            handle.phases.wait_for("recover")
            fleet.lab.host("hostB").reset_arriving_migrations()
            result = finish(fleet, handle)
    assert "then resumed" in result.details
