"""What goes wrong in mid-migration: afterwards the domain runs on exactly one host.

A bandwidth limit makes a migration last, so that there is time to interfere.
"""

import pytest
from lab.fleet import PATIENCE, error, success

pytestmark = pytest.mark.laboratory
LONG = PATIENCE * 3


def slow(fleet, **options):
    """A migration that takes a quarter of a minute, and has begun to send."""
    fleet.running("hostA", "vm1")
    handle = fleet.client.migrate(
        "vm1", "hostA", "hostB", **{"migration_type": "live", "bandwidth_limit": 5, **options}
    )
    fleet.begun(handle)
    return handle


def and_again(fleet):
    """What failed once succeeds when nothing is in its way any more."""
    success(fleet.client.migrate("vm1", "hostA", "hostB", migration_type="live").result(PATIENCE))
    fleet.check("vm1", "hostB")


@pytest.mark.parametrize("kind", ["live", "warm"])
def test_cancelled(clean, kind):
    handle = slow(clean, migration_type=kind)
    success(handle.cancel().result(PATIENCE))
    error(handle.result(PATIENCE), "cancelled; vm1 runs on hostA")
    clean.check("vm1", "hostA")
    and_again(clean)


def test_others_wait_for_it(clean):
    handle = slow(clean)
    repinned = clean.client.repin("hostA", "vm1", [[0]])
    resumed = clean.client.resume("hostA", "vm1")
    success(handle.cancel().result(PATIENCE))
    success(repinned.result(PATIENCE))
    result = resumed.result(PATIENCE)
    success(result)
    assert result.details == "vm1 was running already"


@pytest.mark.parametrize(
    ("action", "host", "details"),
    [
        ("abort", "hostA", "not finished within the timeout of 3 s .*vm1 runs on hostA"),
        ("pause", "hostB", None),
        ("post-copy", "hostB", None),
    ],
)
def test_timeout(clean, action, host, details):
    handle = slow(clean, migration_timeout=3, on_timeout=action)
    if details is None:
        success(handle.result(PATIENCE))
    else:
        error(handle.result(PATIENCE), details)
    clean.check("vm1", host)


def test_destination_qemu_killed(clean):
    handle = slow(clean)
    clean.lab.host("hostB").qemu("vm1").kill()
    error(handle.result(PATIENCE), "vm1 did not migrate to hostB: .*; vm1 runs on hostA")
    clean.check("vm1", "hostA")
    and_again(clean)


def test_destination_libvirtd_killed(clean):
    handle = slow(clean)
    clean.lab.host("hostB").libvirtd.kill()
    error(handle.result(LONG), "vm1 did not migrate to hostB: .*vm1 runs on hostA")
    clean.lab.host("hostB").libvirtd.start()
    clean.check("vm1", "hostA")
    and_again(clean)


def test_source_libvirtd_killed(clean):
    handle = slow(clean)
    clean.lab.host("hostA").libvirtd.kill()
    clean.lab.host("hostA").libvirtd.start()
    error(handle.result(LONG), "vm1 did not migrate to hostB: .*vm1 runs on hostA")
    clean.check("vm1", "hostA")
    and_again(clean)


def test_link_cut(clean):
    handle = slow(clean)
    clean.lab.host("hostB").cut()
    error(handle.result(LONG), "vm1 did not migrate to hostB: .*vm1 runs on hostA")
    clean.lab.host("hostB").mend()
    clean.check("vm1", "hostA")
    and_again(clean)


def test_source_qemu_killed(clean):
    handle = slow(clean)
    clean.lab.host("hostA").qemu("vm1").kill()
    error(handle.result(LONG), "vm1 is active neither on hostA nor on hostB")
    assert clean.lab.running_on("vm1") == []


def test_daemon_killed(clean):
    """A managed migration ends with its daemon, one peer to peer goes on; both are told."""
    handle = slow(clean)
    daemon = clean.daemons["hostA"]
    daemon.kill()
    daemon.start()
    result = handle.result(LONG)
    if clean.mode == "managed":
        error(result, "the daemon ended while this was under way; vm1 runs on hostA")
        clean.check("vm1", "hostA")
        and_again(clean)
    else:
        success(result)
        assert result.details == "found done after the daemon's restart"
        clean.check("vm1", "hostB")


def test_daemon_killed_and_the_task_cancelled(clean):
    if clean.mode == "managed":
        pytest.skip("a managed migration ends with its daemon, so there is nothing to cancel")
    handle = slow(clean, bandwidth_limit=2)
    daemon = clean.daemons["hostA"]
    daemon.kill()
    daemon.start()
    clean.begun(handle)
    success(handle.cancel().result(PATIENCE))
    error(handle.result(PATIENCE), "cancelled; vm1 runs on hostA")
    clean.check("vm1", "hostA")


def test_swap_of_which_one_fails(clean):
    clean.running("hostB", "vm2")
    handle = slow(clean, swap_with="vm2")
    clean.lab.host("hostB").qemu("vm1").kill()
    error(handle.result(LONG), "the swap failed: vm1 did not migrate to hostB", "vm2 runs on hostB")
    clean.check("vm1", "hostA")
    clean.check("vm2", "hostB")
