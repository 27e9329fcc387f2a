"""Parses and writes instants: times with a zone, as RFC 3339 spells them.

An instant is a `datetime` in UTC. See docs/reference/protocol.md, "Scalars".
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

EXAMPLE: Final = "2026-11-29T06:30:00Z"
"""A right spelling, for errors."""

_YEAR = "([0-9]{3}[1-9]|[0-9]{2}[1-9]0|[0-9][1-9]00|[1-9]000)"
_LEAP_YEAR = "([0-9]{2}(0[48]|[2468][048]|[13579][26])|(0[48]|[2468][048]|[13579][26])00)"
_DAY = (
    "((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])"
    "|(0[469]|11)-(0[1-9]|[12][0-9]|30)"
    "|02-(0[1-9]|1[0-9]|2[0-8]))"
)
_DATE = f"({_YEAR}-{_DAY}|{_LEAP_YEAR}-02-29)"
_TIME = "([01][0-9]|2[0-3]):[0-5][0-9]:"
WRITTEN_PATTERN: Final = f"^{_DATE}T{_TIME}[0-5][0-9]([.][0-9]{{0,5}}[1-9])?Z$"
"""For schemas: the pattern of what `write_instant` returns."""
READ_PATTERN: Final = (
    f"^{_DATE}[Tt ]{_TIME}([0-5][0-9]|60)([.][0-9]+)?([Zz]|[-+]([01][0-9]|2[0-3]):[0-5][0-9])$"
)
"""For schemas: the pattern of what `parse_instant` reads. It does not know which minutes can have a
leap second, nor which times leave the years 1 to 9999 in UTC."""

_INSTANT = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]"
    r"([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?"
    r"(?:[Zz]|([-+])([0-9]{2}):([0-9]{2}))"
)
_LEAP_SECOND = 60


def parse_instant(text: str) -> datetime | None:
    """Parse a time with a zone in any spelling of RFC 3339. Return None for other texts.

    The result is in UTC. Digits after the microseconds are cut off. The leap second 23:59:60 (UTC)
    is read as the first second of the next day, as POSIX counts it. A time that is not in the years
    1 to 9999 in UTC is none.
    """
    match = _INSTANT.fullmatch(text)
    if match is None:
        return None
    fraction, sign = match[7], match[8]
    hour, minute, second = int(match[4]), int(match[5]), int(match[6])
    leaps = second == _LEAP_SECOND
    microsecond = int(fraction[:6].ljust(6, "0")) if fraction else 0
    try:
        local = datetime(
            int(match[1]),
            int(match[2]),
            int(match[3]),
            hour,
            minute,
            second - leaps,
            microsecond,
            tzinfo=UTC,
        )
        if sign is not None:
            offset = _offset(match[9], match[10])
            if offset is None:
                return None
            local = local - offset if sign == "+" else local + offset
        if leaps:
            if (local.hour, local.minute) != (23, 59):
                return None
            local += timedelta(seconds=1)
    except (ValueError, OverflowError):  # no such day, or outside of the years 1 to 9999
        return None
    return local


def _offset(hours: str, minutes: str) -> timedelta | None:
    """Return the offset of a zone, or None if no zone has this offset."""
    if int(hours) > 23 or int(minutes) > 59:
        return None
    return timedelta(hours=int(hours), minutes=int(minutes))


def write_instant(value: datetime) -> str:
    """Return a time in UTC with `Z`, with as few digits of a fraction as it needs."""
    text = value.replace(tzinfo=None).isoformat()
    return f"{text.rstrip('0') if value.microsecond else text}Z"


def in_utc(value: datetime) -> datetime | None:
    """Return an aware time as a plain `datetime` in UTC, the same object if it is one.

    Return None for a time that is not in the years 1 to 9999 in UTC.
    """
    if type(value) is datetime and value.tzinfo is UTC and not value.fold:
        return value
    try:
        moved = value.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return datetime(
        moved.year,
        moved.month,
        moved.day,
        moved.hour,
        moved.minute,
        moved.second,
        moved.microsecond,
        tzinfo=UTC,
    )
