"""Shrink a text for which no strategy is known."""

from collections.abc import Callable


def smaller(text: str, fails: Callable[[str], bool]) -> str:
    """Return a shorter text that still fails: leave out parts, from halves to characters."""
    size = max(len(text) // 2, 1)
    tries = 5_000
    while size and tries > 0:
        at = 0
        shrunk = False
        while at < len(text) and tries > 0:
            shorter = text[:at] + text[at + size :]
            tries -= 1
            if fails(shorter):
                text = shorter
                shrunk = True
            else:
                at += size
        if not shrunk or size > 1:
            size //= 2
    return text
