"""Decide whether a task may begin: only until its order expires. A begun task continues.

The key `expires` of a container is compared with the wall clock of the daemon's host, each time
that it matters. That clock may be set back while the order waits. So the shortest remaining time is
also measured by the monotonic clock. See docs/reference/protocol.md, "Orders that expire".
"""

import asyncio
import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from fastlib.clock import SYSTEM_CLOCK, Clock
from fastlib.codec.instants import write_instant
from fastlib.message.result_container import NOT_BEGUN
from fastlib.migfra.errors import TaskExpiredError

LONGEST_TIMER_SECONDS: Final = 60.0
"""Seconds after which a timer reads the wall clock again, because it may have been set."""


def has_expired(expires: float | None, now: float, left: float = math.inf) -> bool:
    """Return whether an order has expired. At the exact time of its expiry it has.

    `expires` and `now` are seconds since 1970. `left` is the longest remaining time in seconds by
    the monotonic clock. None means an order that never expires.
    """
    return expires is not None and (now >= expires or left <= 0)


def latest_begin(expires: float, now: float, monotonic: float, earlier: float = math.inf) -> float:
    """Return the time of the monotonic clock at which an order expires at the latest.

    `expires` and `now` are seconds since 1970. `earlier` is the result of an earlier call: a wall
    clock that was set back since then does not add time.
    """
    return min(earlier, monotonic + expires - now)


def latest_begin_after_restart(
    expires: float, accepted: float, monotonic: float, accepted_monotonic: float | None
) -> float:
    """Return `latest_begin` of an order that an earlier run of the daemon accepted.

    It was accepted at `accepted`, in seconds since 1970. `monotonic` is the monotonic clock now,
    `accepted_monotonic` its reading then: None if the host has booted since. Then only a bound is
    known.
    """
    return expires - accepted + (monotonic if accepted_monotonic is None else accepted_monotonic)


def timer_seconds(left: float) -> float:
    """Return the seconds until the clocks should be read again if `left` seconds remain."""
    return min(LONGEST_TIMER_SECONDS, max(0.0, left))


def describe_instant(seconds: float) -> str:
    """Return a time as it is written in messages. Raises nothing for times out of range."""
    try:
        return write_instant(datetime.fromtimestamp(seconds, UTC))
    except (ValueError, OverflowError, OSError):
        return f"{seconds:g} s after the beginning of 1970"


def describe_expiry(expires: float, now: float, host: str) -> str:
    """Return the text that an order expired, with the time of its expiry and that of the host."""
    if has_expired(expires, now):
        return (
            f"the order expired at {describe_instant(expires)}, and it is {describe_instant(now)} "
            f"at {host}"
        )
    return (
        f"the order has expired, although it expires at {describe_instant(expires)} and it is "
        f"{describe_instant(now)} at {host}: that clock was set back after the order came"
    )


class Deadline:
    """The latest time at which an order may begin. All its tasks share one; any thread may use it.

    Once an expiry was observed, it is final.
    """

    def __init__(
        self, expires: float | None, clock: Clock = SYSTEM_CLOCK, *, latest: float = math.inf
    ) -> None:
        """`expires` is in seconds since 1970, None for an order that never expires.

        `latest` is a time of the monotonic clock, from an earlier run: see
        `latest_begin_after_restart`.
        """
        self.expires: Final = expires
        self.clock: Final = clock
        self._latest = latest
        self._seen: float | None = None
        self.look()

    @property
    def latest(self) -> float:
        """The latest time of the expiry by the monotonic clock, from the last reading."""
        return self._latest

    def look(self) -> float:
        """Read the clocks. Return the remaining seconds, infinite if it cannot expire."""
        if self.expires is None:
            return math.inf
        now, monotonic = self.clock.now(), self.clock.monotonic()
        self._latest = latest_begin(self.expires, now, monotonic, self._latest)
        left = self._latest - monotonic
        if self._seen is None and has_expired(self.expires, now, left):
            self._seen = now
        return left if self._seen is None else min(0.0, left)

    @property
    def over(self) -> bool:
        """Whether the order has expired."""
        self.look()
        return self._seen is not None

    @property
    def seen(self) -> float | None:
        """The wall clock when the expiry was first observed, in seconds since 1970."""
        return self._seen


class Expiry:
    """Whether a task has begun, and whether it may still begin. Any thread may use it.

    Once the expiry was observed, it is final, also if the clock is set back.
    """

    def __init__(
        self,
        expires: float | None = None,
        *,
        host: str = "this host",
        clock: Clock = SYSTEM_CLOCK,
        begun: bool = False,
        deadline: Deadline | None = None,
    ) -> None:
        """`expires` is in seconds since 1970. `begun` is a task that an earlier run has begun.

        `deadline` is that of the order, instead of `expires` and `clock`.
        """
        self._deadline = Deadline(expires, clock) if deadline is None else deadline
        self._host = host
        self._begun = begun
        self._has_acted = False
        self._on_begin: Callable[[], object] | None = None

    @property
    def begun(self) -> bool:
        """Whether the task acts, or has acted, on a domain."""
        return self._begun

    @property
    def has_acted(self) -> bool:
        """Whether the task has begun, now or in an earlier attempt of this run of the daemon."""
        return self._begun or self._has_acted

    @property
    def expired(self) -> bool:
        """Whether the task has not begun and must not begin."""
        return not self._begun and self._deadline.over

    def check(self) -> None:
        """Raise TaskExpiredError if the task has not begun and must not begin."""
        if self.expired:
            expires, seen = self._deadline.expires, self._deadline.seen
            assert expires is not None
            assert seen is not None
            reason = describe_expiry(expires, seen, self._host)
            raise TaskExpiredError(
                f"{NOT_BEGUN}: {reason}; send it again, as a new order, if it is still wanted"
            )

    def begin(self) -> None:
        """Note that the task acts from now on. Raises TaskExpiredError if it must not."""
        self.check()
        if not self._begun:
            self._begun = self._has_acted = True
            callback = self._on_begin
            if callback is not None:
                callback()

    def check_in_time(self) -> None:
        """Raise TaskExpiredError if the order has expired since `begin`, before the task acted."""
        if self._deadline.over:
            self.reset()
            self.check()

    def on_begin(self, callback: Callable[[], object] | None) -> None:
        """Register `callback`, or None to remove it.

        It is called each time the task begins, in the thread that begins it.
        """
        self._on_begin = callback

    def reset(self) -> None:
        """Note that the task must begin again: for another attempt, or after it only waited."""
        self._begun = False

    def against_retry(self, pause: float) -> str | None:
        """Return the reason against an attempt after a pause (seconds), or None if it may begin."""
        if self._deadline.look() > pause:
            return None
        expires = self._deadline.expires
        assert expires is not None
        if self._deadline.over:
            reason = describe_expiry(expires, self._deadline.clock.now(), self._host)
        else:
            reason = f"the order expires at {describe_instant(expires)}, before the next try"
        return f"the daemon does not try it again: {reason}"

    async def wait(self) -> None:
        """Wait until the task has expired; without end if it has begun or cannot expire."""
        while not self.expired:
            seconds = self.timer_seconds()
            if seconds is None:
                await asyncio.get_running_loop().create_future()
            else:
                await asyncio.sleep(seconds)

    def timer_seconds(self) -> float | None:
        """Return the seconds until `expired` should be read again. None if it cannot change."""
        if self._begun or self._deadline.expires is None or self._deadline.over:
            return None
        return timer_seconds(self._deadline.look())
