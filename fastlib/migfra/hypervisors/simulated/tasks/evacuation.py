"""The task `evacuate node`: migrate every active domain, within the limits of migrations."""

import asyncio

from fastlib.message import Evacuate, Result, TimeMeasurement
from fastlib.message.tasks import EvacuateParameter
from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.simulated.cluster.location import describe_state
from fastlib.migfra.hypervisors.simulated.faults import Call
from fastlib.migfra.hypervisors.simulated.migration.encryption import encrypts
from fastlib.migfra.hypervisors.simulated.migration.migration import run_migration
from fastlib.migfra.hypervisors.simulated.migration.turn import in_turn
from fastlib.migfra.hypervisors.simulated.runtime import SimulatedRuntime
from fastlib.migfra.hypervisors.simulated.scope import ClockScope
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.plugin_api.domain_results import domain_result, migration_result
from fastlib.migfra.virt.evacuation import check_evacuation, evacuation_spec, retry_pauses
from fastlib.migfra.virt.migration_queue import turn_order
from fastlib.migfra.virt.names import check_name
from fastlib.migfra.virt.placement import Placement


async def evacuate(
    runtime: SimulatedRuntime, task: Evacuate, context: Context
) -> list[Result] | str:
    """Migrate the active domains. Returns one result for each. Raises HypervisorError."""
    check_evacuation(task, runtime.host)
    parameter = task.parameter or EvacuateParameter()
    hosts = dict.fromkeys(map(runtime.host_name, task.destinations))
    destinations = [name for name in hosts if name != runtime.host]
    with runtime.scope(context) as scope:
        await runtime.apply_faults(Call(task="evacuate", host=runtime.host), scope)
        names = [domain.name for domain in runtime.cluster.domains(runtime.host) if domain.active]
        if task.vm_name is not None:
            runtime.check_active(check_name(task.vm_name))
            names = [task.vm_name]
        context.progress("place")
        placements = runtime.cluster.plan_evacuation(
            runtime.host,
            names,
            [name for name in destinations if runtime.reachable(name)],
            parameter.mode or "auto",
            parameter.overbooking is not False,
        )
        context.save_state(placements={placed.guest: placed.host for placed in placements})
        memory = [runtime.cluster.domain(placed.guest).memory for placed in placements]
        async with asyncio.TaskGroup() as group:
            tasks = {
                index: group.create_task(
                    evacuate_one(runtime, task, placements[index], scope, context)
                )
                for index in turn_order(memory)
            }
    if not tasks:
        return f"no domain is active on {runtime.host}"
    return [tasks[index].result() for index in range(len(placements))]


def _where_it_went(runtime: SimulatedRuntime, name: str) -> str:
    """Return a sentence about a domain that another task has moved or stopped."""
    domain = runtime.cluster.find(name)
    if domain is None:
        return f"{name} is gone: it has ended, and was not defined"
    if domain.host != runtime.host:
        return f"{name} has left in the meantime: it {describe_state(domain)} on {domain.host}"
    return f"{name} has been shut off in the meantime"


async def _leave_here(
    runtime: SimulatedRuntime, placed: Placement, scope: ClockScope
) -> str | HypervisorError:
    """Return the result of a domain without a destination."""
    try:
        await runtime.wait_while_migrating(placed.guest, scope)
    except HypervisorError as error:
        return error
    domain = runtime.find_here(placed.guest)
    if domain is None or not domain.active:
        return _where_it_went(runtime, placed.guest)
    return HypervisorError(f"{placed.guest} stays on {runtime.host}: {placed.reason}")


async def evacuate_one(
    runtime: SimulatedRuntime,
    task: Evacuate,
    placed: Placement,
    scope: ClockScope,
    context: Context,
) -> Result:
    """Migrate one domain in its turn. Returns its result."""
    if placed.host is None:
        return domain_result(placed.guest, await _leave_here(runtime, placed, scope))
    spec = evacuation_spec(task, placed.guest, runtime.host, placed.host)
    measurement = TimeMeasurement(enabled=context.measurement.enabled)

    def still_here() -> bool:
        domain = runtime.find_here(spec.name)
        return domain is not None and domain.active

    def check() -> None:
        if still_here():
            runtime.check_migration(spec)

    async def attempt(number: int) -> str | None:
        await runtime.wait_while_migrating(spec.name, scope)
        async with in_turn(runtime, (spec,), scope, context, check, is_whole_task=False):
            await runtime.wait_while_migrating(spec.name, scope)
            if not still_here():
                return _where_it_went(runtime, spec.name)
            migration = runtime.begin_migration(spec)
            await run_migration(runtime, spec, migration, scope, context, measurement.measure)
        return None

    retries = spec.parameter.retry_counter
    outcome: str | HypervisorError | None
    encrypted: bool | None = None
    with measurement.measure("overall"), context.about(spec.name):
        try:
            encrypted = encrypts(runtime, spec)
            details, made = await context.retrying(
                attempt,
                retries=retries,
                vm_name=spec.name,
                sleep=scope.sleep,
                pauses=retry_pauses(),
            )
            outcome = str(made) if details is None and retries is not None else details
        except HypervisorError as error:
            outcome = error
    return migration_result(spec.name, outcome, measurement, encrypted=encrypted)
