"""Repeat long outages in the log: of the broker, the journal, and the hypervisor's services.

The loss itself is logged where it is noticed. A person who reads the end of the log an hour later
must see that it still lasts, and since when.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from logging import getLogger
from typing import Final

import msgspec

from fastlib.clock import SYSTEM_CLOCK, Clock

from .logs import context_without_task

log = getLogger("fastlib.migfra")

LOOK_SECONDS: Final = 10.0
"""Seconds between two checks."""
FIRST_REMINDERS: Final = (60.0, 300.0, 900.0)
"""Ages in seconds at which an outage is logged again; after the last one, every hour."""
HOUR: Final = 3600.0

Look = Callable[[], Awaitable[Mapping[str, str]]]
"""Returns the parts that are unavailable now, such as `the broker`, each with its reason."""


def next_reminder(age: float) -> float:
    """Return the age of an outage (seconds) at which it is logged again after `age`."""
    later = [each for each in FIRST_REMINDERS if each > age]
    return later[0] if later else (age // HOUR + 1) * HOUR


def describe_age(seconds: float) -> str:
    """Return a duration in its two largest units, such as `2 h 5 min`."""
    left = int(seconds)
    parts: list[str] = []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        amount, left = divmod(left, size)
        if amount or parts:
            parts.append(f"{amount} {unit}" if amount else "")
    return " ".join(part for part in parts[:2] if part) or "0 s"


class _Outage(msgspec.Struct):
    """The outage of one part."""

    since: float
    """By the monotonic clock."""
    due: float
    """The age in seconds at which it is logged again."""
    reminded: bool = False


class Outages:
    """Checks for outages at intervals, and logs their duration."""

    def __init__(self, look: Look, clock: Clock = SYSTEM_CLOCK) -> None:
        self._look = look
        self._clock = clock
        self._outages: dict[str, _Outage] = {}
        self._worker: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Start the checks."""
        self._worker = asyncio.create_task(self._run(), context=context_without_task())

    def end(self) -> None:
        """Stop the checks."""
        if self._worker is not None:
            self._worker.cancel()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                missing = await self._look()
            except Exception:  # tasks continue without these log lines
                log.exception("the check for unavailable parts failed")
            else:
                self.take(missing)

    def take(self, missing: Mapping[str, str]) -> None:
        """Log the outages that are due, given the unavailable parts with their reasons."""
        now = self._clock.monotonic()
        for name, reason in missing.items():
            outage = self._outages.setdefault(name, _Outage(now, next_reminder(0.0)))
            age = now - outage.since
            if age >= outage.due:
                outage.due, outage.reminded = next_reminder(age), True
                log.warning("%s has been unavailable for %s: %s", name, describe_age(age), reason)
        for name in self._outages.keys() - missing.keys():
            outage = self._outages.pop(name)
            if outage.reminded:
                log.warning(
                    "%s is available again, after %s", name, describe_age(now - outage.since)
                )
