"""Where a domain is whose migration has failed: both hosts are asked, and what both say is judged.

While libvirt tidies up, the answer is to wait. What libvirt leaves half done, such as a domain that
stands still on the source because nobody told it how the migration ended, is put right, so that the
domain runs on exactly one host. A copy that may have run is never ended: it is paused at most, and
the result says so.
"""

import asyncio
from typing import Final, Literal

import msgspec

from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.plugin_api.context import Context

from . import domains
from .domains import (
    PAUSED_ARRIVING,
    PAUSED_BY_USER,
    PAUSED_FOR_MIGRATION,
    PAUSED_IN_POST_COPY,
    RUNS_AFTER_CANCEL,
    RUNS_IN_POST_COPY,
    Sighting,
)
from .migration_spec import Kept, Trip
from .site import LOOK, Site

Place = Literal["source", "destination", "both", "nowhere", "unknown"]
Action = Literal["resume source", "pause source", "end source", "end destination"]

PATIENCE: Final = 30.0
"""Seconds that libvirt gets for tidying up, and a host for being there again."""
_LONGEST: Final = 120.0
"""The same for a migration that does not end although it was aborted."""
_ANSWER: Final = 5.0
_LAST_LOOKS: Final = 10
"""How many looks there are after the last moment, each of which has done something."""

_STALE_SOURCE: Final = (
    "a copy that is paused on {source} ran there meanwhile and is stale; destroy it there once "
    "nothing of it is needed"
)
_PERHAPS_THERE: Final = (
    "it may run on {destination} as well, which cannot be asked; look there before it is reached "
    "again"
)
_COPY_THERE: Final = "{destination} has a copy of it, too; look there, and destroy what is stale"
_COPY_HERE: Final = "whether {source} has a copy of it cannot be asked; look there"
_SPLIT: Final = (
    "its memory is divided between {source} and {destination}, as post-copy has not ended; destroy "
    "neither, mend the link, and go on with virsh migrate --postcopy-resume"
)
_ENDED_THERE: Final = (
    "it had arrived on {destination} and has ended there; what stands still on {source} is older, "
    "so it was not let go on"
)
_UNDER_WAY: Final = "its migration is under way all the same"
_ARRIVING: Final = "{destination} has begun to receive it, and does not end"


class Verdict(msgspec.Struct, frozen=True):
    """What two sightings mean."""

    place: Place
    final: bool = True
    """If not, look again."""
    action: Action | None = None
    """What is to be done before looking again."""
    note: str | None = None
    """What else is to be said, with the hosts' places in braces."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the migration."""

    was_running: bool = True
    known_there: bool = False
    """Whether the destination had a definition of the domain before."""
    arrives_paused: bool = False
    """Whether it is paused on the destination until the migration's end."""


WAIT: Final = Verdict("unknown", final=False)


def judge(
    source: Sighting | None,
    destination: Sighting | None,
    facts: Facts = Facts(),  # noqa: B008, it is immutable
    *,
    last: bool = False,
) -> Verdict:
    """Where the domain is by what both hosts say; None is a host that cannot be asked.

    `last` says that there is no time left to wait for a better answer.
    """
    if source is None:
        verdict = _source_unasked(destination)
    elif not source.active:
        verdict = _source_gone(destination)
    elif source.paused and source.reason in PAUSED_IN_POST_COPY:
        verdict = _source_serves(destination)
    elif source.migrating:
        verdict = Verdict("unknown", final=False, note=_UNDER_WAY)
    elif source.running:
        verdict = _source_runs(source, destination, facts)
    elif source.reason == PAUSED_FOR_MIGRATION:
        verdict = _source_stands(destination, facts)
    else:
        verdict = _source_paused(destination, facts)
    if verdict.final:
        return verdict
    if last:
        # What has no action is the answer now; what has one is done, and looked at once more.
        return msgspec.structs.replace(verdict, final=verdict.action is None)
    return verdict if verdict.action in _AT_ONCE else WAIT


_AT_ONCE: Final = frozenset({"resume source", "pause source", "end source"})
"""What needs no waiting for libvirt. It may still end what arrives by itself."""


def _runs_whole(sighting: Sighting | None) -> bool:
    return sighting is not None and sighting.running and sighting.reason not in RUNS_IN_POST_COPY


def _source_unasked(destination: Sighting | None) -> Verdict:
    if destination is None or not destination.running:
        return Verdict("unknown", final=False)
    if not _runs_whole(destination):
        return Verdict("unknown", final=False, note=_SPLIT)
    return Verdict("destination", final=False, note=_COPY_HERE)


def _source_gone(destination: Sighting | None) -> Verdict:
    if destination is None:
        return Verdict("unknown", final=False)
    if not destination.active:
        return Verdict("nowhere")
    if destination.paused and destination.reason in PAUSED_ARRIVING:
        return Verdict("unknown", final=False, note=_ARRIVING)
    if destination.running and not _runs_whole(destination):
        return Verdict("unknown", final=False, note=_SPLIT)
    return Verdict("destination")


def _source_serves(destination: Sighting | None) -> Verdict:
    """The source has the memory that post-copy has not moved yet."""
    if _runs_whole(destination):
        return Verdict("destination", final=False, note=_STALE_SOURCE)
    return Verdict("unknown", final=False, note=_SPLIT)


def _source_runs(source: Sighting, destination: Sighting | None, facts: Facts) -> Verdict:
    # Only if it stood still for the switch-over, it may have been let run on the destination, too.
    had_stopped = source.reason == RUNS_AFTER_CANCEL
    if destination is None:
        if had_stopped:
            return Verdict("source", final=False, note=_PERHAPS_THERE)
        return Verdict("source")
    if not destination.active:
        return Verdict("source")
    if _never_ran(destination, facts):
        return Verdict("source", final=False, action="end destination")
    if destination.running and had_stopped:
        # The destination has what happened last; the source has gone back behind that.
        return Verdict("destination", final=False, action="pause source")
    return Verdict("both", final=False, note=_COPY_THERE)


def _source_stands(destination: Sighting | None, facts: Facts) -> Verdict:
    """It has stood still on the source since the switch-over."""
    if destination is None:
        return Verdict("unknown", final=False)
    if not destination.active:
        if destination.known and not facts.known_there:
            return Verdict("unknown", final=False, note=_ENDED_THERE)
        if facts.was_running:
            return Verdict("source", final=False, action="resume source")
        return Verdict("source")
    if destination.paused and destination.reason in PAUSED_ARRIVING:
        return Verdict("source", final=False, action="end destination")
    if destination.running and not _runs_whole(destination):
        return Verdict("unknown", final=False, note=_SPLIT)
    return Verdict("destination", final=False, action="end source")


def _source_paused(destination: Sighting | None, facts: Facts) -> Verdict:
    """It is paused on the source for another reason: by its user, or by us at the timeout."""
    if destination is None:
        return Verdict("source", final=False, note=_PERHAPS_THERE)
    if not destination.active:
        return Verdict("source")
    if _never_ran(destination, facts):
        return Verdict("source", final=False, action="end destination")
    if destination.running:
        return Verdict("destination", note=_STALE_SOURCE)
    return Verdict("both", final=False, note=_COPY_THERE)


def _never_ran(destination: Sighting, facts: Facts) -> bool:
    """Whether the copy on the destination has never run there."""
    if not destination.paused:
        return False
    if destination.reason in PAUSED_ARRIVING:
        return True
    return facts.arrives_paused and destination.reason == PAUSED_BY_USER


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """Where a domain is."""

    place: Place
    words: str
    """A sentence's part, such as `vm1 runs on node01`."""
    note: str | None = None
    """What else is to be said of it."""

    @property
    def whole(self) -> str:
        """All that is to be said."""
        return self.words if self.note is None else f"{self.words}; {self.note}"


async def establish(
    site: Site, trip: Trip, kept: Kept, context: Context, *, patience: float = PATIENCE
) -> Found:
    """Where the domain of a migration that has ended is, once that is certain, and put right."""
    facts = Facts(
        was_running=kept.was_running,
        known_there=kept.known_there,
        arrives_paused=trip.vcpu_map is not None or not kept.was_running,
    )
    loop = asyncio.get_running_loop()
    began = loop.time()
    deadline = began + patience
    before: Action | None = None
    looks_left = _LAST_LOOKS
    while True:
        source, destination = await asyncio.gather(
            _ask(site, trip, kept, trip.source), _ask(site, trip, kept, trip.destination)
        )
        now = loop.time()
        if source is not None and source.migrating:
            deadline = max(deadline, min(began + _LONGEST, now + patience))
        last = now >= deadline
        looks_left -= last
        verdict = judge(source, destination, facts, last=last)
        if verdict.final or looks_left <= 0:
            return _found(trip, verdict, source, destination)
        # Only what was seen twice: the two hosts are not asked at the same moment.
        if verdict.action is not None and verdict.action == before:
            context.log.warning("%s: %s, as the migration left it so", trip.name, verdict.action)
            try:
                await _act(site, trip, kept, facts, verdict.action)
            except HypervisorError as error:
                context.log.warning("%s", error)
        before = verdict.action
        await asyncio.sleep(LOOK)


async def _ask(site: Site, trip: Trip, kept: Kept, host: str) -> Sighting | None:
    try:
        async with asyncio.timeout(site.options.connect_timeout + _ANSWER):
            connection = await site.connections.get(host, trip.driver, trip.transport)
            seen = await connection.within(_ANSWER, domains.sight, trip.name)
    except (HypervisorError, TimeoutError):
        return None
    if seen.known and kept.uuid and seen.uuid != kept.uuid:
        return Sighting()  # another domain of this name, which is none of our business
    return seen


async def _act(site: Site, trip: Trip, kept: Kept, facts: Facts, action: Action) -> None:
    what, _, where = action.partition(" ")
    host = trip.source if where == "source" else trip.destination
    connection = await site.connections.get(host, trip.driver, trip.transport)
    if what == "resume":
        await connection.call(domains.let_go_on, trip.name, kept.uuid)
    elif what == "pause":
        await connection.call(domains.stop_second, trip.name, kept.uuid)
    elif where == "source":
        await connection.call(domains.end_copy, trip.name, kept.uuid, {PAUSED_FOR_MIGRATION})
    else:
        reasons = PAUSED_ARRIVING | ({PAUSED_BY_USER} if facts.arrives_paused else set())
        await connection.call(domains.end_copy, trip.name, kept.uuid, reasons)


def _found(
    trip: Trip, verdict: Verdict, source: Sighting | None, destination: Sighting | None
) -> Found:
    note = verdict.note
    if note is not None:
        note = note.format(source=trip.source, destination=trip.destination)
    # An action that has not had its effect: nothing is certain.
    place = "unknown" if verdict.action is not None else verdict.place
    return Found(place=place, words=_words(trip, place, source, destination), note=note)


def _words(trip: Trip, place: Place, source: Sighting | None, destination: Sighting | None) -> str:
    name = trip.name
    if place == "source" and source is not None:
        return f"{name} {source.words} on {trip.source}"
    if place == "destination" and destination is not None:
        return f"{name} {destination.words} on {trip.destination}"
    if place == "nowhere":
        return f"{name} is active neither on {trip.source} nor on {trip.destination}"
    told = [
        f"libvirt on {host} cannot be asked" if seen is None else f"it {seen.words} on {host}"
        for host, seen in ((trip.source, source), (trip.destination, destination))
    ]
    if place == "both":
        return f"there are two of {name}: {' and '.join(told)}"
    return f"where {name} runs is not certain: {' and '.join(told)}; look at both hosts"
