"""The downtime in the timers of a live migration: libvirt's figure, and the wait for the resume.

The hosts are fakes (see fake_libvirt.py) and time is virtual.
"""

import asyncio
from contextlib import asynccontextmanager

import pytest

from fastlib import Migrate, MigrateParameter
from fastlib.message import TimeMeasurement
from fastlib.migfra.hypervisors.libvirt.connection.connection import DomainChanges
from fastlib.migfra.hypervisors.libvirt.migration.downtime import Downtime
from fastlib.migfra.hypervisors.simulated import run_virtual
from fastlib.migfra.virt.migration_spec import MigrationSpec
from tests.support.libvirt.fake_libvirt import FakeConnection, FakeHosts


@pytest.mark.parametrize(
    ("kind", "enabled", "arrives_paused", "seconds"),
    [
        ("live", True, False, 0.2),
        ("live", True, True, 0.2 + 3.0),
        ("live", False, True, None),
        ("warm", True, True, None),
    ],
)
def test_downtime_ends_with_the_resume(monkeypatch, kind, enabled, arrives_paused, seconds):
    changes = DomainChanges()

    @asynccontextmanager
    async def follow(self, name):
        assert (self.host, name) == ("node02", "vm1")
        yield changes

    async def scenario():
        hosts = FakeHosts()
        there = hosts.destination.add(hosts.source.domains.pop("vm1"))
        monkeypatch.setattr(FakeConnection, "changes", follow)
        monkeypatch.setattr(there, "jobStats", lambda flags: {"downtime": 200})
        parameter = MigrateParameter(migration_type=kind)
        task = Migrate(vm_name="vm1", destination="node02", parameter=parameter)
        measurement = TimeMeasurement(enabled=enabled)
        downtime = Downtime(
            hosts.runtime, MigrationSpec.from_task(task, "node01"), hosts.context, measurement
        )
        async with downtime.measured(arrives_paused=arrives_paused):
            changes.last = asyncio.get_running_loop().time()
            await asyncio.sleep(1)
        await asyncio.sleep(2)
        await downtime.add()
        timings = measurement.timings
        found = timings["downtime-vm1"].wall if "downtime-vm1" in timings else None
        assert found == (None if seconds is None else pytest.approx(seconds))

    run_virtual(scenario())


def test_migration_that_failed_has_no_downtime():
    async def scenario():
        hosts = FakeHosts()
        task = Migrate(
            vm_name="vm1",
            destination="node02",
            parameter=MigrateParameter(migration_type="live"),
        )
        measurement = TimeMeasurement(enabled=True)
        downtime = Downtime(
            hosts.runtime, MigrationSpec.from_task(task, "node01"), hosts.context, measurement
        )
        with pytest.raises(ZeroDivisionError):
            async with downtime.measured(arrives_paused=False):
                raise ZeroDivisionError
        await downtime.add()
        assert measurement.timings == {}

    run_virtual(scenario())
