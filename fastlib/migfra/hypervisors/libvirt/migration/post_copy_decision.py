"""Decide from both hosts' answers how a post-copy goes on that was interrupted. Pure."""

from typing import Literal

from fastlib.migfra.hypervisors.libvirt.domain.state import (
    PAUSED_IN_POST_COPY,
    RUNS_IN_POST_COPY,
    DomainState,
)

Step = Literal["wait", "resume", "over", "lost"]
"""Wait for the link or the stream; resume the post-copy; it has ended; it can never be resumed."""


def is_in_post_copy(domain_state: DomainState | None) -> bool:
    """Return whether the source still has memory that post-copy has not moved."""
    return (
        domain_state is not None
        and domain_state.active
        and domain_state.paused
        and domain_state.reason in PAUSED_IN_POST_COPY
    )


def next_step(
    source: DomainState | None, destination: DomainState | None, *, is_quiet: bool
) -> Step:
    """Return the next step. None is an unreachable host.

    `is_quiet`: the stream has not moved for so long that it does not continue without help.
    """
    if source is None:
        return "wait"
    if not is_in_post_copy(source):
        return "over"
    if destination is None:
        return "wait"
    if not destination.active:
        return "lost"
    if destination.running and destination.reason not in RUNS_IN_POST_COPY:
        return "over"
    return "resume" if is_quiet else "wait"
