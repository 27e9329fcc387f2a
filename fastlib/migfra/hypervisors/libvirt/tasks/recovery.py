"""Recover after a crash of the daemon: find out from libvirt how an interrupted task ended.

A peer-to-peer migration continues without the daemon. If it still runs, `recover` monitors it until
it ends. Then it reattaches the devices and resumes the pscom processes that the journal names.

A cancelled task is recovered too, because its answer must say where the domain is.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final

from fastlib.message import (
    Evacuate,
    Migrate,
    MigrationResult,
    Repin,
    Result,
    Resume,
    Start,
    Stop,
    Suspend,
    Task,
)
from fastlib.migfra.errors import HypervisorError, TaskCancelledError
from fastlib.migfra.hypervisors.libvirt.domain import control, creation, pinning, saved_state
from fastlib.migfra.hypervisors.libvirt.domain.source_checks import check_sources
from fastlib.migfra.hypervisors.libvirt.domain.state import DomainState, look_up
from fastlib.migfra.hypervisors.libvirt.migration.call import follow
from fastlib.migfra.hypervisors.libvirt.migration.migration import Migration
from fastlib.migfra.hypervisors.libvirt.migration.monitor import MigrationMonitor
from fastlib.migfra.hypervisors.libvirt.migration.post_copy import with_recovery
from fastlib.migfra.hypervisors.libvirt.migration.reconcile import ask
from fastlib.migfra.hypervisors.libvirt.migration.record import MigrationState, saved_states
from fastlib.migfra.hypervisors.libvirt.migration.storage_checks import remove_left_definitions_on
from fastlib.migfra.hypervisors.libvirt.migration.swap import encrypted_of
from fastlib.migfra.hypervisors.libvirt.migration.swap_via_storage import MigrationViaStorage
from fastlib.migfra.hypervisors.libvirt.migration.turn import already_begun
from fastlib.migfra.hypervisors.libvirt.runtime import LibvirtRuntime
from fastlib.migfra.hypervisors.libvirt.whereabouts import refuse_if_elsewhere
from fastlib.migfra.plugin_api.cancel_scope import CancelScope
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.plugin_api.domain_results import domain_result, migration_result
from fastlib.migfra.virt.domain_xml_policy import check_domain_xml
from fastlib.migfra.virt.evacuation import evacuation_spec
from fastlib.migfra.virt.migration_limits import QUEUED
from fastlib.migfra.virt.migration_spec import MigrationSpec
from fastlib.migfra.virt.placement import Placement

from .evacuation import evacuate_one
from .migrate import migrate
from .new_disks import NewDisks
from .saved_images import was_restoring
from .start import PAUSED_RUN
from .start_checks import check_runs_nowhere_else
from .start_maps import finish_maps
from .start_spec import StartSpec

DONE: Final = "found done after the daemon's restart"
_INTERRUPTED: Final = "the daemon ended while this was in progress"


async def recover(
    runtime: LibvirtRuntime, task: Task, context: Context
) -> Sequence[Result] | Result | str | None:
    """Return the outcome of an interrupted task. Raises HypervisorError if it is not done."""
    if isinstance(task, Migrate):
        return await _recover_migrate(runtime, task, context)
    if isinstance(task, Evacuate):
        return await _recover_evacuation(runtime, task, context)
    if isinstance(task, Stop) and task.vm_name is None:
        names: Sequence[str] = context.saved_state.get("names", ())
        return [
            domain_result(name, await _result_or_error(_recover_stop(runtime, task, name)))
            for name in names
        ]
    if isinstance(task, Stop):
        assert task.vm_name is not None
        return await _recover_stop(runtime, task, task.vm_name)
    if isinstance(task, Start):
        return await _recover_start(runtime, task, context)
    if isinstance(task, Suspend):
        return await _check_state(runtime, task, task.vm_name, lambda observed: observed.paused)
    if isinstance(task, Resume):
        return await _check_state(runtime, task, task.vm_name, lambda observed: observed.running)
    if isinstance(task, Repin):
        return await _recover_repin(runtime, task)
    raise HypervisorError(f"{_INTERRUPTED}; check the domain")


async def _recover_start(runtime: LibvirtRuntime, task: Start, context: Context) -> str:
    spec = StartSpec.of(task, None)
    # libvirt continues a restore when the daemon ends.
    async with runtime.exclusive(spec.name, task.driver, _never_cancelled()):
        return await _finish_start(runtime, task, spec, context)


async def _finish_start(
    runtime: LibvirtRuntime, task: Start, spec: StartSpec, context: Context
) -> str:
    name = spec.name
    if was_restoring(context):
        local = await runtime.local(task.driver)
        if (await local.call(look_up, name)).left_behind:
            # It is restored paused. libvirt then reports the same reason as after a migration.
            await _check_policy(runtime, task, spec)
            await check_runs_nowhere_else(runtime, task.driver, spec, context)
            await local.call(control.ensure_running, name)
    pinned = None
    uuid = context.saved_state.get(PAUSED_RUN)
    if uuid is not None and not spec.has_devices:
        # Only the resume of the domain was left to do.
        await _check_policy(runtime, task, spec)
        await check_runs_nowhere_else(runtime, task.driver, spec, context)
        local = await runtime.local(task.driver)
        if (await local.call(look_up, name)).active:
            pinned = await finish_maps(local, name, spec.changes, context)
        await local.call(creation.run_on, name, uuid)
    disks = NewDisks(runtime, name, task.driver, context)
    try:
        done = await _check_state(runtime, task, name, lambda observed: observed.running)
    except HypervisorError as error:
        raise type(error)("; ".join([str(error), *await disks.undo_after_crash()])) from error
    return "; ".join([done, *disks.details, *([] if pinned is None else [pinned])])


async def _check_policy(runtime: LibvirtRuntime, task: Start, spec: StartSpec) -> None:
    """Raise HypervisorError if the configuration no longer allows the XML.

    An earlier run has created the domain. Its configuration may have allowed more.
    """
    if task.xml is None:
        return
    local = await runtime.local(task.driver)
    observed = await local.call(look_up, spec.name)
    if not observed.paused:
        return
    policy = runtime.options.domain_xml.policy
    try:
        await check_sources(local, check_domain_xml(task.xml, policy), policy)
    except HypervisorError as error:
        raise HypervisorError(
            f"{_INTERRUPTED}; {spec.name} {observed.phrase} on {runtime.host}, and is not resumed, "
            f"because the configuration no longer allows it: {error}"
        ) from error


async def _check_state(
    runtime: LibvirtRuntime, task: Task, name: str, done: Callable[[DomainState], bool]
) -> str:
    local = await runtime.local(task.driver)
    observed = await local.call(look_up, name)
    if done(observed):
        return DONE
    raise HypervisorError(f"{_INTERRUPTED}; {name} {observed.phrase} on {runtime.host}")


async def _recover_stop(runtime: LibvirtRuntime, task: Stop, name: str) -> str:
    def done(observed: DomainState) -> bool:
        return not observed.active and not (task.undefine and observed.persistent)

    try:
        await refuse_if_elsewhere(runtime, name, task.driver, "stop it")
    except HypervisorError as error:
        raise HypervisorError(f"{_INTERRUPTED}; {error}") from error
    local = await runtime.local(task.driver)
    image = await local.call(saved_state.image, name)
    if image is not None and image.problem is None and not task.force:
        # libvirt-guests does that when the host shuts down. The shutdown also ends the daemon.
        raise HypervisorError(
            f"{_INTERRUPTED}; {name} was saved on {runtime.host} and not shut down; start it, "
            "which restores its memory, and stop it again"
        )
    observed = await local.call(look_up, name)
    if done(observed):
        return DONE
    late = "" if task.force or not observed.active else "; a requested shutdown may still complete"
    raise HypervisorError(f"{_INTERRUPTED}; {name} {observed.phrase} on {runtime.host}{late}")


async def _recover_repin(runtime: LibvirtRuntime, task: Repin) -> str:
    local = await runtime.local(task.driver)
    if await local.call(pinning.is_pinned, task.vm_name, task.vcpu_map):
        return DONE
    raise HypervisorError(
        f"{_INTERRUPTED}; not all vCPUs of {task.vm_name} are pinned according to the task; "
        "repin it again"
    )


async def _result_or_error(
    coroutine: Coroutine[Any, Any, str | None],
) -> str | HypervisorError | None:
    try:
        return await coroutine
    except HypervisorError as error:
        return error


# Migrations


async def _recover_migrate(
    runtime: LibvirtRuntime, task: Migrate, context: Context
) -> MigrationResult:
    spec = MigrationSpec.from_task(task, runtime.host)
    states = saved_states(context.saved_state)
    if not states and context.saved_state.get(QUEUED):
        context.not_begun()  # it waits for its turn, as before the restart
        return await migrate(runtime, task, context)
    with CancelScope(context) as scope:
        if task.parameter is None or task.parameter.swap_with is None:
            state = states.get(spec.name)
            details = await _recover_migration(runtime, spec, state, scope, context)
        else:
            specs = spec.swap_specs(task)
            details = await _recover_swap(runtime, specs, states, scope, context)
    return migration_result(spec.name, details, encrypted=encrypted_of(states.values()))


async def _recover_swap(
    runtime: LibvirtRuntime,
    specs: tuple[MigrationSpec, MigrationSpec],
    states: Mapping[str, MigrationState],
    scope: CancelScope,
    context: Context,
) -> str:
    ends: dict[str, str | HypervisorError | None] = {}
    saved = [spec for spec in specs if _is_saved(states.get(spec.name))]

    async def one(spec: MigrationSpec, partner_arrived: bool = False) -> None:
        recovering = _recover_migration(
            runtime, spec, states.get(spec.name), scope, context, partner_arrived
        )
        ends[spec.name] = await _result_or_error(recovering)

    # A domain on storage comes last: then it is known which host has memory for it.
    await asyncio.gather(*(one(spec) for spec in specs if spec not in saved))
    for spec in saved:
        arrived = all(not isinstance(end, HypervisorError) for end in ends.values())
        await one(spec, partner_arrived=arrived)
    errors = [end for end in ends.values() if isinstance(end, HypervisorError)]
    if not errors:
        return DONE
    words = [
        str(end) if isinstance(end, HypervisorError) else f"{spec.name} is on {spec.destination}"
        for spec in specs
        for end in (ends[spec.name],)
    ]
    cancelled = all(isinstance(error, TaskCancelledError) for error in errors)
    raise (TaskCancelledError if cancelled else HypervisorError)("; ".join(words))


def _never_cancelled() -> CancelScope:
    """Return a scope that is never cancelled: the work must end, to have a result."""
    return CancelScope()


def _is_saved(state: MigrationState | None) -> bool:
    return state is not None and state.path is not None


async def _recover_evacuation(
    runtime: LibvirtRuntime, task: Evacuate, context: Context
) -> Sequence[Result]:
    placements: dict[str, str | None] | None = context.saved_state.get("placements")
    if placements is None:
        raise HypervisorError("the daemon ended before the evacuation began")
    uuids: Mapping[str, str] = context.saved_state.get("uuids", {})
    states = saved_states(context.saved_state)
    if not states and context.saved_state.get(QUEUED):  # none of them has begun to migrate
        context.expiry.reset()

    async def one(name: str, host: str | None, scope: CancelScope) -> Result:
        if host is None:
            reason = "no destination could take it before the daemon's restart"
            placed = Placement(guest=name, reason=reason)
            return await evacuate_one(runtime, task, placed, uuids.get(name, ""), scope, context)
        if name not in states and context.saved_state.get(QUEUED):
            placed = Placement(guest=name, host=host)
            return await evacuate_one(runtime, task, placed, uuids.get(name, ""), scope, context)
        spec = evacuation_spec(task, name, runtime.host, host)
        recovering = _recover_migration(runtime, spec, states.get(name), scope, context)
        end = await _result_or_error(recovering)
        encrypted = states[name].encrypted if name in states else None
        return migration_result(name, end, encrypted=encrypted)

    with CancelScope(context) as scope:
        return await asyncio.gather(*(one(name, host, scope) for name, host in placements.items()))


async def _recover_migration(
    runtime: LibvirtRuntime,
    spec: MigrationSpec,
    state: MigrationState | None,
    scope: CancelScope,
    context: Context,
    partner_arrived: bool = False,
) -> str:
    """Find out the result of one migration. Raises HypervisorError if it did not arrive."""
    if state is None:
        local = await runtime.connections.get(spec.source, spec.driver, spec.transport)
        observed = await local.call(look_up, spec.name)
        for host in (spec.source, spec.destination):
            await remove_left_definitions_on(runtime, host, spec.driver, spec.transport)
        raise HypervisorError(
            f"the daemon ended before {spec.name} began to migrate; "
            f"{spec.name} {observed.phrase} on {spec.source}"
        )
    async with already_begun(runtime, spec), runtime.locks.hold(spec.name, _never_cancelled()):
        measurement = context.measurement
        if state.path is not None:
            saved = MigrationViaStorage(runtime, spec, scope, context, measurement)
            saved.record.state = state
            return await _recover_saved(saved, partner_arrived)
        migration = Migration(runtime, spec, scope, context, measurement)
        migration.record.state = state
        problem = await _follow(runtime, spec, state, scope, context)
        if spec.kind == "offline":
            if await migration.is_defined_on_destination():
                return await migration.finish(DONE) or DONE
            raise await migration.undo_after(HypervisorError(_INTERRUPTED))
        if state.phase == "prepare":
            raise await migration.undo_after(HypervisorError(_INTERRUPTED))
        recovered = await migration.recover_post_copy()
        found = await migration.reconcile(recovered)
        if found.place == "destination":
            details = DONE if recovered is None else f"{DONE}; {recovered.end}"
            return await migration.finish(details) or details
        error = with_recovery(problem or HypervisorError(_INTERRUPTED), recovered)
        raise await migration.undo_after(error)


async def _recover_saved(saved: MigrationViaStorage, partner_arrived: bool) -> str:
    """Recover a domain that was being saved, was saved, or was being restored."""
    phase = saved.record.state.phase
    if phase == "saving" and not await saved.is_saved():
        raise await saved.undo_after(HypervisorError(_INTERRUPTED))
    if phase == "restoring":
        # It may have run since it was saved, so it is not restored again.
        return await _recover_restoring(saved)
    if partner_arrived:
        await saved.restore_on_destination()
        return DONE
    raise HypervisorError(f"{_INTERRUPTED}; {'; '.join(await saved.restore_on_source())}")


async def _recover_restoring(saved: MigrationViaStorage) -> str:
    spec, state = saved.spec, saved.record.state
    observed = {
        host: await saved.wait_until_restored(host) for host in (spec.destination, spec.source)
    }
    if (there := observed[spec.destination]) is not None and there.active:
        await saved.finish_on_destination()
        return DONE
    if (here := observed[spec.source]) is not None and here.active:
        raise HypervisorError("; ".join([_INTERRUPTED, *await saved.finish_on_source()]))
    raise HypervisorError(
        f"{_INTERRUPTED}; {spec.name} was about to be restored from {state.path}, and whether it "
        f"has run since is not certain: check {spec.destination} and {spec.source}, and only "
        f"if it has not, use virsh restore {state.path}"
    )


async def _follow(
    runtime: LibvirtRuntime,
    spec: MigrationSpec,
    state: MigrationState,
    scope: CancelScope,
    context: Context,
) -> HypervisorError | None:
    """Wait for a migration that continued without the daemon. Returns the reason of an abort.

    It does not wait for an interrupted post-copy, because its job does not end.
    """
    if state.phase != "move" or spec.kind == "offline":
        return None
    source = await ask(runtime, spec, state, spec.source)
    if source is not None and source.divided:
        return None
    return await follow(runtime, spec, MigrationMonitor(runtime, spec, scope, context))
