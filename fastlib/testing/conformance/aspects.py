"""Aspects: short names for features of values that readers may get wrong, and values to ask.

A fault is named by its place and by the aspect of the smallest value that shows it. So its name
does not depend on the example.
"""

import math
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from fastlib.codec.records import Converted, Record
from fastlib.codec.shapes import Bool, Choice, Float, Instant, Int, List, Map, Shape, Text

from .places import Place, slug

_LIKE = {
    "null": re.compile(r"~|null|Null|NULL"),
    "boolean": re.compile(r"true|false|yes|no|on|off|[yn]", re.IGNORECASE),
    "hexadecimal": re.compile(r"[-+]?0x[0-9a-f_]+", re.IGNORECASE),
    "octal": re.compile(r"[-+]?0o?[0-7_]+"),
    "binary": re.compile(r"[-+]?0b[01_]+", re.IGNORECASE),
    "integer": re.compile(r"[-+]?[0-9][0-9_,]*"),
    "sexagesimal": re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?"),
    "number": re.compile(
        r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)(e[-+]?[0-9]+)?|[-+]?\.inf|\.nan", re.IGNORECASE
    ),
    "date": re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt \t].*)?"),
    "merge-key": re.compile("<<"),
    "default-value": re.compile("="),
}
NUMERALS = {"hexadecimal", "octal", "binary", "integer", "sexagesimal", "number"}

_LAST_OF_PLANES = "".join(
    chr(plane << 16 | code) for plane in range(17) for code in (0xFFFE, 0xFFFF)
)

_IN_TEXT = {
    "long": re.compile(".{100}", re.DOTALL),
    "carriage-return": re.compile("\r"),
    "nul": re.compile("\0"),
    "next-line": re.compile("\x85"),
    "line-separator": re.compile("[\u2028\u2029]"),
    "byte-order-mark": re.compile("\ufeff"),
    "noncharacter": re.compile(f"[\ufdd0-\ufdef{_LAST_OF_PLANES}]"),
    "control-character": re.compile("[\x01-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f]"),
    "beyond-16-bits": re.compile("[\U00010000-\U0010ffff]"),
    "no-break-space": re.compile("\xa0"),
    "non-ascii": re.compile("[\x80-\U0010ffff]"),
    "tab": re.compile("\t"),
    "line-feed": re.compile("\n"),
    "outer-space": re.compile("^ | $"),
    "space": re.compile(r"(?<=\S) (?=\S)"),
    "backslash": re.compile(r"\\"),
    "quote": re.compile("['\"]"),
    "indicator": re.compile("[^A-Za-z0-9._/ \\\\'\"\0-\x20\x7f-\U0010ffff-]|^-|^\\.\\.\\."),
}  # fmt: skip
"""Features of a text, rarer ones first."""
_UPPER_CASE = re.compile("[A-Z]")
"""A feature of a value only: it makes no difference to its spelling."""


def aspects_of(value: Any) -> tuple[str, ...]:
    """Return all aspects of a value, rarest first. An ordinary value has none."""
    if isinstance(value, bool):
        return () if value else ("false",)
    if isinstance(value, str):
        found = aspects_of_text(value)
        return (*found, "upper-case") if _UPPER_CASE.search(value) else found
    if isinstance(value, int):
        return _of_integer(value)
    if isinstance(value, float):
        return _of_float(value)
    if isinstance(value, list):
        inner = dict.fromkeys(aspect for item in value for aspect in aspects_of(item))
        return (*inner, *(("empty",) if not value else ("several",) if len(value) > 1 else ()))
    if isinstance(value, dict):
        below = (aspect for item in value.values() for aspect in aspects_of(item))
        keys = (f"key-{aspect}" for key in value for aspect in aspects_of(key))
        several = ("empty",) if not value else ("several",) if len(value) > 1 else ()
        return (*dict.fromkeys((*keys, *below)), *several)
    return ("null",)


@cache
def aspects_of_text(text: str) -> tuple[str, ...]:
    """Return the aspects of a text, such as: like a number, with a carriage return, empty."""
    if not text:
        return ("empty",)
    for name, pattern in _LIKE.items():
        if pattern.fullmatch(text):
            return (f"like-{name}",)
    return tuple(name for name, pattern in _IN_TEXT.items() if pattern.search(text))


def aspects_at(place: Place, value: Any) -> tuple[str, ...]:
    """Return the aspects of a value in a place, whose type decides the meaning of a text."""
    if isinstance(value, str):
        if place.kind == "word":
            return (f"word-{slug(value)}",)
        if place.kind == "instant":
            return ()
        if place.kind == "integer" and value[:2] == "0x":
            return _of_integer(int(value, 16))
    return aspects_of(value)


def _of_integer(value: int) -> tuple[str, ...]:
    if value == 0:
        return ("zero",)
    if value < 0:
        return ("negative",)
    large = tuple(f"from-2-to-the-{bits}" for bits in (63, 32, 31) if value >= 2**bits)
    return (*large, "from-8") if value >= 8 else ()


def _of_float(value: float) -> tuple[str, ...]:
    if math.isnan(value):
        return ("nan",)
    if math.isinf(value):
        return ("infinity",)
    if value == 0:
        return ("negative-zero",) if math.copysign(1, value) < 0 else ("zero",)
    found = [
        *(["negative"] if value < 0 else []),
        *(["large"] if abs(value) >= 1e15 else []),
        *(["tiny"] if abs(value) < 1e-4 else []),
        *(["whole"] if value.is_integer() and abs(value) < 1e15 else []),
        *(["many-digits"] if len(repr(value)) > 12 else []),
    ]
    return tuple(found)


FEW_TEXTS = (
    "é", "vm-1", "aB",
    "", "~", "null", "no", "true", "12", "012", "0x1F", "1_000", "0b11", "1.0", "1e3", ".inf",
    "12:30:45", "2024-01-02", "<<", "=", "a b", "a ", " a", " ", "a\tb", "\t", "a\nb", "a\n",
    "\n", "a\n\nb", "a\r", "a\rb", "\r", "a\r\nb", "\0", "\x01", "\x7f", "\x85", "a\x85b", "\u2028",
    "\xa0", "\ufeff", "\uffff", "\uffff: ", "日本", "\U0001f600", "-", "- a", "---", "...",
    "a: b", "a:", "a:b", "#", "a #b", "[a]", "{a}", "a, b", "&a", "*a", "!a", "|", ">", "?", "? a",
    "%a", "@a", "`a`", "'a'", '"a"', "it's", "\\", "\\n", "a" * 1025, '"' * 520,
)  # fmt: skip
"""At least one text for each aspect. Each text field is tested with all of them.

The first one shows a wrong encoding, which explains the faults of all characters beyond ASCII. The
next two show a program that changes any name, or any upper-case letter.
"""

_INTEGERS = (0, 7, 8, 64, 2**31, 2**32 - 1, 2**32, 2**63, 2**64 - 1)
_FLOATS = (
    0.0, -0.0, 1.0, -1.5, 0.25, 0.1 + 0.2, 1e22, 5e-324, 1.7976931348623157e308,
    math.inf, -math.inf, math.nan,
)  # fmt: skip


def ordinary(shape: Shape) -> Iterator[Any]:
    """Yield plain trees of a shape without aspects, simplest first. Some may be invalid."""
    while isinstance(shape, Converted):
        shape = shape.wire
    if isinstance(shape, Bool):
        yield True
    elif isinstance(shape, Int):
        for number in (1, 2, 7, shape.low, shape.high):
            if shape.low <= number <= shape.high:
                yield shape.dump(number)
    elif isinstance(shape, Float):
        yield 1.5
    elif isinstance(shape, Instant):
        yield "2026-11-29T06:30:00Z"
    elif isinstance(shape, Choice):
        yield from shape.values
    elif isinstance(shape, List):
        yield from ([item] for item in ordinary(shape.item))
        yield []
    elif isinstance(shape, Map):
        yield from ({"a": item} for item in ordinary(shape.value))
    elif isinstance(shape, Record):
        return
    else:
        least = shape.min if isinstance(shape, Text) else 0
        yield from ("a", "a" * least, "0000:01:02.3", "0x0001", "1.5", "suspend", "vm-1", "1")
        yield from ({"a": "1.5"}, {"a": "b"}, ["a"])


def extraordinary(shape: Shape, texts: tuple[str, ...] = FEW_TEXTS) -> Iterator[Any]:
    """Yield plain trees of a shape with one aspect each. Some may be invalid."""
    while isinstance(shape, Converted):
        shape = shape.wire
    if isinstance(shape, Bool):
        yield False
    elif isinstance(shape, Int):
        yield from (shape.dump(n) for n in _INTEGERS if shape.low <= n <= shape.high)
    elif isinstance(shape, Float):
        yield from _FLOATS
    elif isinstance(shape, Instant):
        yield from ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "2026-11-29T06:30:00.5Z")
    elif isinstance(shape, Choice):
        yield from shape.values
    elif isinstance(shape, List):
        yield []
        some = [*ordinary(shape.item)][:1]
        if isinstance(shape.item, Text):
            yield from (["b", "a"], ["a", "b", "c"], ["a", "a"])
        elif isinstance(shape.item, Int):
            yield from ([2, 1], [1, 2, 3])
        elif some:
            yield [*some, *some]
        yield from ([item] for item in extraordinary(shape.item, texts))
    elif isinstance(shape, Map):
        some = [*ordinary(shape.value)][:1]
        yield {}
        yield from ({"b": item, "a": item} for item in some)
        yield from ({key: item} for key in texts for item in some)
        yield from ({"a": item} for item in extraordinary(shape.value, texts))
    elif isinstance(shape, Text):
        yield from texts
