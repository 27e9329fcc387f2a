"""Where a domain is whose migration has failed: both hosts are asked, and what both say is judged.

While libvirt tidies up, the answer is to wait. What libvirt leaves half done, such as a domain that
is paused on the source because nobody told it how the migration ended, is put right, so that the
domain runs on exactly one host.
"""

import asyncio
from typing import Final, Literal

import msgspec

from ...context import Context
from ...errors import HypervisorError
from . import domains
from .domains import Sighting
from .site import LOOK, Site
from .trip import Trip

Place = Literal["source", "destination", "nowhere", "unknown"]
Action = Literal["resume source", "destroy source", "destroy destination"]

_MIGRATION: Final = 2
_STARTING_UP: Final = 11
_POSTCOPY: Final = frozenset({12, 13})
"""Why a domain is paused, as libvirt counts it."""
PATIENCE: Final = 30.0
"""Seconds that libvirt gets for tidying up, and a host for being there again."""
_ANSWER: Final = 5.0


class Verdict(msgspec.Struct, frozen=True):
    """What two sightings mean."""

    place: Place
    final: bool = True
    """If not, look again."""
    action: Action | None = None
    """What is to be done before looking again."""


WAIT: Final = Verdict("unknown", final=False)


def judge(
    source: Sighting | None,
    destination: Sighting | None,
    *,
    was_running: bool = True,
    last: bool = False,
) -> Verdict:
    """Where the domain is by what both hosts say; None is a host that cannot be asked.

    `last` says that there is no time left to wait for a better answer.
    """
    if source is None:
        return _without_source(destination, last)
    if source.active:
        if source.reason in _POSTCOPY and source.paused:
            return Verdict(_at_post_copy(destination)) if last else WAIT
        if source.migrating and not last:
            return WAIT
        if source.running:
            return _running_at_source(destination, last)
        return _paused_at_source(source, destination, was_running, last)
    if destination is None:
        return Verdict("unknown") if last else WAIT
    if destination.active:
        return Verdict("destination")
    return Verdict("source" if source.known and not was_running else "nowhere")


def _without_source(destination: Sighting | None, last: bool) -> Verdict:
    if destination is not None and destination.running:
        return Verdict("destination")
    return Verdict("unknown") if last else WAIT


def _at_post_copy(destination: Sighting | None) -> Place:
    return "destination" if destination is not None and destination.running else "unknown"


def _running_at_source(destination: Sighting | None, last: bool) -> Verdict:
    if destination is None or not destination.active:
        return Verdict("source")
    if destination.running or last:
        # libvirt lets the source run on only if the migration failed, so it is the source's.
        return Verdict("source", final=False, action="destroy destination")
    return WAIT


def _paused_at_source(
    source: Sighting, destination: Sighting | None, was_running: bool, last: bool
) -> Verdict:
    if source.reason != _MIGRATION:
        if destination is None or not destination.active:
            return Verdict("source")
        if destination.running:
            return Verdict("destination", final=False, action="destroy source")
        return Verdict("source", final=False, action="destroy destination") if last else WAIT
    if destination is None:
        return Verdict("unknown") if last else WAIT
    if destination.running:
        return Verdict("destination", final=False, action="destroy source")
    if destination.active:
        if last:
            return Verdict("source", final=False, action="destroy destination")
        return WAIT
    if was_running:
        return Verdict("source", final=False, action="resume source")
    return Verdict("source")


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """Where a domain is."""

    place: Place
    words: str
    """A sentence's part, such as `vm1 runs on node01`."""


async def establish(
    site: Site,
    trip: Trip,
    context: Context,
    *,
    was_running: bool = True,
    patience: float = PATIENCE,
) -> Found:
    """Where the domain of a migration that has ended is, once that is certain, and put right."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience
    while True:
        source, destination = await asyncio.gather(
            _ask(site, trip, trip.source), _ask(site, trip, trip.destination)
        )
        last = loop.time() >= deadline
        verdict = judge(source, destination, was_running=was_running, last=last)
        if verdict.final:
            return Found(place=verdict.place, words=_words(trip, verdict, source, destination))
        if verdict.action is not None:
            context.log.warning("%s: %s, as the migration left it so", trip.name, verdict.action)
            try:
                await _act(site, trip, verdict.action)
            except HypervisorError as error:
                if last:
                    words = f"{_words(trip, verdict, source, destination)} ({error})"
                    return Found(place="unknown", words=words)
                context.log.warning("%s", error)
        await asyncio.sleep(LOOK)


async def _ask(site: Site, trip: Trip, host: str) -> Sighting | None:
    try:
        async with asyncio.timeout(_ANSWER):
            connection = await site.connections.get(host, trip.driver, trip.transport)
            return await connection.within(_ANSWER, domains.sight, trip.name)
    except (HypervisorError, TimeoutError):
        return None


async def _act(site: Site, trip: Trip, action: Action) -> None:
    what, _, where = action.partition(" ")
    host = trip.source if where == "source" else trip.destination
    connection = await site.connections.get(host, trip.driver, trip.transport)
    if what == "resume":
        await connection.call(domains.resume, trip.name)
    else:
        await connection.call(domains.destroy, trip.name)


def _words(
    trip: Trip, verdict: Verdict, source: Sighting | None, destination: Sighting | None
) -> str:
    name = trip.name
    if verdict.place == "source" and source is not None:
        return f"{name} {source.words} on {trip.source}"
    if verdict.place == "destination" and destination is not None:
        return f"{name} {destination.words} on {trip.destination}"
    if verdict.place == "nowhere":
        return f"{name} is active neither on {trip.source} nor on {trip.destination}"
    told = [
        f"libvirt on {host} cannot be asked" if seen is None else f"it {seen.words} on {host}"
        for host, seen in ((trip.source, source), (trip.destination, destination))
    ]
    return f"where {name} runs is not certain: {' and '.join(told)}; look at both hosts"
