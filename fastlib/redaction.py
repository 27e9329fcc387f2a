"""Hide passwords in texts that others wrote, before they are printed or logged."""

import re
from typing import Final

_IN_URL: Final = re.compile(r"://.*@", re.DOTALL)
_BEFORE_HOST: Final = re.compile(r"[^\s'\"]*:\S*@")
_AFTER_KEY: Final = re.compile(
    r"((?:pass(?:word|wd|phrase)?|secret|token)(?![\w-]*-(?:file|environment))[\w-]*['\"]?\s*[:=]\s*)"
    r"(?=\S)(.*)",
    re.IGNORECASE,
)


def hide_user_information(text: str) -> str:
    """Replace what may be the user and the password of a URL: all up to the last `@`."""
    if "@" not in text:
        return text
    if "://" in text:
        return _IN_URL.sub("://***@", text)
    return _BEFORE_HOST.sub("***@", text)


def hide_secrets_of_line(line: str) -> str:
    """Replace in a line of a file what may be a password. What remains has the same columns."""

    def stars(found: re.Match[str]) -> str:
        return found[1] + "*" * len(found[2])

    hidden = _AFTER_KEY.sub(stars, line)
    at, colon = hidden.rfind("@"), hidden.find("://")
    if 0 <= colon < at:
        return hidden[: colon + 3] + "*" * (at - colon - 3) + hidden[at:]
    return _BEFORE_HOST.sub(lambda found: "*" * (len(found[0]) - 1) + "@", hidden)
