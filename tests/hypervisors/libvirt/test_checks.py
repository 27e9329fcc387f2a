"""The checks before a migration: the queries to both hosts, and the refusals.

Where libvirt's driver `test` can show it, it does; other hosts are fakes (see fake_libvirt.py).
"""

import asyncio

import pytest

from fastlib import SwapWith
from fastlib.migfra import Context, HypervisorError
from fastlib.migfra.hypervisors.libvirt import LibvirtOptions
from fastlib.migfra.hypervisors.libvirt.errors import LostError
from fastlib.migfra.hypervisors.libvirt.migration import checks
from fastlib.migfra.hypervisors.libvirt.runtime import LibvirtRuntime
from fastlib.migfra.hypervisors.simulated import run_virtual
from fastlib.migfra.plugin_api.hypervisor import NodeContext
from fastlib.migfra.virt.memory_needs import HostNode
from fastlib.migfra.virt.migration_spec import MigrationSpec
from tests.support.libvirt.driver import HOST, domain
from tests.support.libvirt.fake_domain import PAUSED, RUNNING, SHUT_OFF, FakeDomain, refusal
from tests.support.libvirt.fake_libvirt import FakeHosts
from tests.support.libvirt.orders import migrate_task, spec_of

UUID = "11111111-2222-3333-4444-555555555555"


# By libvirt's own driver


def check_with_test_driver(path, here, there, **parameter):
    """Check a migration between two hosts of the driver `test` that have these domains.

    The destination is libvirt's own example of a host if no domains are given.
    """

    def host(name, *domains):
        inner = "".join(domains)
        (path / f"{name}.xml").write_text(HOST.replace("</node>", f"{inner}</node>"))

    host("node01", *here)
    remote = "test:///<host>"
    if there is not None:
        host("node02", *there)
        remote = f"test://{path}/<host>.xml"
    options = LibvirtOptions(
        driver="test", local_uri=f"test://{path}/node01.xml", remote_uri=remote
    )
    parameter = {"destination": "default" if there is None else "node02", **parameter}

    async def main():
        runtime = LibvirtRuntime(options, NodeContext("node01"))
        try:
            spec = MigrationSpec.from_task(migrate_task(**parameter), runtime.host)
            return await checks.check(runtime, spec, Context("node01"))
        finally:
            await runtime.connections.close()

    return asyncio.run(main())


SMALL = domain(memory=1024, vcpus=2)


def test_check_returns_both_hosts_when_they_are_compatible(tmp_path):
    source, destination = check_with_test_driver(tmp_path, [SMALL], None)
    assert source.domain_state.running
    assert not destination.domain_state.known
    assert (source.kind, source.cpus.count, destination.cpus.count) == ("TEST", 8, 16)


@pytest.mark.parametrize(
    ("here", "there", "parameter", "why"),
    [
        ([], [], {}, "there is no domain vm1 on node01; check its spelling, and where it is"),
        ([SMALL], [SMALL], {}, "node02 has an active domain vm1 already"),
        ([SMALL], [], {"destination": "node01"}, "vm1 is on node01, which is also the destination"),
        ([SMALL], [], {"destination": "a b"}, "'a b' cannot be the name of a host"),
        ([SMALL], [], {"destination": "node03"}, "libvirt on node03 cannot be reached"),
        ([SMALL], [], {"migration_type": "offline"},
         "vm1 is active on node01, but only a domain that is shut off migrates offline"),
        ([SMALL], None, {"vcpu_map": [[0]] * 3}, "has 3 rows, but vm1 has 2 vCPUs"),
        ([SMALL], None, {"vcpu_map": [[0], []]}, "has no CPU for vCPU 1"),
        ([SMALL], None, {"vcpu_map": [[0], [16]]},
         "the vcpu-map has CPU 16, but default has the CPUs 0 to 15"),
        ([SMALL], [], {"on_timeout": "post-copy"}, "post-copy needs migration-type: live"),
        ([SMALL], [], {"transport": "pigeon"}, "unknown transport 'pigeon'"),
        ([domain(memory=3073)], None, {},
         "default has 3072 KiB of memory free, vm1 needs 3073 KiB"),
    ],
)  # fmt: skip
def test_check_refuses_unsuitable_domains_and_hosts(tmp_path, here, there, parameter, why):
    with pytest.raises(HypervisorError, match=why):
        check_with_test_driver(tmp_path, here, there, **parameter)


# By fake hosts


def check(hosts, **parameter):
    task = migrate_task(**parameter)
    spec = MigrationSpec.from_task(task, hosts.runtime.host)
    checked = run_virtual(checks.check(hosts.runtime, spec, hosts.context))
    assert hosts.calls == []  # nothing is changed
    return checked


def refused(hosts, **parameter):
    with pytest.raises(HypervisorError) as caught:
        check(hosts, **parameter)
    assert hosts.calls == []
    return str(caught.value)


def test_check_refuses_another_kind_of_hypervisor():
    hosts = FakeHosts()
    hosts.destination.kind = "Xen"
    assert refused(hosts) == "node01 has the hypervisor QEMU, node02 has Xen"


def test_check_refuses_another_major_version():
    hosts = FakeHosts()
    hosts.source.version, hosts.destination.version = 7_002_005, 8_000_000
    assert refused(hosts) == (
        "node01 has QEMU 7.2.5, node02 has 8.0.0; the major versions must be the same"
    )
    hosts.destination.version = 7_000_000
    check(hosts)


def test_check_refuses_destination_without_memory():
    hosts = FakeHosts(reserved_memory=100)
    hosts.destination.free = 1123
    assert refused(hosts) == "node02 has 1023 KiB of memory free, vm1 needs 1024 KiB"
    hosts.destination.free = 1124
    check(hosts)
    hosts.destination.free = 50
    assert "node02 has 0 KiB of memory free" in refused(hosts)
    hosts.domain.state_now = [SHUT_OFF, 1]
    check(hosts, migration_type="offline")  # which needs none


@pytest.mark.parametrize("reason", [2, 12, 13])
def test_check_refuses_domain_left_paused_by_an_earlier_migration(reason):
    hosts = FakeHosts()
    hosts.domain.state_now = [PAUSED, reason]
    assert refused(hosts) == (
        "vm1 is paused on node01 after a migration or a restore that did not end, and may run on "
        "another host; if it does not, resume it with virsh resume, else destroy it here"
    )


@pytest.mark.parametrize("state", [[RUNNING, 1], [2, 0], [PAUSED, 1], [PAUSED, 5], [7, 0]])
def test_check_accepts_running_and_paused_domains(state):
    """Running, waiting for a resource, paused by its user or by an error, asleep."""
    hosts = FakeHosts()
    hosts.domain.state_now = state
    source, _ = check(hosts)
    assert source.domain_state.active


@pytest.mark.parametrize(
    ("state", "why"),
    [
        ([SHUT_OFF, 1], "vm1 is shut off on node01; start it first, or choose migration-type: off"),
        ([4, 1], "vm1 is shutting down on node01; only a domain that runs or is paused can"),
        ([6, 1], "vm1 is crashed on node01; only a domain that runs or is paused can migrate"),
    ],
)
def test_check_refuses_domains_in_other_states(state, why):
    hosts = FakeHosts()
    hosts.domain.state_now = state
    assert refused(hosts).startswith(why)


def test_check_refuses_another_domain_of_that_name():
    hosts = FakeHosts()
    other = hosts.destination.add(FakeDomain("vm1", SHUT_OFF, 1))
    check(hosts)  # its own definition, which it had left there
    other.uuid = UUID
    assert refused(hosts) == (
        f"node02 has another domain with the name vm1 (UUID {UUID}, not {hosts.domain.uuid}); "
        "undefine it there first"
    )


def test_check_refuses_another_domain_with_that_uuid():
    hosts = FakeHosts()
    hosts.destination.add(FakeDomain("old", SHUT_OFF, 1)).uuid = hosts.domain.uuid
    assert refused(hosts).startswith(
        f"node02 has a domain old with the UUID {hosts.domain.uuid} of vm1; undefine it there first"
    )


def test_check_refuses_pins_that_the_destination_has_no_cpu_for():
    hosts = FakeHosts()
    hosts.domain.above_devices = "<cputune><vcpupin vcpu='1' cpuset='2-3'/></cputune>"
    hosts.destination.cpus, hosts.destination.offline_cpus = 4, {3}
    check(hosts)
    hosts.destination.offline_cpus = {2, 3}
    assert refused(hosts) == (
        "vCPU 1 of vm1 may use the CPUs 2,3 only, none of which is online on node02; repin it "
        "first, or give a vcpu-map"
    )


def test_vcpu_map_replaces_pins_that_the_destination_has_no_cpu_for():
    hosts = FakeHosts()
    hosts.domain.above_devices = "<cputune><vcpupin vcpu='1' cpuset='9'/></cputune>"
    check(hosts, vcpu_map=[[0], [1]])
    assert "vCPU 1 of vm1 may use the CPUs 9 only" in refused(hosts, vcpu_map=[[0]])


def node(free, pages=0):
    """Return a memory node with huge pages of 2 MiB, all of them free."""
    count = {2048: pages}
    return HostNode(total=1 << 20, free=free, pages=count, free_pages=count)


def test_check_compares_maps_with_the_memory_nodes_of_the_destination():
    hosts = FakeHosts()
    hosts.destination.set_nodes(node(2000), node(1023))
    check(hosts, memnode_map=[[0]])
    check(hosts, memnode_map=[[0, 1]])
    assert refused(hosts, memnode_map=[[1]]) == (
        "node02 has 1023 KiB of memory free on its memory node 1, but vm1 needs 1024 KiB there; "
        "choose other nodes in memnode-map, or another host"
    )
    assert refused(hosts, memnode_map=[[2]]) == (
        "the memnode-map has memory node 2, but node02 has 0,1; choose one of these"
    )
    assert refused(hosts, memnode_map=[[0], [1]]) == (
        "the memnode-map has 2 rows, but vm1 has no NUMA cells; give one row for all of its memory"
    )


def test_check_refuses_memory_nodes_of_the_source_that_the_destination_lacks():
    hosts = FakeHosts()
    hosts.destination.set_nodes(node(2000))
    hosts.domain.above_devices = "<numatune><memory mode='strict' nodeset='1'/></numatune>"
    assert "vm1 is bound to memory node 1, but node02 has 0; give a memnode-map" in refused(hosts)
    check(hosts, memnode_map=[[0]])


def test_check_compares_huge_pages_with_the_free_ones():
    hosts = FakeHosts()
    hosts.domain.above_devices = "<memoryBacking><hugepages/></memoryBacking>"
    hosts.domain.memory = 6144
    hosts.destination.set_nodes(node(2000, pages=2), node(2000))
    hosts.destination.free = 0  # in normal pages
    assert (
        "node02 has 2 huge pages of 2048 KiB free on its memory nodes 0,1, but vm1 needs 3 there"
    ) in refused(hosts)
    hosts.destination.set_nodes(node(2000, pages=2), node(2000, pages=1))
    check(hosts)


def test_swap_compares_with_all_memory_because_the_partner_leaves():
    hosts = FakeHosts()
    hosts.destination.add(FakeDomain("vm2"))
    hosts.domain.above_devices = "<memoryBacking><hugepages/></memoryBacking>"
    in_use = HostNode(total=1 << 20, free=0, pages={2048: 1}, free_pages={2048: 0})
    hosts.destination.set_nodes(in_use)
    spec = spec_of(swap_with=SwapWith(vm_name="vm2"))
    there, _ = spec.swap_specs(migrate_task(swap_with=SwapWith(vm_name="vm2")))
    run_virtual(checks.check(hosts.runtime, there, hosts.context))
    assert "vm1 needs 1 there" in refused(hosts)


@pytest.mark.parametrize(
    ("pin", "what"),
    [
        ("<emulatorpin cpuset='2-3'/>", "the emulator of vm1 may use the CPUs 2,3 only"),
        ("<iothreadpin iothread='1' cpuset='3'/>", "an I/O thread of vm1 may use the CPUs 3 only"),
    ],
)
def test_check_refuses_pins_of_other_threads_that_the_destination_has_no_cpu_for(pin, what):
    hosts = FakeHosts()
    hosts.domain.above_devices = f"<cputune>{pin}</cputune>"
    check(hosts)
    hosts.destination.cpus = 2
    assert refused(hosts).startswith(f"{what}, none of which is online on node02; change that")


@pytest.mark.parametrize("name", ["source", "destination"])
def test_check_names_unreachable_host(name):
    hosts = FakeHosts()
    getattr(hosts, name).is_there = False
    with pytest.raises(LostError, match="is away"):
        check(hosts)


# CPUs

MODEL = "<cpu mode='custom' match='exact'><model>Haswell</model></cpu>"
PASSED = "<cpu mode='host-passthrough' check='none'/>"
OF_HOST = (
    "<capabilities><host><cpu><arch>x86_64</arch><model>Skylake</model></cpu></host></capabilities>"
)
TYPE = "<os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os>"


def asked(xml, capabilities=OF_HOST):
    return checks.required_cpu(f"<domain type='kvm'>{xml}</domain>", lambda: capabilities)


def never():
    raise AssertionError("the host's capabilities are not needed")


def test_required_cpu_is_the_model_of_the_domain():
    found = checks.required_cpu(f"<domain type='kvm'>{TYPE}{MODEL}</domain>", never)
    assert (found.of_host, found.architecture, found.machine, found.kind) == (
        False, "x86_64", "pc-q35-7.2", "kvm",
    )  # fmt: skip
    assert "<model>Haswell</model>" in found.xml


def test_required_cpu_is_that_of_the_host_with_host_passthrough():
    found = asked(TYPE + PASSED)
    assert found.of_host
    assert "<model>Skylake</model>" in found.xml
    assert "host-passthrough" not in found.xml


@pytest.mark.parametrize(
    ("xml", "capabilities"),
    [
        (TYPE, OF_HOST),
        (TYPE + "<cpu><topology sockets='1'/></cpu>", OF_HOST),
        (TYPE + PASSED, "<capabilities><host/></capabilities>"),
        (TYPE + PASSED, "<capabilities><host><cpu><arch>i686</arch></cpu></host></capabilities>"),
        (MODEL, OF_HOST),
    ],
)
def test_required_cpu_is_none_without_a_model(xml, capabilities):
    assert asked(xml, capabilities) is None


@pytest.mark.parametrize("cpu", [MODEL, PASSED])
def test_check_refuses_cpu_that_the_destination_lacks(cpu):
    hosts = FakeHosts()
    hosts.source.capabilities = OF_HOST
    hosts.domain.above_devices = TYPE + cpu
    check(hosts)
    ((*described, xml),) = hosts.destination.compared
    assert described == ([] if cpu is PASSED else ["x86_64", "pc-q35-7.2", "kvm"])
    assert ("Skylake" if cpu is PASSED else "Haswell") in xml
    assert not hosts.source.compared
    hosts.destination.cpu_fits = False
    assert refused(hosts) == (
        "the CPU of node02 lacks features of the CPU of vm1; give the domain a CPU model that "
        "both hosts have"
    )
    hosts.domain.state_now = [SHUT_OFF, 1]
    check(hosts, migration_type="offline")  # it will start there, or it will not


def test_check_accepts_cpus_that_cannot_be_compared():
    hosts = FakeHosts()
    hosts.domain.above_devices = TYPE + MODEL
    hosts.destination.refuses["compare"] = refusal("NO_SUPPORT", "this function is not supported")
    check(hosts)
    hosts.destination.refuses["compare"] = refusal("INTERNAL_ERROR", "Unknown CPU model Haswell")
    assert "Unknown CPU model Haswell" in refused(hosts)
