"""Prepare a domain for its migration: suspend pscom, detach devices, remove records of snapshots.

Restore all of them afterwards.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final

from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.libvirt.domain import devices
from fastlib.migfra.hypervisors.libvirt.domain.device_xml import AttachedDevice
from fastlib.migfra.hypervisors.libvirt.domain.snapshots import (
    SnapshotRecord,
    forget_records,
    restore_records,
)
from fastlib.migfra.hypervisors.libvirt.domain.state import look_up
from fastlib.migfra.hypervisors.libvirt.runtime import LibvirtRuntime
from fastlib.migfra.plugin_api.cancel_scope import CancelScope
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.virt.migration_spec import MigrationSpec

from .hosts import MigrationHosts
from .pscom import Pscom
from .record import MigrationRecord

_KINDS: Final = (("pci", "detach-pci-devs"), ("ivshmem", "detach-ivshmem-devs"))
"""Kinds of devices in the order in which they are detached, each with its timer."""


async def attempt(problems: list[str], what: str, step: Awaitable[object]) -> None:
    """Await a step. If it fails, add the problem "could not `what`"."""
    try:
        await step
    except HypervisorError as error:
        problems.append(f"could not {what}: {error}")


class Preparation:
    """The pscom processes that a migration suspends, and the devices that it detaches."""

    def __init__(
        self,
        runtime: LibvirtRuntime,
        hosts: MigrationHosts,
        spec: MigrationSpec,
        record: MigrationRecord,
        scope: CancelScope,
        context: Context,
        measure: Callable[[str], AbstractContextManager[object]],
    ) -> None:
        self._runtime = runtime
        self._hosts = hosts
        self._spec = spec
        self._record = record
        self._scope = scope
        self._context = context
        self._measure = measure

    async def prepare(self, pscom_count: int) -> None:
        """Suspend the pscom processes, and detach the devices that cannot migrate.

        `pscom_count` is the number of processes. The journal has each step before it begins. Raises
        HypervisorError.
        """
        spec = self._spec
        source = await self._runtime.connections.get(spec.source, spec.driver, spec.transport)
        attached = await source.call(devices.attached, spec.name)
        devices.check_movable(spec.name, attached)
        if pscom_count:
            await self._save(pscom=pscom_count)
            with self._measure(f"pscom-suspend-{spec.name}"):
                await self._pscom().suspend(self._scope)
        for kind, timer in _KINDS:
            of_kind = [device for device in attached if device.kind == kind]
            if not of_kind:
                continue
            with self._measure(timer):
                for device in of_kind:
                    self._scope.check()
                    detached = (*self._record.state.detached, device)
                    await self._save(detached=detached)
                    await source.call(devices.detach, spec.name, device.xml)

    async def remove_snapshot_records(self, records: Sequence[SnapshotRecord]) -> None:
        """Remove libvirt's records of internal snapshots on the source. Raises HypervisorError.

        libvirt refuses to migrate a domain of which it has records.
        """
        if not records:
            return
        spec = self._spec
        await self._save(snapshots=tuple(records))
        source = await self._runtime.connections.get(spec.source, spec.driver, spec.transport)
        await source.call(forget_records, spec.name)

    async def restore_snapshot_records(self, host: str, problems: list[str]) -> None:
        """Make the removed records again on the host that has the domain."""
        records = self._record.state.snapshots
        if not records:
            return
        names = ", ".join(record.name for record in records)
        restored = self._hosts.on(host, restore_records, records)
        what = f"restore libvirt's records of its snapshots, which the images still have: {names}"
        await attempt(problems, what, restored)
        self._record.save(snapshots=())

    async def restore_records_where_known(self) -> list[str]:
        """Restore the records of snapshots on each host that knows a domain whose place is unclear.

        Returns the problems as sentences.
        """
        spec, problems = self._spec, list[str]()
        records = self._record.state.snapshots
        for host in (spec.destination, spec.source):
            try:
                knows_it = (await self._hosts.on(host, look_up)).known
            except HypervisorError as error:
                problems.append(f"the records of its snapshots may be missing on {host}: {error}")
                continue
            if knows_it:
                self._record.save(snapshots=records)
                await self.restore_snapshot_records(host, problems)
        return problems

    async def reattach(self, host: str, problems: list[str]) -> None:
        """Reattach the detached devices on a host, in the reverse order of their kinds."""
        state = self._record.state
        for kind, timer in reversed(_KINDS):
            of_kind = [device for device in state.detached if device.kind == kind]
            if not of_kind:
                continue
            with self._measure(f"re{timer.replace('detach', 'attach')}"):
                for device in of_kind:
                    what = f"reattach a {kind} device"
                    await attempt(problems, what, self._reattach_one(host, device))
        if state.detached:
            self._record.save(detached=())

    async def _reattach_one(self, host: str, device: AttachedDevice) -> None:
        spec, others = self._spec, self._record.state.detached
        at_home = host == spec.source
        # Each gets its own address again, also if another device's address has been taken.
        spared = [other.address for other in others if at_home and other is not device]
        await self._hosts.on(host, devices.reattach, device, at_home, spared)

    async def resume_pscom(self, problems: list[str]) -> None:
        """Resume the suspended pscom processes."""
        if self._record.state.pscom:
            with self._measure(f"pscom-resume-{self._spec.name}"):
                await attempt(problems, "resume pscom", self._pscom().resume())
            self._record.save(pscom=0)

    def _pscom(self) -> Pscom:
        return Pscom(
            self._runtime.node,
            self._context,
            self._spec.name,
            self._record.state.pscom,
            self._runtime.options.pscom_timeout,
        )

    async def _save(self, **changes: Any) -> None:
        await asyncio.wrap_future(self._record.save(**changes))
