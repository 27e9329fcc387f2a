"""A paused domain whose QEMU would abort at its migration is refused (fake hosts)."""

import pytest

from fastlib import Migrate
from fastlib.migfra import HypervisorError
from fastlib.migfra.hypervisors.libvirt.domain.xml import parse
from fastlib.migfra.hypervisors.libvirt.migration import checks, inactive_disks
from fastlib.migfra.hypervisors.libvirt.migration.inactive_disks import has_disks
from fastlib.migfra.hypervisors.simulated import run_virtual
from fastlib.migfra.virt.migration_spec import MigrationSpec
from tests.support.libvirt.fake_domain import PAUSED, RUNNING
from tests.support.libvirt.fake_libvirt import FakeHosts

NETWORK_DISK = (
    "<disk type='network' device='disk'><driver name='qemu' type='raw' cache='none'/>"
    "<source protocol='nbd' name='vm1'/><target dev='vda' bus='virtio'/></disk>"
)


@pytest.fixture
def paused(monkeypatch):
    """Hosts with a paused domain that has not run since it arrived. Its QEMU is 7.2."""
    hosts = FakeHosts()
    hosts.domain.state_now = [PAUSED, 1]
    hosts.domain.vcpu_ns = 0
    hosts.domain.devices = [NETWORK_DISK]
    hosts.running_version = (7, 2)
    monkeypatch.setattr(
        inactive_disks, "process_version", lambda connection, name: hosts.running_version
    )
    return hosts


def check(hosts):
    spec = MigrationSpec.from_task(Migrate(vm_name="vm1", destination="node02"), "node01")
    run_virtual(checks.check(hosts.runtime, spec, hosts.context))


def test_migration_is_refused_before_anything_changes(paused):
    with pytest.raises(HypervisorError) as caught:
        check(paused)
    assert str(caught.value) == (
        "vm1 is paused on node01 and has not run there since it arrived, and its QEMU 7.2 may not "
        "survive its migration; resume vm1 first, or use QEMU 10.0 or newer"
    )
    assert paused.calls == []


@pytest.mark.parametrize("version", [(9, 2), None])
def test_unknown_and_older_versions_are_refused(paused, version):
    paused.running_version = version
    with pytest.raises(HypervisorError, match="resume vm1 first"):
        check(paused)


def test_newer_qemu_may_migrate_it(paused):
    paused.running_version = (10, 0)
    check(paused)


def test_domain_that_has_run_migrates(paused):
    paused.domain.vcpu_ns = 60_000_000
    check(paused)


def test_running_domain_migrates(paused):
    paused.domain.state_now = [RUNNING, 1]
    check(paused)


def test_domain_without_disks_migrates(paused):
    paused.domain.devices = ["<disk type='file' device='cdrom'><target dev='hda'/></disk>"]
    check(paused)


@pytest.mark.parametrize(
    ("xml", "expected"),
    [
        ("<os><loader type='pflash'>/code.fd</loader></os><devices/>", True),
        ("<os><loader type='rom'>/code.fd</loader></os><devices/>", False),
        (f"<devices>{NETWORK_DISK}</devices>", True),
        ("<devices><disk device='cdrom'/></devices>", False),
        ("<devices/>", False),
    ],
)
def test_disks_and_flash_count_as_opened(xml, expected):
    assert has_disks(parse(f"<domain>{xml}</domain>")) is expected
