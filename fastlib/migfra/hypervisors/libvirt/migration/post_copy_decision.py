"""Decide from both hosts' answers how an interrupted post-copy continues. Pure."""

from typing import Final, Literal

import msgspec

from fastlib.migfra.hypervisors.libvirt.domain.state import (
    PAUSED_FOR_MIGRATION,
    PAUSED_IN_POST_COPY,
    RUNS_IN_POST_COPY,
    DomainState,
)

Step = Literal["wait", "resume", "over", "lost"]
"""Wait for the link or the stream; resume the post-copy; it has ended; it cannot be resumed,
because the domain has ended at the destination."""

SHORT_SILENCE_SECONDS: Final = 5.0
"""Seconds without progress after which a try to resume is worth it. libvirt or QEMU refuses it if
the stream is whole."""


class StreamFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Facts about the stream between both QEMUs."""

    silence: float = 0.0
    """Seconds without progress while both hosts could be reached."""
    is_refused: bool = False
    """Whether a try to resume was refused in this silence, and it is too early for the next one."""


def is_in_post_copy(domain_state: DomainState | None) -> bool:
    """Return whether the source still has memory that post-copy has not moved."""
    return (
        domain_state is not None
        and domain_state.active
        and domain_state.paused
        and domain_state.reason in PAUSED_IN_POST_COPY
    )


def next_step(
    source: DomainState | None, destination: DomainState | None, stream: StreamFacts
) -> Step:
    """Return the next step. None is an unreachable host."""
    if source is None:
        return "wait"
    if not is_in_post_copy(source):
        about_to_be = source.migrating and source.paused and source.reason == PAUSED_FOR_MIGRATION
        return "wait" if about_to_be else "over"
    if destination is None:
        return "wait"
    if not destination.active:
        return "lost"
    if destination.running and destination.reason not in RUNS_IN_POST_COPY:
        return "over"
    if stream.silence >= SHORT_SILENCE_SECONDS and not stream.is_refused:
        return "resume"
    return "wait"
