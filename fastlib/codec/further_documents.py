"""Finds a second document in a text. Only the first one is a message, so the second has no effect.

The text is not parsed. Its first document must have been read without an error: then each line that
begins with `---` or `...` separates documents.
"""

import re

from .errors import Problem
from .lazy_pattern import lazy_pattern
from .text import position

FURTHER_DOCUMENT = "further-document"
"""The code of the warning."""

_BLANK = r"[ \t\r\ufeff]"
_MARK = rf"(?:---|\.\.\.)(?={_BLANK}|\n|\Z)"
_SEPARATOR = lazy_pattern(rf"^{_MARK}", re.MULTILINE)
_CONTENT = lazy_pattern(
    # A line that is neither a comment nor a directive. It may begin with a separator.
    rf"^(?!%)(?:{_MARK}|(?!{_MARK})){_BLANK}*[^ \t\r\n\ufeff#]",
    re.MULTILINE,
)


def further_document(text: str) -> Problem | None:
    """Return a warning about the second document that is not empty, or None."""
    # C++ peers end each message with the second "---". This decides without a pattern.
    end = max(text.rfind("\n---"), text.rfind("\n..."))
    if end < 0 or (not text[end + 4 :].strip() and text.find("\n---") == end):
        return None
    first = _CONTENT.search(text)
    separator = first and _SEPARATOR.search(text, first.end())
    second = separator and _CONTENT.search(text, separator.start())
    return _warning(*position(text, second.end() - 1)) if second else None


def _warning(line: int, column: int) -> Problem:
    return Problem(
        code=FURTHER_DOCUMENT,
        severity="warning",
        message="a second document begins here, which every peer ignores; "
        "send each message separately",
    ).at(line, column)
