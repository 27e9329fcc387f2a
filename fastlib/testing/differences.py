"""In what two plain trees differ, in words of the wire."""

import math
from collections.abc import Iterator
from typing import Any


def same(one: Any, other: Any) -> bool:
    """Whether two messages, values or trees are equal; a NaN is equal to a NaN."""
    return bool(one == other) or repr(one) == repr(other)


def differences(ours: Any, theirs: Any, path: str = "") -> Iterator[str]:
    """Each difference on one line: `vcpus: 4, not absent`, `id: '012', not '10'`."""
    for here, one, other in pairs(ours, theirs, path):
        words = f"{word(one)}, not {word(other)}"
        yield f"{here}: {words}" if here else words


class _Absent:
    """What is not there."""


ABSENT = _Absent()


def word(value: Any) -> str:
    """A value of a tree in a difference."""
    return "absent" if value is ABSENT else repr(value)


def pairs(ours: Any, theirs: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """The places at which two trees differ, and what stands there, ABSENT for nothing."""
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
    """Equal, and of one type: 1 is not 1.0, nor true."""
    if type(one) is not type(other):
        return False
    return bool(one == other) or (isinstance(one, float) and math.isnan(one) and math.isnan(other))
