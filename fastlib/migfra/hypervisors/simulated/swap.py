"""Two domains change places: at once, one after the other, or with one of them on storage.

Either both arrive, or what has not arrived yet stays where it is, and the error says where each is.
A domain that is on storage when the daemon dies is shut off on its source then.
"""

import asyncio
from typing import Final

import msgspec

from fastlib.migfra.errors import HypervisorError, TaskCancelledError
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.virt.precopy import KIB, MIB

from .migration import Migration, Trip, World, whereabouts
from .pace import Pace

_STORAGE: Final = 1024.0 * MIB
"""Bytes a second that are saved and restored."""


async def swap(world: World, first: Trip, second: Trip, context: Context) -> None:
    """Swap two domains. Raises HypervisorError, which says where both are."""
    cluster = world.cluster
    first = msgspec.structs.replace(first, timer=f"migrate-{first.name}")
    second = msgspec.structs.replace(second, timer=f"migrate-{second.name}")
    begun = cluster.begin_swap(world.session, first.name, first.source, second.name, second.source)
    context.log.info("swap of %s and %s: %s", first.name, second.name, begun.order)
    pair = [(first, begun.first), (second, begun.second)]
    try:
        if begun.order == "parallel":
            await _at_once(world, pair, context)
        elif begun.order in ("first", "second"):
            await _in_turn(world, pair if begun.order == "first" else pair[::-1], context)
        else:
            saved_first = begun.order == "save-first"
            await _by_storage(world, pair if saved_first else pair[::-1], context)
    except HypervisorError as error:
        where = "; ".join(whereabouts(cluster, trip.name) for trip in (first, second))
        kind = TaskCancelledError if isinstance(error, TaskCancelledError) else HypervisorError
        raise kind(f"the swap failed: {error}; {where}") from error
    finally:
        for _, migration in pair:
            cluster.abandon(migration)


Pair = list[tuple[Trip, int]]
_GIVEN_UP: Final = "given up with its partner"


async def _migrate(
    world: World,
    trip: Trip,
    migration: int,
    pace: Pace,
    context: Context,
    then: int | None = None,
) -> None:
    """One of the two. Raises HypervisorError with its name."""
    try:
        await Migration(world, trip, pace, context, context.measure).run(migration, then)
    except TaskCancelledError:
        raise
    except HypervisorError as error:
        raise HypervisorError(f"{trip.name}: {error}") from error


async def _at_once(world: World, pair: Pair, context: Context) -> None:
    paces = [Pace(world.clock, context) for _ in pair]

    async def one(index: int) -> HypervisorError | None:
        trip, migration = pair[index]
        with paces[index]:
            try:
                await _migrate(world, trip, migration, paces[index], context)
            except HypervisorError as error:
                paces[1 - index].stop(_GIVEN_UP)
                return error
        return None

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(index)) for index in range(2)]
    errors = [error for task in tasks if (error := task.result()) is not None]
    if errors:
        # The one that was given up for the other's sake tells nothing.
        raise min(errors, key=lambda error: _GIVEN_UP in str(error))


async def _in_turn(world: World, pair: Pair, context: Context) -> None:
    (first, first_migration), (second, second_migration) = pair
    with Pace(world.clock, context) as pace:
        await _migrate(world, first, first_migration, pace, context, second_migration)
        pace.check()
        world.cluster.advance(second_migration)
        await _migrate(world, second, second_migration, pace, context)


async def _by_storage(world: World, pair: Pair, context: Context) -> None:
    """The first of the pair is on storage while the second moves."""
    (saved, saved_migration), (moved, moved_migration) = pair
    cluster = world.cluster
    domain = cluster.domain(saved.name)
    seconds = domain.memory * KIB / _STORAGE
    with Pace(world.clock, context) as pace, context.measure(f"downtime-{saved.name}"):
        with context.measure(f"suspend-{saved.name}"):
            context.progress("save", vm_name=saved.name)
            await pace.sleep(seconds)
            cluster.save(saved_migration)
        try:
            cluster.advance(moved_migration)
            await _migrate(world, moved, moved_migration, pace, context, saved_migration)
            cluster.advance(saved_migration)
        except HypervisorError:
            await pace.clock.sleep(seconds)
            cluster.unsave(saved_migration)
            raise
        with context.measure(f"resume-{saved.name}"):
            context.progress("restore", vm_name=saved.name)
            await pace.clock.sleep(seconds)
            cluster.finish(saved_migration, saved.vcpu_map)
