"""Files of known and allowed differences, each with a reason."""

from collections.abc import Iterable

from fastlib.codec.errors import FastlibError


class AllowedError(FastlibError, ValueError):
    """A line of such a file is invalid."""


def read_allowed(lines: Iterable[str]) -> dict[str, str]:
    """Return the names of the allowed differences with their reasons.

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
