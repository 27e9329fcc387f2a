"""After a migration nothing of the domain stays on the source, also if libvirt ended there.

libvirt reports a success although the source's libvirt was ended before it heard of the end. The
hosts are fakes (see fake_libvirt.py) and time is virtual.
"""

import asyncio

import pytest

from fastlib import Migrate, MigrateParameter
from fastlib.migfra.hypervisors.libvirt.domain.state import PAUSED_FOR_MIGRATION
from fastlib.migfra.hypervisors.libvirt.errors import ArrivedError
from fastlib.migfra.hypervisors.libvirt.migration import migration
from fastlib.migfra.hypervisors.libvirt.migration.migration import Migration
from fastlib.migfra.hypervisors.simulated import run_virtual
from fastlib.migfra.plugin_api.cancel_scope import CancelScope
from fastlib.migfra.virt.migration_spec import MigrationSpec
from tests.support.libvirt.fake_domain import (
    PAUSED,
    RUNNING,
    SHUT_OFF,
    FakeDomain,
    refusal,
    uuid_of,
)
from tests.support.libvirt.fake_libvirt import FakeHosts

LEFT = [SHUT_OFF, 0]
"""The state of a definition after libvirt's restart."""


@pytest.fixture
def hosts():
    return FakeHosts()


@pytest.fixture
def migrated(monkeypatch, hosts):
    """Migrate vm1 while the source is left in a state; return the details."""

    def migrated(left, *, there=RUNNING, uuid=None, refuses=None):
        async def move(runtime, spec, arguments, scope, context):
            hosts.destination.add(FakeDomain("vm1", there))
            hosts.domain.state_now = list(left)
            if uuid is not None:
                hosts.domain.uuid = uuid
            if refuses is not None:
                hosts.domain.refuses["undefine"] = refuses

        async def main():
            monkeypatch.setattr(migration, "run_migration", move)
            parameter = MigrateParameter(migration_type="live")
            task = Migrate(vm_name="vm1", destination="node02", parameter=parameter)
            spec = MigrationSpec.from_task(task, hosts.runtime.host)
            with CancelScope(hosts.context) as scope:
                async with asyncio.timeout(1000):
                    one = Migration(
                        hosts.runtime, spec, scope, hosts.context, hosts.context.measurement
                    )
                    return await one.run()

        return run_virtual(main())

    return migrated


def test_definition_that_stayed_is_removed(migrated, hosts):
    assert migrated(LEFT) is None
    assert "vm1" not in hosts.source.domains
    assert hosts.destination.domains["vm1"].isActive()


def test_paused_copy_is_ended_and_its_definition_removed(migrated, hosts):
    assert migrated([PAUSED, PAUSED_FOR_MIGRATION]) is None
    assert "vm1" not in hosts.source.domains
    assert [call for call in hosts.calls if call.startswith("node01")] == [
        "node01: destroy", "node01: undefine",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "facts",
    [
        {"left": [RUNNING, 1]},  # it has come back meanwhile
        {"left": LEFT, "uuid": uuid_of("vm9")},  # another domain of this name
    ],
)
def test_domain_that_may_be_wanted_on_the_source_stays(migrated, hosts, facts):
    assert migrated(**facts) is None
    assert "vm1" in hosts.source.domains
    assert not [call for call in hosts.calls if call.startswith("node01")]


def test_definition_stays_if_the_domain_has_ended_on_the_destination(migrated, hosts):
    with pytest.raises(ArrivedError, match="vm1 is active neither on node01 nor on node02"):
        migrated(LEFT, there=SHUT_OFF)
    assert "vm1" in hosts.source.domains


def test_definition_that_cannot_be_removed_is_reported(migrated, hosts):
    assert migrated(LEFT, refuses=refusal("INTERNAL_ERROR", "no")) == (
        "its definition may have stayed on node01 (libvirt on node01: no); remove it there by "
        "virsh undefine --keep-nvram vm1"
    )
    assert "vm1" in hosts.source.domains
