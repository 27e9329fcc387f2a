"""Migrate guests to the CPUs and memory nodes of an order, and refuse those that do not exist.

The guests have two emulated NUMA cells. The hosts have one memory node.
"""

import dataclasses

import pytest

from tests.support.lab.bindings import assert_bound, assert_never_paused
from tests.support.lab.fleet import PATIENCE, assert_error, assert_success
from tests.support.lab.saved_guests import BOOT_PATIENCE

pytestmark = pytest.mark.laboratory
CELLS = """\
<cpu><numa>
  <cell id='0' cpus='0' memory='{memory}' unit='MiB'/>
  <cell id='1' cpus='1' memory='{memory}' unit='MiB'/>
</numa></cpu>
"""
HUGE_PAGES = """\
<memoryBacking><hugepages><page size='2' unit='MiB'/></hugepages></memoryBacking>
"""


def start(fleet, above_os="", **options):
    """Start a guest with two NUMA cells on hostA. Returns the result."""
    guest = fleet.lab.define_guest("vm1", vcpus=2, **{"memory": 96, **options})
    memory = 48 if not options.get("bios") else options["memory"] // 2
    xml = guest.xml.replace("<os>", f"{CELLS.format(memory=memory)}{above_os}<os>")
    fleet.guests["vm1"] = dataclasses.replace(guest, xml=xml)
    return fleet.client.start("hostA", xml=xml, probe_with_ssh=False).result(PATIENCE)


def start_bios(fleet, **options):
    return start(fleet, bios=True, memory=16, **options)


def test_running_guest_arrives_bound_without_a_pause(fleet):
    assert_success(start(fleet, dirty=4, rate=1))
    fleet.guests["vm1"].wait_for_heartbeat(patience=BOOT_PATIENCE)
    for source, destination, nodes in (("hostA", "hostB", [[0], [0]]), ("hostB", "hostA", [[0]])):
        moved = fleet.client.migrate(
            "vm1", source, destination, migration_type="live", vcpu_map=[[1], [0]],
            memnode_map=nodes, time_measurement=True,
        ).result(PATIENCE)  # fmt: skip
        assert_success(moved)
        assert moved.details is None
        assert "repin" not in moved.time_measurement.timings
        host = fleet.lab.host(destination)
        # With one row for all, each cell still keeps a binding of its own.
        assert_bound(host, "vm1", ["1", "0"], ["0", "0"])
        assert_never_paused(host, "vm1")
        fleet.assert_runs_only_on("vm1", destination)


@pytest.mark.both_modes
def test_each_kind_of_migration_binds_vcpus_and_memory(fleet):
    assert_success(start_bios(fleet))
    for kind, source, destination in (("live", "hostA", "hostB"), ("warm", "hostB", "hostA")):
        moved = fleet.client.migrate(
            "vm1", source, destination, migration_type=kind, vcpu_map=[[0]],
            memnode_map=[[0], [0]],
        )  # fmt: skip
        assert_success(moved.result(PATIENCE))
        assert_bound(fleet.lab.host(destination), "vm1", ["0"], ["0", "0"])
        assert fleet.lab.running_on("vm1") == [destination]


def test_wrong_maps_are_refused_before_anything_moves(fleet):
    assert_success(start_bios(fleet))
    before = fleet.lab.host("hostA").virsh("dumpxml", "vm1")
    for maps, why in (
        ({"memnode_map": [[0], [63]]}, "the memnode-map has memory node 63, but hostB has 0"),
        ({"memnode_map": [[0]] * 3}, "the memnode-map has 3 rows, but vm1 has 2 NUMA cells"),
        ({"memnode_map": [[0], []]}, "the memnode-map has no memory node in a row"),
        ({"vcpu_map": [[0]] * 3}, "the vcpu-map has 3 rows, but vm1 has 2 vCPUs"),
        ({"vcpu_map": [[4096]]}, "the vcpu-map has CPU 4096, but hostB has the CPUs 0 to"),
    ):
        handle = fleet.client.migrate("vm1", "hostA", "hostB", migration_type="live", **maps)
        assert_error(handle.result(PATIENCE), why)
    assert fleet.lab.host("hostA").virsh("dumpxml", "vm1") == before
    assert fleet.lab.running_on("vm1") == ["hostA"]


def test_start_is_refused_without_free_huge_pages(fleet):
    assert_error(start_bios(fleet, above_os=HUGE_PAGES), "hostA has .*huge pages.*, but vm1 needs")
    assert not any(fleet.domain_states().values())
