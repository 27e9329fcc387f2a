"""How a migration by pre-copy converges, and what to do when it does not, as pure functions.

Pre-copy sends the whole memory while the guest runs, then again what the guest has written in the
meantime, round after round. Once the rest can be sent within the downtime that is allowed, the
guest is paused, the rest is sent, and the guest runs on at the destination. A guest that writes
faster than the link sends never gets there without help: a longer downtime, a throttled guest, a
pause, or post-copy.

Amounts are bytes, rates bytes a second, times seconds.
"""

from collections.abc import Iterator
from typing import Final, Self

import msgspec

from fastlib.message.tasks import MigrationOptions

MIB: Final = 1024 * 1024
KIB: Final = 1024

DEFAULT_DOWNTIME: Final = 0.3
"""The downtime that is allowed where no option says otherwise."""
DEFAULT_STALL: Final = 30.0
"""How long nothing may move before a migration is given up."""
_SLOW: Final = 0.8
"""A guest that writes at this part of the link's rate, or more, does not converge in good time."""
_MARGIN: Final = 1.1
"""How much longer than computed a raised downtime is, as rates vary."""
_FIRST_THROTTLE: Final = 0.2
_MORE_THROTTLE: Final = 0.1
LARGEST_THROTTLE: Final = 0.99
_MOST_ROUNDS: Final = 10_000


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """A guest, as a migration sees it."""

    memory: float
    dirty_rate: float = 0.0
    """How fast it writes to pages that it has not written to in this round."""
    working_set: float | None = None
    """The memory that it writes to at all; None is the whole."""

    def dirtied(self, seconds: float, throttle: float = 0.0) -> float:
        """What it writes to in that time; `throttle` is the part of its CPU time that is taken."""
        reachable = self.memory if self.working_set is None else self.working_set
        return min(reachable, self.memory, self.dirty_rate * (1.0 - throttle) * seconds)


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """One round: what was sent, how long it took, and what was written meanwhile."""

    sent: float
    seconds: float
    dirtied: float


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """How a migration goes if the rates stay as they are."""

    converges: bool
    rounds: int
    """Rounds before the guest is paused."""
    transferred: float
    """All that is sent. If it does not converge: until the rounds no longer shrink."""
    seconds: float
    """From begin to end, the downtime included."""
    downtime: float
    """How long the guest is paused; if it does not converge, how long it would have to be."""


def rounds(workload: Workload, bandwidth: float, throttle: float = 0.0) -> Iterator[Round]:
    """The rounds, without end: whoever looks decides when it is enough.

    Raises ValueError if the bandwidth is not positive.
    """
    if not bandwidth > 0:
        raise ValueError(f"a bandwidth is more than 0 bytes a second, not {bandwidth}")
    send = workload.memory
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
) -> Prediction:
    """How a migration goes. Raises ValueError if the bandwidth is not positive."""
    transferred = seconds = 0.0
    last = workload.memory
    count = 0
    for played in rounds(workload, bandwidth, throttle):
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


def finishes(remaining: float, bandwidth: float, downtime: float) -> bool:
    """Whether what remains can be sent within the downtime that is allowed."""
    return remaining <= bandwidth * downtime


def expected_seconds(remaining: float, dirty_rate: float, bandwidth: float) -> float | None:
    """How long a migration still takes, from above; None if it does not end by itself.

    All rounds to come together, each a constant part of the one before.
    """
    if remaining <= 0:
        return 0.0
    if bandwidth <= dirty_rate or bandwidth <= 0:
        return None
    return remaining / (bandwidth - dirty_rate)


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What a migration may do to come to an end."""

    max_downtime: float | None = None
    """The longest downtime; None leaves the default and never raises it."""
    timeout: float | None = None
    """When `on_timeout` happens; None is never."""
    on_timeout: str = "abort"
    """`abort`, `pause` or `post-copy`."""
    auto_converge: bool = False
    """Whether the guest may be throttled."""
    stall: float = DEFAULT_STALL
    """How long nothing may move."""

    @classmethod
    def of(cls, parameter: MigrationOptions | None, *, stall: float = DEFAULT_STALL) -> Self:
        """The options of a task's parameter."""
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
        """The downtime that a migration begins with."""
        if self.max_downtime is None:
            return DEFAULT_DOWNTIME
        return min(DEFAULT_DOWNTIME, self.max_downtime)


class MigrationStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """How far a migration is, as the hypervisor tells it."""

    remaining: float
    """What has to be sent as far as it is known."""
    bandwidth: float
    dirty_rate: float = 0.0
    iteration: int = 1
    """The round, from 1; the whole memory has been sent once from 2 on."""
    downtime: float = DEFAULT_DOWNTIME
    """The downtime that is allowed now."""
    throttle: float = 0.0
    """The part of the guest's CPU time that is taken now."""
    throttled_in: int = 0
    """The round in which that was last raised; 0 is never."""
    stalled: float = 0.0
    """How long nothing has moved."""
    paused: bool = False
    """Whether the guest is paused already, so that nothing is written."""
    post_copy: bool = False
    """Whether the guest runs at the destination already."""


class GoOn(msgspec.Struct, frozen=True):
    """Nothing to be done."""


class RaiseDowntime(msgspec.Struct, frozen=True):
    """Allow a longer downtime."""

    seconds: float


class Throttle(msgspec.Struct, frozen=True):
    """Take a larger part of the guest's CPU time."""

    part: float


class SwitchToPostCopy(msgspec.Struct, frozen=True):
    """Let the guest run at the destination and fetch the rest from there."""


class Pause(msgspec.Struct, frozen=True):
    """Pause the guest, so that what remains is sent and the migration ends."""


class Abort(msgspec.Struct, frozen=True):
    """Give up; the guest runs on at the source."""

    reason: str


Decision = GoOn | RaiseDowntime | Throttle | SwitchToPostCopy | Pause | Abort


def decide(statistics: MigrationStatistics, options: Options, elapsed: float) -> Decision:
    """What to do about a migration that has run for `elapsed` seconds.

    Asked again and again; whoever acts on an answer shows that in the next statistics. Help that
    costs the guest little comes first: a downtime within `max_downtime`, then the throttle. After
    the switch to post-copy there is no way back, so nothing is decided any more.
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
        return None  # one step a round, so that its effect is seen first
    if statistics.throttle <= 0:
        return Throttle(_FIRST_THROTTLE)
    return Throttle(min(LARGEST_THROTTLE, statistics.throttle + _MORE_THROTTLE))


def describe(decision: Decision) -> str:
    """A decision in words, for logs."""
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
