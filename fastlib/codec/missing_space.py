"""Finds a space that is missing after `:` or `-`, as in `vm-name:a` and `-a`, for hints in errors.

YAML reads `vm-name:a` as a text, or as the beginning of one that goes on in the next line.
"""

from collections.abc import Container

from .lazy_pattern import lazy_pattern
from .nodes import Node, Scalar

_AFTER_COLON = "; a space is missing after ':'"
_AFTER_DASH = "; a space is missing after '-'"

# Not `a:`, `::1` or `http://a`, and not a time or an address, whose first part is a number.
_PAIR = r"([A-Za-z_][A-Za-z0-9_-]*):(?![ \t\r\n:/]|\Z)"
_SCALAR = lazy_pattern(_PAIR)
_LINE = lazy_pattern(r" *(?:- +)*" + _PAIR)
_ITEM = lazy_pattern(r"-[A-Za-z_]")


def hint_of_value(node: Node, expected: str) -> str:
    """Return the hint if a text is in the place of a mapping or a list, else an empty text."""
    if not isinstance(node, Scalar) or not node.plain or not isinstance(node.value, str):
        return ""
    if expected.startswith("a mapping"):
        return _AFTER_COLON if _SCALAR.match(node.value) is not None else ""
    if expected.startswith("a list"):
        return _AFTER_DASH if _ITEM.match(node.value) is not None else ""
    return ""


def hint_of_key(key: str, known: Container[str]) -> str:
    """Return the hint if an unknown key is `key:value` with a known key, or `-key`."""
    if _ITEM.match(key) is not None:
        return _AFTER_DASH
    match = _SCALAR.match(key)
    return _AFTER_COLON if match is not None and match[1] in known else ""


def hint_before_key(lines: list[str], line: int, column: int) -> str:
    """Return the hint if the `:` at a place, from 1, is not allowed because of the line above."""
    above = line - 1
    while above > 0 and not lines[above - 1].strip(" \t\r"):
        above -= 1
    if ":" in lines[line - 1][: column - 1]:
        return ""
    return hint_of_line(lines, above)


def hint_of_line(lines: list[str], line: int) -> str:
    """Return the hint if a line, from 1, is a key and its value without a space, or `-item`."""
    if not 0 < line <= len(lines):
        return ""
    text = lines[line - 1]
    if _ITEM.match(text.lstrip(" ")) is not None:
        return f"{_AFTER_DASH} in line {line}"
    return f"{_AFTER_COLON} in line {line}" if _LINE.match(text) is not None else ""
