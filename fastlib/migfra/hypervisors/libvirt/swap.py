"""Two domains change places: at once, one after the other, or with one of them on storage.

Either both arrive, or what has not arrived yet stays where it is, and the error says where each is.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from fastlib.message import Migrate
from fastlib.migfra.errors import FinalError, HypervisorError, TaskCancelledError
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.virt.names import check_name
from fastlib.migfra.virt.placement import Guest, SwapOrder, swap_order

from . import domains
from .cancel_scope import Stopping
from .errors import ArrivedError
from .migration import Migration
from .migration_spec import Trip
from .site import Site
from .storage_migration import StoredMigration

_GIVEN_UP: Final = "given up with its partner"


def trips_of(trip: Trip, task: Migrate) -> tuple[Trip, Trip]:
    """The ways of both domains. Raises HypervisorError for a swap that makes no sense."""
    assert task.parameter is not None
    partner = task.parameter.swap_with
    assert partner is not None
    if trip.kind == "offline":
        raise HypervisorError("domains that are shut off are not swapped; migrate each offline")
    name = check_name(partner.vm_name)
    if name == trip.name:
        raise HypervisorError(f"{name} cannot be swapped with itself")
    there = Trip(
        name=trip.name,
        source=trip.source,
        destination=trip.destination,
        parameter=trip.parameter,
        driver=trip.driver,
        vcpu_map=trip.vcpu_map,
        pscom_hook_procs=trip.pscom_hook_procs,
        timer=f"migrate-{trip.name}",
        check_room=False,
    )
    back = msgspec.structs.replace(
        there,
        name=name,
        source=trip.destination,
        destination=trip.source,
        vcpu_map=partner.vcpu_map,
        pscom_hook_procs=partner.pscom_hook_procs,
        timer=f"migrate-{name}",
    )
    return there, back


async def swap(site: Site, there: Trip, back: Trip, context: Context) -> str | None:
    """Swap two domains. Raises HypervisorError, which says where both are."""
    with Stopping(context) as first, Stopping(context) as second:
        order = await _order(site, there, back)
        context.log.info("swap of %s and %s: %s", there.name, back.name, order)
        legs = [(there, first), (back, second)]
        if order in ("second", "save-second"):
            legs.reverse()
        measurement = context.measurement
        (one, one_stopping), (other, other_stopping) = legs
        if order in ("save-first", "save-second"):
            stored = StoredMigration(site, one, one_stopping, context, measurement)
            moved = Migration(site, other, other_stopping, context, measurement)
            await _checked(stored, moved)
            told = await _by_storage(site, stored, moved, context)
        else:
            pair = (
                Migration(site, one, one_stopping, context, measurement),
                Migration(site, other, other_stopping, context, measurement),
            )
            await _checked(*pair)
            if order == "parallel":
                told = await _at_once(pair, (one_stopping, other_stopping))
            else:
                told = await _in_turn(*pair)
    return "; ".join(told) or None


async def _order(site: Site, there: Trip, back: Trip) -> SwapOrder:
    """How they change places, by the room on both hosts. Raises HypervisorError."""

    async def look(trip: Trip) -> tuple[Guest, int | None]:
        connection = await site.connections.get(trip.source, trip.driver, trip.transport)
        seen = await connection.call(domains.sight, trip.name)
        if not seen.active:
            raise HypervisorError(f"{trip.name} does not run on {trip.source}; nothing was swapped")
        free = await connection.call(domains.free_memory)
        if free is not None:
            free = max(0, free - site.options.reserved_memory)
        return Guest(name=trip.name, memory=seen.memory), free

    (first, first_free), (second, second_free) = await asyncio.gather(look(there), look(back))
    for trip, guest, free, leaves in (
        (there, first, second_free, second),
        (back, second, first_free, first),
    ):
        assert guest.memory is not None
        assert leaves.memory is not None
        if free is not None and guest.memory > free + leaves.memory:
            raise HypervisorError(
                f"{trip.destination} has no room for {guest.name} even without {leaves.name}; "
                "nothing was swapped"
            )
    return swap_order(first, first_free, second, second_free)


async def _checked(*migrations: Migration) -> None:
    """Both, before anything is done to either. Raises HypervisorError."""
    ended = await asyncio.gather(
        *(migration.check() for migration in migrations), return_exceptions=True
    )
    errors = [end for end in ended if isinstance(end, BaseException)]
    _raise_surprise(errors)
    if errors:
        words = "; ".join(str(error) for error in errors)
        raise _failed(errors, f"{words}; nothing was swapped")


async def _at_once(
    pair: tuple[Migration, Migration], stoppings: tuple[Stopping, Stopping]
) -> list[str]:
    async def one(index: int) -> str | None:
        try:
            return await _moved(pair[index])
        except BaseException as error:
            if not isinstance(error, ArrivedError):
                stoppings[1 - index].stop(_GIVEN_UP)
            raise

    ended = await asyncio.gather(one(0), one(1), return_exceptions=True)
    errors = [end for end in ended if isinstance(end, BaseException)]
    _raise_surprise(errors)
    if errors:
        # The one that failed by itself tells why, so it comes first.
        errors.sort(key=lambda error: _GIVEN_UP in str(error))
        words = [str(error) for error in errors]
        for migration, end in zip(pair, ended, strict=True):
            if not isinstance(end, BaseException):
                words.append(f"{migration.trip.name} runs on {migration.trip.destination}")
        one_moved = any(
            not isinstance(end, BaseException) or isinstance(end, ArrivedError) for end in ended
        )
        raise _failed(errors, "; ".join(words), one_moved=one_moved)
    return [end for end in ended if isinstance(end, str)]


async def _moved(migration: Migration) -> str | None:
    """A migration that has been checked, to its end."""
    told = await migration.leave()
    await migration.finish()
    return told


def _raise_surprise(errors: list[BaseException]) -> None:
    for error in errors:
        if not isinstance(error, HypervisorError):
            raise error


def _failed(
    errors: Sequence[BaseException], words: str, *, one_moved: bool = False
) -> HypervisorError:
    if one_moved or any(isinstance(error, FinalError) for error in errors):
        # To try it again would look for the domains where they no longer are.
        return FinalError(f"the swap failed: {words}")
    if all(isinstance(error, TaskCancelledError) for error in errors):
        return TaskCancelledError(words)
    return HypervisorError(f"the swap failed: {words}")


async def _in_turn(first: Migration, second: Migration) -> list[str]:
    """The first one first, as only then there is room for the second."""
    trouble: ArrivedError | None = None
    told: list[str | None] = []
    try:
        told.append(await _moved(first))
    except ArrivedError as error:
        trouble = error
    arrived = str(trouble or f"{first.trip.name} runs on {first.trip.destination}")
    try:
        told.append(await _moved(second))
    except HypervisorError as error:
        raise _failed([error], f"{error}; {arrived}", one_moved=True) from error
    if trouble is not None:
        arrived = f"{second.trip.name} runs on {second.trip.destination}"
        raise _failed([trouble], f"{trouble}; {arrived}", one_moved=True) from trouble
    return [text for text in told if text is not None]


async def _by_storage(
    site: Site, stored: StoredMigration, moved: Migration, context: Context
) -> list[str]:
    """The first one is on storage while the second one moves."""
    trip = stored.trip
    told = None
    trouble: ArrivedError | None = None
    path = _path(site, trip)
    await stored.or_undone(stored.check_path(path))
    with context.measure(trip.timer):
        await stored.or_undone(stored.prepare())
        with context.measure(f"downtime-{trip.name}"):
            await stored.save(path)
            try:
                told = await _moved(moved)
            except ArrivedError as error:
                trouble = error
            except Exception as error:
                words = "; ".join([str(error), *await stored.restore_here()])
                if not isinstance(error, HypervisorError):
                    context.log.warning("%s", words)
                    raise
                raise _failed([error], words) from error
            arrived = str(trouble or f"{moved.trip.name} runs on {moved.trip.destination}")
            try:
                await stored.restore_there()
            except HypervisorError as error:
                raise _failed([error], f"{error}; {arrived}", one_moved=True) from error
    if trouble is not None:
        arrived = f"{trip.name} runs on {trip.destination}"
        raise _failed([trouble], f"{trouble}; {arrived}", one_moved=True) from trouble
    return [] if told is None else [told]


def _path(site: Site, trip: Trip) -> str:
    """Where a domain is saved to. Raises HypervisorError if there is no place for that."""
    if site.options.snapshot_directory is None:
        raise HypervisorError(
            f"neither {trip.source} nor {trip.destination} has memory for both domains; name a "
            "folder that all hosts share as snapshot-directory, so that one of them can be saved"
        )
    return str(Path(site.options.snapshot_directory) / f"{trip.name}.save")
