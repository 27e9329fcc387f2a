"""Where neither host has memory to spare, which is made so by reserving all of it."""

import pytest
from lab.fleet import PATIENCE, error, fleet_of, success

pytestmark = pytest.mark.laboratory
ALL = 1 << 39


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    directory = tmp_path_factory.mktemp("full")
    shared = directory / "shared"
    shared.mkdir()
    options = f"reserved-memory: {ALL}, snapshot-directory: {shared}"
    with fleet_of(directory, 2, options) as fleet:
        fleet.shared = shared
        yield fleet


@pytest.fixture
def clean(full):
    full.clear()
    yield full
    full.clear()


def test_no_room(clean):
    clean.running("hostA", "vm1")
    moved = clean.client.migrate("vm1", "hostA", "hostB").result(PATIENCE)
    error(moved, "hostB has 0 KiB of memory free, vm1 needs 98304 KiB")
    (result,) = clean.client.evacuate("hostA", ["hostB"]).result(PATIENCE)
    error(result, "vm1 stays on hostA: hostB has 0 KiB free of 98304 KiB needed")
    clean.check("vm1", "hostA")


def test_swap_by_storage(clean):
    clean.running("hostA", "vm1", memory=96)
    clean.running("hostB", "vm2", memory=80)
    swapped = clean.client.migrate(
        "vm1", "hostA", "hostB", migration_type="live", swap_with="vm2", time_measurement=True
    ).result(PATIENCE)
    success(swapped)
    assert {"suspend-vm2", "downtime-vm2", "migrate-vm1"} <= set(swapped.time_measurement.timings)
    clean.check("vm1", "hostB")
    clean.check("vm2", "hostA")
    assert list(clean.shared.iterdir()) == []
    assert set(clean.states()["hostB"]) == {"vm1"}


def test_swap_by_storage_that_fails_restores_what_was_saved(clean):
    clean.running("hostA", "vm1", memory=96)
    clean.running("hostB", "vm2", memory=80)
    handle = clean.client.migrate(
        "vm1", "hostA", "hostB", migration_type="live", swap_with="vm2", bandwidth_limit=5
    )
    clean.begun(handle)
    assert clean.lab.running_on("vm2") == []
    success(handle.cancel().result(PATIENCE))
    error(handle.result(PATIENCE), "cancelled", "vm1 runs on hostA", "vm2 runs on hostB")
    clean.check("vm1", "hostA")
    clean.check("vm2", "hostB")
    assert list(clean.shared.iterdir()) == []


def test_daemon_killed_while_one_is_on_storage(clean):
    clean.running("hostA", "vm1", memory=96)
    clean.running("hostB", "vm2", memory=80)
    handle = clean.client.migrate(
        "vm1", "hostA", "hostB", migration_type="live", swap_with="vm2", bandwidth_limit=5
    )
    clean.begun(handle)
    daemon = clean.daemons["hostA"]
    daemon.kill()
    daemon.start()
    details = error(handle.result(PATIENCE), "vm2 runs on hostB")
    assert "vm1 is on hostB" in details
    clean.check("vm1", "hostB")
    clean.check("vm2", "hostB")
