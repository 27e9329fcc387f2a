"""Migrations of vm1 from node01 to node02, as most tests of libvirt need them."""

from typing import Any

from fastlib import Migrate, MigrateParameter
from fastlib.migfra.hypervisors.libvirt.migration.migration import Migration
from fastlib.migfra.plugin_api.cancel_scope import CancelScope
from fastlib.migfra.virt.migration_spec import MigrationSpec

from .fake_libvirt import FakeHosts


def migrate_task(destination: str = "node02", **parameter: Any) -> Migrate:
    """Return a task with these options."""
    return Migrate(vm_name="vm1", destination=destination, parameter=MigrateParameter(**parameter))


def spec_of(**parameter: Any) -> MigrationSpec:
    """Return the spec of a task with these options."""
    return MigrationSpec.from_task(migrate_task(**parameter), "node01")


def migration_of(hosts: FakeHosts, spec: MigrationSpec) -> Migration:
    """Return a migration that has not begun."""
    scope = CancelScope(hosts.context)
    return Migration(hosts.runtime, spec, scope, hosts.context, hosts.context.measurement)
