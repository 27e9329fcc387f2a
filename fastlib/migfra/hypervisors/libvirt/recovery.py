"""How a task ended that was under way when the daemon was killed, by what libvirt says now.

A migration peer to peer goes on without the daemon, so it may even be under way still: then it is
watched to its end. What it had put aside is put back, by what was kept in the journal.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from ....message import (
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
from ....message.tasks import EvacuateParameter
from ...context import Context
from ...errors import HypervisorError, TaskCancelledError
from . import domains
from .job import Watch
from .migrate import trip_of
from .migration import Migration
from .results import result_of
from .site import LOOK, Site
from .start import Plan
from .stopping import Stopping
from .swap import trips_of
from .trip import Kept, Trip, kept_of
from .whereabouts import establish

DONE: Final = "found done after the daemon's restart"
_ENDED: Final = "the daemon ended while this was under way"


async def recover(site: Site, task: Task, context: Context) -> Sequence[Result] | str:
    """How a task ended. Raises HypervisorError if it is not done."""
    if isinstance(task, Migrate):
        return await _recover_migrate(site, task, context)
    if isinstance(task, Evacuate):
        return await _recover_evacuation(site, task, context)
    if isinstance(task, Stop) and task.vm_name is None:
        names: Sequence[str] = context.notes.get("names", ())
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
    trips: tuple[Trip, ...] = (trip,)
    if task.parameter is not None and task.parameter.swap_with is not None:
        trips = trips_of(trip, task)
    kept = kept_of(context.notes)
    with Stopping(context) as stopping:
        ended = await asyncio.gather(
            *(_caught(_recover_trip(site, each, kept.get(each.name), stopping, context))
              for each in trips)
        )  # fmt: skip
    errors = [end for end in ended if isinstance(end, HypervisorError)]
    if not errors:
        return DONE
    words = [
        str(end) if isinstance(end, HypervisorError) else f"{each.name} is on {each.destination}"
        for each, end in zip(trips, ended, strict=True)
    ]
    cancelled = all(isinstance(error, TaskCancelledError) for error in errors)
    raise (TaskCancelledError if cancelled else HypervisorError)("; ".join(words))


async def _recover_evacuation(site: Site, task: Evacuate, context: Context) -> Sequence[Result]:
    parameter = task.parameter or EvacuateParameter()
    placements: dict[str, str | None] | None = context.notes.get("placements")
    if placements is None:
        raise HypervisorError("the daemon ended before the evacuation began")
    kept = kept_of(context.notes)

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
    site: Site, trip: Trip, kept: Kept | None, stopping: Stopping, context: Context
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
        migration = Migration(site, trip, stopping, context, context.measure)
        migration.record.kept = kept
        if kept.path is not None:
            return await _from_storage(site, migration)
        trouble = await _watched(site, trip, kept, stopping, context)
        if trip.kind == "offline":
            return await _found_offline(site, trip)
        found = await establish(site, trip, context, was_running=kept.was_running)
        if found.place == "destination":
            await migration.finish()
            return DONE
        error = trouble or HypervisorError(_ENDED)
        raise await migration.undone(error)


async def _from_storage(site: Site, migration: Migration) -> str:
    """What has become of a domain that was saved, or was about to be."""
    trip = migration.trip
    await _ended(site, trip)
    there = await site.connections.get(trip.destination, trip.driver, trip.transport)
    if (await there.call(domains.sight, trip.name)).active:
        await migration.forget_source()
        await migration.finish()
        return DONE
    # It does nothing if the domain has not been saved yet.
    raise HypervisorError(f"{_ENDED}; {'; '.join(await migration.restore(trip.source))}")


async def _watched(
    site: Site, trip: Trip, kept: Kept, stopping: Stopping, context: Context
) -> HypervisorError | None:
    """Wait for a migration that goes on without us; why it was aborted, if it was."""
    if kept.phase != "move" or trip.kind == "offline":
        return None
    end = asyncio.ensure_future(_ended(site, trip))
    try:
        return await Watch(site, trip, stopping, context).until(end)
    finally:
        end.cancel()


async def _ended(site: Site, trip: Trip) -> None:
    while True:
        try:
            source = await site.connections.get(trip.source, trip.driver, trip.transport)
            if not (await source.call(domains.sight, trip.name)).migrating:
                return
        except HypervisorError:
            return  # it is established later what that means
        await asyncio.sleep(LOOK)


async def _found_offline(site: Site, trip: Trip) -> str:
    there = await site.connections.get(trip.destination, trip.driver, trip.transport)
    if (await there.call(domains.sight, trip.name)).known:
        return DONE
    raise HypervisorError(f"{_ENDED}; {trip.name} is not on {trip.destination}")
