"""Run one migration in phases: check, prepare, move, finish.

After a failure the phases are undone, the last one first. At the end the domain is on one host, and
the result names that host.
"""

import asyncio
import time
from collections.abc import Awaitable, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, nullcontext
from typing import Any, Final, TypeVar

import msgspec

from fastlib.message import TimeMeasurement
from fastlib.migfra.errors import FinalError, HypervisorError, TaskCancelledError
from fastlib.migfra.hypervisors.libvirt.connection.uris import migration_uri
from fastlib.migfra.hypervisors.libvirt.domain import control, job
from fastlib.migfra.hypervisors.libvirt.domain.snapshots import SnapshotRecord
from fastlib.migfra.hypervisors.libvirt.domain.state import PAUSED_IN_POST_COPY, look_up
from fastlib.migfra.hypervisors.libvirt.errors import ArrivedError
from fastlib.migfra.hypervisors.libvirt.runtime import LibvirtRuntime
from fastlib.migfra.plugin_api.cancel_scope import CancelScope
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.virt import precopy
from fastlib.migfra.virt.migration_spec import MigrationSpec

from . import checks, cleanup
from .arguments import MigrateArguments, arrives_paused, migrate_arguments
from .call import follow, run_migration
from .copy_room import confirm_room, reserved_room
from .destination_remains import DestinationRemains
from .destination_xml import DestinationXml, arrives_by_xml, read_destination_xml
from .disks_check import CopyPlan
from .disks_copy import DiskCopies
from .downtime import Downtime
from .encryption import Encryption, decide_encryption, with_required_encryption
from .hosts import MigrationHosts
from .maps_at_arrival import finish_maps
from .monitor import MigrationMonitor
from .post_copy import PostCopyRecovery, with_recovery
from .preparation import Preparation, attempt
from .pscom import process_count
from .reconcile import PATIENCE_SECONDS, Location, reconcile
from .record import MigrationRecord, MigrationState
from .source_remains import clear_source
from .storage_checks import check_storage
from .unsettled import End, UnsettledMigration

T = TypeVar("T")


class Migration:
    """A migration from its first check to its end."""

    def __init__(
        self,
        runtime: LibvirtRuntime,
        spec: MigrationSpec,
        scope: CancelScope,
        context: Context,
        measurement: TimeMeasurement,
    ) -> None:
        self._runtime = runtime
        self.spec: Final = spec
        self._scope = scope
        self._context = context
        self._measurement = measurement
        state = MigrationState(source=spec.source, destination=spec.destination)
        self.record: Final = MigrationRecord(context, spec.name, state)
        self._hosts = MigrationHosts(runtime, spec)
        self._preparation = Preparation(
            runtime, self._hosts, spec, self.record, scope, context, self._measure
        )
        self._disks = DiskCopies(runtime, spec, self.record, scope, context)
        self.remains: Final = DestinationRemains(
            self._hosts, spec, self.record, self._disks, context
        )
        self._downtime = Downtime(runtime, spec, context, measurement)
        self._plan = CopyPlan()
        self._pscom_count = 0
        self._snapshots: Sequence[SnapshotRecord] = ()
        self._encryption: Encryption | None = None
        self._notes: Sequence[str] = ()
        """The checks that were not possible, in words, for the details of an offline migration."""
        self._location: Location | None = None
        """The place of the domain, once `reconcile` has found it."""
        self.is_unsettled = False
        """Whether its end must be decided again, once the silent host answers."""

    async def run(self) -> str | None:
        """Run all phases. Returns the details of the success or None. Raises HypervisorError."""
        with self._measure(self.spec.timer):
            await self.check()
            details = await self.prepare_and_move()
        return await self.finish(details)

    @property
    def encrypted(self) -> bool | None:
        """Whether the memory was sent encrypted. None if there was nothing to encrypt."""
        return self.record.state.encrypted

    async def prepare_and_move(self) -> str | None:
        """Run the phases between check and finish, or undo them. Raises HypervisorError."""
        room = reserved_room(
            self._runtime, self.spec, self._plan.copies, self._scope, self._context
        )
        async with AsyncExitStack() as stack:
            stack.enter_context(self._measure(self.spec.timer))
            await self.run_or_undo(stack.enter_async_context(room))
            await self.run_or_undo(self.prepare())
            details = await self.run_or_undo(self._move())
        if self.spec.kind != "offline":
            return details
        return "; ".join([*([] if details is None else [details]), *self._notes]) or None

    async def run_or_undo(self, step: Awaitable[T]) -> T:
        """Return the result of a step, or undo everything. Raises HypervisorError."""
        try:
            return await step
        except HypervisorError as error:
            raise await self.undo_after(error) from error
        except Exception as error:
            self._context.log.exception("%s: unexpected error", self.spec.name)
            unexpected = HypervisorError(f"{type(error).__name__}: {error}")
            raise await self.undo_after(unexpected) from error

    # Check

    async def check(self) -> None:
        """Check both hosts and the domain. Changes nothing. Raises HypervisorError."""
        spec = self.spec
        self._report("check")
        source, destination = await self.run_or_undo(
            checks.check(self._runtime, self._spec_to_check(), self._context)
        )
        self._encryption = await self.run_or_undo(self._decide_encryption())
        storage = await self.run_or_undo(check_storage(self._runtime, spec, self._context))
        self._notes, self._plan = storage.notes, storage.plan
        self._pscom_count = await self.run_or_undo(process_count(self._runtime, spec))
        self._scope.check()
        observed, by_xml = source.domain_state, arrives_by_xml(spec, source.kind)
        self._snapshots = source.kept.snapshots
        self.record.state = msgspec.structs.replace(
            self.record.state,
            uuid=observed.uuid,
            was_running=observed.running,
            autostart=observed.autostart,
            destination_identity=destination.identity,
            known_on_destination=destination.domain_state.known,
            arrives_paused=arrives_paused(spec, self._plan, by_xml=by_xml),
            encrypted=None if self._encryption is None else self._encryption.encrypted,
            server_name=None if self._encryption is None else self._encryption.server_name,
            is_persistent=observed.persistent,
            arrives_by_xml=by_xml,
        )

    def _spec_to_check(self) -> MigrationSpec:
        """Return the spec with the options that the configuration adds. Raises FinalError."""
        return with_required_encryption(self._runtime, self.spec)

    async def _decide_encryption(self) -> Encryption | None:
        return await decide_encryption(self._runtime, self.spec, self._context)

    # Prepare

    async def prepare(self) -> None:
        """Suspend pscom, and detach what cannot migrate. `undo` undoes each step."""
        spec = self.spec
        await self._preparation.remove_snapshot_records(self._snapshots)
        if spec.kind == "offline":
            await self._save(phase="move")
            return
        self._report("prepare")
        if self._plan.copies:
            await self._disks.create(self._plan.copies)
            await confirm_room(self._runtime, spec, self._plan.copies)
        await self._preparation.prepare(self._pscom_count)
        if spec.parameter.max_downtime is not None:
            seconds = precopy.Options.of(spec.parameter).first_downtime
            source = await self._runtime.connections.get(spec.source, spec.driver, spec.transport)
            await source.call(job.set_downtime, spec.name, seconds)
        self._scope.check()
        await self._save(phase="move")

    async def _save(self, **changes: Any) -> None:
        await asyncio.wrap_future(self.record.save(**changes))

    # Move

    async def _move(self) -> str | None:
        """Let libvirt move the domain. Raises HypervisorError if it did not arrive."""
        spec = self.spec
        self._report("migrate")
        # libvirt pauses the domain after it has copied the disks.
        is_downtime = spec.kind == "warm" and not self._plan.copies
        try:
            arguments = self._arguments(await self._read_xml())
            with self._measure(f"downtime-{spec.name}") if is_downtime else nullcontext():
                async with self._downtime.measured(arrives_paused=self.record.state.arrives_paused):
                    await run_migration(self._runtime, spec, arguments, self._scope, self._context)
        except HypervisorError as error:
            return await self.resolve_failure(error)
        return None

    async def _read_xml(self) -> DestinationXml | None:
        """Return the domain's XML for the destination. None if it is that of the source."""
        spec = self.spec
        if not self.record.state.arrives_by_xml:
            return None
        source = await self._runtime.connections.get(spec.source, spec.driver, spec.transport)
        found: DestinationXml = await source.call(read_destination_xml, spec.name, spec)
        return found

    def _arguments(self, xml: DestinationXml | None = None) -> MigrateArguments:
        """Return the arguments of libvirt's call, also after a restart of the daemon."""
        spec, options, state = self.spec, self._runtime.options, self.record.state
        peer = None
        if options.migration == "peer-to-peer":
            peer = self._runtime.connections.outer_uri(
                spec.destination, spec.driver, spec.transport
            )
        return migrate_arguments(
            spec,
            persistent=state.is_persistent,
            peer=peer,
            migration_uri=migration_uri(
                options, spec.destination, bool(spec.parameter.rdma_migration)
            ),
            server_name=state.server_name,
            plan=self._plan,
            arrives_paused=state.arrives_paused,
            xml=xml,
        )

    async def resolve_failure(self, error: HypervisorError) -> str:
        """Find out where the domain is after an error. Returns the details if it arrived anyway.

        Raises HypervisorError if it did not arrive.
        """
        spec = self.spec
        if spec.kind == "offline":
            if await self.is_defined_on_destination():
                return f"it has arrived despite this error: {error}"
            raise error
        monitor = MigrationMonitor(self._runtime, spec, self._scope, self._context)
        problem = None
        if await self._job_goes_on():
            problem = await follow(self._runtime, spec, monitor)
        recovery = await self.recover_post_copy()
        self._location = location = await self.reconcile(recovery)
        if location.place != "destination":
            raise with_recovery(problem or error, recovery)
        self._context.log.warning("%s has arrived despite: %s", spec.name, error)
        note = "" if location.note is None else f"; {location.note}"
        if recovery is not None:
            return f"{recovery.end} (the error was: {error}){note}"
        return f"it has arrived despite this error: {error}{note}"

    async def recover_post_copy(self) -> PostCopyRecovery | None:
        """Bring a post-copy to its end that was interrupted. Returns None if there is none."""
        spec = self.spec
        if spec.parameter.on_timeout != "post-copy":
            return None
        recovery = PostCopyRecovery(
            self._runtime, spec, self.record.state, self._arguments(), self._scope, self._context
        )
        await recovery.run()
        return recovery if recovery.is_known else None

    async def _job_goes_on(self) -> bool:
        """Return whether libvirt still moves the domain although the call was given up."""
        spec = self.spec
        try:
            source = await self._runtime.connections.get(spec.source, spec.driver, spec.transport)
            observed = await source.call(look_up, spec.name)
        except HypervisorError as error:
            self._context.log.info("%s", error)
            return False
        return observed.migrating and observed.reason not in PAUSED_IN_POST_COPY

    async def reconcile(
        self,
        recovery: PostCopyRecovery | None = None,
        *,
        patience: float = PATIENCE_SECONDS,
        stayed: bool = False,
    ) -> Location:
        """Query both hosts for the domain, and repair unfinished steps of the migration.

        `recovery` has waited for its post-copy. `stayed`: the order was answered before, with the
        domain on its source.
        """
        if recovery is not None and recovery.gave_up:
            patience = 0.0
        return await reconcile(
            self._runtime,
            self.spec,
            self.record.state,
            self._context,
            patience=patience,
            stayed=stayed,
        )

    async def never_ran(self) -> bool:
        """Return whether the domain is paused on the destination as it has arrived."""
        return bool(await self._hosts.on_destination(cleanup.never_ran))

    async def is_defined_on_destination(self) -> bool:
        """Return whether the definition of an offline domain has moved."""
        there = await self._hosts.on_destination(look_up)
        here = await self._hosts.on_source(look_up)
        return there.known and not here.known

    # Finish

    async def finish(
        self, details: str | None = None, problems: list[str] | None = None
    ) -> str | None:
        """Give the domain on the destination the state that it had on the source. Clear the source.

        `problems` are those known so far. Returns the details of the success: the given ones, and
        the remains on the source. Raises ArrivedError if there are problems.
        """
        spec = self.spec
        self._runtime.moved_to[spec.name] = spec.destination
        self._runtime.divided.pop(self.record.state.uuid, None)
        await self._runtime.unsettled.remove(self.record.state.uuid, spec.destination)
        if spec.kind == "offline":
            await self._finish_offline()
            return details
        self._report("finish", percent=100.0)
        self.record.save(phase="finish")
        before = self.record.state
        problems = [] if problems is None else problems
        by_xml = self.record.state.arrives_by_xml
        if spec.has_map and not by_xml:
            await self._finish_maps(problems)
        if self.record.state.was_running:
            with self._measure(f"resume-{spec.name}"):
                await attempt(
                    problems, "resume", self._hosts.on_destination(control.ensure_running)
                )
        await self._downtime.add()
        if spec.has_map and by_xml:
            await self._finish_maps(problems)  # it has them already, so it does not wait for this
        if self.record.state.autostart:
            what = "enable its autostart"
            await attempt(problems, what, self._hosts.on_destination(control.set_autostart))
        await self._preparation.reattach(spec.destination, problems)
        await self._preparation.resume_pscom(problems)
        await self._preparation.restore_snapshot_records(spec.destination, problems)
        stayed = await self._clear_source()
        left = self._location is not None and self._location.note is not None
        disks = await self._disks.finish(is_certain=not (problems or stayed or left))
        if problems:
            location = await self.reconcile()
            if spec.destination in location.silent:
                await self._note_unsettled("arrived", before)
                raise ArrivedError(
                    f"{spec.name} has arrived on {spec.destination}, which does not answer now: "
                    f"{'; '.join(problems)}; the daemon does that once {spec.destination} answers"
                )
            problems += [text for text in (stayed, disks) if text is not None]
            raise ArrivedError(f"{location.whole}, but {'; '.join(problems)}")
        return "; ".join(text for text in (details, stayed, disks) if text is not None) or None

    async def _finish_maps(self, problems: list[str]) -> None:
        spec, state, call = self.spec, self.record.state, self._hosts.on_destination
        await finish_maps(spec, state, call, self._measure, self._context, problems)

    async def _clear_source(self) -> str | None:
        """Remove the remains of the domain from the source. Returns a sentence about the others."""
        state = self.record.state
        if not state.uuid or (self._location is not None and self._location.note is not None):
            return None  # the note already says what may be on the source
        return await clear_source(self._hosts, self.spec, state, self.reconcile, self._context)

    async def _finish_offline(self) -> None:
        """Restore autostart and the records of snapshots: libvirt does not move them."""
        spec, problems = self.spec, list[str]()
        await self._preparation.restore_snapshot_records(spec.destination, problems)
        if self.record.state.autostart:
            what = "enable its autostart"
            await attempt(problems, what, self._hosts.on_destination(control.set_autostart))
        if problems:
            raise ArrivedError(f"{spec.name} is on {spec.destination}, but {'; '.join(problems)}")

    # Undo

    async def undo(self, *, late: bool = False) -> list[str]:
        """Let the domain run on the source as before. Returns the problems.

        It is `late` if the order was answered before. Then a paused domain stays paused, because a
        user may have paused it since.
        """
        spec, problems = self.spec, list[str]()
        state = self.record.state
        if state.phase != "prepare":
            if state.was_running and not late:
                await attempt(problems, "resume it", self._hosts.on_source(control.ensure_running))
            if spec.parameter.max_downtime is not None:
                step = self._hosts.on_source(job.set_downtime, precopy.DEFAULT_DOWNTIME)
                await attempt(problems, "take the longest downtime back", step)
        await self._preparation.reattach(spec.source, problems)
        await self._preparation.resume_pscom(problems)
        await self._preparation.restore_snapshot_records(spec.source, problems)
        is_silent = self._location is not None and spec.destination in self._location.silent
        await self.remains.clear(problems, is_silent=is_silent, late=late)
        return problems

    async def remove_disks_that_never_ran(self) -> list[str]:
        """Remove the copies of the disks of a domain that is active nowhere, if that is safe.

        Returns sentences about copies that stay.
        """
        return await self._disks.remove_if_never_ran()

    async def _note_if_unsettled(self) -> End | None:
        """Note in the journal that the end must be decided again, once the silent host answers.

        Returns None if it is certain.
        """
        location = self._location
        if location is None or location.place == "source":
            end: End = "stayed"
            is_open = not self.remains.are_cleared
        else:
            end = "unknown"
            is_open = location.place == "unknown" and bool(location.silent)
        if not is_open:
            return None
        await self._note_unsettled(end, self.record.state)
        return end

    async def _note_unsettled(self, end: End, state: MigrationState) -> None:
        if not state.uuid:
            return  # the check has failed, so nothing was begun
        self.is_unsettled = True
        entry = UnsettledMigration(spec=self.spec, state=state, end=end, since=time.time())
        await self._runtime.unsettled.put(entry)

    async def undo_after(self, error: HypervisorError) -> HypervisorError:
        """Undo the migration. Returns the error: the reason, and where the domain is."""
        spec, state = self.spec, self.record.state
        changed = state.pscom or state.detached or state.disks or state.snapshots
        begun = state.phase != "prepare" or changed
        if not begun and isinstance(error, TaskCancelledError):
            return error
        words = [str(error)]
        known = True
        if not begun:
            words += [entry.remark for entry in self._runtime.unsettled.of(spec.name)]
        else:
            self._report("undo")
            if state.phase == "prepare" or spec.kind == "offline":
                # Nothing moved, so there is no need to query the destination.
                words += await self._undo_on_source()
            else:
                location = self._location = self._location or await self.reconcile()
                known = location.place == "source"
                if location.place == "divided":
                    self._runtime.divided[state.uuid] = state
                words += await self._undo_on_source(location.note) if known else [location.whole]
                if location.place == "nowhere":
                    words += await self.remove_disks_that_never_ran()
                elif not known:
                    words += self._disks.words_of_uncertain()
                if not known and state.snapshots:
                    words += await self._preparation.restore_records_where_known()
            if spec.kind != "offline" and await self._note_if_unsettled() == "unknown":
                words.append("the daemon decides that once both hosts answer")
        if isinstance(error, TaskCancelledError):
            return TaskCancelledError("; ".join(words))
        final = FinalError if not known or isinstance(error, FinalError) else HypervisorError
        return final(f"{spec.name} did not migrate to {spec.destination}: {'; '.join(words)}")

    async def _undo_on_source(self, note: str | None = None) -> list[str]:
        """Undo the migration on the source. Returns the sentences about it for the error."""
        problems = list[str]()
        if self.spec.kind == "offline":
            await self._preparation.restore_snapshot_records(self.spec.source, problems)
        else:
            problems = await self.undo()
        return [
            await self._hosts.describe(self.spec.source),
            *([] if note is None else [note]),
            *problems,
        ]

    async def describe_on_destination(self) -> str:
        """Return a sentence about the state of the domain on the destination."""
        return await self._hosts.describe(self.spec.destination)

    def _report(self, phase: str, percent: float | None = None) -> None:
        self._context.progress(phase, vm_name=self.spec.name, percent=percent)

    def _measure(self, name: str) -> AbstractContextManager[object]:
        """Time a block. A timer that already runs continues."""
        if name in self._measurement.running:
            return nullcontext()
        return self._measurement.measure(name)
