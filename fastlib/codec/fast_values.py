"""Values on the fast road: what stands behind a key, or in the lines below it.

Each function takes the lines, the next line's index, the rest of the key's line and the key's
indentation, and gives the value and the index of the line after it. What it is not sure of it
declines.
"""

import contextlib
import re
from collections.abc import Callable
from typing import Any

import msgspec

from .load_context import INVALID
from .scalars import NULLS
from .shapes import Map, ScalarShape, Text

Lines = list[str]
Read = Callable[[Lines, int, str, str], tuple[Any, int]]

END = "\0"
"""Stands after the last line; no line of a text is it, as NUL makes a text decline."""


class Decline(Exception):
    """Not sure; the exact road decides."""


def decline(lines: Lines, i: int, text: str, indent: str) -> tuple[Any, int]:
    """Reads a value of a kind that is left to the exact road."""
    raise Decline


# --- texts --------------------------------------------------------------------------------------

plain = re.compile(
    # On one line, begun by no indicator; ':' only before and '#' only after something that is no
    # space, no space at the end. Any character from U+0080 is a character like others.
    r"(?:[A-Za-z0-9_/.<(+=$^;\\\x80-\U0010ffff]|-(?=[^ \t]))[^\x00-\x20\x7f:#]*"
    r"(?:(?::(?=[^ \t])|(?<! )#| (?=.))[^\x00-\x20\x7f:#]*)*",
    re.DOTALL,
).fullmatch
_single = re.compile("'([^']*(?:''[^']*)*)'").fullmatch
_double = re.compile(r'"([^"\\]*(?:\\.[^"\\]*)*)"').fullmatch
_double_open = re.compile(r'[^"\\]*(?:\\.[^"\\]*)*\\?').fullmatch
_double_close = re.compile(r'([^"\\]*(?:\\.[^"\\]*)*)"').fullmatch
_single_open = re.compile("[^']*(?:''[^']*)*").fullmatch
_single_close = re.compile("([^']*(?:''[^']*)*)'").fullmatch

_ESCAPED_BREAK = re.compile(r"\\\n[ \t]*")
_BREAKS = re.compile(r"(?<![ \t])[ \t]*\n[ \t\n]*")  # each run of blanks is looked at once
_UNSURE = re.compile(r"\\[ \t]+\n|\\\n[ \t]*\n")
_json_text = msgspec.json.Decoder(str).decode


def _text(lines: Lines, i: int, text: str, indent: str) -> tuple[str, int]:
    if plain(text) is not None:
        if text in NULLS:
            raise Decline
        return text, i
    return styled(lines, i, text, indent)


def styled(lines: Lines, i: int, text: str, indent: str) -> tuple[str, int]:
    """A text in quotes or in a literal block."""
    style = text[:1]
    if style == '"':
        if text[-1] == '"':
            # Most often JSON, and JSON's decoder finds a quote too many or too few by itself.
            # Only surrogates in pairs (beyond ASCII, so) would be taken by it and not by YAML.
            with contextlib.suppress(msgspec.MsgspecError):
                value = _json_text(text)
                if value.isascii() or "\\u" not in text:
                    return value, i
        match = _double(text)
        if match is not None:
            return _unescape(match[1]), i
        body, i = _quoted_lines(lines, i, text, indent, _double_open, _double_close)
        return _unescape(body), i
    if style == "'":
        match = _single(text)
        if match is not None:
            return match[1].replace("''", "'"), i
        body, i = _quoted_lines(lines, i, text, indent, _single_open, _single_close)
        return _BREAKS.sub(_fold, body).replace("''", "'"), i
    if text in ("|", "|-"):
        return _literal(lines, i, text, indent)
    raise Decline


def _quoted_lines(
    lines: Lines,
    i: int,
    text: str,
    indent: str,
    is_open: Callable[[str], object],
    close: Callable[[str], re.Match[str] | None],
) -> tuple[str, int]:
    """What stands between quotes over several lines, its line breaks still in it."""
    below = indent + " "
    parts = [text[1:]]
    if is_open(parts[0]) is None:
        raise Decline
    while True:
        line = lines[i]
        i += 1
        if line and not line.startswith(below):
            raise Decline
        match = close(line)
        if match is not None:
            parts.append(match[1])
            return "\n".join(parts), i
        if is_open(line) is None:
            raise Decline
        parts.append(line)


def _fold(match: re.Match[str]) -> str:
    breaks = match[0].count("\n")
    return " " if breaks == 1 else "\n" * (breaks - 1)


def _unescape(body: str) -> str:
    """The text of what stands between double quotes."""
    if "\n" in body and _UNSURE.search(body) is not None:
        raise Decline
    if "\\u" in body or "\\x" in body or "\\U" in body or "\\\\" in body:
        return _ESCAPE.sub(_escaped, body)
    if "\n" in body:
        body = _BREAKS.sub(_fold, _ESCAPED_BREAK.sub("", body))
    if "\\" not in body:
        return body
    body = body.replace("\\ ", " ")
    # The escapes that peers write are JSON's; any else makes the decoder refuse.
    return _json_text(f'"{body}"')


_ESCAPE = re.compile(
    # An escape, an escaped line break with the blanks after it, or a break with those around it.
    r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(\n[ \t]*)|(.?))"
    r"|((?<![ \t])[ \t]*\n[ \t\n]*)",
    re.DOTALL,
)
_ESCAPES = {
    '"': '"', "\\": "\\", "/": "/", "n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f",
    " ": " ", "0": "\0", "a": "\a", "v": "\v", "e": "\x1b",
}  # fmt: skip


def _escaped(match: re.Match[str]) -> str:
    two, four, eight, escaped_break, letter, plain_break = match.groups()
    if letter is not None:
        char = _ESCAPES.get(letter)
        if char is None:
            raise Decline
        return char
    if escaped_break is not None:
        return ""
    if plain_break is not None:
        return _fold(match)
    code = int(two or four or eight, 16)
    if 0xD800 <= code <= 0xDFFF or code > 0x10FFFF:
        raise Decline
    return chr(code)


_SPACES = re.compile(r"\n +(?:\n|\Z)").search


def _literal(lines: Lines, i: int, header: str, indent: str) -> tuple[str, int]:
    line = lines[i]
    pad = line[: len(line) - len(line.lstrip(" "))]
    if len(pad) <= len(indent) or line[len(pad) : len(pad) + 1] in ("", "\t"):
        raise Decline
    start = i
    while line.startswith(pad) or not line:
        i += 1
        line = lines[i]
    end = i
    while not lines[end - 1]:
        end -= 1
    if lines[end] == END:  # the text ends within the last line, so without its line break
        raise Decline
    body = "\n".join(lines[start:end])
    if _SPACES(body) is not None:  # of which some belong to the text, and some do not
        raise Decline
    body = body[len(pad) :].replace(f"\n{pad}", "\n")
    return (body if header == "|-" else f"{body}\n"), i


def unquote(text: str) -> str:
    """A scalar on one line that is no text field: without simple quotes, if it has them."""
    if text[:1] in ("'", '"'):
        quote = text[0]
        body = text[1:-1]
        if len(text) < 2 or text[-1] != quote or quote in body or "\\" in body:
            raise Decline
        return body
    if text in NULLS or plain(text) is None:
        raise Decline
    return text


# --- lists and free mappings --------------------------------------------------------------------


def empty_list(lines: Lines, i: int, text: str, indent: str) -> tuple[Any, int]:
    """An empty list behind its key, or in the line below, as the peers write it."""
    if text == "[]":
        return (), i
    line = lines[i]
    if text or line.lstrip(" ") != "[]" or not line.startswith(f"{indent} "):
        raise Decline
    return (), i + 1


_DASH = re.compile(r"( *)-( +)(?=[^ ])")


def dash_of(line: str, indent: str) -> str:
    """The beginning of a list's items, such as `  - `."""
    match = _DASH.match(line)
    if match is None or len(match[1]) < len(indent):
        raise Decline
    return match[0]


def texts(lines: Lines, i: int, text: str, indent: str) -> tuple[Any, int]:
    """A list of texts in the lines below its key."""
    if text or lines[i].endswith("[]"):
        return empty_list(lines, i, text, indent)
    dash = dash_of(lines[i], indent)
    below = dash[: dash.index("-")]  # what a literal block or quoted lines must be indented beyond
    size = len(dash)
    items = []
    while (line := lines[i]).startswith(dash):
        item, i = _text(lines, i + 1, line[size:], below)
        items.append(item)
    return tuple(items), i


def scalars(shape: ScalarShape) -> Read:
    """A list of numbers or words in the lines below its key."""

    def read(lines: Lines, i: int, text: str, indent: str) -> tuple[Any, int]:
        if text or lines[i].endswith("[]"):
            return empty_list(lines, i, text, indent)
        dash = dash_of(lines[i], indent)
        size = len(dash)
        items = []
        while (line := lines[i]).startswith(dash):
            value = shape.from_text(unquote(line[size:]))
            if value is INVALID:
                raise Decline
            items.append(value)
            i += 1
        return tuple(items), i

    return read


_open_integers = re.compile(r"[\[\]0-9, ]*").fullmatch
_json_integers = msgspec.json.Decoder(tuple[int, ...]).decode
_json_lists = msgspec.json.Decoder(tuple[tuple[int, ...], ...]).decode


def _flow_integers(text: str) -> tuple[int, ...]:
    """A flow list of integers, read as JSON: that differs from YAML for `-0` and tabs only."""
    if "-" in text or "\t" in text:
        raise Decline
    return _json_integers(text)


_DIGITS = re.compile(r"0|[1-9][0-9]{0,19}", re.ASCII).fullmatch


def _flow(lines: Lines, i: int, text: str, indent: str) -> tuple[str, int]:
    """A flow list of integers that may go on in the next lines."""
    if text.count("[") == text.count("]"):
        return text, i
    below = indent + " "
    parts = [text]
    opened = text.count("[") - text.count("]")
    while opened > 0:
        line = lines[i]
        if not line.startswith(below) or _open_integers(line) is None:
            raise Decline
        parts.append(line)
        opened += line.count("[") - line.count("]")
        i += 1
    return " ".join(parts), i


def integers(lines: Lines, i: int, text: str, indent: str) -> tuple[Any, int]:
    """A list of integers, in flow style or in the lines below its key."""
    if text:
        text, i = _flow(lines, i, text, indent)
        return _flow_integers(text), i
    if lines[i].endswith("[]"):
        return empty_list(lines, i, text, indent)
    dash = dash_of(lines[i], indent)
    return _integer_lines(lines, i, lines[i][len(dash) :], dash)


def _integer_lines(lines: Lines, i: int, text: str, dash: str) -> tuple[Any, int]:
    """Integers, one a line after `dash`; the first one's text is known."""
    size = len(dash)
    items = []
    while True:
        if _DIGITS(text) is None:
            raise Decline
        items.append(int(text))
        i += 1
        line = lines[i]
        if not line.startswith(dash):
            return tuple(items), i
        text = line[size:]


def integer_lists(lines: Lines, i: int, text: str, indent: str) -> tuple[Any, int]:
    """A list of lists of integers, both in either style."""
    if text:
        if text[-2:] != "]]":
            text, i = _flow(lines, i, text, indent)
        if "-" in text or "\t" in text:
            raise Decline
        return _json_lists(text), i
    dash = dash_of(lines[i], indent)
    outer = dash[: dash.index("-")]
    size = len(dash)
    items = []
    while (line := lines[i]).startswith(dash):
        row = line[size:]
        if row.startswith("["):
            row, i = _flow(lines, i + 1, row, outer)
            items.append(_flow_integers(row))
        else:
            inner = dash_of(row, "")
            if inner[0] != "-":
                raise Decline
            item, i = _integer_lines(lines, i, row[len(inner) :], " " * size + inner)
            items.append(item)
    return tuple(items), i


_free_key = re.compile(r"( *)([A-Za-z_][A-Za-z0-9_./ -]*[A-Za-z0-9_./-]|[A-Za-z_])").fullmatch


_MAX_KEY = 1000  # YAML's own limit for a key on one line is 1024 characters, quotes included


def free_mapping(shape: Map) -> Read:
    """A mapping of plain keys in the lines below its key."""
    value_shape = shape.value
    is_text = type(value_shape) is Text
    assert isinstance(value_shape, ScalarShape)
    from_text = value_shape.from_text

    def read(lines: Lines, i: int, text: str, indent: str) -> tuple[Any, int]:
        match = _free_key(lines[i].partition(": ")[0])
        if text or match is None or len(match[1]) <= len(indent):
            raise Decline
        prefix = match[1]
        values: dict[str, Any] = {}
        while (line := lines[i]).startswith(prefix):
            head, colon, rest = line.partition(": ")
            match = _free_key(head)
            if match is None or match[1] != prefix or not colon or match[2] in values:
                raise Decline
            if len(head) > _MAX_KEY:
                raise Decline
            i += 1
            value: Any
            if is_text:
                value, i = _text(lines, i, rest, prefix)
            else:
                value = from_text(unquote(rest))
                if value is INVALID:
                    raise Decline
            values[match[2]] = value
        return values, i

    return read


def converted(read: Read, convert: Callable[[Any], Any]) -> Read:
    def read_converted(lines: Lines, i: int, text: str, indent: str) -> tuple[Any, int]:
        value, i = read(lines, i, text, indent)
        return convert(value), i

    return read_converted
