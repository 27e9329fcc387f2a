"""The fast reader for single values, on the line of their key or in the lines below it.

All readers of values have the same signature, `ValueReader`:

- `lines`: all lines of the text, then END_OF_TEXT
- `i`: the index of the line below the key
- `text`: the text after the key on its own line; empty if the value is in the lines below
- `indent`: the indentation of the key, as spaces

They return the value and the index of the first line after it. They raise Unsupported for a text
that they might read differently from the exact reader.
"""

import contextlib
import re
from collections.abc import Callable
from typing import Any, Final

import msgspec

from .load_context import INVALID
from .scalars import NULLS
from .shapes import List, ScalarShape, Text

Lines = list[str]
ValueReader = Callable[[Lines, int, str, str], tuple[Any, int]]

END_OF_TEXT: Final = "\0"
"""Follows the last line. No text has this line, because the fast reader takes no text with NUL."""


class Unsupported(Exception):
    """The fast reader cannot be sure about a text; the exact reader must read it."""


def read_unsupported(lines: Lines, i: int, text: str, indent: str) -> tuple[Any, int]:
    """Read a value of a kind that only the exact reader supports."""
    raise Unsupported


# --- texts --------------------------------------------------------------------------------------

match_plain: Final = re.compile(
    # One line that does not begin with an indicator. ':' must be followed, and '#' preceded, by a
    # character that is not a space. No space at the end. All characters from U+0080 are allowed.
    r"(?:[A-Za-z0-9_/.<(+=$^;\\\x80-\U0010ffff]|-(?=[^ \t]))[^\x00-\x20\x7f:#]*"
    r"(?:(?::(?=[^ \t])|(?<! )#| (?=.))[^\x00-\x20\x7f:#]*)*",
    re.DOTALL,
).fullmatch
_single: Final = re.compile("'([^']*(?:''[^']*)*)'").fullmatch
_double: Final = re.compile(r'"([^"\\]*(?:\\.[^"\\]*)*)"').fullmatch
_double_open: Final = re.compile(r'[^"\\]*(?:\\.[^"\\]*)*\\?').fullmatch
_double_close: Final = re.compile(r'([^"\\]*(?:\\.[^"\\]*)*)"').fullmatch
_single_open: Final = re.compile("[^']*(?:''[^']*)*").fullmatch
_single_close: Final = re.compile("([^']*(?:''[^']*)*)'").fullmatch

_ESCAPED_BREAK: Final = re.compile(r"\\\n[ \t]*")
_BREAKS: Final = re.compile(r"(?<![ \t])[ \t]*\n[ \t\n]*")  # each run of blanks is checked once
_UNSURE: Final = re.compile(r"\\[ \t]+\n|\\\n[ \t]*\n")
_json_text: Final = msgspec.json.Decoder(str).decode


def _read_text(lines: Lines, i: int, text: str, indent: str) -> tuple[str, int]:
    """Read a text in any style."""
    if match_plain(text) is not None:
        if text in NULLS:
            raise Unsupported
        return text, i
    return read_quoted_or_block(lines, i, text, indent)


def read_quoted_or_block(lines: Lines, i: int, text: str, indent: str) -> tuple[str, int]:
    """Read a text in quotes or in a literal block."""
    style = text[:1]
    if style == '"':
        if text[-1] == '"':
            # Usually it is valid JSON, and the JSON decoder refuses misplaced quotes. JSON accepts
            # a pair of escaped surrogates, YAML does not; the result is then not ASCII.
            with contextlib.suppress(msgspec.MsgspecError):
                value = _json_text(text)
                if value.isascii() or "\\u" not in text:
                    return value, i
        match = _double(text)
        if match is not None:
            return _unescape(match[1]), i
        body, i = _read_quoted_lines(lines, i, text, indent, _double_open, _double_close)
        return _unescape(body), i
    if style == "'":
        match = _single(text)
        if match is not None:
            return match[1].replace("''", "'"), i
        body, i = _read_quoted_lines(lines, i, text, indent, _single_open, _single_close)
        return _BREAKS.sub(_fold_breaks, body).replace("''", "'"), i
    if text in ("|", "|-"):
        return _read_literal_block(lines, i, text, indent)
    raise Unsupported


def _read_quoted_lines(
    lines: Lines,
    i: int,
    text: str,
    indent: str,
    is_open: Callable[[str], object],
    close: Callable[[str], re.Match[str] | None],
) -> tuple[str, int]:
    """Read a quoted text of several lines, without its quotes, with its line breaks."""
    below = indent + " "
    parts = [text[1:]]
    if is_open(parts[0]) is None:
        raise Unsupported
    while True:
        line = lines[i]
        i += 1
        if line and not line.startswith(below):
            raise Unsupported
        match = close(line)
        if match is not None:
            parts.append(match[1])
            return "\n".join(parts), i
        if is_open(line) is None:
            raise Unsupported
        parts.append(line)


def _fold_breaks(match: re.Match[str]) -> str:
    """Return the meaning of line breaks in a quoted text: one is a space, n are n - 1 breaks."""
    breaks = match[0].count("\n")
    return " " if breaks == 1 else "\n" * (breaks - 1)


def _unescape(body: str) -> str:
    """Resolve the escapes and line breaks between double quotes."""
    if "\n" in body and _UNSURE.search(body) is not None:
        raise Unsupported
    if "\\u" in body or "\\x" in body or "\\U" in body or "\\\\" in body:
        return _ESCAPE.sub(_escaped, body)
    if "\n" in body:
        body = _BREAKS.sub(_fold_breaks, _ESCAPED_BREAK.sub("", body))
    if "\\" not in body:
        return body
    body = body.replace("\\ ", " ")
    # Peers write the escapes of JSON. The decoder refuses any other.
    return _json_text(f'"{body}"')


_ESCAPE: Final = re.compile(
    # An escape, an escaped line break with the blanks after it, or a break with those around it.
    r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(\n[ \t]*)|(.?))"
    r"|((?<![ \t])[ \t]*\n[ \t\n]*)",
    re.DOTALL,
)
_ESCAPES: Final = {
    '"': '"', "\\": "\\", "/": "/", "n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f",
    " ": " ", "0": "\0", "a": "\a", "v": "\v", "e": "\x1b",
}  # fmt: skip


def _escaped(match: re.Match[str]) -> str:
    """Return the text of an escape or a line break."""
    two, four, eight, escaped_break, letter, plain_break = match.groups()
    if letter is not None:
        char = _ESCAPES.get(letter)
        if char is None:
            raise Unsupported
        return char
    if escaped_break is not None:
        return ""
    if plain_break is not None:
        return _fold_breaks(match)
    code = int(two or four or eight, 16)
    if 0xD800 <= code <= 0xDFFF or code > 0x10FFFF:
        raise Unsupported
    return chr(code)


_SPACES: Final = re.compile(r"\n +(?:\n|\Z)").search


def _read_literal_block(lines: Lines, i: int, header: str, indent: str) -> tuple[str, int]:
    """Read a literal block; `header` is `|` or `|-`."""
    line = lines[i]
    pad = line[: len(line) - len(line.lstrip(" "))]
    if len(pad) <= len(indent) or line[len(pad) : len(pad) + 1] in ("", "\t"):
        raise Unsupported
    start = i
    while line.startswith(pad) or not line:
        i += 1
        line = lines[i]
    end = i
    while not lines[end - 1]:
        end -= 1
    if lines[end] == END_OF_TEXT:  # the last line has no line break
        raise Unsupported
    body = "\n".join(lines[start:end])
    if _SPACES(body) is not None:  # part of the spaces may belong to the text
        raise Unsupported
    body = body[len(pad) :].replace(f"\n{pad}", "\n")
    return (body if header == "|-" else f"{body}\n"), i


def unquote(text: str) -> str:
    """Return a number or word on one line, without its quotes."""
    if text[:1] in ("'", '"'):
        quote = text[0]
        body = text[1:-1]
        if len(text) < 2 or text[-1] != quote or quote in body or "\\" in body:
            raise Unsupported
        return body
    if text in NULLS or match_plain(text) is None:
        raise Unsupported
    return text


# --- lists and free mappings --------------------------------------------------------------------


def read_empty_list(lines: Lines, i: int, text: str, indent: str) -> tuple[Any, int]:
    """Read an empty list on the line of its key, or on the line below (peers write the latter)."""
    if text == "[]":
        return (), i
    line = lines[i]
    if text or line.lstrip(" ") != "[]" or not line.startswith(f"{indent} "):
        raise Unsupported
    return (), i + 1


_DASH: Final = re.compile(r"( *)-( +)(?=[^ ])")


def item_prefix(line: str, indent: str) -> str:
    """Return the beginning of each list item, such as `  - `."""
    match = _DASH.match(line)
    if match is None or len(match[1]) < len(indent):
        raise Unsupported
    return match[0]


def read_text_list(lines: Lines, i: int, text: str, indent: str) -> tuple[Any, int]:
    """Read a list of texts in the lines below its key."""
    if text or lines[i].endswith("[]"):
        return read_empty_list(lines, i, text, indent)
    dash = item_prefix(lines[i], indent)
    below = dash[: dash.index("-")]  # continuation lines must be indented more than this
    size = len(dash)
    items = []
    while (line := lines[i]).startswith(dash):
        item, i = _read_text(lines, i + 1, line[size:], below)
        items.append(item)
    return tuple(items), i


def scalar_list_reader(shape: ScalarShape) -> ValueReader:
    """Return a reader of a list of numbers or words in the lines below its key."""

    def read(lines: Lines, i: int, text: str, indent: str) -> tuple[Any, int]:
        if text or lines[i].endswith("[]"):
            return read_empty_list(lines, i, text, indent)
        dash = item_prefix(lines[i], indent)
        size = len(dash)
        items = []
        while (line := lines[i]).startswith(dash):
            value = shape.from_text(unquote(line[size:]))
            if value is INVALID:
                raise Unsupported
            items.append(value)
            i += 1
        return tuple(items), i

    return read


_open_integers: Final = re.compile(r"[\[\]0-9, ]*").fullmatch
_Decode = Callable[[str], Any]
"""Decodes JSON to tuples of integers, and refuses integers out of the range of their field."""


def _decode_flow(text: str, decode: _Decode) -> Any:
    """Read a flow list of integers as JSON. JSON differs from YAML only in `-0` and tabs."""
    if "-" in text or "\t" in text:
        raise Unsupported
    return decode(text)


_MAX_REMEMBERED: Final = 4096  # characters; a shape remembers no longer list of integers

_DIGITS: Final = re.compile(r"0|[1-9][0-9]{0,19}", re.ASCII).fullmatch


def _join_flow_lines(lines: Lines, i: int, text: str, indent: str) -> tuple[str, int]:
    """Return a flow list of integers on one line; it may continue on the next lines."""
    if text.count("[") == text.count("]"):
        return text, i
    below = indent + " "
    parts = [text]
    opened = text.count("[") - text.count("]")
    while opened > 0:
        line = lines[i]
        if not line.startswith(below) or _open_integers(line) is None:
            raise Unsupported
        parts.append(line)
        opened += line.count("[") - line.count("]")
        i += 1
    return " ".join(parts), i


def integer_list_reader(shape: List) -> ValueReader:
    """Return a reader of a list of integers, in flow style or in the lines below its key."""
    decode = msgspec.json.Decoder(shape.integers).decode

    def read(lines: Lines, i: int, text: str, indent: str) -> tuple[Any, int]:
        if text:
            if text[-1] != "]":
                text, i = _join_flow_lines(lines, i, text, indent)
            value = _decode_flow(text, decode)
            if len(text) < _MAX_REMEMBERED:
                shape.accepted = value
            return value, i
        if lines[i].endswith("[]"):
            return read_empty_list(lines, i, text, indent)
        dash = item_prefix(lines[i], indent)
        return _read_integer_lines(lines, i, lines[i][len(dash) :], dash)

    return read


def _read_integer_lines(lines: Lines, i: int, text: str, dash: str) -> tuple[Any, int]:
    """Read one integer per line, each after `dash`; `text` is the first integer."""
    size = len(dash)
    items = []
    while True:
        if _DIGITS(text) is None:
            raise Unsupported
        items.append(int(text))
        i += 1
        line = lines[i]
        if not line.startswith(dash):
            return tuple(items), i
        text = line[size:]


def integer_lists_reader(shape: List, item_shape: List) -> ValueReader:
    """Return a reader of a list of lists of integers, each in flow style or in block style."""
    decode = msgspec.json.Decoder(shape.integers).decode
    decode_item = msgspec.json.Decoder(item_shape.integers).decode

    def read(lines: Lines, i: int, text: str, indent: str) -> tuple[Any, int]:
        if text:
            if text[-2:] != "]]":
                text, i = _join_flow_lines(lines, i, text, indent)
            value = _decode_flow(text, decode)
            if len(text) < _MAX_REMEMBERED:
                shape.accepted = value
            return value, i
        dash = item_prefix(lines[i], indent)
        outer = dash[: dash.index("-")]
        size = len(dash)
        items = []
        while (line := lines[i]).startswith(dash):
            row = line[size:]
            if row.startswith("["):
                row, i = _join_flow_lines(lines, i + 1, row, outer)
                items.append(_decode_flow(row, decode_item))
            else:
                inner = item_prefix(row, "")
                if inner[0] != "-":
                    raise Unsupported
                item, i = _read_integer_lines(lines, i, row[len(inner) :], " " * size + inner)
                items.append(item)
        return tuple(items), i

    return read


_free_key: Final = re.compile(
    r"( *)([A-Za-z_][A-Za-z0-9_./ -]*[A-Za-z0-9_./-]|[A-Za-z_])"
).fullmatch


_MAX_KEY: Final = 1000  # PyYAML reads keys of up to 1024 characters on one line


def free_mapping_reader(value_shape: ScalarShape) -> ValueReader:
    """Return a reader of a mapping with free, plain keys in the lines below its key."""
    is_text = type(value_shape) is Text
    from_text = value_shape.from_text

    def read(lines: Lines, i: int, text: str, indent: str) -> tuple[Any, int]:
        match = _free_key(lines[i].partition(": ")[0])
        if text or match is None or len(match[1]) <= len(indent):
            raise Unsupported
        prefix = match[1]
        values: dict[str, Any] = {}
        while (line := lines[i]).startswith(prefix):
            head, colon, rest = line.partition(": ")
            match = _free_key(head)
            if match is None or match[1] != prefix or not colon:
                raise Unsupported
            if match[2] in values or match[2] in NULLS:
                raise Unsupported
            if len(head) > _MAX_KEY:
                raise Unsupported
            i += 1
            value: Any
            if is_text:
                value, i = _read_text(lines, i, rest, prefix)
            else:
                value = from_text(unquote(rest))
                if value is INVALID:
                    raise Unsupported
            values[match[2]] = value
        return values, i

    return read


def converting_reader(read: ValueReader, convert: Callable[[Any], Any]) -> ValueReader:
    """Return a reader that converts the value of another reader."""

    def read_converted(lines: Lines, i: int, text: str, indent: str) -> tuple[Any, int]:
        value, i = read(lines, i, text, indent)
        return convert(value), i

    return read_converted
