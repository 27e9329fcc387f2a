"""Format names, numbers, sizes and durations for people."""

from collections.abc import Iterable
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
