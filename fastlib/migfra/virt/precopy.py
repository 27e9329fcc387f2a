"""Predict whether a migration by pre-copy converges, and decide what to do if not. Pure.

Pre-copy sends the whole memory while the guest runs. Then it sends the memory that the guest has
written in the meantime, round after round. Once the rest can be sent within the allowed downtime,
the guest is paused, the rest is sent, and the guest continues at the destination. A guest that
writes faster than the link sends needs help: a longer downtime, a throttled guest, a pause, or
post-copy.

Amounts are in bytes, rates in bytes a second, times in seconds.
"""

from collections.abc import Iterator
from typing import Final, Self

import msgspec

from fastlib.message.tasks import MigrationOptions

MIB: Final = 1024 * 1024
KIB: Final = 1024

DEFAULT_DOWNTIME: Final = 0.3
"""The default of the allowed downtime, in seconds."""
DEFAULT_STALL: Final = 30.0
"""Seconds without progress after which a migration is aborted."""
_SLOW: Final = 0.8
"""A guest that writes at this fraction of the link's rate or faster does not converge in time."""
_MARGIN: Final = 1.1
"""Factor of a raised downtime over the computed one, because rates vary."""
_FIRST_THROTTLE: Final = 0.2
_MORE_THROTTLE: Final = 0.1
LARGEST_THROTTLE: Final = 0.99
_MOST_ROUNDS: Final = 10_000


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """A guest's use of its memory."""

    memory: float
    dirty_rate: float = 0.0
    """The rate at which it writes to pages that it has not written to in this round."""
    working_set: float | None = None
    """The memory that it ever writes to. None means all of it."""

    def dirtied(self, seconds: float, throttle: float = 0.0) -> float:
        """Return the bytes that it writes to. `throttle` is the removed part of CPU time."""
        reachable = self.memory if self.working_set is None else self.working_set
        return min(reachable, self.memory, self.dirty_rate * (1.0 - throttle) * seconds)


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """One round: the sent bytes, its seconds, and the bytes written during it."""

    sent: float
    seconds: float
    dirtied: float


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """The course of a migration if the rates stay constant."""

    converges: bool
    rounds: int
    """Rounds before the guest is paused."""
    transferred: float
    """All sent bytes. If it does not converge: until the rounds no longer shrink."""
    seconds: float
    """The time from begin to end, with the downtime."""
    downtime: float
    """The time that the guest is paused, or would have to be paused if it does not converge."""


def rounds(
    workload: Workload, bandwidth: float, throttle: float = 0.0, first: float | None = None
) -> Iterator[Round]:
    """Yield the rounds without end. The caller decides when to stop.

    `first` is the bytes of the first round. None means the whole memory.
    Raises ValueError if the bandwidth is not positive.
    """
    if not bandwidth > 0:
        raise ValueError(f"a bandwidth must be more than 0 bytes a second, not {bandwidth}")
    send = workload.memory if first is None else first
    while True:
        seconds = send / bandwidth
        dirtied = workload.dirtied(seconds, throttle)
        yield Round(sent=send, seconds=seconds, dirtied=dirtied)
        send = dirtied


def predict(
    workload: Workload,
    bandwidth: float,
    max_downtime: float = DEFAULT_DOWNTIME,
    throttle: float = 0.0,
    first: float | None = None,
) -> Prediction:
    """Predict a migration. Raises ValueError if the bandwidth is not positive.

    `first` is the bytes of the first round. None means the whole memory.
    """
    transferred = seconds = 0.0
    last = workload.memory if first is None else first
    count = 0
    for played in rounds(workload, bandwidth, throttle, first):
        count += 1
        transferred += played.sent
        seconds += played.seconds
        last, before = played.dirtied, last
        converged = finishes(last, bandwidth, max_downtime)
        if converged or count == _MOST_ROUNDS or (count > 1 and last >= before):
            break
    return Prediction(
        converges=converged,
        rounds=count,
        transferred=transferred + last,
        seconds=seconds + last / bandwidth,
        downtime=last / bandwidth,
    )


def seconds_left(
    workload: Workload,
    unsent: float,
    round_seconds: float,
    bandwidth: float,
    downtime: float = DEFAULT_DOWNTIME,
    throttle: float = 0.0,
) -> float | None:
    """Return the seconds until the end of a migration if the rates stay constant.

    The present round has lasted `round_seconds`, and has `unsent` bytes left. None if it does not
    converge, or if nothing moves.
    """
    if not bandwidth > 0:
        return None
    seconds = unsent / bandwidth
    rest = workload.dirtied(round_seconds + seconds, throttle)
    if finishes(rest, bandwidth, downtime):
        return seconds + rest / bandwidth
    prediction = predict(workload, bandwidth, downtime, throttle, first=rest)
    return seconds + prediction.seconds if prediction.converges else None


def finishes(remaining: float, bandwidth: float, downtime: float) -> bool:
    """Return whether the rest can be sent within the allowed downtime."""
    return remaining <= bandwidth * downtime


def expected_seconds(remaining: float, dirty_rate: float, bandwidth: float) -> float | None:
    """Return an upper bound for the seconds until the end. None if it does not converge.

    It is the sum of all future rounds, each a constant fraction of the one before.
    """
    if remaining <= 0:
        return 0.0
    if bandwidth <= dirty_rate or bandwidth <= 0:
        return None
    return remaining / (bandwidth - dirty_rate)


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The permitted means to end a migration."""

    max_downtime: float | None = None
    """The longest downtime. None keeps the default and never raises it."""
    timeout: float | None = None
    """The time of `on_timeout`. None means never."""
    on_timeout: str = "abort"
    """The action at the timeout: `abort`, `pause` or `post-copy`."""
    auto_converge: bool = False
    """Whether the guest may be throttled."""
    stall: float = DEFAULT_STALL
    """Seconds without progress before an abort."""

    @classmethod
    def of(cls, parameter: MigrationOptions | None, *, stall: float = DEFAULT_STALL) -> Self:
        """Return the options of a task's parameter."""
        if parameter is None:
            return cls(stall=stall)
        downtime = parameter.max_downtime
        timeout = parameter.timeout
        return cls(
            max_downtime=None if downtime is None else downtime / 1000,
            timeout=None if timeout is None else float(timeout),
            on_timeout=parameter.on_timeout or "abort",
            auto_converge=parameter.auto_converge or False,
            stall=stall,
        )

    @property
    def first_downtime(self) -> float:
        """The allowed downtime at the begin of a migration."""
        if self.max_downtime is None:
            return DEFAULT_DOWNTIME
        return min(DEFAULT_DOWNTIME, self.max_downtime)


class MigrationStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """The progress of a migration, as the hypervisor reports it."""

    remaining: float
    """All bytes to send, as far as it is known."""
    bandwidth: float
    dirty_rate: float = 0.0
    iteration: int = 1
    """The round, from 1. From round 2 on the whole memory has been sent once."""
    downtime: float = DEFAULT_DOWNTIME
    """The allowed downtime now."""
    throttle: float = 0.0
    """The part of the guest's CPU time that is removed now."""
    throttled_in: int = 0
    """The round in which the throttle was last raised. 0 means never."""
    stalled: float = 0.0
    """Seconds since the last progress."""
    paused: bool = False
    """Whether the guest is paused already. Then it writes nothing."""
    post_copy: bool = False
    """Whether the guest runs at the destination already."""


class GoOn(msgspec.Struct, frozen=True):
    """Do nothing."""


class RaiseDowntime(msgspec.Struct, frozen=True):
    """Allow a longer downtime."""

    seconds: float


class Throttle(msgspec.Struct, frozen=True):
    """Remove a larger part of the guest's CPU time."""

    part: float


class SwitchToPostCopy(msgspec.Struct, frozen=True):
    """Let the guest run at the destination and fetch the rest from there."""


class Pause(msgspec.Struct, frozen=True):
    """Pause the guest. Then the rest is sent and the migration ends."""


class Abort(msgspec.Struct, frozen=True):
    """Abort the migration. The guest continues at the source."""

    reason: str


Decision = GoOn | RaiseDowntime | Throttle | SwitchToPostCopy | Pause | Abort


def decide(statistics: MigrationStatistics, options: Options, elapsed: float) -> Decision:
    """Decide what to do about a migration that has run for `elapsed` seconds.

    Call it repeatedly. The next statistics must show the effect of the last decision. Help that
    costs the guest little comes first: a downtime within `max_downtime`, then the throttle. The
    switch to post-copy cannot be undone, so after it the decision is always to go on.
    """
    if statistics.post_copy:
        return GoOn()
    if statistics.stalled >= options.stall:
        return Abort(f"nothing has moved for {statistics.stalled:.0f} s")
    if options.timeout is not None and elapsed >= options.timeout:
        return _at_timeout(statistics, options)
    if statistics.paused or statistics.iteration < 2 or statistics.bandwidth <= 0:
        return GoOn()
    if statistics.dirty_rate < _SLOW * statistics.bandwidth:
        return GoOn()
    return _raised_downtime(statistics, options) or _throttled(statistics, options) or GoOn()


def _at_timeout(statistics: MigrationStatistics, options: Options) -> Decision:
    if statistics.paused and finishes(
        statistics.remaining, statistics.bandwidth, statistics.downtime
    ):
        return GoOn()  # it is about to end
    if options.on_timeout == "pause":
        return GoOn() if statistics.paused else Pause()
    if options.on_timeout == "post-copy":
        return SwitchToPostCopy()
    rest = f"{statistics.remaining / MIB:.0f} MiB remain"
    if statistics.dirty_rate > 0:
        rest += f", the guest writes {statistics.dirty_rate / MIB:.0f} MiB/s"
    return Abort(f"not finished within the timeout of {options.timeout:g} s ({rest})")


def _raised_downtime(statistics: MigrationStatistics, options: Options) -> RaiseDowntime | None:
    if options.max_downtime is None:
        return None
    needed = statistics.remaining / statistics.bandwidth
    if not statistics.downtime < needed <= options.max_downtime:
        return None
    return RaiseDowntime(min(options.max_downtime, needed * _MARGIN))


def _throttled(statistics: MigrationStatistics, options: Options) -> Throttle | None:
    if not options.auto_converge or statistics.throttle >= LARGEST_THROTTLE:
        return None
    if statistics.throttled_in >= statistics.iteration:
        return None  # one step a round: its effect must show first
    if statistics.throttle <= 0:
        return Throttle(_FIRST_THROTTLE)
    return Throttle(min(LARGEST_THROTTLE, statistics.throttle + _MORE_THROTTLE))


def describe(decision: Decision) -> str:
    """Return a decision in words, for logs."""
    match decision:
        case RaiseDowntime(seconds):
            return f"raise the downtime to {seconds * 1000:.0f} ms"
        case Throttle(part):
            return f"throttle the guest by {part:.0%}"
        case Abort(reason):
            return f"abort: {reason}"
        case SwitchToPostCopy():
            return "switch to post-copy"
        case Pause():
            return "pause the guest"
        case GoOn():
            return "go on"
