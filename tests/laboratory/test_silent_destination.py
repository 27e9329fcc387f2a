"""A destination whose libvirtd stands still in the last call of a migration, and runs on later.

libvirt on the source then gives up and resumes the domain there. When the libvirtd of the
destination runs on, it also ends its call, which starts the domain, unless it arrives paused.
"""

import pytest

from tests.support.lab.fleet import PATIENCE, assert_error
from tests.support.lab.last_call import act_in_last_call
from tests.support.lab.local_disks import (
    LocalDisk,
    images_on,
    make_folder,
    remove_images,
)
from tests.support.waiting import wait_until

pytestmark = pytest.mark.laboratory
LONG = PATIENCE


@pytest.fixture
def daemon_options():
    return {"unreachable-timeout": 8}


@pytest.fixture
def disk(fleet):
    """A disk that only hostA has. Afterwards all images are removed."""
    for host in fleet.lab.hosts:
        remove_images(host)
        make_folder(host)
    yield LocalDisk(fleet.lab.host("hostA"), "vm1", "qcow2")
    fleet.reset()
    for host in fleet.lab.hosts:
        remove_images(host)


def freeze_in_last_call(host):
    """Freeze the libvirtd of a destination in the call that starts the domain."""
    libvirtd = host.libvirtd.process  # found now, because that takes longer than the call
    assert libvirtd is not None
    act_in_last_call(host, "vm1", libvirtd.freeze)


def test_copy_on_a_destination_that_was_silent_never_runs(fleet, disk):
    destination, daemon = fleet.lab.host("hostB"), fleet.daemons["hostA"]
    guest = fleet.run_guest("hostA", "vm1", disk=disk)
    handle = fleet.client.migrate(
        "vm1", "hostA", "hostB", migration_type="live", copy_storage="all"
    )
    freeze_in_last_call(destination)
    details = assert_error(handle.result(LONG))
    stayed = details.startswith("vm1 did not migrate to hostB")
    if stayed:
        assert_words(
            details,
            "vm1 runs on hostA; a paused copy that has never run may be on hostB, which cannot be "
            "queried; once hostB answers, the daemon removes it",
            "; the daemon removes it once hostB answers",
        )
    else:  # libvirtd had just sent its answer, so libvirt has ended the domain on the source
        assert_words(
            details,
            "vm1 has arrived on hostB, which does not answer now: could not resume",
            "; the daemon does that once hostB answers",
        )
    assert fleet.unsettled("hostA") == [("vm1", "hostB")]
    destination.libvirtd.thaw()
    ends = ("paused", None) if stayed else ("paused", "running")
    wait_until(
        lambda: destination.domains().get("vm1") in ends,
        lambda: f"the late call has ended: {destination.domains()}",
        PATIENCE,
    )
    daemon.kill()
    daemon.start()
    fleet.wait_until_settled()
    place = "hostA" if stayed else "hostB"
    fleet.assert_runs_only_on("vm1", place)  # with heartbeats of one copy
    if stayed:
        assert "vm1" not in destination.domains()
        assert images_on(destination) == []
    assert_disk_is_right(disk.on(fleet.lab.host(place)), guest)


def assert_words(details, *words):
    for each in words:
        assert each in details, details


def assert_disk_is_right(disk, guest):
    """End the guest, and check that its disk has all that it has written, and the rest."""
    disk.host.virsh("destroy", "vm1")
    last = guest.heartbeats[-1]
    assert last.stale == 0
    assert last.disk <= disk.count <= last.disk + 1
    assert disk.digest == disk.right_digest


def test_late_copy_that_libvirt_starts_is_paused_and_keeps_its_images(fleet, disk, request):
    """With post-copy, libvirt must start the domain at the destination."""
    if not request.config.getoption("--long"):
        pytest.skip("takes minutes; with --long")
    destination = fleet.lab.host("hostB")
    fleet.run_guest("hostA", "vm1", disk=disk)
    handle = fleet.client.migrate(
        "vm1", "hostA", "hostB", migration_type="live", copy_storage="all",
        migration_timeout=300, on_timeout="post-copy",
    )  # fmt: skip
    freeze_in_last_call(destination)
    assert_words(
        assert_error(handle.result(LONG)),
        "vm1 runs on hostA; it may also run on hostB, which cannot be queried; once hostB answers, "
        "the daemon pauses such a copy",
    )
    destination.libvirtd.thaw()
    fleet.wait_until_settled()
    states = fleet.domain_states()
    assert (states["hostA"]["vm1"], states["hostB"]["vm1"]) == ("running", "paused")
    assert images_on(destination) == [disk.path.name]
    advice = "destroy it there with virsh destroy vm1 once nothing of it is needed"
    assert any(advice in line for line in fleet.daemons["hostA"].log)
    disk.host.virsh("destroy", "vm1")
    assert disk.digest == disk.right_digest
