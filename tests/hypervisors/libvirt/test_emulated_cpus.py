"""Live migrations in which QEMU may lose writes of an emulated CPU are reported (fake hosts)."""

import pytest

from fastlib import Migrate, MigrateParameter
from fastlib.migfra.hypervisors.libvirt.migration import checks
from fastlib.migfra.hypervisors.simulated import run_virtual
from fastlib.migfra.virt.migration_spec import MigrationSpec
from tests.support.libvirt.fake_libvirt import FakeHosts

WARNING = (
    "vm1 is emulated on node01 (without KVM) by a QEMU older than 9.0, which may lose memory in a "
    "live migration; use migration-type: warm, KVM, or QEMU 9.0 or newer"
)


@pytest.mark.parametrize(
    ("domain_type", "version", "migration_type", "warned"),
    [
        ("qemu", 7_002_022, "live", True),
        ("qemu", 8_002_999, "live", True),
        ("qemu", 9_000_000, "live", False),
        ("qemu", 7_002_022, "warm", False),
        ("kvm", 7_002_022, "live", False),
    ],
)
def test_live_migration_of_an_emulated_domain_by_an_older_qemu_is_reported(
    monkeypatch, caplog, domain_type, version, migration_type, warned
):
    hosts = FakeHosts()
    for host in (hosts.source, hosts.destination):
        host.version = version
    described = hosts.domain.XMLDesc
    monkeypatch.setattr(
        hosts.domain,
        "XMLDesc",
        lambda flags=0: described(flags).replace("type='kvm'", f"type='{domain_type}'"),
    )
    parameter = MigrateParameter(migration_type=migration_type)
    task = Migrate(vm_name="vm1", destination="node02", parameter=parameter)
    run_virtual(checks.check(hosts.runtime, MigrationSpec.from_task(task, "node01"), hosts.context))
    warnings = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert warnings == [WARNING] * warned
