"""Hide passwords in texts that others wrote, before they are printed or logged."""

import re
from collections.abc import Callable
from typing import Final

_WORD: Final = re.compile(r"\S+")
_AFTER_KEY: Final = re.compile(
    r"((?:pass(?:word|wd|phrase)?|secret|token)(?![\w-]{0,100}-(?:file|environment))[\w-]{0,100}"
    r"['\"]?\s*[:=]\s*)(?=\S)(.*)",
    re.IGNORECASE,
)
"""The bounds keep the time linear: a hostile line may have the word a hundred thousand times."""


def hide_user_information(text: str) -> str:
    """Replace what may be the user and the password of a URL: all up to the last `@`."""
    colon, at = text.find("://"), text.rfind("@")
    if at < 0:
        return text
    if colon < 0:
        return _hide_before_hosts(text, lambda hidden: "***")
    return f"{text[:colon]}://***{text[at:]}" if colon < at else text


def hide_secrets_of_line(line: str) -> str:
    """Replace in a line of a file what may be a password. The rest keeps its columns."""

    def stars(found: re.Match[str]) -> str:
        return found[1] + "*" * len(found[2])

    hidden = _AFTER_KEY.sub(stars, line)
    at, colon = hidden.rfind("@"), hidden.find("://")
    if 0 <= colon < at:
        return hidden[: colon + 3] + "*" * (at - colon - 3) + hidden[at:]
    return _hide_before_hosts(hidden, lambda hidden: "*" * len(hidden))


def _hide_before_hosts(text: str, replacement: Callable[[str], str]) -> str:
    """Replace in each word what is before its last `@`, if there is a colon: user and password.

    A quote before the colon stays. The time is linear.
    """

    def replaced(found: re.Match[str]) -> str:
        word = found[0]
        at = word.rfind("@")
        colon = word.find(":", 0, max(0, at))
        if colon < 0:
            return word
        start = max(word.rfind("'", 0, colon), word.rfind('"', 0, colon)) + 1
        return word[:start] + replacement(word[start:at]) + word[at:]

    return _WORD.sub(replaced, text)
