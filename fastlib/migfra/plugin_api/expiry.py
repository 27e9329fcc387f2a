"""When a task may begin: not once its order has expired. What has begun goes on.

The key `expires` of a container is compared with the wall clock of the daemon's host, each time
that it matters. See docs/reference/protocol.md, "Orders that expire".
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from fastlib.clock import SYSTEM_CLOCK, Clock
from fastlib.codec.instants import write_instant
from fastlib.message.result_container import NOT_BEGUN
from fastlib.migfra.errors import TaskExpiredError

LONGEST_TIMER_SECONDS: Final = 60.0
"""Seconds after which a timer looks at the wall clock again, which somebody may have set."""


def has_expired(expires: float | None, now: float) -> bool:
    """Return whether an order must not begin any more. At the time of its expiry it has expired.

    Both are seconds since 1970. None is an order that waits however long it takes.
    """
    return expires is not None and now >= expires


def may_retry(expires: float | None, now: float, pause: float) -> bool:
    """Return whether an attempt may still begin after a pause (seconds)."""
    return not has_expired(expires, now + pause)


def timer_seconds(expires: float, now: float) -> float:
    """Return the seconds until somebody should look at the clock again."""
    return min(LONGEST_TIMER_SECONDS, max(0.0, expires - now))


def describe_instant(seconds: float) -> str:
    """Return a time as it is written in messages. Raises nothing for times out of range."""
    try:
        return write_instant(datetime.fromtimestamp(seconds, UTC))
    except (ValueError, OverflowError, OSError):
        return f"{seconds:g} s after the beginning of 1970"


def describe_expiry(expires: float, now: float, host: str) -> str:
    """Say that an order expired, with the time of its expiry and that of the host."""
    return (
        f"the order expired at {describe_instant(expires)}, and it is {describe_instant(now)} "
        f"at {host}"
    )


class Expiry:
    """Whether a task has begun, and whether it still may. Any thread may use it.

    Once it was seen to be expired it stays so, even if somebody sets the clock back.
    """

    def __init__(
        self,
        expires: float | None = None,
        *,
        host: str = "this host",
        clock: Clock = SYSTEM_CLOCK,
        begun: bool = False,
    ) -> None:
        """`expires` is in seconds since 1970. `begun` is a task that an earlier run has begun."""
        self.expires: Final = expires
        self.clock: Final = clock
        self._host = host
        self._begun = begun
        self._has_acted = False
        self._on_begin: Callable[[], object] = _nothing
        self._seen: float | None = None
        """When it was first seen to be expired."""

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
        """Whether the task has not begun, and must not begin any more."""
        if self._begun:
            return False
        if self._seen is None and has_expired(self.expires, now := self.clock.now()):
            self._seen = now
        return self._seen is not None

    def check(self) -> None:
        """Raise TaskExpiredError if the task has not begun and must not begin any more."""
        if self.expired:
            assert self.expires is not None
            assert self._seen is not None
            reason = describe_expiry(self.expires, self._seen, self._host)
            raise TaskExpiredError(
                f"{NOT_BEGUN}: {reason}; send it again, as a new order, if it is still wanted"
            )

    def begin(self) -> None:
        """Note that the task acts from now on. Raises TaskExpiredError if it must not."""
        self.check()
        if not self._begun:
            self._begun = self._has_acted = True
            self._on_begin()

    def check_in_time(self) -> None:
        """Raise TaskExpiredError if the order has expired since `begin`, before the task acted."""
        if has_expired(self.expires, self.clock.now()):
            self.reset()
            self.check()

    def on_begin(self, callback: Callable[[], object]) -> None:
        """Have `callback` called whenever the task begins, in the thread that begins it."""
        self._on_begin = callback

    def reset(self) -> None:
        """Note that the task has to begin again: another attempt, or one that only waited."""
        self._begun = False

    def against_retry(self, pause: float) -> str | None:
        """Return why no other attempt begins after a pause (seconds), or None if one may."""
        now = self.clock.now()
        if self._seen is None and may_retry(self.expires, now, pause):
            return None
        assert self.expires is not None
        reason = describe_expiry(self.expires, now, self._host)
        if not has_expired(self.expires, now):
            reason = f"the order expires at {describe_instant(self.expires)}, before the next try"
        return f"it is not tried again: {reason}"

    async def wait(self) -> None:
        """Wait until the task has expired, for ever if it has begun or cannot expire."""
        while not self.expired:
            seconds = self.timer_seconds()
            if seconds is None:
                await asyncio.get_running_loop().create_future()
            else:
                await asyncio.sleep(seconds)

    def timer_seconds(self) -> float | None:
        """Return the seconds until `expired` should be read again. None if it cannot change."""
        if self._begun or self._seen is not None or self.expires is None:
            return None
        return timer_seconds(self.expires, self.clock.now())


def _nothing() -> None:
    """Nobody wants to know."""
