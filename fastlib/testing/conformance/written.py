"""Written scalars: the features of each text in a YAML text, such as its quotes and escapes.

A program that cannot read one escape has one fault, whatever the text around the escape and
whatever the message.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import yaml

from fastlib.codec.composer import Composer
from fastlib.codec.errors import FastlibError
from fastlib.codec.limits import DEFAULT_LIMITS

from .aspects import aspects_of_text

_STYLES = {
    "": "no-quotes", '"': "double-quotes", "'": "single-quotes", "|": "literal-block",
    ">": "folded-block",
}  # fmt: skip
_ESCAPE = re.compile(r"\\(?:\r\n|[\s\S])")

ESCAPES: dict[str, str] = {
    "\\0": "nul", "\\a": "bell", "\\b": "backspace", "\\t": "tab", "\\n": "line-feed",
    "\\v": "vertical-tab", "\\f": "form-feed", "\\r": "carriage-return", "\\e": "escape",
    "\\ ": "space", '\\"': "quote", "\\/": "slash", "\\\\": "backslash", "\\N": "next-line",
    "\\_": "no-break-space", "\\L": "line-separator", "\\P": "paragraph-separator",
    "\\x": "2-digits", "\\u": "4-digits", "\\U": "8-digits",
}  # fmt: skip
"""The escapes of YAML, by their first two characters, with the part of a name for each."""


class Scalar(NamedTuple):
    """A key or value in a YAML text."""

    value: str
    features: frozenset[str]
    """Its style, its escapes, and the aspects of its value."""


def escape_name(escape: str) -> str:
    """Return the feature of a text with an escape."""
    return f"escape-{ESCAPES[escape[:2]]}"


def parts_of(aspects: Iterable[str]) -> set[str]:
    """Return single features: names of several together are joined by a plus sign."""
    return {part for aspect in aspects for part in aspect.split("+")}


def covers(aspects: Iterable[str], known: str) -> bool:
    """Return True if some features include a known one, or all parts of it."""
    return {*known.split("+")} <= parts_of(aspects)


@lru_cache(maxsize=1024)
def scalars_in(text: str) -> tuple[Scalar, ...]:
    """Return the scalars of the first document. After an error the rest is missing."""
    found: list[Scalar] = []
    text = text.removeprefix("\ufeff")
    try:
        composer = Composer("", text, DEFAULT_LIMITS)
        while not isinstance(
            event := composer.event(), yaml.DocumentEndEvent | yaml.StreamEndEvent
        ):
            if isinstance(event, yaml.ScalarEvent):
                value = composer.characters.restore(event.value)
                start, end = event.start_mark, event.end_mark
                written = text[start.index : end.index] if start and end else ""
                found.append(Scalar(value, _features(event.style, value, written)))
    except FastlibError:
        pass
    return tuple(found)


def _features(style: str | None, value: str, written: str) -> frozenset[str]:
    features = {_STYLES[style or ""], *aspects_of_text(value)}
    if style == '"':
        escapes = {escape[:2] for escape in _ESCAPE.findall(written)}
        features |= {escape_name(escape) for escape in escapes & ESCAPES.keys()}
        if escapes:
            features.add("escapes")
        if escapes & {"\\\n", "\\\r"}:
            features.add("escaped-line-break")
    return frozenset(features)
