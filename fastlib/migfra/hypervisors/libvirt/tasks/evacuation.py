"""The task `evacuate node`: migrate every active domain at the same time."""

import asyncio

from fastlib.message import Evacuate, Result, TimeMeasurement
from fastlib.message.tasks import EvacuateParameter
from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.libvirt.connection.uris import check_host
from fastlib.migfra.hypervisors.libvirt.domain import host_info
from fastlib.migfra.hypervisors.libvirt.domain.state import look_up
from fastlib.migfra.hypervisors.libvirt.migration.migration import Migration
from fastlib.migfra.hypervisors.libvirt.runtime import LibvirtRuntime
from fastlib.migfra.plugin_api.cancel_scope import CancelScope
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.plugin_api.domain_results import domain_result
from fastlib.migfra.virt.evacuation import evacuation_spec, retry_pauses
from fastlib.migfra.virt.migration_spec import MigrationSpec
from fastlib.migfra.virt.names import check_name
from fastlib.migfra.virt.placement import Destination, Guest, Placement, place


async def evacuate(runtime: LibvirtRuntime, task: Evacuate, context: Context) -> list[Result] | str:
    """Move the active domains away; one result for each. Raises HypervisorError."""
    parameter = task.parameter or EvacuateParameter()
    if parameter.migration_type == "offline":
        raise HypervisorError("running domains do not migrate offline; choose live or warm")
    with CancelScope(context) as scope:
        context.progress("place")
        names = await _names(runtime, task)
        if not names:
            return f"no domain is active on {runtime.host}"
        placements = await _place(runtime, task, parameter, names, context)
        context.save_state(placements={placed.guest: placed.host for placed in placements})
        return await asyncio.gather(
            *(_evacuate_one(runtime, task, placed, scope, context) for placed in placements)
        )


async def _names(runtime: LibvirtRuntime, task: Evacuate) -> list[str]:
    local = await runtime.local(task.driver)
    active = await local.call(host_info.active_names)
    if task.vm_name is None:
        return active
    name = check_name(task.vm_name)
    if name not in active:
        raise HypervisorError(f"{name} is not active on {runtime.host}")
    return [name]


async def _place(
    runtime: LibvirtRuntime,
    task: Evacuate,
    parameter: EvacuateParameter,
    names: list[str],
    context: Context,
) -> tuple[Placement, ...]:
    """Choose the destination of each domain, by the answers of the reachable hosts."""
    hosts = [host for host in dict.fromkeys(task.destinations) if host != runtime.host]
    for host in hosts:
        check_host(host)
    transport = parameter.transport

    async def ask(host: str) -> host_info.HostInfo:
        connection = await runtime.connections.get(host, task.driver, transport)
        return await connection.call(host_info.read)

    answers = await asyncio.gather(*map(ask, hosts), return_exceptions=True)
    found = []
    refusals = []
    for host, answer in zip(hosts, answers, strict=True):
        if isinstance(answer, HypervisorError):
            context.log.warning("nothing is moved to %s: %s", host, answer)
            refusals.append(str(answer))
        elif isinstance(answer, BaseException):
            raise answer
        else:
            free = answer.free_memory
            if free is not None:
                free = max(0, free - runtime.options.reserved_memory)
            found.append(
                Destination(
                    name=host, cpus=answer.cpus, active=len(answer.active), free_memory=free
                )
            )
    if not found:
        why = "; ".join(refusals) or "name others than the host itself"
        raise HypervisorError(f"there is no destination for the domains of {runtime.host}: {why}")
    here = await (await runtime.local(task.driver)).call(host_info.read)
    memory = {domain.name: domain.memory for domain in here.domains}
    return place(
        [Guest(name=name, memory=memory.get(name)) for name in names],
        found,
        parameter.mode or "auto",
        overbooking=parameter.overbooking is not False,
    )


async def _evacuate_one(
    runtime: LibvirtRuntime,
    task: Evacuate,
    placed: Placement,
    scope: CancelScope,
    context: Context,
) -> Result:
    if placed.host is None:
        reason = f"{placed.guest} stays on {runtime.host}: {placed.reason}"
        return domain_result(placed.guest, HypervisorError(reason))
    spec = evacuation_spec(task, placed.guest, runtime.host, placed.host)
    measurement = TimeMeasurement(enabled=context.measurement.enabled)
    end: str | HypervisorError | None
    with measurement.measure("overall"):
        try:
            end = await _migrate_with_retries(runtime, spec, scope, context, measurement)
        except HypervisorError as error:
            end = error
        except Exception as error:  # the other domains have results all the same
            context.log.exception("%s failed in a way that it should not", spec.name)
            end = HypervisorError(f"{type(error).__name__}: {error}")
    return domain_result(spec.name, end, measurement)


async def _still_active(runtime: LibvirtRuntime, spec: MigrationSpec) -> bool:
    local = await runtime.local(spec.driver)
    return (await local.call(look_up, spec.name)).active


async def _migrate_with_retries(
    runtime: LibvirtRuntime,
    spec: MigrationSpec,
    scope: CancelScope,
    context: Context,
    measurement: TimeMeasurement,
) -> str | None:
    """Migrate one domain. Returns the number of retries if the task has a counter for them.

    The daemon repeats whole tasks. Of an evacuation only some domains may be left.
    """

    async def attempt(number: int) -> str | None:
        async with runtime.exclusive(spec.name, spec.driver, scope):
            if not (await _still_active(runtime, spec)):
                return f"{spec.name} has been shut off meanwhile"
            details = await Migration(runtime, spec, scope, context, measurement).run()
        return details if retries is None else None

    retries = spec.parameter.retry_counter
    details, made = await context.retrying(
        attempt, retries=retries, vm_name=spec.name, sleep=scope.sleep, pauses=retry_pauses()
    )
    return str(made) if details is None and retries is not None else details
