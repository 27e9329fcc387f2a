"""Decide how a daemon reacts to other daemons of its host.

All decisions are pure functions; `other_daemons.py` carries them out. The daemon is in one of three
phases:

- `subscribes`: it knows nothing. Received messages may be older than its claim.
- `claims`: it has received its own claim. Later messages were published after the claim.
- `works`: it has received its own `online`, before that of any other daemon.

The daemon returns to `subscribes` after a lost connection, after it was suspended, and if another
one reports that it works. The table has the reaction in each phase to the messages on the topic of
the host's presence (`decide`):

| heard                              | subscribes | claims         | works                 |
|------------------------------------|------------|----------------|-----------------------|
| what the broker has retained       | keep       | keep           | keep                  |
| own claim                          | claimed    | claimed        | nothing               |
| own `online`, the expected one     | nothing    | won            | nothing               |
| own `online`, another one          | nothing    | nothing        | nothing               |
| own `offline` (the last will)      | nothing    | nothing        | answer                |
| claim of another daemon            | nothing    | nothing        | answer                |
| `online` of another daemon         | keep       | refuse         | claim again or insist |
| `online` of an earlier run of ours | keep       | settle/nothing | answer                |
| `offline`                          | keep       | settle/nothing | answer                |
| no presence                        | nothing    | nothing        | answer                |

- keep: remember the presence. Its daemon must be asked, or has taken the host over (`decide_kept`).
- claimed, won: enter the phase `claims`, or `works`.
- refuse: another daemon works; this one ends or does not start.
- settle: the daemon that was asked has ended, so the wait ends.
- answer: publish the own presence again.
- insist: answer, and warn. The other one is an earlier run, and its presence is late.
- see: see below.

A daemon is *blind* if the broker does not let it read or write the topic. It works although it has
not received its claim. When it receives a message of its own, it is no longer blind, and claims its
host in the usual way (see).
"""

from collections import deque
from datetime import datetime
from typing import Final, Literal, TypeGuard

import msgspec

from fastlib.message.node import Presence

Phase = Literal["subscribes", "claims", "works"]

Decision = Literal[
    "keep",
    "claimed",
    "won",
    "refuse",
    "settle",
    "claim again",
    "insist",
    "answer",
    "see",
    "nothing",
]

CLOCKS_DIFFER_SECONDS: Final = 2.0
"""Maximum difference in seconds of the clocks of two hosts."""

REMEMBERED_RUNS: Final = 16
"""Maximum number of later runs that are remembered."""


class HostClaim(msgspec.Struct):
    """The state of a daemon's claim of its host, and the known other daemons."""

    own: Presence
    came: float
    """Time of this daemon's first claim of the host, in seconds since 1970."""
    phase: Phase = "subscribes"
    again: bool = False
    """True once it has had the host."""
    is_blind: bool = False
    """True if the broker does not let it read or write the topic."""
    kept: Presence | None = None
    """The presence that the broker has retained."""
    expected: datetime | None = None
    """The time of the own presence that the daemon waits for."""
    other: Presence | None = None
    """The presence of another daemon because of which this one ends or refuses to start."""
    earlier: set[str | None] = msgspec.field(default_factory=set)
    """The runs that started before this one."""
    later: deque[str | None] = msgspec.field(default_factory=lambda: deque(maxlen=REMEMBERED_RUNS))
    """The newest runs that may have started after this one."""

    def is_own(self, seen: Presence | None) -> TypeGuard[Presence]:
        """Return True if this run has published a presence."""
        return seen is not None and seen.instance == self.own.instance

    def claims_again(self, seen: Presence) -> bool:
        """Return True if the host is claimed again, from a daemon that started after this one."""
        return self.again and seen.instance not in self.earlier

    def is_of_before(self, seen: Presence) -> bool:
        """Return True if a presence is of a run that started before this one.

        It is a late one: an MQTT library sends it again after a lost connection.
        """
        if seen.instance in self.earlier:
            return True
        if seen.instance in self.later or seen.time is None:
            return False
        return seen.time.timestamp() < self.came - CLOCKS_DIFFER_SECONDS

    def keep(self, seen: Presence | None) -> None:
        """Keep a presence of before the claim: the newest, but `online` rather than `offline`.

        The `offline` of one daemon does not prove that another one has ended.
        """
        ends_another = (
            self.kept is not None
            and self.kept.status == "online"
            and (seen is None or (seen.status == "offline" and seen.instance != self.kept.instance))
        )
        if not ends_another:
            self.kept = seen

    def note(self, seen: Presence) -> None:
        """Note a run that may have started after this one."""
        missed = self.again and self.phase != "works"
        if (seen.is_claim or missed) and not self.is_own(seen):
            self.later.append(seen.instance)


def is_other(own: Presence, seen: Presence, *, again: bool = False) -> bool:
    """Return True if a presence is of another daemon that may be running.

    One with our client id is an earlier run when we start: the broker has ended its connection. If
    we claim `again`, it is a later run, which has ended ours.
    """
    if seen.instance is not None and seen.instance == own.instance:
        return False
    return seen.client_id is not None and (again or seen.client_id != own.client_id)


def decide(claim: HostClaim, seen: Presence | None, *, retained: bool = False) -> Decision:
    """Return the reaction to a received presence: see the table above.

    None is a payload that is not a presence. `retained` is True for a message that the broker has
    kept.
    """
    if retained:
        return "keep"
    if claim.is_own(seen):
        return _decide_own(claim, seen)
    if claim.phase == "works":
        was_before = seen is not None and claim.is_of_before(seen)
        return decide_working(claim.own, seen, was_before=was_before)
    if seen is None or seen.is_claim:
        return "nothing"
    if claim.phase == "subscribes":
        return "keep"
    if decide_claiming(claim.own, seen, again=claim.claims_again(seen)) == "refuse":
        return "refuse"
    return (
        "settle" if claim.kept is not None and claim.kept.instance == seen.instance else "nothing"
    )


def _decide_own(claim: HostClaim, seen: Presence) -> Decision:
    if claim.is_blind:
        return "see"
    if claim.phase == "works":
        return "nothing" if seen.status == "online" else "answer"
    if seen.is_claim:
        return "claimed"
    if claim.phase == "subscribes" or claim.other is not None:
        return "nothing"
    return "won" if seen.time == claim.expected else "nothing"


def decide_kept(
    own: Presence, kept: Presence, *, again: bool
) -> Literal["refuse", "ask", "nothing"]:
    """Return the reaction of a daemon in phase `claims` to the presence that the broker retained.

    Its daemon may be dead, so it is asked. But a daemon with our client id that started after us
    has ended our connection, and has received our orders since then.
    """
    if not is_other(own, kept, again=again):
        return "nothing"
    if kept.client_id == own.client_id:
        return "refuse"
    return "ask" if kept.status == "online" else "nothing"


def decide_claiming(own: Presence, seen: Presence, *, again: bool) -> Literal["refuse", "nothing"]:
    """Return the reaction of a daemon in phase `claims` to a new presence."""
    works = seen.status == "online" and not seen.is_claim
    return "refuse" if works and is_other(own, seen, again=again) else "nothing"


def decide_working(
    own: Presence, seen: Presence | None, *, was_before: bool = False
) -> Literal["claim again", "insist", "answer", "nothing"]:
    """Return the reaction of a daemon in phase `works` to a new presence; None is a payload that is
    not a presence.

    `was_before` is True for a run from which we have taken the host over. It does not get the host
    back: the broker may have kept orders for it that we have executed.
    """
    if seen is None or seen.status != "online":
        return "answer"
    if seen.instance is not None and seen.instance == own.instance:
        return "nothing"
    if seen.is_claim or not is_other(own, seen):
        return "answer"
    return "insist" if was_before else "claim again"
