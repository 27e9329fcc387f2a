"""Swaps and migrations when no host has free memory, because the daemons reserve all of it."""

import pytest

from fastlib import SwapWith
from tests.support.lab.bindings import assert_bound
from tests.support.lab.fleet import PATIENCE, assert_error, assert_success

pytestmark = pytest.mark.laboratory
ALL = 1 << 39
"""KiB that the daemons reserve: more than any machine has."""


@pytest.fixture
def daemon_options():
    return {"reserved-memory": ALL}


def run_both(fleet):
    """Run two guests of one size: each has room in place of the other."""
    fleet.run_guest("hostA", "vm1")
    fleet.run_guest("hostB", "vm2")


def test_migration_fails_when_destination_has_no_memory(fleet):
    fleet.run_guest("hostA", "vm1")
    moved = fleet.client.migrate("vm1", "hostA", "hostB").result(PATIENCE)
    assert_error(moved, "hostB has 0 KiB of memory free, vm1 needs 98304 KiB")
    (result,) = fleet.client.evacuate("hostA", ["hostB"]).result(PATIENCE)
    assert_error(result, "vm1 stays on hostA: hostB has 0 KiB free of 98304 KiB needed")
    fleet.assert_runs_only_on("vm1", "hostA")


def test_swap_goes_through_storage_when_memory_is_short(fleet, snapshot_directory):
    run_both(fleet)
    swapped = fleet.client.migrate(
        "vm1", "hostA", "hostB", migration_type="live", vcpu_map=[[1]], time_measurement=True,
        swap_with=SwapWith(vm_name="vm2", vcpu_map=[[0]], memnode_map=[[0]]),
    ).result(PATIENCE)  # fmt: skip
    assert_success(swapped)
    assert_bound(fleet.lab.host("hostB"), "vm1", ["1"], None)
    assert_bound(fleet.lab.host("hostA"), "vm2", ["0"], ["0"])
    assert {"suspend-vm2", "downtime-vm2", "migrate-vm1"} <= set(swapped.time_measurement.timings)
    fleet.assert_runs_only_on("vm1", "hostB")
    fleet.assert_runs_only_on("vm2", "hostA")
    assert list(snapshot_directory.iterdir()) == []
    assert set(fleet.domain_states()["hostB"]) == {"vm1"}


def test_cancelled_swap_through_storage_restores_the_saved_domain(fleet, snapshot_directory):
    fleet.run_guest("hostA", "vm1", dirty=16, rate=32)
    fleet.run_guest("hostB", "vm2")
    # So slow that vm1 cannot arrive before the cancellation, however busy the machine is.
    handle = fleet.client.migrate(
        "vm1", "hostA", "hostB", migration_type="live", swap_with="vm2", bandwidth_limit=1
    )
    fleet.wait_for_transfer(handle)
    assert fleet.lab.running_on("vm2") == []
    assert_success(handle.cancel().result(PATIENCE))
    assert_error(handle.result(PATIENCE), "cancelled", "vm1 runs on hostA", "vm2 runs on hostB")
    fleet.assert_runs_only_on("vm1", "hostA")
    fleet.assert_runs_only_on("vm2", "hostB")
    assert list(snapshot_directory.iterdir()) == []


def test_swap_is_refused_when_memory_never_suffices(fleet):
    fleet.run_guest("hostA", "vm1", memory=128)
    fleet.run_guest("hostB", "vm2", memory=96)
    swapped = fleet.client.migrate("vm1", "hostA", "hostB", swap_with="vm2").result(PATIENCE)
    assert_error(
        swapped, "hostB has too little memory for vm1 even without vm2; nothing was swapped"
    )
    fleet.assert_runs_only_on("vm1", "hostA")
    fleet.assert_runs_only_on("vm2", "hostB")


def test_swap_keeps_an_existing_file_of_the_same_name(fleet, snapshot_directory):
    """It may be the only thing that is left of a domain."""
    run_both(fleet)
    file = snapshot_directory / "vm2.save"
    file.write_text("precious")
    swapped = fleet.client.migrate("vm1", "hostA", "hostB", swap_with="vm2").result(PATIENCE)
    assert_error(swapped, "vm2 did not migrate to hostA: the file .*vm2.save exists already")
    assert file.read_text() == "precious"
    file.unlink()
    fleet.assert_runs_only_on("vm1", "hostA")
    fleet.assert_runs_only_on("vm2", "hostB")


def test_restarted_daemon_restores_the_domain_on_storage(fleet, snapshot_directory):
    """The other one moves on without the daemon; then the one on storage is restored."""
    run_both(fleet)
    handle = fleet.client.migrate(
        "vm1", "hostA", "hostB", migration_type="live", swap_with="vm2", bandwidth_limit=1
    )
    fleet.wait_for_transfer(handle)
    daemon = fleet.daemons["hostA"]
    daemon.kill()
    daemon.start()
    fleet.lift_bandwidth_limit("hostA", "vm1")
    result = handle.result(PATIENCE)
    assert_success(result)
    assert result.details == "found done after the daemon's restart"
    fleet.assert_runs_only_on("vm1", "hostB")
    fleet.assert_runs_only_on("vm2", "hostA")
    assert list(snapshot_directory.iterdir()) == []
