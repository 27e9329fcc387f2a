"""The task `evacuate node`: a migration for each active domain, all at the same time."""

import asyncio
from typing import Final

from fastlib.message import Evacuate, Result, TimeMeasurement
from fastlib.message.tasks import EvacuateParameter
from fastlib.migfra.errors import FinalError, HypervisorError, TaskCancelledError
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.virt.names import check_name
from fastlib.migfra.virt.placement import Destination, Guest, Placement, place

from . import domains
from .cancel_scope import Stopping
from .migration import Migration
from .migration_spec import Trip
from .results import result_of
from .site import Site
from .uris import check_host

_LONGEST_PAUSE: Final = 30.0
"""Seconds between two tries of a migration."""


async def evacuate(site: Site, task: Evacuate, context: Context) -> list[Result] | str:
    """Move the active domains away; one result for each. Raises HypervisorError."""
    parameter = task.parameter or EvacuateParameter()
    if parameter.migration_type == "offline":
        raise HypervisorError("running domains do not migrate offline; choose live or warm")
    with Stopping(context) as stopping:
        context.progress("place")
        names = await _names(site, task)
        if not names:
            return f"no domain is active on {site.host}"
        placements = await _place(site, task, parameter, names, context)
        context.save_state(placements={placed.guest: placed.host for placed in placements})
        return await asyncio.gather(
            *(_one(site, task, parameter, placed, stopping, context) for placed in placements)
        )


async def _names(site: Site, task: Evacuate) -> list[str]:
    local = await site.local(task.driver)
    active = await local.call(domains.active_names)
    if task.vm_name is None:
        return active
    name = check_name(task.vm_name)
    if name not in active:
        raise HypervisorError(f"{name} is not active on {site.host}")
    return [name]


async def _place(
    site: Site, task: Evacuate, parameter: EvacuateParameter, names: list[str], context: Context
) -> tuple[Placement, ...]:
    """Where each domain goes, by what the hosts say that can be reached."""
    hosts = [host for host in dict.fromkeys(task.destinations) if host != site.host]
    for host in hosts:
        check_host(host)
    transport = parameter.transport

    async def ask(host: str) -> domains.HostFacts:
        connection = await site.connections.get(host, task.driver, transport)
        return await connection.call(domains.facts)

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
                free = max(0, free - site.options.reserved_memory)
            found.append(
                Destination(
                    name=host, cpus=answer.cpus, active=len(answer.active), free_memory=free
                )
            )
    if not found:
        why = "; ".join(refusals) or "name others than the host itself"
        raise HypervisorError(f"there is no destination for the domains of {site.host}: {why}")
    here = await (await site.local(task.driver)).call(domains.facts)
    memory = {domain.name: domain.memory for domain in here.domains}
    return place(
        [Guest(name=name, memory=memory.get(name)) for name in names],
        found,
        parameter.mode or "auto",
        overbooking=parameter.overbooking is not False,
    )


async def _one(
    site: Site,
    task: Evacuate,
    parameter: EvacuateParameter,
    placed: Placement,
    stopping: Stopping,
    context: Context,
) -> Result:
    if placed.host is None:
        reason = f"{placed.guest} stays on {site.host}: {placed.reason}"
        return result_of(placed.guest, HypervisorError(reason))
    trip = Trip(
        name=placed.guest,
        source=site.host,
        destination=placed.host,
        parameter=parameter,
        driver=task.driver,
        pscom_hook_procs=parameter.pscom_hook_procs,
        check_room=False,
    )
    measurement = TimeMeasurement(enabled=context.measurement.enabled)
    end: str | HypervisorError | None
    with measurement.measure("overall"):
        try:
            end = await _insist(site, trip, stopping, context, measurement)
        except HypervisorError as error:
            end = error
        except Exception as error:  # the other domains have results all the same
            context.log.exception("%s failed in a way that it should not", trip.name)
            end = HypervisorError(f"{type(error).__name__}: {error}")
    return result_of(trip.name, end, measurement)


async def _still_active(site: Site, trip: Trip) -> bool:
    local = await site.local(trip.driver)
    return (await local.call(domains.sight, trip.name)).active


async def _insist(
    site: Site, trip: Trip, stopping: Stopping, context: Context, measurement: TimeMeasurement
) -> str | None:
    """Migrate one, again if it fails; the number of retries if the task has a counter for them.

    The daemon tries whole tasks again, but of an evacuation only some domains may be left.
    """
    most = trip.parameter.retry_counter
    retries = 0
    while True:
        try:
            async with site.alone(trip.name, trip.driver, stopping):
                if not (await _still_active(site, trip)):
                    return f"{trip.name} has been shut off meanwhile"
                told = await Migration(site, trip, stopping, context, measurement).run()
        except (TaskCancelledError, FinalError):
            raise
        except HypervisorError as error:
            if retries >= (most or 0):
                raise
            context.log.warning("retry %d of %d: %s", retries + 1, most, error)
            context.progress("retry", vm_name=trip.name)
            await stopping.sleep(min(_LONGEST_PAUSE, 2.0**retries))
            retries += 1
        else:
            return told if most is None else str(retries)
