"""The XML of a domain for its destination, and its comparison with the order's maps."""

import msgspec
import pytest

from fastlib import Migrate, MigrateParameter
from fastlib.migfra import HypervisorError
from fastlib.migfra.hypervisors.libvirt.errors import ArrivedError
from fastlib.migfra.hypervisors.libvirt.migration.destination_xml import with_maps
from fastlib.migfra.hypervisors.libvirt.migration.migration import Migration
from fastlib.migfra.hypervisors.simulated import run_virtual
from fastlib.migfra.plugin_api.cancel_scope import CancelScope
from fastlib.migfra.virt.migration_spec import MigrationSpec
from tests.support.libvirt.fake_domain import RUNNING, FakeDomain
from tests.support.libvirt.fake_libvirt import FakeHosts

CELLS = "<cpu><numa><cell id='0' memory='9'/><cell id='1' memory='9'/></numa></cpu>"


def spec_of(**maps):
    parameter = MigrateParameter(migration_type="live", **maps)
    task = Migrate(vm_name="vm1", destination="node02", parameter=parameter)
    return MigrationSpec.from_task(task, "node01")


def test_rows_are_for_the_vcpus_online_and_the_others_keep_their_pins():
    live = (
        "<domain><vcpu current='2'>4</vcpu><vcpus><vcpu id='0' enabled='yes'/>"
        "<vcpu id='1' enabled='no'/><vcpu id='2' enabled='yes'/><vcpu id='3' enabled='no'/></vcpus>"
        "<cputune><shares>9</shares><vcpupin vcpu='2' cpuset='7'/><vcpupin vcpu='3' cpuset='6'/>"
        "<emulatorpin cpuset='5'/></cputune></domain>"
    )
    made = with_maps(spec_of(vcpu_map=[[0], [1, 2]]), live, "<domain><vcpu>2</vcpu></domain>")
    for kept in ('<vcpupin vcpu="3" cpuset="6" />', "<shares>9</shares>", "<emulatorpin"):
        assert kept in made.live
    assert '<vcpupin vcpu="2" cpuset="1,2" />' in made.live
    assert made.live.count('vcpupin vcpu="2"') == 1
    # The definition has no vCPU 2.
    assert made.definition == (
        '<domain><vcpu>2</vcpu><cputune><vcpupin vcpu="0" cpuset="0" /></cputune></domain>'
    )


def test_memory_is_bound_as_a_whole_or_by_cells():
    live = f"<domain><numatune><memory mode='preferred' nodeset='9'/></numatune>{CELLS}</domain>"
    assert with_maps(spec_of(memnode_map=[[1, 0]]), live, None).live.endswith(
        '<numatune><memory mode="strict" nodeset="0,1" /></numatune></domain>'
    )
    assert with_maps(spec_of(memnode_map=[[1], [0]]), live, None).live.endswith(
        '<numatune><memnode cellid="0" mode="strict" nodeset="1" />'
        '<memnode cellid="1" mode="strict" nodeset="0" /></numatune></domain>'
    )


MEMNODES = (
    '<numatune><memnode cellid="0" mode="strict" nodeset="{0}" />'
    '<memnode cellid="1" mode="strict" nodeset="{0}" /></numatune></domain>'
)


def test_one_row_keeps_the_bindings_of_cells():
    """QEMU of old machine types gives cells with a binding other blocks of memory."""
    live = f"<domain>{CELLS}{MEMNODES.format(7)}"
    made = with_maps(spec_of(memnode_map=[[1, 0]]), live, f"<domain>{CELLS}</domain>")
    assert made.live.endswith(MEMNODES.format("0,1"))
    assert made.definition is not None
    assert made.definition.endswith('<memory mode="strict" nodeset="0,1" /></numatune></domain>')


@pytest.mark.parametrize(
    ("machine", "more", "is_refused"),
    [
        ("pc-i440fx-5.0", "", True),
        ("pc-q35-2.12", "", True),
        ("pc-q35-5.0", "<numatune><memory nodeset='0'/></numatune>", True),
        ("pc-i440fx-5.1", "", False),
        ("pc", "", False),
        ("pc-i440fx-5.0", "<numatune><memnode cellid='0' nodeset='0'/></numatune>", False),
        ("pc-i440fx-5.0", "<memoryBacking><hugepages/></memoryBacking>", False),
        ("pc-i440fx-5.0", "<memoryBacking><source type='memfd'/></memoryBacking>", False),
        ("pc-i440fx-5.0", "<memoryBacking><access mode='shared'/></memoryBacking>", False),
    ],
)
def test_rows_for_cells_are_refused_if_the_memory_is_one_block(machine, more, is_refused):
    """QEMU at the destination would say: Unknown ramblock pc.ram, cannot accept migration."""
    live = f"<domain><os><type machine='{machine}'>hvm</type></os>{more}{CELLS}</domain>"
    with_maps(spec_of(memnode_map=[[0]]), live, live)
    rows = spec_of(memnode_map=[[0], [0]])
    if not is_refused:
        with_maps(rows, live, live)
        return
    with pytest.raises(HypervisorError) as caught:
        with_maps(rows, live, live)
    assert str(caught.value) == (
        f"the memnode-map has 2 rows, but vm1 runs with the machine type {machine} and all of its "
        "memory in one block; give one row for all of its memory, or start it with a <memnode> for "
        "each cell"
    )


def test_shared_cells_have_blocks_of_their_own():
    cells = CELLS.replace("<cell id='1'", "<cell id='1' memAccess='shared'")
    live = f"<domain><os><type machine='pc-i440fx-5.0'>hvm</type></os>{cells}</domain>"
    with_maps(spec_of(memnode_map=[[0], [0]]), live, None)


@pytest.mark.parametrize(
    ("maps", "why"),
    [
        ({"vcpu_map": [[0]] * 3}, "the vcpu-map has 3 rows, but vm1 has 2 vCPUs online"),
        ({"vcpu_map": [[]]}, "the vcpu-map has no CPU for vCPU 0"),
        ({"memnode_map": [[0]] * 3},
         "the memnode-map has 3 rows, but vm1 has 2 NUMA cells; give one row for all of its "
         "memory, or one for each cell"),
        ({"memnode_map": []}, "the memnode-map has no memory node in a row"),
    ],
)  # fmt: skip
def test_maps_must_fit_the_domain(maps, why):
    live = f"<domain><vcpu>2</vcpu>{CELLS}</domain>"
    with pytest.raises(HypervisorError, match=why):
        with_maps(spec_of(**maps), live, None)


def finish(hosts, tuning="", definition=None, **maps):
    """Finish a migration to node02, where the domain has arrived with this tuning."""
    there = hosts.destination.add(FakeDomain("vm1", RUNNING))
    there.above_devices = tuning
    del hosts.source.domains["vm1"]
    spec = spec_of(**maps)
    measurement = hosts.context.measurement
    migration = Migration(
        hosts.runtime, spec, CancelScope(hosts.context), hosts.context, measurement
    )
    migration.record.state = msgspec.structs.replace(
        migration.record.state, phase="move", uuid=there.uuid, arrives_by_xml=True
    )
    return run_virtual(migration.finish())


PINNED = (
    "<cputune><vcpupin vcpu='0' cpuset='1'/><vcpupin vcpu='1' cpuset='0'/></cputune>"
    "<numatune><memory mode='strict' nodeset='0'/></numatune>"
)
MAPS = {"vcpu_map": [[1], [0]], "memnode_map": [[0]]}


def test_domain_that_arrives_as_ordered_is_left_alone():
    hosts = FakeHosts()
    assert finish(hosts, PINNED, **MAPS) is None
    assert hosts.calls == []


def test_one_row_holds_for_cells_that_are_all_bound_to_it():
    hosts = FakeHosts()
    assert finish(hosts, MEMNODES.format(0).removesuffix("</domain>"), memnode_map=[[0]]) is None
    with pytest.raises(ArrivedError, match="bound to the memory nodes 0 and 0 instead of"):
        finish(FakeHosts(), MEMNODES.format(0).removesuffix("</domain>"), memnode_map=[[1]])


def test_vcpus_that_libvirt_did_not_pin_are_pinned_afterwards():
    hosts = FakeHosts()
    assert finish(hosts, vcpu_map=[[1], [0]]) is None
    # Those of the running domain, and those of its definition.
    assert hosts.calls == ["node02: pin 0:1", "node02: pin 1:0"] * 2


def test_memory_on_other_nodes_is_an_error_that_names_them():
    hosts = FakeHosts()
    with pytest.raises(ArrivedError) as caught:
        finish(hosts, PINNED, vcpu_map=[[1], [0]], memnode_map=[[1]])
    assert (
        "vm1 runs on node02, but its memory is bound to the memory nodes 0 instead of the memory "
        "nodes 1; in its definition its memory is bound to the memory nodes 0 instead of"
    ) in str(caught.value)
    with pytest.raises(ArrivedError, match="bound to no memory nodes instead of the memory nodes"):
        finish(FakeHosts(), memnode_map=[[1]])
