"""The task `start vm`: check, define, start, attach devices, and wait for SSH."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from fastlib.message import Start
from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.libvirt.connection.connection import Connection
from fastlib.migfra.hypervisors.libvirt.domain import creation, devices
from fastlib.migfra.hypervisors.libvirt.domain.state import look_up
from fastlib.migfra.hypervisors.libvirt.errors import LostError
from fastlib.migfra.hypervisors.libvirt.migration.settling import settle_first
from fastlib.migfra.hypervisors.libvirt.runtime import LibvirtRuntime
from fastlib.migfra.plugin_api.cancel_scope import CancelScope
from fastlib.migfra.plugin_api.context import Context

from .new_disks import NewDisks, claimed
from .saved_images import SavedImages
from .ssh_probe import NoAnswerError, probe
from .start_checks import StartPlan, check_runs_nowhere_else, check_start
from .start_maps import finish_maps
from .start_spec import StartSpec
from .undo import Undo

PAUSED_RUN: Final = "paused-run"
"""Key in the journal: the UUID of a domain that the start has created but not yet resumed."""


async def start(runtime: LibvirtRuntime, task: Start, context: Context) -> str | None:
    """Start a domain. Raises HypervisorError after undoing the steps that it had done."""
    spec = StartSpec.of(task, runtime.options)
    with CancelScope(context) as scope:
        async with runtime.exclusive(spec.name, task.driver, scope):
            context.progress("check", vm_name=spec.name)
            await settle_first(runtime, spec.name)
            plan = await check_start(runtime, task.driver, spec, context)
            images = SavedImages(runtime, spec.name, plan.uuid, task.driver, context)
            await images.check(task)
            undo = Undo(context)
            disks = NewDisks(runtime, spec.name, task.driver, context)
            try:
                scope.check()
                async with claimed(runtime, task.driver, spec.name, plan.images):
                    await scope.begin()
                    await disks.create(plan.images, plan.before, scope, undo)
                    pinned = await _start(
                        runtime, task.driver, spec, plan, images, undo, scope, context
                    )
                if spec.probe_host is not None:
                    context.progress("probe", vm_name=spec.name)
                    options = runtime.options
                    with context.measure("probe"):
                        await probe(
                            spec.probe_host,
                            options.probe_port,
                            options.start_timeout,
                            scope,
                        )
            except NoAnswerError as error:
                observed = await (await runtime.local(task.driver)).call(look_up, spec.name)
                where = "" if observed.active else f" on {runtime.host} by now"
                raise HypervisorError(
                    f"{spec.name} {observed.phrase}{where}, but {error}"
                ) from error
            except Exception as error:  # when the daemon ends, its next run finishes the task
                problems = [*images.deletions, *await undo.all()]
                if isinstance(error, LostError):
                    # libvirt may have done the last call without an answer.
                    problems.append(await _describe(runtime, spec.name, task.driver))
                if problems and isinstance(error, HypervisorError):
                    raise type(error)(f"{error}; {'; '.join(problems)}") from error
                raise
    notes = [note for note in (pinned, plan.note) if note is not None]
    return "; ".join([*images.details, *disks.details, *notes]) or None


async def _describe(runtime: LibvirtRuntime, name: str, driver: str | None) -> str:
    """Return a sentence about the domain on this host, once libvirt answers again."""
    try:
        found = await runtime.call_until_reachable(runtime.host, driver, None, look_up, name)
    except HypervisorError as error:
        return f"whether {name} runs on {runtime.host} is not known ({error})"
    return f"{name} {found.phrase} on {runtime.host}"


async def _start(
    runtime: LibvirtRuntime,
    driver: str | None,
    spec: StartSpec,
    plan: StartPlan,
    images: SavedImages,
    undo: Undo,
    scope: CancelScope,
    context: Context,
) -> str | None:
    """Define the domain, start it, bind it, and attach its devices.

    A cancellation is noticed before each of these steps, and before the domain runs.
    Returns the sentence about vCPUs that were pinned again.
    """
    name = spec.name
    local = await runtime.local(driver)
    call_until_reachable = partial(runtime.call_until_reachable, runtime.host, driver, None)
    context.progress("start", vm_name=name)
    with context.measure("start"):
        scope.check()
        # If there are other nodes, they are queried again before it runs.
        paused = (
            images.restores
            or spec.transient
            or spec.has_devices
            or spec.changes.has_map
            or bool(runtime.options.nodes)
        )
        if spec.transient:
            assert plan.xml is not None
            made = await local.call(creation.create_transient, name, plan.xml)
            uuid, run = made.uuid, made.run
        else:
            uuid = await _define(local, spec, plan, undo, call_until_reachable)
            scope.check()
            # Only now it is known that the domain is of this task: another one may have come first.
            await images.discard()
            if paused and not images.restores:
                await asyncio.wrap_future(context.save_state(**{PAUSED_RUN: uuid}))
            run = await images.start(creation.create_defined, uuid, paused)
        if images.restores:
            images.plan_undo(uuid, run, undo)
            await check_runs_nowhere_else(runtime, driver, spec, context)
            scope.check()
            await images.let_run()
            return None  # it has the maps, or the checks have refused it
        undo.add("end the domain", partial(call_until_reachable, creation.end, name, uuid, run))
        images.check_booted()
        if spec.transient:
            assert plan.meant is not None
            creation.check_made(plan.meant, made)
            await images.discard()
            # Not earlier: after a crash the daemon resumes the recorded domain without checks.
            await asyncio.wrap_future(context.save_state(**{PAUSED_RUN: uuid}))
        await check_runs_nowhere_else(runtime, driver, spec, context)
        pinned = await finish_maps(local, name, spec.changes, context)
        scope.check()
        if spec.has_devices:
            with context.measure("attach-devs"):
                await _attach(local, spec)
        if paused:
            scope.check()
            if not await local.call(creation.run_on, name, uuid):
                raise HypervisorError(
                    f"{name} has ended on {runtime.host} before it ran; find out what ended it, "
                    "such as in its log in /var/log/libvirt/qemu"
                )
            await asyncio.wrap_future(context.save_state(**{PAUSED_RUN: None}))
        return pinned


async def _define(
    local: Connection,
    spec: StartSpec,
    plan: StartPlan,
    undo: Undo,
    call_until_reachable: Callable[..., Awaitable[object]],
) -> str:
    """Define the domain if that changes its definition. Returns its UUID."""
    if plan.xml is None:
        assert plan.uuid is not None
        return plan.uuid
    assert plan.meant is not None
    # XML that libvirt wrote may not follow its own schema.
    made = await local.call(creation.define, spec.name, plan.xml, spec.xml is not None)
    if made.is_new:
        step = partial(call_until_reachable, creation.forget, spec.name, made.uuid)
        undo.add("forget its definition", step)
    elif plan.before is not None:
        restore = creation.restore_definition
        undo.add(
            "restore its definition",
            partial(call_until_reachable, restore, spec.name, plan.before),
        )
    creation.check_made(plan.meant, made)
    return made.uuid


async def _attach(local: Connection, spec: StartSpec) -> None:
    for address in spec.pci_addresses:
        await local.call(devices.attach_address, spec.name, address)
    for kind in spec.pci_ids:
        await local.call(devices.attach_kind, spec.name, kind)
    if spec.ivshmem is not None:
        await local.call(devices.attach, spec.name, spec.ivshmem)
