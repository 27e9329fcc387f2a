"""Name the known words that are similar to an unknown word."""

from collections.abc import Iterable
from typing import Final

_CUTOFF: Final = 0.6
"""Similarity from 0 to 1 from which on a known word is named."""
_ALMOST: Final = 0.1
"""Further words are named if their similarity is lower than the highest one by at most this."""
_MOST: Final = 3
"""The maximum number of known words that an error names."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return for example ` (did you mean '--format' or '--from'?)`; empty if no word is near."""
    import difflib  # slow to import, and only needed for errors

    bare = word.lstrip("-").lower().replace("_", "-")

    def similarity(other: str) -> float:
        other = other.lstrip("-").lower().replace("_", "-")
        ratio = difflib.SequenceMatcher(None, bare, other).ratio()
        return max(ratio, _CUTOFF) if other.startswith(bare) else ratio

    ranked = sorted(((similarity(other), other) for other in known), reverse=True)
    if not ranked:
        return ""
    near = [other for ratio, other in ranked if ratio >= max(_CUTOFF, ranked[0][0] - _ALMOST)]
    words = " or ".join(map(repr, near[:_MOST]))
    return f" (did you mean {words}?)" if near else ""
