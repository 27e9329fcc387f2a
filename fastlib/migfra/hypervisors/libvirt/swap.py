"""Two domains change places: at once, one after the other, or with one of them on storage.

Either both arrive, or what has not arrived yet stays where it is, and the error says where each is.
"""

import asyncio
from pathlib import Path
from typing import Final

import msgspec

from ....message import Migrate
from ...context import Context
from ...errors import HypervisorError, TaskCancelledError
from ...names import check_name
from ...placement import Guest, SwapOrder, swap_order
from . import domains
from .migration import Migration
from .site import Site
from .stopping import Stopping
from .trip import Trip

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
        pair = Pair(
            Migration(site, there, first, context, context.measure),
            Migration(site, back, second, context, context.measure),
            first,
            second,
        )
        order = await _order(site, there, back)
        context.log.info("swap of %s and %s: %s", there.name, back.name, order)
        if order == "parallel":
            told = await _at_once(pair)
        elif order in ("first", "second"):
            told = await _in_turn(pair if order == "first" else pair.turned)
        else:
            told = await _by_storage(site, pair if order == "save-first" else pair.turned, context)
    return "; ".join(told) or None


class Pair:
    """Two migrations, each with what ends it."""

    def __init__(
        self, first: Migration, second: Migration, stop_first: Stopping, stop_second: Stopping
    ) -> None:
        self.migrations: Final = (first, second)
        self.stoppings: Final = (stop_first, stop_second)

    @property
    def turned(self) -> "Pair":
        """The second one first."""
        return Pair(*self.migrations[::-1], *self.stoppings[::-1])


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
    return swap_order(first, first_free, second, second_free)


async def _at_once(pair: Pair) -> list[str]:
    async def one(index: int) -> str | None:
        try:
            return await pair.migrations[index].run()
        except BaseException:
            pair.stoppings[1 - index].stop(_GIVEN_UP)
            raise

    ended = await asyncio.gather(one(0), one(1), return_exceptions=True)
    errors = [end for end in ended if isinstance(end, BaseException)]
    for error in errors:
        if not isinstance(error, HypervisorError):
            raise error
    if errors:
        # The one that failed by itself tells why, so it comes first.
        errors.sort(key=lambda error: _GIVEN_UP in str(error))
        words = [str(error) for error in errors]
        for migration, end in zip(pair.migrations, ended, strict=True):
            if not isinstance(end, BaseException):
                words.append(f"{migration.trip.name} runs on {migration.trip.destination}")
        raise _failed(errors, "; ".join(words))
    return [end for end in ended if isinstance(end, str)]


def _failed(errors: list[BaseException], words: str) -> HypervisorError:
    if all(isinstance(error, TaskCancelledError) for error in errors):
        return TaskCancelledError(words)
    return HypervisorError(f"the swap failed: {words}")


async def _in_turn(pair: Pair) -> list[str]:
    """The first one first, as only then there is room for the second."""
    first, second = pair.migrations
    told = await first.run()
    try:
        return [text for text in (told, await second.run()) if text is not None]
    except HypervisorError as error:
        arrived = f"{first.trip.name} runs on {first.trip.destination}"
        raise _failed([error], f"{error}; {arrived}") from error


async def _by_storage(site: Site, pair: Pair, context: Context) -> list[str]:
    """The first one is on storage while the second one moves."""
    saved, moved = pair.migrations
    name = saved.trip.name
    told = None
    with context.measure(saved.trip.timer):
        try:
            await saved.check()
            path = _path(site, saved.trip)
            await saved.prepare()
        except HypervisorError as error:
            raise await saved.undone(error) from error
        with context.measure(f"downtime-{name}"):
            try:
                await saved.save(path)
            except HypervisorError as error:
                raise await saved.undone(error) from error
            try:
                told = await moved.run()
            except Exception as error:
                words = "; ".join([str(error), *await saved.restore(saved.trip.source)])
                if not isinstance(error, HypervisorError):
                    context.log.warning("%s", words)
                    raise
                raise _failed([error], words) from error
            await saved.restore_there()
    await saved.finish()
    return [] if told is None else [told]


def _path(site: Site, trip: Trip) -> str:
    """Where a domain is saved to. Raises HypervisorError if there is no place for that."""
    if site.options.snapshot_directory is None:
        raise HypervisorError(
            f"neither {trip.source} nor {trip.destination} has memory for both domains; name a "
            "folder that all hosts share as snapshot-directory, so that one of them can be saved"
        )
    return str(Path(site.options.snapshot_directory) / f"{trip.name}.save")
