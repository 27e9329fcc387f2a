"""Decide the outcome of an order without a result in time. No I/O."""

from datetime import datetime, timedelta
from typing import Final, Literal, NamedTuple

import msgspec

OutcomeKind = Literal["never begun", "begun", "unknown"]
"""`never begun`: it was not executed and will not be executed. `begun`: a daemon has begun it."""

UNSENT_SECONDS: Final = 1.0
"""The time within which the transport drops a message that expired before it was sent."""

CLOCK_TOLERANCE: Final = 2.0
"""Seconds by which two clocks may differ, with the time of a message, for an outcome to be true."""

QUEUED: Final = "queued"
"""The phase of progress in which a task has not begun."""


class JournalView(msgspec.Struct, frozen=True, kw_only=True):
    """The facts about one order that a daemon has answered from its journal."""

    time: datetime
    """The daemon's clock when it answered."""
    began: datetime | None
    """Time at which it began the order, by its own clock; None if it has not."""
    expires: datetime | None
    """Time of expiry from the journal; the order's own if the journal does not have it."""
    complete: bool
    """True if the journal is certain to have the order and its begin, if there were any."""

    @property
    def excludes_a_begin(self) -> bool:
        """True if the order was not begun, and had expired by the clock that it expires by."""
        expired = self.expires is not None and self.time >= self.expires
        return self.began is None and self.complete and expired


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """The observations about one order, at the time when its request fails."""

    expires: datetime | None
    """The order's own deadline; None if it waits without a limit."""
    only_asks: bool = False
    """True for a query, which changes nothing and does not expire at its daemon."""
    withdrawn: bool
    """True if the transport dropped the message before it wrote any of it."""
    sent_before: bool = False
    """True if the caller chose the idempotency key, so an earlier order may have the same."""
    phase: str | None
    """The last phase that the daemon reported."""
    status: str | None
    """The daemon's last presence; None if it has never reported one. C++ daemons report none."""
    away: bool
    """True if the presence was continuously `offline` from before the sending until now."""
    heard: bool = False
    """True if the broker has sent the presence again after the order had expired.

    A connection can be dead for long without notice, and a daemon can return in the meantime.
    """
    knows_expires: bool
    """True if the daemon is known to honour `expires`."""
    confirmed: bool = True
    """True if the broker has confirmed the message."""
    journal: JournalView | None = None
    """The answer of the daemon, if it was queried."""
    tolerance: float = CLOCK_TOLERANCE
    """Seconds after `expires` until no daemon begins it, because clocks differ."""

    @property
    def closed(self) -> datetime | None:
        """The time by this host's clock after which no daemon begins it; None if unlimited."""
        if self.expires is None:
            return None
        try:
            return self.expires + timedelta(seconds=self.tolerance)
        except OverflowError:
            return self.expires


class Outcome(NamedTuple):
    """The outcome of an order, with the reason in words."""

    kind: OutcomeKind
    reason: str


def has_begun(phase: str | None) -> bool:
    """Return True if progress with this phase shows that a task has begun."""
    return phase is not None and phase != QUEUED


def worth_asking(evidence: Evidence, now: datetime) -> bool:
    """Return True if the daemon is online and its journal may say more about the order."""
    return (
        evidence.status == "online"
        and not evidence.only_asks
        and evidence.knows_expires
        and evidence.tolerance > 0
        and outcome_of(evidence, now).kind == "unknown"
    )


def outcome_of(evidence: Evidence, now: datetime) -> Outcome:
    """Return the outcome that is certain at the time `now`."""
    if evidence.withdrawn and not evidence.sent_before:
        return Outcome("never begun", "it expired before it could be sent")
    if evidence.only_asks:
        return Outcome("unknown", "it is only a query and changes nothing")
    if has_begun(evidence.phase):
        return Outcome("begun", f"its daemon reported the phase {evidence.phase!r}")
    view = evidence.journal
    if view is not None and view.began is not None:
        began = view.began.isoformat(sep=" ", timespec="milliseconds")
        return Outcome("begun", f"its daemon began it {began}, as its journal says")
    if view is not None and view.excludes_a_begin:
        return Outcome("never begun", "its daemon had not begun it when it had expired")
    if evidence.withdrawn:
        return Outcome(
            "unknown",
            "this message expired before it could be sent, but an earlier order may have the same "
            "idempotency key",
        )
    if evidence.status is None:
        return Outcome(
            "unknown",
            "its daemon has reported no presence, and a C++ daemon executes an order at any time",
        )
    if not evidence.knows_expires:
        return Outcome(
            "unknown", "its daemon has not reported that it honours 'expires'; older daemons do not"
        )
    if evidence.closed is None:
        return Outcome("unknown", "it has no 'expires', so its daemon can begin it at any time")
    if now < evidence.closed:
        return Outcome(
            "unknown", f"its daemon can begin it until {evidence.closed.isoformat(sep=' ')}"
        )
    if evidence.sent_before:
        return Outcome("unknown", "an earlier order with its idempotency key may have begun")
    if not evidence.away:
        return Outcome("unknown", "its daemon may have begun it, and has not answered")
    if not evidence.heard:
        return Outcome(
            "unknown", "the broker has not answered since, so its daemon may be online again"
        )
    return Outcome("never begun", "its daemon was offline until the order had expired")


def worth_looking(evidence: Evidence, now: datetime) -> bool:
    """Return True if only the broker's confirmation is missing for `never begun`."""
    if evidence.heard:
        return False
    confirmed = msgspec.structs.replace(evidence, heard=True)
    return outcome_of(evidence, now).kind != outcome_of(confirmed, now).kind


def seconds_to_wait(evidence: Evidence, now: datetime) -> float:
    """Return how long after its deadline a request still waits for more evidence.

    Until the order can no longer begin, its daemon may answer that it expired, or be seen. The
    transport may drop a message that was not sent. The client does not wait for either if `expires`
    is far away.
    """
    view = evidence.journal
    begun = has_begun(evidence.phase) or (view is not None and view.began is not None)
    if evidence.expires is None or begun:
        return 0.0
    if not evidence.confirmed:
        slack = max(evidence.tolerance, UNSENT_SECONDS)
    elif evidence.knows_expires and not evidence.only_asks:
        slack = evidence.tolerance
    else:
        return 0.0
    left = (evidence.expires - now).total_seconds() + slack
    return left if 0 < left <= 2 * slack else 0.0
