"""Describe the differences of two plain trees, in the terms of the wire."""

import math
from collections.abc import Iterator
from typing import Any


def same(one: Any, other: Any) -> bool:
    """Return True if two messages, values or trees are equal; a NaN is equal to a NaN."""
    return bool(one == other) or repr(one) == repr(other)


def differences(ours: Any, theirs: Any, path: str = "") -> Iterator[str]:
    """Yield each difference on one line: `vcpus: 4, not absent`, `id: '012', not '10'`."""
    for here, one, other in pairs(ours, theirs, path):
        words = f"{word(one)}, not {word(other)}"
        yield f"{here}: {words}" if here else words


class _Absent:
    """Marks a missing value."""


ABSENT = _Absent()


def word(value: Any) -> str:
    """Return the text of a value in a difference."""
    return "absent" if value is ABSENT else repr(value)


def pairs(ours: Any, theirs: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield the places at which two trees differ, with both values; ABSENT for a missing one."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in ours | theirs:
            below = f"{path}.{key}" if path else str(key)
            if key in ours and key in theirs:
                yield from pairs(ours[key], theirs[key], below)
            else:
                yield below, ours.get(key, ABSENT), theirs.get(key, ABSENT)
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for index, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            yield from pairs(one, other, f"{path}[{index}]")
    elif not _equal(ours, theirs):
        yield path, ours, theirs


def _equal(one: Any, other: Any) -> bool:
    """Return True if both are equal and of one type: 1 differs from 1.0 and true."""
    if type(one) is not type(other):
        return False
    return bool(one == other) or (isinstance(one, float) and math.isnan(one) and math.isnan(other))
