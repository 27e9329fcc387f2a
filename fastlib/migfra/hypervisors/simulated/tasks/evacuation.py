"""The task `evacuate node`: migrate every active domain at the same time."""

import asyncio

from fastlib.message import Evacuate, Result, TimeMeasurement
from fastlib.message.tasks import EvacuateParameter
from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.simulated.faults import Call
from fastlib.migfra.hypervisors.simulated.migration.migration import run_migration
from fastlib.migfra.hypervisors.simulated.runtime import SimulatedRuntime
from fastlib.migfra.hypervisors.simulated.scope import ClockScope
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.plugin_api.domain_results import domain_result
from fastlib.migfra.virt.evacuation import check_evacuation, evacuation_spec, retry_pauses
from fastlib.migfra.virt.names import check_name
from fastlib.migfra.virt.placement import Placement


async def evacuate(
    runtime: SimulatedRuntime, task: Evacuate, context: Context
) -> list[Result] | str:
    """Migrate the active domains. Returns one result for each. Raises HypervisorError."""
    check_evacuation(task, runtime.host)
    parameter = task.parameter or EvacuateParameter()
    destinations = [name for name in task.destinations if name != runtime.host]
    with runtime.scope(context) as scope:
        await runtime.apply_faults(Call(task="evacuate", host=runtime.host), scope)
        names = await _wait_while_migrating(runtime, scope)
        if task.vm_name is not None:
            runtime.check_active(check_name(task.vm_name))
            names = [task.vm_name]
        context.progress("place")
        begun = runtime.cluster.begin_evacuation(
            runtime.session,
            runtime.host,
            names,
            [name for name in destinations if runtime.reachable(name)],
            parameter.mode or "auto",
            parameter.overbooking is not False,
        )
        context.save_state(placements={placed.guest: placed.host for placed, _ in begun})
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(_evacuate_one(runtime, task, placed, migration, scope, context))
                for placed, migration in begun
            ]
    if not tasks:
        return f"no domain is active on {runtime.host}"
    return [one.result() for one in tasks]


async def _wait_while_migrating(runtime: SimulatedRuntime, scope: ClockScope) -> list[str]:
    """Wait until no domain migrates. Returns the active domains."""
    while True:
        domains = [domain for domain in runtime.cluster.domains(runtime.host) if domain.active]
        if not any(domain.migrating for domain in domains):
            return [domain.name for domain in domains]
        await scope.sleep(runtime.tick)


async def _evacuate_one(
    runtime: SimulatedRuntime,
    task: Evacuate,
    placed: Placement,
    migration: int | None,
    scope: ClockScope,
    context: Context,
) -> Result:
    if placed.host is None or migration is None:
        reason = f"{placed.guest} stays on {runtime.host}: {placed.reason}"
        return domain_result(placed.guest, HypervisorError(reason))
    spec = evacuation_spec(task, placed.guest, runtime.host, placed.host)
    measurement = TimeMeasurement(enabled=context.measurement.enabled)

    async def attempt(number: int) -> None:
        # The placement has begun the first one, so that nobody takes the room.
        id = migration if number == 0 else runtime.begin_migration(spec)
        await run_migration(runtime, spec, id, scope, context, measurement.measure)

    retries = spec.parameter.retry_counter
    outcome: str | HypervisorError | None
    with measurement.measure("overall"):
        try:
            _, made = await context.retrying(
                attempt,
                retries=retries,
                vm_name=spec.name,
                sleep=scope.sleep,
                pauses=retry_pauses(),
            )
            outcome = None if retries is None else str(made)
        except HypervisorError as error:
            outcome = error
    return domain_result(spec.name, outcome, measurement)
