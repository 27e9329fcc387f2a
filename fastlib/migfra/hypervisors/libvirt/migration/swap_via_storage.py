"""Migrate a domain via storage, in a swap for which neither host has enough memory.

A file may be restored only if the domain cannot have run since it was saved. Otherwise its disks
have newer data than the memory in the file.
"""

import asyncio
from functools import partial
from pathlib import Path

from fastlib.migfra.errors import FinalError, HypervisorError, TaskCancelledError
from fastlib.migfra.hypervisors.libvirt.domain import control, storage
from fastlib.migfra.hypervisors.libvirt.domain.state import DomainState, look_up
from fastlib.migfra.hypervisors.libvirt.runtime import POLL_SECONDS
from fastlib.migfra.virt.encryption import effective_mode

from .call import await_call, wait_for_job_end
from .destination_xml import live_with_maps, read_destination_xml
from .encryption import Encryption
from .migration import Migration
from .monitor import MigrationMonitor
from .preparation import attempt
from .reconcile import PATIENCE_SECONDS
from .storage_checks import check_shared_file


class MigrationViaStorage(Migration):
    """A migration through a file that both hosts see."""

    async def _decide_encryption(self) -> Encryption | None:
        """Refuse an encrypted migration: libvirt writes the memory into the file as it is."""
        spec = self.spec
        mode = effective_mode(self._runtime.options.encryption, spec.parameter.encrypted)
        if mode == "required":
            raise FinalError(
                f"{spec.name} cannot be sent encrypted: neither {spec.source} nor "
                f"{spec.destination} has memory for both domains, and libvirt writes the memory "
                "into a file of snapshot-directory unencrypted; free memory on one of them"
            )
        return Encryption()

    async def check_path(self, path: str) -> None:
        """Raise HypervisorError if the file exists already, or is not the same on both hosts."""
        if await asyncio.to_thread(Path(path).exists):
            raise HypervisorError(
                f"the file {path} exists already, and may be the memory of a domain that was not "
                "restored; move it away"
            )
        await check_shared_file(self._runtime, self.spec, self._context, path)

    async def save(self, path: str) -> None:
        """Save the domain into a file. This frees its memory.

        Raises HypervisorError with the place of the domain.
        """
        spec = self.spec
        self._report("save")
        own = self._runtime.connections.own
        monitor = MigrationMonitor(self._runtime, spec, self._scope, self._context, saving=True)
        try:
            source = await self._runtime.connections.get(spec.source, spec.driver, spec.transport)
            xml = await source.call(storage.definition, spec.name)
            if self.record.state.arrives_by_xml and xml is not None:
                xml = (await source.call(read_destination_xml, spec.name, spec)).definition
            await self._save(phase="saving", path=path, xml=xml)
            with self._measure(f"suspend-{spec.name}"):
                async with own(spec.source, spec.driver, spec.transport) as connection:
                    call = connection.submit(storage.save, spec.name, path)
                    await await_call(monitor, call)
        except HypervisorError as error:
            try:
                is_saved = self.record.state.path is not None and await self.is_saved()
            except FinalError as unknown:
                raise FinalError(f"{error}; {unknown}") from error
            if not is_saved:
                raise await self.undo_after(error) from error
            await self._save(phase="saved")
            if isinstance(error, TaskCancelledError):
                words = "; ".join([str(error), *await self.restore_on_source()])
                raise TaskCancelledError(words) from error
            self._context.log.warning("%s is saved despite: %s", spec.name, error)
        else:
            await self._save(phase="saved")

    async def is_saved(self) -> bool:
        """Wait for libvirt, then return whether the domain is in its file and not on its host.

        A libvirtd that stood still may go on with the call. So an active domain counts only if it
        is seen twice without its file, which libvirt removes after a failure. Raises FinalError
        with the file and the remedy if the end cannot be found out.
        """
        spec, state = self.spec, self.record.state
        assert state.path is not None
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE_SECONDS
        without_file = 0
        while True:
            await wait_for_job_end(self._runtime, spec)
            try:
                observed = await self._hosts.on_source(look_up)
            except HypervisorError as error:
                raise FinalError(
                    f"{spec.name} may be saved in {state.path}, and {spec.source} cannot be "
                    f"queried for it ({error}): check whether it runs there, and only if it does "
                    f"not, use virsh restore {state.path}"
                ) from error
            exists = await asyncio.to_thread(Path(state.path).exists)
            if not observed.active:
                return exists
            without_file = 0 if exists else without_file + 1
            if without_file == 2 or loop.time() >= deadline:
                return False
            await asyncio.sleep(POLL_SECONDS)

    async def restore_on_source(self) -> list[str]:
        """Restore the domain on its source. Returns sentences: its place, and the problems."""
        spec, state = self.spec, self.record.state
        await self._save(phase="restoring")
        try:
            await self._restore(spec.source, paused=False)
        except HypervisorError as error:
            observed = await self.wait_until_restored(spec.source)
            if observed is None:
                return [f"could not restore it: {error}", self._perhaps_restored(spec.source)]
            if not observed.active:
                return [f"could not restore it: {error}", f"{spec.name} is saved in {state.path}"]
        return await self.finish_on_source()

    async def finish_on_source(self) -> list[str]:
        """Finish after a restore on the source. Returns sentences: its place, and the problems."""
        problems: list[str] = []
        await self._unlink(problems)
        await self._preparation.reattach(self.spec.source, problems)
        await self._preparation.resume_pscom(problems)
        await self._preparation.restore_snapshot_records(self.spec.source, problems)
        return [await self._hosts.describe(self.spec.source), *problems]

    async def restore_on_destination(self) -> None:
        """Restore the domain on the destination, and finish the migration.

        Raises ArrivedError if it is there but has problems, and HypervisorError if it is not there.
        """
        spec = self.spec
        await self._save(phase="restoring")
        try:
            with self._measure(f"resume-{spec.name}"):
                paused = self.record.state.arrives_paused
                await self._restore(spec.destination, paused=paused)
        except HypervisorError as error:
            await self._check_destination_after(error)
        await self.finish_on_destination()

    async def finish_on_destination(self) -> None:
        """Finish after a restore on the destination: remove its definition from the source."""
        spec, state = self.spec, self.record.state
        problems: list[str] = []
        if state.xml is not None:
            defined = self._hosts.on_destination(storage.define, state.xml)
            await attempt(problems, "define it there", defined)
            forgotten = self._hosts.on_source(control.undefine)
            await attempt(problems, f"remove its definition on {spec.source}", forgotten)
        await self._unlink(problems)
        await self.finish(problems=problems)

    async def _check_destination_after(self, error: HypervisorError) -> None:
        """After an error, raise FinalError unless the domain is on the destination anyway."""
        spec = self.spec
        failed = f"{spec.name} could not be restored on {spec.destination}: {error}"
        observed = await self.wait_until_restored(spec.destination)
        if observed is None:
            raise FinalError(f"{failed}; {self._perhaps_restored(spec.destination)}") from error
        if not observed.active:
            raise FinalError("; ".join([failed, *await self.restore_on_source()])) from error
        self._context.log.warning("%s is restored despite: %s", spec.name, error)

    def _perhaps_restored(self, host: str) -> str:
        """Return the advice for the file while a host cannot be queried."""
        path = self.record.state.path
        return (
            f"it is saved in {path}, and {host} cannot be queried for it: check whether it runs "
            f"there, and only if it does not, use virsh restore {path}"
        )

    async def wait_until_restored(self, host: str) -> DomainState | None:
        """Wait for the end of a restore on a host. Returns the domain's state or None.

        Inactive counts only if it is seen twice: a call may still be in flight.
        """
        spec = self.spec
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE_SECONDS
        absent = False
        while True:
            try:
                observed = await self._runtime.call_until_reachable(
                    host, spec.driver, spec.transport, look_up, spec.name
                )
            except HypervisorError as error:
                self._context.log.warning("%s", error)
                return None
            late = loop.time() >= deadline
            if observed.active and (late or not observed.migrating):
                return observed
            if not observed.active and absent:
                return observed
            absent = not observed.active
            await asyncio.sleep(POLL_SECONDS)

    async def _restore(self, host: str, *, paused: bool) -> None:
        spec, state = self.spec, self.record.state
        self._report("restore")
        assert state.path is not None
        paused = paused or not state.was_running
        async with self._runtime.connections.own(host, spec.driver, spec.transport) as connection:
            change = None
            if state.arrives_by_xml and host == spec.destination:
                change = partial(live_with_maps, spec)
            call = connection.submit(storage.restore, spec.name, state.path, paused, change)
            await asyncio.wrap_future(call)

    async def _unlink(self, problems: list[str]) -> None:
        path = self.record.state.path
        if path is None:
            return
        try:
            await asyncio.to_thread(Path(path).unlink, missing_ok=True)
        except OSError as error:
            problems.append(f"could not remove {path}: {error.strerror}")
        self.record.save(path=None, phase="move")
