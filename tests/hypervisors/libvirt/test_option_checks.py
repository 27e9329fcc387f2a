"""Options are checked against both hosts and the domain, before anything changes (fake hosts)."""

import json

import pytest

from fastlib import Evacuate, EvacuateParameter, SwapWith
from fastlib.migfra import FinalError, HypervisorError
from fastlib.migfra.hypervisors.libvirt.connection.api import api
from fastlib.migfra.hypervisors.libvirt.domain import emulator
from fastlib.migfra.hypervisors.libvirt.errors import LostError
from fastlib.migfra.hypervisors.libvirt.migration import option_checks
from fastlib.migfra.hypervisors.libvirt.migration.option_checks import domain_choices
from fastlib.migfra.hypervisors.libvirt.tasks.evacuation import evacuate
from fastlib.migfra.hypervisors.libvirt.tasks.migrate import migrate
from fastlib.migfra.hypervisors.simulated import run_virtual
from fastlib.migfra.virt.combinations import FILE_MEMORY, NO_MEMORY_LIMIT
from tests.support.libvirt.fake_domain import PAUSED, FakeDomain, refusal
from tests.support.libvirt.fake_libvirt import FakeHosts
from tests.support.libvirt.orders import migrate_task, spec_of

PAIR = {"migration_type": "live", "on_timeout": "post-copy", "parallel_connections": 2}
TYPE = "<os><type arch='x86_64' machine='{}'>hvm</type></os>"
NEW = 10_001_000


def check(hosts, **parameter):
    spec = spec_of(**parameter)
    run_virtual(option_checks.check_options(hosts.runtime, spec, hosts.context))


def refused(hosts, **parameter):
    with pytest.raises(FinalError) as caught:
        check(hosts, **parameter)
    assert hosts.calls == []
    return str(caught.value)


def upgraded(*, source=NEW, destination=NEW, machine="pc-q35-10.1"):
    """Return hosts with these versions, and a domain with that machine type."""
    hosts = FakeHosts()
    hosts.source.version, hosts.destination.version = source, destination
    hosts.domain.above_devices = TYPE.format(machine)
    return hosts


def test_pair_is_refused_by_the_versions_of_both_hosts():
    assert "node01 has QEMU 7.2" in refused(FakeHosts(), **PAIR)
    assert "node02 has QEMU 10.0" in refused(upgraded(destination=10_000_005), **PAIR)
    check(upgraded(), **PAIR)


def test_refused_order_changes_nothing():
    hosts = FakeHosts()
    with pytest.raises(FinalError, match=r"needs QEMU 10\.1 or newer on both hosts"):
        run_virtual(
            migrate(hosts.runtime, migrate_task(**PAIR, pscom_hook_procs="2"), hosts.context)
        )
    assert hosts.calls == []
    assert hosts.domain.isActive()


def test_refused_swap_changes_neither_domain():
    hosts = FakeHosts()
    hosts.destination.add(FakeDomain("vm2")).uuid = "22222222-2222-3333-4444-555555555555"
    swap = migrate_task(**PAIR, swap_with=SwapWith(vm_name="vm2"))
    with pytest.raises(FinalError, match=r"needs QEMU 10\.1 .*nothing was swapped"):
        run_virtual(migrate(hosts.runtime, swap, hosts.context))
    assert hosts.calls == []


def test_swap_is_refused_for_the_options_of_its_partner():
    hosts = FakeHosts()
    hosts.destination.add(FakeDomain("vm2")).uuid = "22222222-2222-3333-4444-555555555555"
    swap = migrate_task(migration_type="live", swap_with=SwapWith(vm_name="vm2", memnode_map=[[0]]))
    hosts.source.kind = hosts.destination.kind = "Xen"
    with pytest.raises(FinalError, match=r"memnode-map needs QEMU, but node02 has .* Xen"):
        run_virtual(migrate(hosts.runtime, swap, hosts.context))
    assert hosts.calls == []


def test_evacuation_reports_the_refusal_for_each_domain():
    hosts = FakeHosts()
    task = Evacuate(destinations=["node02"], parameter=EvacuateParameter(**PAIR, retry_counter=9))
    (result,) = run_virtual(evacuate(hosts.runtime, task, hosts.context))
    assert result.status == "error"
    assert "needs QEMU 10.1 or newer on both hosts, but node01 has QEMU 7.2" in result.details
    assert hosts.calls == []


def test_evacuation_with_impossible_options_is_refused_as_a_whole():
    hosts = FakeHosts()
    parameter = EvacuateParameter(rdma_migration=True, parallel_connections=2)
    task = Evacuate(destinations=["node02"], parameter=parameter)
    with pytest.raises(FinalError, match="parallel-connections does not work with rdma-migration"):
        run_virtual(evacuate(hosts.runtime, task, hosts.context))


def test_libvirt_of_both_hosts_counts():
    hosts = FakeHosts()
    assert "node01 has libvirt 9.0" in refused(hosts, compression="zstd")
    hosts.source.libvirt_version = 9_004_000
    assert "node02 has libvirt 9.0" in refused(hosts, compression="zstd")
    hosts.destination.libvirt_version = 9_004_000
    check(hosts, compression="zstd")


def test_other_hypervisors_are_refused_options_of_qemu():
    hosts = FakeHosts()
    hosts.source.kind = hosts.destination.kind = "Xen"
    assert refused(hosts, auto_converge=True) == (
        "auto-converge needs QEMU, but node01 has the hypervisor Xen; leave it out"
    )
    check(hosts, migration_type="live", vcpu_map=[[0], [1]])


def test_emulator_is_not_queried_for_options_of_every_version():
    hosts = FakeHosts()
    hosts.domain.devices.append("<emulator>/opt/qemu</emulator>")
    check(hosts, migration_type="live", bandwidth_limit=1, auto_converge=True, compression="xbzrle")
    assert "the QEMU version of node01 is unknown" in refused(hosts, compression="mt")


def test_hosts_are_not_queried_for_options_without_a_rule():
    hosts = FakeHosts()
    hosts.destination.is_there = False
    check(hosts, migration_type="live", timeout=None, transport="tcp")
    check(hosts, migration_type="offline", compression="zstd")
    with pytest.raises(LostError):
        check(hosts, migration_type="live", compression="mt")


# Which QEMU runs a domain


def test_version_is_that_of_the_emulator_of_the_domain():
    hosts = upgraded(source=7_002_000, destination=7_002_000)
    hosts.domain.devices.append("<emulator>/opt/qemu</emulator>")
    for host in (hosts.source, hosts.destination):
        host.emulators["/opt/qemu"] = "pc-i440fx-10.2"
    check(hosts, **PAIR)
    hosts.destination.emulators["/opt/qemu"] = "pc-i440fx-9.2"
    assert "node02 has QEMU 9.2" in refused(hosts, **PAIR)
    hosts.destination.emulators["/opt/qemu"] = "pc-i440fx-vendor"
    assert "the QEMU version of node02 is unknown" in refused(hosts, **PAIR)


def test_usual_emulator_has_the_version_that_libvirt_reports():
    hosts = upgraded()
    hosts.domain.devices.append("<emulator>/usr/bin/qemu</emulator>")
    check(hosts, **PAIR)


def test_unknown_emulator_of_the_destination_is_refused():
    hosts = upgraded()
    hosts.domain.devices.append("<emulator>/opt/qemu</emulator>")
    hosts.source.emulators["/opt/qemu"] = "pc-q35-10.1"
    assert "the QEMU version of node02 is unknown" in refused(hosts, **PAIR)


@pytest.mark.parametrize(
    ("running", "why"),
    [((7, 2), "the running process of vm1 on node01 has QEMU 7.2"), ((10, 1), None),
     (None, "the QEMU version of the running process of vm1 on node01 is unknown")],
)  # fmt: skip
def test_domain_that_runs_since_before_the_upgrade_is_refused(monkeypatch, running, why):
    asked = []
    monkeypatch.setattr(
        option_checks, "process_version", lambda connection, name: asked.append(name) or running
    )
    hosts = upgraded(machine="pc-q35-7.2")
    if why is None:
        check(hosts, **PAIR)
    else:
        assert why in refused(hosts, **PAIR)
    assert asked == ["vm1"]


def answer_of_monitor(monkeypatch, answer):
    """Make the monitor of vm1 answer, and return the version that it reports."""
    asked = []

    def command(domain, text, flags):
        asked.append((domain.name(), json.loads(text)))
        if isinstance(answer, Exception):
            raise answer
        return json.dumps({"return": answer})

    monkeypatch.setattr("libvirt_qemu.qemuMonitorCommand", command)
    version = emulator.process_version(FakeHosts().source, "vm1")
    assert asked == [("vm1", {"execute": "query-version"})]
    return version


def test_process_reports_its_version_through_its_monitor(monkeypatch):
    answer = {"qemu": {"major": 7, "minor": 2, "micro": 22}, "package": "Debian"}
    assert answer_of_monitor(monkeypatch, answer) == (7, 2)


@pytest.mark.parametrize("code", ["NO_SUPPORT", "ACCESS_DENIED"])
def test_version_of_process_is_unknown_without_access_to_its_monitor(monkeypatch, code):
    assert answer_of_monitor(monkeypatch, refusal(code, "no")) is None


def test_failing_monitor_is_an_error(monkeypatch):
    with pytest.raises(api().libvirtError):
        answer_of_monitor(monkeypatch, refusal("INTERNAL_ERROR", "monitor is gone"))


def test_process_is_not_queried_if_its_machine_type_is_sufficient(monkeypatch):
    monkeypatch.delattr(option_checks, "process_version")
    check(upgraded(machine="pc-q35-10.1"), **PAIR)
    check(upgraded(machine="pc-q35-7.2"), migration_type="live", parallel_connections=2)


@pytest.mark.parametrize(
    ("machine", "version"),
    [
        ("pc-q35-10.1", (10, 1)),
        ("pc-i440fx-7.2", (7, 2)),
        ("virt-9.2", (9, 2)),
        ("s390-ccw-virtio-8.1", (8, 1)),
        ("pc", None),
        ("pc-q35-rhel9.4.0", None),
        ("", None),
        (None, None),
    ],
)
def test_machine_type_contains_version(machine, version):
    assert emulator.machine_version(machine) == version


def test_emulator_is_read_from_the_domain():
    found = emulator.emulator_of(
        f"<domain type='kvm'>{TYPE.format('pc')}<devices><emulator>/q</emulator></devices></domain>"
    )
    assert (found.path, found.architecture, found.machine, found.virtualization) == (
        "/q", "x86_64", "pc", "kvm",
    )  # fmt: skip
    bare = emulator.emulator_of("<domain/>")
    assert (bare.path, bare.architecture, bare.machine) == (None, None, None)


# What of the domain decides


def backing(xml):
    return f"<memoryBacking>{xml}</memoryBacking>"


@pytest.mark.parametrize(
    ("xml", "choices"),
    [
        ("", {NO_MEMORY_LIMIT}),
        ("<memtune><hard_limit unit='KiB'>1</hard_limit></memtune>", set()),
        (backing("<source type='file'/>"), {NO_MEMORY_LIMIT, FILE_MEMORY}),
        (backing("<source type='anonymous'/>"), {NO_MEMORY_LIMIT}),
        (backing("<access mode='shared'/>"), {NO_MEMORY_LIMIT, FILE_MEMORY}),
        (backing("<source type='memfd'/><access mode='shared'/>"), {NO_MEMORY_LIMIT}),
        (backing("<hugepages/><access mode='shared'/>"), {NO_MEMORY_LIMIT}),
        (backing("<hugepages><page size='2048' unit='KiB'/></hugepages><source type='file'/>"),
         {NO_MEMORY_LIMIT}),
        (backing("<hugepages><page size='2048' nodeset='0'/></hugepages><source type='file'/>"),
         {NO_MEMORY_LIMIT, FILE_MEMORY}),
        (backing("<hugepages><page size='4' unit='KiB'/></hugepages><source type='file'/>"),
         {NO_MEMORY_LIMIT, FILE_MEMORY}),
        ("<cpu><numa><cell id='0' memAccess='shared'/></numa></cpu>",
         {NO_MEMORY_LIMIT, FILE_MEMORY}),
        ("<cpu><numa><cell id='0'/></numa></cpu>", {NO_MEMORY_LIMIT}),
        ("<devices><memory model='nvdimm'/></devices>", {NO_MEMORY_LIMIT, FILE_MEMORY}),
        ("<devices><memory model='dimm'/></devices>", {NO_MEMORY_LIMIT}),
    ],
)  # fmt: skip
def test_domain_decides_by_its_memory(xml, choices):
    assert set(domain_choices(f"<domain>{xml}</domain>", is_paused=False)) == choices


def test_paused_domain_is_not_moved_by_post_copy():
    hosts = upgraded()
    hosts.domain.state_now = [PAUSED, 1]
    assert "on-timeout: post-copy does not work with a domain that is paused" in refused(
        hosts, migration_type="live", on_timeout="post-copy"
    )
    check(hosts, migration_type="live", on_timeout="pause")


def test_rdma_is_refused_without_a_limit_of_memory():
    hosts = FakeHosts()
    assert "give the domain a hard_limit" in refused(hosts, rdma_migration=True)
    hosts.domain.above_devices = "<memtune><hard_limit>1</hard_limit></memtune>"
    check(hosts, rdma_migration=True)


def test_errors_of_libvirt_on_the_emulator_leave_the_version_unknown():
    hosts = upgraded()
    hosts.domain.devices.append("<emulator>/usr/bin/qemu</emulator>")
    hosts.destination.refuses["capabilities"] = refusal("INTERNAL_ERROR", "no such thing")
    with pytest.raises(HypervisorError, match="the QEMU version of node02 is unknown"):
        check(hosts, **PAIR)
