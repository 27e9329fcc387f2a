"""Decide from both hosts' answers where the domain of a failed migration is. Pure."""

from typing import Final, Literal

import msgspec

from fastlib.migfra.hypervisors.libvirt.domain.state import (
    PAUSED_ARRIVING,
    PAUSED_BY_USER,
    PAUSED_FOR_MIGRATION,
    PAUSED_IN_POST_COPY,
    RUNS_AFTER_CANCEL,
    RUNS_IN_POST_COPY,
    SHUT_OFF_BY_FAILURE,
    SHUT_OFF_BY_MIGRATION,
    STARTED_HERE,
    DomainState,
)

Place = Literal["source", "destination", "both", "nowhere", "divided", "lost", "unknown"]
"""divided: post-copy has not ended, so neither host can continue without the other. lost: a part of
its memory has ended with its process on one host."""
Action = Literal[
    "resume source", "pause source", "pause destination", "end source", "end destination"
]
_STALE_SOURCE: Final = (
    "a copy that is paused on {source} ran there in the meantime and is stale; destroy it there "
    "once nothing of it is needed"
)
_PERHAPS_THERE: Final = (
    "it may also run on {destination}, which cannot be queried; once {destination} answers, the "
    "daemon pauses such a copy"
)
_PERHAPS_PAUSED_THERE: Final = (
    "a paused copy that has never run may be on {destination}, which cannot be queried; once "
    "{destination} answers, the daemon removes it"
)
_STALE_DESTINATION: Final = (
    "a copy that is paused on {destination} ran there for a time and is stale; destroy it there "
    "with virsh destroy {name} once nothing of it is needed"
)
_HAS_LEFT: Final = (
    "{source} no longer knows it, so its images and its definition on {destination} stay"
)
_IS_THERE: Final = "it is active on {destination}, to which it may have migrated since"
_COPY_THERE: Final = "{destination} has a copy of it too; check there, and destroy the stale one"
_COPY_HERE: Final = "{source} cannot be queried for a copy of it; check there"
_SPLIT: Final = (
    "destroy neither, repair the link, and order the migration from {source} to {destination} "
    "again with on-timeout: post-copy, which resumes it"
)
_ENDED_THERE_IN_POST_COPY: Final = (
    "its copy on {destination} has ended before post-copy had moved all memory; the paused copy on "
    "{source} lacks the newest memory and cannot continue: destroy it there, and start the domain "
    "again"
)
_ENDED_HERE_IN_POST_COPY: Final = (
    "its copy on {source} has ended before post-copy had moved all memory; the copy on "
    "{destination} lacks that memory and cannot continue: destroy it there, and start the domain "
    "again"
)
_PERHAPS_ENDED_HERE: Final = (
    "its copy on {source} has ended, and {destination} still waits for memory; if that does not "
    "change, the memory is lost: destroy it there, and start the domain again"
)
_ENDED_THERE: Final = (
    "it had arrived on {destination} and has ended there; the paused copy on {source} is older, "
    "so it was not resumed"
)
_UNDER_WAY: Final = "its migration is still in progress"
_ARRIVING: Final = "{destination} has begun to receive it, and does not end"


class Decision(msgspec.Struct, frozen=True):
    """The conclusion from the answers of both hosts."""

    place: Place
    final: bool = True
    """If false, poll again."""
    action: Action | None = None
    """The repair to do before the next poll."""
    note: str | None = None
    """A remark for the operator, with placeholders for both hosts."""


class MigrationFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Facts of the migration that the hosts do not report."""

    was_running: bool = True
    known_on_destination: bool = False
    """Whether the destination had a definition of the domain before."""
    arrives_paused: bool = False
    """Whether it is paused on the destination until the migration's end."""
    stayed: bool = False
    """Whether the order was answered with: the domain is on its source. The destination was silent.
    """


WAIT: Final = Decision("unknown", final=False)


def decide(
    source: DomainState | None,
    destination: DomainState | None,
    facts: MigrationFacts = MigrationFacts(),  # noqa: B008, it is immutable
    *,
    last: bool = False,
) -> Decision:
    """Decide from both hosts' answers where the domain is. None is an unreachable host.

    With `last` there is no time left to wait for a better answer.
    """
    if facts.stayed:
        decision = _when_it_stayed(source, destination, facts)
    elif source is None:
        decision = _when_source_unreachable(destination)
    elif not source.active:
        decision = _when_source_inactive(source, destination)
    elif source.paused and source.reason in PAUSED_IN_POST_COPY:
        decision = _when_source_in_post_copy(destination)
    elif source.migrating:
        decision = Decision("unknown", final=False, note=_UNDER_WAY)
    elif source.running:
        decision = _when_source_runs(source, destination, facts)
    elif source.reason == PAUSED_FOR_MIGRATION:
        decision = _when_source_paused_for_migration(destination, facts)
    else:
        decision = _when_source_paused_otherwise(destination, facts)
    if decision.final:
        return decision
    if last:
        # A decision without an action is final now. After an action the hosts are polled again.
        return msgspec.structs.replace(decision, final=decision.action is None)
    return decision if decision.action in _IMMEDIATE_ACTIONS else WAIT


_IMMEDIATE_ACTIONS: Final = frozenset(
    {"resume source", "pause source", "pause destination", "end source"}
)
"""Actions that need not wait. libvirt may still destroy an arriving copy."""


def _when_it_stayed(
    source: DomainState | None, destination: DomainState | None, facts: MigrationFacts
) -> Decision:
    """Decide about a copy on the destination after the answer that the domain is on its source.

    The source has run since, and others have relied on the answer. So it keeps the domain, although
    the copy has the memory of the switch-over, too.
    """
    if source is None or destination is None or source.migrating or source.left_behind:
        return Decision("unknown", final=False)
    place: Place = "source" if source.active else "nowhere"
    if not destination.active:
        return Decision(place, note=None if source.known else _HAS_LEFT)
    if _never_ran(destination, facts):
        if destination.migrating and not source.active:
            return Decision("unknown", final=False, note=_ARRIVING)  # perhaps from another host
        return Decision(place, final=False, action="end destination")
    has_left = not source.known or source.reason == SHUT_OFF_BY_MIGRATION
    if not source.active and (has_left or destination.reason in STARTED_HERE):
        return Decision("destination", note=_IS_THERE)
    if destination.running:
        return Decision(place, final=False, action="pause destination")
    return Decision(place, note=_STALE_DESTINATION)


def _runs_with_all_memory(domain_state: DomainState | None) -> bool:
    return (
        domain_state is not None
        and domain_state.running
        and domain_state.reason not in RUNS_IN_POST_COPY
    )


def _when_source_unreachable(destination: DomainState | None) -> Decision:
    if destination is None or not destination.running:
        return Decision("unknown", final=False)
    if not _runs_with_all_memory(destination):
        return Decision("divided", final=False, note=_SPLIT)
    return Decision("destination", final=False, note=_COPY_HERE)


def _when_source_inactive(source: DomainState, destination: DomainState | None) -> Decision:
    if destination is None:
        return Decision("unknown", final=False)
    if not destination.active:
        return Decision("nowhere")
    if destination.paused and destination.reason in PAUSED_ARRIVING:
        return Decision("unknown", final=False, note=_ARRIVING)
    if destination.running and not _runs_with_all_memory(destination):
        if source.known and source.reason in SHUT_OFF_BY_FAILURE:
            return Decision("lost", final=False, note=_ENDED_HERE_IN_POST_COPY)
        return Decision("unknown", final=False, note=_PERHAPS_ENDED_HERE)
    return Decision("destination")


def _when_source_in_post_copy(destination: DomainState | None) -> Decision:
    """Decide for a source that still has memory which post-copy has not moved."""
    if _runs_with_all_memory(destination):
        return Decision("destination", final=False, note=_STALE_SOURCE)
    if destination is not None and not destination.active:
        return Decision("lost", final=False, note=_ENDED_THERE_IN_POST_COPY)
    return Decision("divided", final=False, note=_SPLIT)


def _when_source_runs(
    source: DomainState, destination: DomainState | None, facts: MigrationFacts
) -> Decision:
    # Only a domain that was paused for the switch-over may also have run on the destination.
    had_stopped = source.reason == RUNS_AFTER_CANCEL
    if destination is None:
        if had_stopped:
            return Decision("source", final=False, note=_perhaps_there(facts))
        return Decision("source")
    if not destination.active:
        return Decision("source")
    if _never_ran(destination, facts):
        return Decision("source", final=False, action="end destination")
    if destination.running and had_stopped:
        # The destination has the newest state. The source has resumed from an older one.
        return Decision("destination", final=False, action="pause source")
    return Decision("both", final=False, note=_COPY_THERE)


def _when_source_paused_for_migration(
    destination: DomainState | None, facts: MigrationFacts
) -> Decision:
    """Decide for a source that is paused since the switch-over."""
    if destination is None:
        return Decision("unknown", final=False)
    if not destination.active:
        if destination.known and not facts.known_on_destination:
            return Decision("unknown", final=False, note=_ENDED_THERE)
        if facts.was_running:
            return Decision("source", final=False, action="resume source")
        return Decision("source")
    if destination.paused and destination.reason in PAUSED_ARRIVING:
        return Decision("source", final=False, action="end destination")
    if destination.running and not _runs_with_all_memory(destination):
        return Decision("divided", final=False, note=_SPLIT)
    return Decision("destination", final=False, action="end source")


def _when_source_paused_otherwise(
    destination: DomainState | None, facts: MigrationFacts
) -> Decision:
    """Decide for a source that its user paused, or that the monitor paused at the timeout."""
    if destination is None:
        return Decision("source", final=False, note=_perhaps_there(facts))
    if not destination.active:
        return Decision("source")
    if _never_ran(destination, facts):
        return Decision("source", final=False, action="end destination")
    if destination.running:
        return Decision("destination", note=_STALE_SOURCE)
    return Decision("both", final=False, note=_COPY_THERE)


def _perhaps_there(facts: MigrationFacts) -> str:
    return _PERHAPS_PAUSED_THERE if facts.arrives_paused else _PERHAPS_THERE


def _never_ran(destination: DomainState, facts: MigrationFacts) -> bool:
    """Return whether the copy on the destination has never run there."""
    if not destination.paused:
        return False
    if destination.reason in PAUSED_ARRIVING:
        return True
    return facts.arrives_paused and destination.reason == PAUSED_BY_USER
