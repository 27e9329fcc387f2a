"""Parse and write instants: times with a zone, in the spelling of RFC 3339.

An instant is a `datetime` in UTC. See docs/reference/protocol.md, "Scalars".
"""

from datetime import UTC, datetime, timedelta
from typing import Final

from .lazy_pattern import lazy_pattern

EXAMPLE: Final = "2026-11-29T06:30:00Z"
"""A correct spelling, for errors."""

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
"""For schemas: the pattern of the texts from `write_instant`."""
READ_PATTERN: Final = (
    f"^{_DATE}[Tt ]{_TIME}([0-5][0-9]|60)([.][0-9]+)?([Zz]|[-+]([01][0-9]|2[0-3]):[0-5][0-9])$"
)
"""For schemas: the pattern of the texts that `parse_instant` accepts. It also accepts leap seconds
in wrong minutes, and times outside the years 1 to 9999 in UTC."""

_INSTANT = lazy_pattern(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ](?:[01][0-9]|2[0-3]):[0-5][0-9]:(?:[0-5][0-9]|(60))"
    r"(?:\.[0-9]+)?(?:[Zz]|[-+](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)
_LAST_MINUTE = (23, 59)


def parse_instant(text: str) -> datetime | None:
    """Parse a time with a zone in any spelling of RFC 3339. Return None for other texts.

    The result is in UTC. Digits after the microseconds are cut off. The leap second 23:59:60 (UTC)
    is read as the first second of the next day, as POSIX counts it. Times outside the years 1 to
    9999 in UTC are refused.
    """
    match = _INSTANT.fullmatch(text)
    if match is None:
        return None
    leaps = match[1] is not None
    if leaps:
        text = f"{text[:17]}59{text[19:]}"
    try:
        # Python's own reader accepts more than RFC 3339, but no `z`.
        value = datetime.fromisoformat(text.replace("z", "Z"))
        if value.tzinfo is not UTC:
            value = value.astimezone(UTC)
        if leaps:
            if (value.hour, value.minute) != _LAST_MINUTE:
                return None
            value += timedelta(seconds=1)
    except (ValueError, OverflowError):  # a day that does not exist, or outside the years 1 to 9999
        return None
    return value


def write_instant(value: datetime) -> str:
    """Return a time in UTC with `Z`, with the necessary digits of the fraction only."""
    text = value.isoformat()[: -len("+00:00")]
    return f"{text.rstrip('0') if value.microsecond else text}Z"


def in_utc(value: datetime) -> datetime | None:
    """Return an aware time as a plain `datetime` in UTC; the same object if it already is.

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
