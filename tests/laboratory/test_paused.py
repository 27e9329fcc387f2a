"""Domains that are paused when they migrate."""

import pytest

from tests.support.lab.fleet import PATIENCE, assert_error, assert_success
from tests.support.lab.shared_disks import SharedDisks

pytestmark = pytest.mark.laboratory


@pytest.fixture
def disk(fleet):
    with SharedDisks(fleet.lab, ["vm1"]) as [disk]:
        yield disk
        fleet.reset()  # while its disk is still there


def migrate(fleet, source, destination):
    return fleet.client.migrate("vm1", source, destination, migration_type="live").result(PATIENCE)


def test_paused_domain_with_a_disk_does_not_migrate_a_second_time_before_it_runs(fleet, disk):
    """Its QEMU 7.2 would abort, and the domain would be lost."""
    fleet.run_guest("hostA", "vm1", disk=disk)
    fleet.wait_until_it_has_run("hostA", "vm1")
    assert_success(fleet.client.suspend("hostA", "vm1").result(PATIENCE))
    assert_success(migrate(fleet, "hostA", "hostB"))
    assert_error(
        migrate(fleet, "hostB", "hostC"),
        "vm1 is paused on hostB and has not run there .*QEMU 7.2.*resume vm1 first",
    )
    assert fleet.domain_states() == {"hostA": {}, "hostB": {"vm1": "paused"}, "hostC": {}}
    assert_success(fleet.client.resume("hostB", "vm1").result(PATIENCE))
    assert_success(migrate(fleet, "hostB", "hostC"))
    fleet.assert_runs_only_on("vm1", "hostC")
