"""What goes wrong in mid-migration: afterwards the domain runs on exactly one host.

A bandwidth limit makes a migration last, so that there is time to interfere.
"""

import pytest

from tests.support.lab.fleet import PATIENCE, error, success
from tests.support.waiting import wait_until

pytestmark = pytest.mark.laboratory
both_ways = pytest.mark.both_ways
both_ways_nightly = pytest.mark.both_ways(nightly=True)
LONG = PATIENCE * 3
MIB = 1 << 20


def slow(fleet, guest=None, **options):
    """A migration that takes a quarter of a minute, and has begun to send."""
    fleet.running("hostA", "vm1", **(guest or {}))
    handle = fleet.client.migrate(
        "vm1", "hostA", "hostB", **{"migration_type": "live", "bandwidth_limit": 5, **options}
    )
    handle.phases = []
    handle.on_progress(lambda told: handle.phases.append(told.phase))
    fleet.begun(handle)
    return handle


def and_again(fleet):
    """What failed once succeeds when nothing is in its way any more."""
    success(fleet.client.migrate("vm1", "hostA", "hostB", migration_type="live").result(PATIENCE))
    fleet.check("vm1", "hostB")


@both_ways
@pytest.mark.parametrize("kind", ["live", "warm"])
def test_cancelled(clean, kind):
    handle = slow(clean, migration_type=kind)
    success(handle.cancel().result(PATIENCE))
    error(handle.result(PATIENCE), "cancelled; vm1 runs on hostA")
    clean.check("vm1", "hostA")
    and_again(clean)


def test_others_wait_for_it(clean):
    """Longer than libvirt would have them wait for its lock, which is 30 s."""
    handle = slow(clean, bandwidth_limit=1)
    before = handle.progress.transferred
    repinned = clean.client.repin("hostA", "vm1", [[0]])
    resumed = clean.client.resume("hostA", "vm1")
    # At 1 MiB a second.
    wait_until(
        lambda: handle.progress.transferred > before + 31 * MIB, lambda: str(handle.progress)
    )
    assert not handle.done()
    assert not repinned.done()
    assert not resumed.done()
    success(handle.cancel().result(PATIENCE))
    success(repinned.result(PATIENCE))
    result = resumed.result(PATIENCE)
    success(result)
    assert result.details == "vm1 was running already"


@pytest.mark.parametrize(
    ("action", "host", "phase"),
    [
        ("abort", "hostA", "abort"),
        ("pause", "hostB", "downtime"),
        ("post-copy", "hostB", "post-copy"),
    ],
)
def test_timeout(clean, action, host, phase):
    """The guest writes more than the link carries, so that it does not end by itself."""
    handle = slow(clean, {"dirty": 16, "rate": 32}, migration_timeout=3, on_timeout=action)
    result = handle.result(PATIENCE)
    if action == "abort":
        error(result, "not finished within the timeout of 3 s .*vm1 runs on hostA")
    else:
        success(result)
    assert phase in handle.phases
    clean.check("vm1", host)


def test_a_longer_downtime_is_allowed_when_it_is_needed(clean):
    """What the guest writes in a round takes 3 s on this link, and it converges all the same."""
    handle = slow(clean, {"dirty": 16, "rate": 32}, max_downtime=8000)
    success(handle.result(LONG))
    assert "raise the downtime to" in "".join(clean.daemons["hostA"].log)
    clean.check("vm1", "hostB")


@both_ways_nightly
def test_destination_qemu_killed(clean):
    handle = slow(clean)
    clean.lab.host("hostB").qemu("vm1").kill()
    error(handle.result(PATIENCE), "vm1 did not migrate to hostB: .*; vm1 runs on hostA")
    clean.check("vm1", "hostA")
    and_again(clean)


@both_ways_nightly
def test_destination_libvirtd_killed(clean):
    handle = slow(clean)
    clean.lab.host("hostB").libvirtd.kill()
    error(handle.result(LONG), "vm1 did not migrate to hostB: .*vm1 runs on hostA")
    clean.lab.host("hostB").libvirtd.start()
    clean.check("vm1", "hostA")
    and_again(clean)


@both_ways_nightly
def test_source_libvirtd_killed(clean):
    handle = slow(clean)
    clean.lab.host("hostA").libvirtd.kill()
    clean.lab.host("hostA").libvirtd.start()
    error(handle.result(LONG), "vm1 did not migrate to hostB: .*vm1 runs on hostA")
    clean.check("vm1", "hostA")
    and_again(clean)


@both_ways
def test_link_cut(clean):
    handle = slow(clean)
    clean.lab.host("hostB").cut()
    error(handle.result(LONG), "vm1 did not migrate to hostB: .*vm1 runs on hostA")
    clean.lab.host("hostB").mend()
    clean.check("vm1", "hostA")
    and_again(clean)


def test_broker_killed(clean):
    """The migration ends while there is no broker, and its result comes when there is one again."""
    handle = slow(clean)
    clean.kill_broker()
    wait_until(lambda: clean.lab.running_on("vm1") == ["hostB"], lambda: str(clean.states()))
    assert not handle.done()
    clean.lab.broker.mosquitto.start()
    success(handle.result(LONG))
    clean.check("vm1", "hostB")


def test_a_libvirt_that_hangs_keeps_nobody(clean):
    """Neither that of the destination nor our own."""
    clean.running("hostA", "vm1")
    there = clean.lab.host("hostB").libvirtd
    there.freeze()
    try:
        moved = clean.client.migrate("vm1", "hostA", "hostB", migration_type="live")
        error(moved.result(PATIENCE), "libvirt on hostB (is lost|has not answered for 3 s)")
        success(clean.client.suspend("hostA", "vm1").result(PATIENCE))
    finally:
        there.thaw()
    here = clean.lab.host("hostA").libvirtd
    here.freeze()
    try:
        resumed = clean.client.resume("hostA", "vm1")
        error(clean.client.cancel("hostA", "nobody").result(PATIENCE), "no task")
        assert not resumed.done()
    finally:
        here.thaw()
    success(resumed.result(PATIENCE))
    and_again(clean)


def test_tried_again_until_it_succeeds(clean):
    clean.running("hostA", "vm1")
    libvirtd = clean.lab.host("hostB").libvirtd
    libvirtd.kill()
    moved = clean.client.migrate("vm1", "hostA", "hostB", migration_type="live", retry_counter=1000)
    daemon = clean.daemons["hostA"]
    wait_until(lambda: "retry 2 of 1000" in "".join(daemon.log), lambda: "\n".join(daemon.log))
    libvirtd.start()
    result = moved.result(PATIENCE)
    success(result)
    assert int(result.details) >= 2
    clean.check("vm1", "hostB")


def test_source_qemu_killed(clean):
    handle = slow(clean)
    clean.lab.host("hostA").qemu("vm1").kill()
    error(handle.result(LONG), "vm1 is active neither on hostA nor on hostB")
    assert clean.lab.running_on("vm1") == []


@both_ways
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
    handle = slow(clean, bandwidth_limit=2)
    daemon = clean.daemons["hostA"]
    daemon.kill()
    daemon.start()
    clean.begun(handle)
    success(handle.cancel().result(PATIENCE))
    error(handle.result(PATIENCE), "cancelled; vm1 runs on hostA")
    clean.check("vm1", "hostA")


@both_ways_nightly
def test_swap_of_which_one_fails(clean):
    clean.running("hostB", "vm2")
    handle = slow(clean, swap_with="vm2")
    clean.lab.host("hostB").qemu("vm1").kill()
    error(handle.result(LONG), "the swap failed: vm1 did not migrate to hostB", "vm2 runs on hostB")
    clean.check("vm1", "hostA")
    clean.check("vm2", "hostB")
