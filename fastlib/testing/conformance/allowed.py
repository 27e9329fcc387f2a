"""Files of differences that are known and allowed, each with why."""

from collections.abc import Iterable

from fastlib.codec.errors import FastlibError


class AllowedError(FastlibError, ValueError):
    """A line of such a file that is none."""


def read_allowed(lines: Iterable[str]) -> dict[str, str]:
    """The names of the differences that are allowed, and why each is.

    A line is `NAME: WHY`; empty ones and those that begin with `#` are skipped. Raises
    AllowedError.
    """
    allowed: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        name, _, why = (part.strip() for part in text.partition(": "))
        if not why or "/" not in name:
            raise AllowedError(f"line {number}: expected 'NAME: WHY IT IS ALLOWED'")
        if name in allowed:
            raise AllowedError(f"line {number}: {name!r} is a duplicate")
        allowed[name] = why
    return allowed
