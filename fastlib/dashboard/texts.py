"""Cut texts of other programs to the lengths that the page shows."""

from typing import Final

MAX_NAME: Final = 256
"""Maximum characters of a name, an id or a word; the rest is cut."""
MAX_TEXT: Final = 2000
"""Maximum characters of an error or another text; the rest is cut."""


def short(text: str) -> str:
    """Return a name or a word of at most `MAX_NAME` characters."""
    return text if len(text) <= MAX_NAME else text[: MAX_NAME - 1] + "…"


def short_or_none(text: str | None) -> str | None:
    return None if text is None else short(text)


def cut(text: str) -> str:
    """Return a text of at most `MAX_TEXT` characters."""
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"
