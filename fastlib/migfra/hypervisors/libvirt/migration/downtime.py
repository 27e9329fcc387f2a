"""Measure the downtime of a live migration: libvirt's figure, and the wait for the resume.

libvirt's figure ends when the domain is complete at the destination. A domain that arrives paused
then waits until the daemon resumes it.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastlib.message import TimeMeasurement
from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.libvirt.connection.connection import DomainChanges
from fastlib.migfra.hypervisors.libvirt.domain import job
from fastlib.migfra.hypervisors.libvirt.runtime import LibvirtRuntime
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.virt.migration_spec import MigrationSpec


class Downtime:
    """The downtime of one migration."""

    def __init__(
        self,
        runtime: LibvirtRuntime,
        spec: MigrationSpec,
        context: Context,
        measurement: TimeMeasurement,
    ) -> None:
        self._runtime = runtime
        self._spec = spec
        self._context = context
        self._measurement = measurement
        self._changes: DomainChanges | None = None
        self._is_measured = False

    @asynccontextmanager
    async def measured(self, *, arrives_paused: bool) -> AsyncIterator[None]:
        """Follow the domain at the destination during libvirt's call, if the task requests it."""
        spec = self._spec
        if spec.kind != "live" or not self._measurement.enabled:
            yield
            return
        if arrives_paused:
            there = await self._runtime.connections.get(
                spec.destination, spec.driver, spec.transport
            )
            async with there.changes(spec.name) as self._changes:
                yield
        else:
            yield
        self._is_measured = True

    async def add(self) -> None:
        """Add the downtime to the timers, right after the domain was resumed."""
        resumed = asyncio.get_running_loop().time()
        if not self._is_measured:
            return
        spec = self._spec
        try:
            there = await self._runtime.connections.get(
                spec.destination, spec.driver, spec.transport
            )
            seconds = await there.call(job.downtime, spec.name)
        except HypervisorError as error:
            self._context.log.warning("the downtime of %s is not known: %s", spec.name, error)
            return
        if seconds is None:
            return
        complete = None if self._changes is None else self._changes.last
        if complete is not None:
            seconds += max(0.0, resumed - complete)
        self._measurement.add(f"downtime-{spec.name}", seconds)
