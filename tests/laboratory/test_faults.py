"""Faults during a migration: afterwards the domain runs on exactly one host.

A bandwidth limit makes a migration last until the fault. It is lifted where the migration must end.
The guest uses more than 60 MiB.
"""

import pytest

from tests.support.lab.fleet import PATIENCE, assert_error, assert_success
from tests.support.lab.phases import Phases
from tests.support.lab.priority import prefer
from tests.support.waiting import wait_until

pytestmark = pytest.mark.laboratory
both_modes = pytest.mark.both_modes
both_modes_if_long = pytest.mark.both_modes(only_long=True)
LONG = PATIENCE
MIB = 1 << 20


def submit_slow_migration(fleet, guest=None, **options):
    """Return a migration that would take more than a minute."""
    fleet.run_guest("hostA", "vm1", **(guest or {}))
    handle = fleet.client.migrate(
        "vm1", "hostA", "hostB", **{"migration_type": "live", "bandwidth_limit": 1, **options}
    )
    handle.phases = Phases(handle)
    return handle


def begin_slow_migration(fleet, guest=None, **options):
    """Return a slow migration that has sent some memory."""
    handle = submit_slow_migration(fleet, guest, **options)
    fleet.wait_for_transfer(handle)
    return handle


def assert_migrates_again(fleet):
    """Check that the migration succeeds when it is repeated without the fault.

    The guest stands still meanwhile: QEMU before 9.0 loses writes of an emulated CPU in a live
    migration, most on a busy machine.
    """
    assert_success(
        fleet.client.migrate("vm1", "hostA", "hostB", migration_type="warm").result(PATIENCE)
    )
    fleet.assert_runs_only_on("vm1", "hostB")


@both_modes
@pytest.mark.parametrize("kind", ["live", "warm"])
def test_cancelled_migration_leaves_the_domain_on_its_source(fleet, kind):
    handle = begin_slow_migration(fleet, migration_type=kind)
    assert_success(handle.cancel().result(PATIENCE))
    assert_error(handle.result(PATIENCE), "cancelled; vm1 runs on hostA")
    fleet.assert_runs_only_on("vm1", "hostA")
    assert_migrates_again(fleet)


def test_other_tasks_wait_for_the_migration(fleet, request):
    """With --long they wait longer than the 30 s after which libvirt gives up its lock."""
    seconds = 31 if request.config.getoption("--long") else 2
    handle = begin_slow_migration(fleet)
    before = handle.progress.transferred
    repinned = fleet.client.repin("hostA", "vm1", [[0]])
    resumed = fleet.client.resume("hostA", "vm1")
    # It sends 1 MiB a second.
    wait_until(
        lambda: handle.progress.transferred > before + seconds * MIB,
        lambda: f"{seconds} MiB are sent: {handle.progress}",
        PATIENCE,
    )
    assert not handle.done()
    assert not repinned.done()
    assert not resumed.done()
    assert_success(handle.cancel().result(PATIENCE))
    assert_success(repinned.result(PATIENCE))
    result = resumed.result(PATIENCE)
    assert_success(result)
    assert result.details == "vm1 was running already"


@pytest.mark.parametrize(
    ("action", "host", "phase"),
    [
        ("abort", "hostA", "abort"),
        ("pause", "hostB", "downtime"),
        ("post-copy", "hostB", "post-copy"),
    ],
)
def test_timeout_takes_its_action(fleet, action, host, phase):
    handle = submit_slow_migration(fleet, migration_timeout=3, on_timeout=action)
    if action != "abort":
        handle.phases.wait_for(phase)
        fleet.lift_bandwidth_limit("hostA", "vm1", post_copy=action == "post-copy")
    result = handle.result(PATIENCE)
    if action == "abort":
        assert_error(result, "not finished within the timeout of 3 s .*vm1 runs on hostA")
    else:
        assert_success(result)
    assert phase in handle.phases
    fleet.assert_runs_only_on("vm1", host)


def test_downtime_is_raised_when_the_migration_does_not_converge(fleet):
    """This link needs 1.6 s for the guest's writes of a round, five times the usual downtime."""
    guest = {"dirty": 16, "rate": 32}
    handle = begin_slow_migration(fleet, guest, max_downtime=8000, bandwidth_limit=10)
    prefer(fleet.lab.host("hostA").qemu("vm1"))  # also on a busy machine, it writes fast enough
    assert_success(handle.result(LONG))
    assert "raise the downtime to" in "".join(fleet.daemons["hostA"].log)
    fleet.assert_runs_only_on("vm1", "hostB")


@both_modes_if_long
def test_domain_stays_when_destination_qemu_is_killed(fleet):
    handle = begin_slow_migration(fleet)
    fleet.lab.host("hostB").qemu("vm1").kill()
    assert_error(handle.result(PATIENCE), "vm1 did not migrate to hostB: .*; vm1 runs on hostA")
    fleet.assert_runs_only_on("vm1", "hostA")
    assert_migrates_again(fleet)


@both_modes_if_long
def test_domain_stays_when_destination_libvirtd_is_killed(fleet):
    handle = begin_slow_migration(fleet)
    fleet.lab.host("hostB").libvirtd.kill()
    assert_error(handle.result(LONG), "vm1 did not migrate to hostB: .*vm1 runs on hostA")
    fleet.lab.host("hostB").libvirtd.start()
    fleet.assert_runs_only_on("vm1", "hostA")
    assert_migrates_again(fleet)


@both_modes_if_long
def test_domain_stays_when_source_libvirtd_is_killed(fleet):
    handle = begin_slow_migration(fleet)
    fleet.lab.host("hostA").libvirtd.kill()
    fleet.lab.host("hostA").libvirtd.start()
    assert_error(handle.result(LONG), "vm1 did not migrate to hostB: .*vm1 runs on hostA")
    fleet.assert_runs_only_on("vm1", "hostA")
    assert_migrates_again(fleet)


@both_modes
def test_domain_stays_when_the_link_is_cut(fleet):
    handle = begin_slow_migration(fleet)
    fleet.lab.host("hostB").disconnect()
    assert_error(handle.result(LONG), "vm1 did not migrate to hostB: .*vm1 runs on hostA")
    fleet.lab.host("hostB").reconnect()
    fleet.assert_runs_only_on("vm1", "hostA")
    assert_migrates_again(fleet)


def test_migration_ends_when_the_broker_is_killed(fleet):
    """The migration ends while the broker is down; its result comes when the broker runs again."""
    handle = begin_slow_migration(fleet)
    fleet.kill_broker()
    fleet.lift_bandwidth_limit("hostA", "vm1")
    wait_until(
        lambda: fleet.lab.running_on("vm1") == ["hostB"],
        lambda: str(fleet.domain_states()),
        PATIENCE,
    )
    assert not handle.done()
    fleet.lab.broker.mosquitto.start()
    assert_success(handle.result(LONG))
    fleet.assert_runs_only_on("vm1", "hostB")


def test_frozen_libvirtd_does_not_block_other_tasks(fleet):
    """Neither a frozen libvirtd of the destination nor one of the source blocks other tasks."""
    fleet.run_guest("hostA", "vm1")
    there = fleet.lab.host("hostB").libvirtd
    there.freeze()
    try:
        moved = fleet.client.migrate("vm1", "hostA", "hostB", migration_type="live")
        assert_error(moved.result(PATIENCE), "libvirt on hostB (is lost|has not answered for 6 s)")
        assert_success(fleet.client.suspend("hostA", "vm1").result(PATIENCE))
    finally:
        there.thaw()
    here = fleet.lab.host("hostA").libvirtd
    here.freeze()
    try:
        resumed = fleet.client.resume("hostA", "vm1")
        assert_error(fleet.client.cancel("hostA", "nobody").result(PATIENCE), "no task")
        assert not resumed.done() or resumed.result(1).status == "error"
    finally:
        here.thaw()
    result = resumed.result(PATIENCE)
    if result.status == "error":  # on a busy machine, the thaw may come after 4 s
        assert_error(result, "libvirt on hostA (is lost|has not answered for)")
        result = fleet.client.resume("hostA", "vm1").result(PATIENCE)
    assert_success(result)
    assert_migrates_again(fleet)


def test_migration_is_retried_until_it_succeeds(fleet):
    fleet.run_guest("hostA", "vm1")
    libvirtd = fleet.lab.host("hostB").libvirtd
    libvirtd.kill()
    moved = fleet.client.migrate("vm1", "hostA", "hostB", migration_type="live", retry_counter=1000)
    daemon = fleet.daemons["hostA"]
    wait_until(
        lambda: "retry 2 of 1000" in "".join(daemon.log), lambda: "\n".join(daemon.log), PATIENCE
    )
    libvirtd.start()
    result = moved.result(PATIENCE)
    assert_success(result)
    assert int(result.details) >= 2
    fleet.assert_runs_only_on("vm1", "hostB")


def test_error_says_that_the_domain_ended_when_source_qemu_is_killed(fleet):
    handle = begin_slow_migration(fleet)
    fleet.lab.host("hostA").qemu("vm1").kill()
    assert_error(handle.result(LONG), "vm1 is active neither on hostA nor on hostB")
    assert fleet.lab.running_on("vm1") == []


@both_modes
def test_migration_has_a_result_when_the_daemon_is_killed(fleet, migration_mode):
    """A managed migration ends with its daemon, a peer-to-peer one continues; each has a result."""
    handle = begin_slow_migration(fleet)
    daemon = fleet.daemons["hostA"]
    daemon.kill()
    daemon.start()
    if migration_mode == "peer-to-peer":
        fleet.lift_bandwidth_limit("hostA", "vm1")
    result = handle.result(LONG)
    if migration_mode == "managed":
        assert_error(result, "the daemon ended while this was in progress; vm1 runs on hostA")
        fleet.assert_runs_only_on("vm1", "hostA")
        assert_migrates_again(fleet)
    else:
        assert_success(result)
        assert result.details == "found done after the daemon's restart"
        fleet.assert_runs_only_on("vm1", "hostB")


def test_migration_can_be_cancelled_after_the_daemon_was_killed(fleet):
    handle = begin_slow_migration(fleet)
    daemon = fleet.daemons["hostA"]
    daemon.kill()
    daemon.start()
    fleet.wait_for_transfer(handle)
    assert_success(handle.cancel().result(PATIENCE))
    assert_error(handle.result(PATIENCE), "cancelled; vm1 runs on hostA")
    fleet.assert_runs_only_on("vm1", "hostA")


@both_modes_if_long
def test_failed_swap_leaves_both_domains(fleet):
    fleet.run_guest("hostB", "vm2")
    handle = begin_slow_migration(fleet, swap_with="vm2")
    fleet.lab.host("hostB").qemu("vm1").kill()
    assert_error(
        handle.result(LONG), "the swap failed: vm1 did not migrate to hostB", "vm2 runs on hostB"
    )
    fleet.assert_runs_only_on("vm1", "hostA")
    fleet.assert_runs_only_on("vm2", "hostB")
