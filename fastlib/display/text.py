"""Format names, numbers, sizes and durations for people."""

import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final

from fastlib.codec.printable import printable as printable
from fastlib.codec.printable import word as word

MAX_NAMES: Final = 8
"""Names that `join_names` lists at most."""


def plural(number: int, noun: str) -> str:
    """Return `1 host` or `2 hosts`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def join_names(names: Iterable[str]) -> str:
    """Return at most `MAX_NAMES` names, and how many more there are."""
    listed = list(names)
    if len(listed) > MAX_NAMES:
        return f"{', '.join(listed[: MAX_NAMES - 1])} and {len(listed) - MAX_NAMES + 1} more"
    return ", ".join(listed)


def natural_key(name: str) -> tuple[list[tuple[bool, int, str]], str]:
    """Return a key that sorts `node2` before `node10`. It differs for different names."""
    return [_part_key(part) for part in re.findall("[0-9]+|[^0-9]+", name)], name


def _part_key(part: str) -> tuple[bool, int, str]:
    """Return a key that sorts numbers by their value, and before other texts."""
    if not "0" <= part[0] <= "9":
        return True, 0, part
    number = part.lstrip("0")  # of two such numbers the longer one is the larger one
    return False, len(number), number


def byte_size(number: float, decimals: int = 1) -> str:
    """Return a number of bytes in the largest unit up to TiB that keeps it at least 1."""
    value = float(number)
    if value < 1024:
        return f"{value:.0f} bytes"
    for unit in ("KiB", "MiB", "GiB"):
        value /= 1024
        if value < 1024:
            return f"{value:.{decimals}f} {unit}"
    return f"{value / 1024:.1f} TiB"


def age(seconds: float) -> str:
    """Return seconds in at most two units, such as `40 s`, `3 min`, `2 h 5 min` or `3 days`."""
    whole = max(0, int(seconds))
    if whole < 120:
        return f"{whole} s"
    minutes = whole // 60
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        rest = f" {minutes % 60} min" if minutes % 60 else ""
        return f"{minutes // 60} h{rest}"
    return plural(minutes // (24 * 60), "day")


def duration(seconds: float) -> str:
    """Return seconds, or milliseconds below one second."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


# --- times ----------------------------------------------------------------------------------------


def zone(time: datetime) -> str:
    """Return the offset of the local time zone at a time, such as `UTC+01:00`."""
    offset = time.astimezone().strftime("%z")
    return f"UTC{offset[:3]}:{offset[3:5]}"


def full_time(time: datetime) -> str:
    """Return a time in the local zone, with the zone."""
    return f"{time.astimezone():%Y-%m-%d %H:%M:%S} {zone(time)}"


def local_clock(time: datetime, now: datetime) -> str:
    """Return a local time of the day, with the day if it is not that of `now`."""
    local = time.astimezone()
    today = now.astimezone().date() == local.date()
    return f"{local:%H:%M:%S}" if today else f"{local:%Y-%m-%d %H:%M:%S}"


def offline_since(time: datetime | None) -> str:
    """Return `offline since` and a time in the local zone, or only `offline`."""
    return "offline" if time is None else f"offline since {time.astimezone():%Y-%m-%d %H:%M:%S}"


# --- columns of a terminal ------------------------------------------------------------------------


def columns(text: str) -> int:
    """Return the number of columns of a printable text on a terminal."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def wrap(text: str, width: int) -> Iterator[str]:
    """Yield printable text in lines of at most `width` columns, broken at blanks where possible."""
    line = ""
    for part in text.split(" "):
        joined = f"{line} {part}" if line else part
        if columns(joined) <= width:
            line = joined
            continue
        if line:
            yield line
        line = part
        while columns(line) > width:
            head = _fitting(line, width)
            yield head
            line = line[len(head) :]
    yield line


def _fitting(text: str, width: int) -> str:
    """Return the longest beginning of a text that fits, at least one character."""
    used = 0
    for index, char in enumerate(text):
        used += columns(char)
        if used > width and index:
            return text[:index]
    return text
