"""Where neither host has memory to spare, which is made so by reserving all of it."""

import pytest

from tests.support.lab.fleet import PATIENCE, error, fleet_of, success

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
    full.answered_once()


def both(fleet):
    """Two of one size, so that each has room where the other has been."""
    fleet.running("hostA", "vm1")
    fleet.running("hostB", "vm2")


def test_no_room(clean):
    clean.running("hostA", "vm1")
    moved = clean.client.migrate("vm1", "hostA", "hostB").result(PATIENCE)
    error(moved, "hostB has 0 KiB of memory free, vm1 needs 98304 KiB")
    (result,) = clean.client.evacuate("hostA", ["hostB"]).result(PATIENCE)
    error(result, "vm1 stays on hostA: hostB has 0 KiB free of 98304 KiB needed")
    clean.check("vm1", "hostA")


def test_swap_by_storage(clean):
    both(clean)
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
    both(clean)
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


def test_a_swap_for_which_there_never_is_room(clean):
    clean.running("hostA", "vm1", memory=128)
    clean.running("hostB", "vm2", memory=96)
    swapped = clean.client.migrate("vm1", "hostA", "hostB", swap_with="vm2").result(PATIENCE)
    error(swapped, "hostB has no room for vm1 even without vm2; nothing was swapped")
    clean.check("vm1", "hostA")
    clean.check("vm2", "hostB")


def test_a_file_that_is_there_already_is_left_alone(clean):
    """It may be the only thing that is left of a domain."""
    both(clean)
    file = clean.shared / "vm2.save"
    file.write_text("precious")
    swapped = clean.client.migrate("vm1", "hostA", "hostB", swap_with="vm2").result(PATIENCE)
    error(swapped, "vm2 did not migrate to hostA: there is a file .*vm2.save already")
    assert file.read_text() == "precious"
    file.unlink()
    clean.check("vm1", "hostA")
    clean.check("vm2", "hostB")


def test_daemon_killed_while_one_is_on_storage(clean):
    """The other one moves on without the daemon; then the one on storage is restored."""
    both(clean)
    handle = clean.client.migrate(
        "vm1", "hostA", "hostB", migration_type="live", swap_with="vm2", bandwidth_limit=5
    )
    clean.begun(handle)
    daemon = clean.daemons["hostA"]
    daemon.kill()
    daemon.start()
    result = handle.result(PATIENCE)
    success(result)
    assert result.details == "found done after the daemon's restart"
    clean.check("vm1", "hostB")
    clean.check("vm2", "hostA")
    assert list(clean.shared.iterdir()) == []
