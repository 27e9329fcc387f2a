"""How a task ended that was under way when the daemon was killed, by what libvirt says now.

A migration peer to peer goes on without the daemon, so it may even be under way still: then it is
watched to its end. What it had put aside is put back, by what was kept in the journal.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final

from fastlib.message import (
    Evacuate,
    Migrate,
    Repin,
    Result,
    Resume,
    Start,
    Stop,
    Suspend,
    Task,
)
from fastlib.message.tasks import EvacuateParameter
from fastlib.migfra.errors import HypervisorError, TaskCancelledError
from fastlib.migfra.plugin_api.context import Context

from . import domains, job
from .cancel_scope import Stopping
from .migrate import trip_of
from .migration import Migration
from .migration_spec import Kept, Trip, kept_of
from .results import result_of
from .site import Site
from .start import Plan
from .storage_migration import StoredMigration
from .swap import trips_of

DONE: Final = "found done after the daemon's restart"
_ENDED: Final = "the daemon ended while this was under way"


async def recover(site: Site, task: Task, context: Context) -> Sequence[Result] | str:
    """How a task ended. Raises HypervisorError if it is not done."""
    if isinstance(task, Migrate):
        return await _recover_migrate(site, task, context)
    if isinstance(task, Evacuate):
        return await _recover_evacuation(site, task, context)
    if isinstance(task, Stop) and task.vm_name is None:
        names: Sequence[str] = context.saved_state.get("names", ())
        return [result_of(name, await _caught(_stopped(site, task, name))) for name in names]
    if isinstance(task, Stop):
        assert task.vm_name is not None
        return await _stopped(site, task, task.vm_name)
    if isinstance(task, Start):
        return await _found(site, task, Plan.of(task).name, lambda seen: seen.running)
    if isinstance(task, Suspend):
        return await _found(site, task, task.vm_name, lambda seen: seen.paused)
    if isinstance(task, Resume):
        return await _found(site, task, task.vm_name, lambda seen: seen.running)
    if isinstance(task, Repin):
        return await _repinned(site, task)
    raise HypervisorError(f"{_ENDED}; look at the domain")


async def _found(
    site: Site, task: Task, name: str, done: Callable[[domains.Sighting], bool]
) -> str:
    local = await site.local(task.driver)
    seen = await local.call(domains.sight, name)
    if done(seen):
        return DONE
    raise HypervisorError(f"{_ENDED}; {name} {seen.words} on {site.host}")


async def _stopped(site: Site, task: Stop, name: str) -> str:
    def done(seen: domains.Sighting) -> bool:
        return not seen.active and not (task.undefine and seen.persistent)

    return await _found(site, task, name, done)


async def _repinned(site: Site, task: Repin) -> str:
    local = await site.local(task.driver)
    rows = await local.call(domains.pinning, task.vm_name)
    wanted = [sorted(set(row)) for row in task.vcpu_map]
    if rows[: len(wanted)] == wanted:
        return DONE
    raise HypervisorError(f"{_ENDED}; {task.vm_name} is not pinned like that")


async def _caught(coroutine: Coroutine[Any, Any, str | None]) -> str | HypervisorError | None:
    try:
        return await coroutine
    except HypervisorError as error:
        return error


# Migrations


async def _recover_migrate(site: Site, task: Migrate, context: Context) -> str:
    trip = trip_of(site, task)
    kept = kept_of(context.saved_state)
    with Stopping(context) as stopping:
        if task.parameter is None or task.parameter.swap_with is None:
            return await _recover_trip(site, trip, kept.get(trip.name), stopping, context)
        trips = trips_of(trip, task)
        return await _recover_swap(site, trips, kept, stopping, context)


async def _recover_swap(
    site: Site,
    trips: tuple[Trip, Trip],
    kept: Mapping[str, Kept],
    stopping: Stopping,
    context: Context,
) -> str:
    ends: dict[str, str | HypervisorError | None] = {}
    stored = [trip for trip in trips if _is_stored(kept.get(trip.name))]

    async def one(trip: Trip, partner_arrived: bool = False) -> None:
        recovering = _recover_trip(
            site, trip, kept.get(trip.name), stopping, context, partner_arrived
        )
        ends[trip.name] = await _caught(recovering)

    # What is on storage comes last: only then it is known which host has room for it.
    await asyncio.gather(*(one(trip) for trip in trips if trip not in stored))
    for trip in stored:
        arrived = all(not isinstance(end, HypervisorError) for end in ends.values())
        await one(trip, partner_arrived=arrived)
    errors = [end for end in ends.values() if isinstance(end, HypervisorError)]
    if not errors:
        return DONE
    words = [
        str(end) if isinstance(end, HypervisorError) else f"{trip.name} is on {trip.destination}"
        for trip in trips
        for end in (ends[trip.name],)
    ]
    cancelled = all(isinstance(error, TaskCancelledError) for error in errors)
    raise (TaskCancelledError if cancelled else HypervisorError)("; ".join(words))


def _is_stored(kept: Kept | None) -> bool:
    return kept is not None and kept.path is not None


async def _recover_evacuation(site: Site, task: Evacuate, context: Context) -> Sequence[Result]:
    parameter = task.parameter or EvacuateParameter()
    placements: dict[str, str | None] | None = context.saved_state.get("placements")
    if placements is None:
        raise HypervisorError("the daemon ended before the evacuation began")
    kept = kept_of(context.saved_state)

    async def one(name: str, host: str | None, stopping: Stopping) -> Result:
        if host is None:
            return result_of(name, HypervisorError(f"{name} stays on {site.host}"))
        trip = Trip(
            name=name,
            source=site.host,
            destination=host,
            parameter=parameter,
            driver=task.driver,
            pscom_hook_procs=parameter.pscom_hook_procs,
            check_room=False,
        )
        recovering = _recover_trip(site, trip, kept.get(name), stopping, context)
        return result_of(name, await _caught(recovering))

    with Stopping(context) as stopping:
        return await asyncio.gather(
            *(one(name, host, stopping) for name, host in placements.items())
        )


async def _recover_trip(
    site: Site,
    trip: Trip,
    kept: Kept | None,
    stopping: Stopping,
    context: Context,
    partner_arrived: bool = False,
) -> str:
    """How one migration ended. Raises HypervisorError if the domain has not arrived."""
    if kept is None:
        local = await site.connections.get(trip.source, trip.driver, trip.transport)
        seen = await local.call(domains.sight, trip.name)
        raise HypervisorError(
            f"the daemon ended before {trip.name} began to migrate; "
            f"{trip.name} {seen.words} on {trip.source}"
        )
    async with site.locks.hold(trip.name, stopping):
        measurement = context.measurement
        if kept.path is not None:
            stored = StoredMigration(site, trip, stopping, context, measurement)
            stored.record.kept = kept
            return await _from_storage(stored, partner_arrived)
        migration = Migration(site, trip, stopping, context, measurement)
        migration.record.kept = kept
        trouble = await _watched(site, trip, kept, stopping, context)
        if trip.kind == "offline":
            if await migration.defined_there():
                return DONE
            raise HypervisorError(f"{_ENDED}; {trip.name} is not on {trip.destination}")
        if kept.phase == "prepare":
            raise await migration.undone(HypervisorError(_ENDED))
        found = await migration.established()
        if found.place == "destination":
            await migration.finish()
            return DONE
        raise await migration.undone(trouble or HypervisorError(_ENDED))


async def _from_storage(stored: StoredMigration, partner_arrived: bool) -> str:
    """What has become of a domain that was saved, or was about to be, or to be restored."""
    phase = stored.record.kept.phase
    if phase == "saving" and not await stored.is_saved():
        raise await stored.undone(HypervisorError(_ENDED))
    if phase == "restoring":
        # It may have run since it was saved, so it is not restored once more.
        return await _restored(stored)
    if partner_arrived:
        await stored.restore_there()
        return DONE
    raise HypervisorError(f"{_ENDED}; {'; '.join(await stored.restore_here())}")


async def _restored(stored: StoredMigration) -> str:
    trip, kept = stored.trip, stored.record.kept
    seen = {host: await stored.restored(host) for host in (trip.destination, trip.source)}
    if (there := seen[trip.destination]) is not None and there.active:
        await stored.arrived()
        return DONE
    if (here := seen[trip.source]) is not None and here.active:
        raise HypervisorError("; ".join([_ENDED, *await stored.stayed()]))
    raise HypervisorError(
        f"{_ENDED}; {trip.name} was about to be restored from {kept.path}, and whether it has run "
        f"since is not certain: look at {trip.destination} and {trip.source}, and only if it has "
        f"not, use virsh restore {kept.path}"
    )


async def _watched(
    site: Site, trip: Trip, kept: Kept, stopping: Stopping, context: Context
) -> HypervisorError | None:
    """Wait for a migration that goes on without us; why it was aborted, if it was."""
    if kept.phase != "move" or trip.kind == "offline":
        return None
    return await job.follow(site, trip, job.Watch(site, trip, stopping, context))
