"""The fast road in: the block style that peers write, read line by line straight into structs.

A table for each struct and indentation knows the beginning of every line that may come next, so a
line is recognised by one look-up, indentation included. What no table knows ends the mapping, and
what then nobody knows makes the whole text decline: the exact road answers, with its errors and
warnings. So this road only ever sees texts without any problem, and must only be right about those
that it accepts. `tests/test_roads.py` holds the two together.
"""

import contextlib
import re
from collections.abc import Callable
from typing import Any, Final

import msgspec

from .envelope import MAX_TITLES, Envelope, Members, Variant
from .limits import Limits
from .scalars import NULLS
from .shapes import (
    INVALID,
    Bool,
    Choice,
    Converted,
    Field,
    Int,
    List,
    Map,
    Record,
    ScalarShape,
    Shape,
    Text,
)

DECLINED: Final = object()
"""The answer of the fast road to what it is not sure of."""


class _Decline(Exception):
    """Not sure; the exact road decides."""


Lines = list[str]
Entry = tuple[int, str, Any]
Table = dict[str, Entry]
Read = Callable[[Lines, int, str, str], tuple[Any, int]]
"""Reads a value: the lines, the next line's index, the rest of the key's line, the key's indent;
gives the value and the index of the line after it."""

# Kinds of entries, the most frequent first. What comes third in an entry:
_TEXT = 0  # nothing
_WORD = 1  # the value of each word
_SCALAR = 2  # the shape
_TITLE = 3  # the title that must stand here
_OTHER = 4  # a Read
_INTEGER = 5  # the shape
_LINE = 6  # the value of the whole line

_TITLE_SEEN = " title"  # no attribute's name

_END = "\0"
"""Stands after the last line; no line of a text is it, as NUL makes a text decline."""

_MAX_INDENT = 64  # tables are kept by indentation, and hostile texts have many


def read_fast(shape: Shape, text: str, limits: Limits) -> Any:
    """The value of a text, or DECLINED."""
    root = _roots.get(shape)
    if root is None:
        root = _roots[shape] = _make_root(shape)
    size = len(text)
    if size > limits.max_scalar or root.depth > limits.max_depth or "\0" in text:
        return DECLINED
    if size * 6 > limits.max_nodes and _nodes(text) > limits.max_nodes:
        return DECLINED
    if "\r" in text:
        text = text.replace("\r\n", "\n")
        if "\r" in text:
            return DECLINED
    lines = text.split("\n")
    lines.append(_END)
    try:
        return root.read(lines, text)
    except (_Decline, ValueError, TypeError):
        # ValueError is a constructor's refusal, a converter's, or msgspec's for what is no JSON;
        # TypeError a member that is missing. The exact road decides.
        return DECLINED


def _nodes(text: str) -> int:
    """At most so many nodes are in a text that this road reads."""
    # A line has at most an item, its key and its value, and one list or mapping; and flow lists.
    return 4 * text.count("\n") + 4 + text.count(",") + text.count("[")


# --- mappings -----------------------------------------------------------------------------------


def _scan(
    lines: Lines, i: int, first: Table | None, rest: Table, indent: str, plan: "_Plan"
) -> tuple[Any, int]:
    """The values of one mapping, or a list of structs, and the first line that is not theirs.

    The keys of a mapping are known to `rest`, at `indent`. In a list, each item's first line is
    known to `first`; a mapping has none. The two are one loop because calls would cost more than
    what is done for most lines.
    """
    items: list[Any] = []
    values: dict[str, Any] = {}
    count = 0
    get = rest.get
    cls = plan.cls
    while True:
        line = lines[i]
        entry = get(line)
        if entry is not None:  # a key with its value below, or a whole line that is known
            text = ""
        else:
            head, _, text = line.partition(": ")
            entry = get(head)
            if entry is None:
                if first is None:
                    break
                entry = first.get(head)
                if len(values) != count:
                    break
                if count:
                    items.append(plan.build(values) if cls is None else cls(**values))
                    values = {}
                    count = 0
                if entry is None:
                    return tuple(items), i
        kind, attribute, what = entry
        i += 1
        count += 1
        if kind == _LINE:
            values[attribute] = what
        elif kind == _TEXT:
            if (text.isalnum() or _plain(text) is not None) and text not in NULLS:
                values[attribute] = text
            else:
                values[attribute], i = _styled(lines, i, text, indent)
        elif kind == _WORD:
            value = what.get(text, INVALID)
            if value is INVALID:
                value = what.get(_unquote(text), INVALID)
                if value is INVALID:
                    raise _Decline
            values[attribute] = value
        elif kind == _INTEGER:
            if text.isdigit() and text.isascii() and text[0] != "0" and len(text) < 21:
                values[attribute] = int(text)  # its range is checked by the constructor
            else:
                value = what.from_text(_unquote(text))
                if value is INVALID:
                    raise _Decline
                values[attribute] = value
        elif kind == _SCALAR:
            value = what.from_text(_unquote(text))
            if value is INVALID:
                raise _Decline
            values[attribute] = value
        elif kind == _TITLE:
            if text != what and _unquote(text) != what:
                raise _Decline
            values[_TITLE_SEEN] = None
        else:
            values[attribute], i = what(lines, i, text, indent)
    if len(values) != count:  # a key stood there twice
        raise _Decline
    return values, i


class _Plan:
    """How the lines of one struct look, at each indentation."""

    def __init__(self, record: Record) -> None:
        cls, custom = record.cls, record.custom
        self.cls: type[Any] | None = cls if custom is None else None
        """What is built of the values, if nothing but a constructor's call is needed."""
        self.build: Callable[[dict[str, Any]], Any] = custom or (lambda values: cls(**values))
        self.title = record.title
        self.entries: dict[str, Entry] = {}
        if record.title is not None:
            self.entries[record.title[0]] = (_TITLE, _TITLE_SEEN, record.title[1])
        self.depth = 1
        for field in record.fields:
            kind, what, depth = _entry(field)
            self.depth = max(self.depth, 1 + depth)
            for key in field.keys:
                self.entries[key] = (kind, field.attribute, what)
        self.tables: dict[str, Table] = {}

    def table(self, prefix: str) -> Table:
        """The beginnings of lines that have `prefix` before the key."""
        table = self.tables.get(prefix)
        if table is None:
            if len(prefix) > _MAX_INDENT:
                raise _Decline
            table = {}
            if self.title is not None:
                table[f"{prefix}{self.title[0]}: {self.title[1]}"] = (_LINE, _TITLE_SEEN, None)
            for key, entry in self.entries.items():
                for spelling in (key, f'"{key}"', f"'{key}'"):
                    table[prefix + spelling] = entry
                    if entry[0] == _OTHER:  # the value is in the lines below
                        table[f"{prefix}{spelling}:"] = entry
                kind, attribute, what = entry
                if kind == _WORD and len(what) < 50:
                    for word, value in what.items():
                        table[f"{prefix}{key}: {word}"] = (_LINE, attribute, value)
            self.tables[prefix] = table
        return table

    def read(self, lines: Lines, i: int, text: str, indent: str) -> tuple[Any, int]:
        """A mapping in the lines below its key."""
        line = lines[i]
        prefix = line[: len(line) - len(line.lstrip(" "))]
        if text or len(prefix) <= len(indent):
            raise _Decline
        values, end = _scan(lines, i, None, self.table(prefix), prefix, self)
        if end == i:
            raise _Decline
        return self.build(values), end

    def read_list(self, lines: Lines, i: int, text: str, indent: str) -> tuple[Any, int]:
        """A list of mappings in the lines below its key."""
        if text or lines[i].endswith("[]"):
            return _empty_list(lines, i, text, indent)
        dash = _dash(lines[i], indent)
        below = " " * len(dash)
        items, end = _scan(lines, i, self.table(dash), self.table(below), below, self)
        if end == i:
            raise _Decline
        return items, end


def _empty_list(lines: Lines, i: int, text: str, indent: str) -> tuple[Any, int]:
    """An empty list behind its key, or in the line below, as the peers write it."""
    if text == "[]":
        return (), i
    line = lines[i]
    if text or line.lstrip(" ") != "[]" or not line.startswith(f"{indent} "):
        raise _Decline
    return (), i + 1


_DASH = re.compile(r"( *)-( +)(?=[^ ])")


def _dash(line: str, indent: str) -> str:
    """The beginning of a list's items, such as `  - `."""
    match = _DASH.match(line)
    if match is None or len(match[1]) < len(indent):
        raise _Decline
    return match[0]


# --- roots --------------------------------------------------------------------------------------


class _Root:
    """A plan for whole texts; this one declines them all."""

    depth = 0

    def read(self, lines: Lines, text: str) -> Any:
        raise _Decline


def _whole(plan: _Plan, lines: Lines) -> dict[str, Any]:
    """The values of a document that is one mapping."""
    start = 1 if lines[0] == "---" else 0
    line = lines[start]
    prefix = line[: len(line) - len(line.lstrip(" "))] if line[:1] == " " else ""
    values: dict[str, Any]
    values, i = _scan(lines, start, None, plan.table(prefix), prefix, plan)
    line = lines[i]
    if line not in _ENDS or i == start:
        while not line:
            i += 1
            line = lines[i]
        if line not in _ENDS or i == start:
            raise _Decline
    return values


_ENDS = ("---", _END, "...")


class _RecordRoot(_Root):
    def __init__(self, plan: _Plan) -> None:
        self.plan = plan
        self.depth = plan.depth

    def read(self, lines: Lines, text: str) -> Any:
        values = _whole(self.plan, lines)
        values.pop(_TITLE_SEEN, None)  # it may be missing where the type is known
        return self.plan.build(values)


class _EnvelopeRoot(_Root):
    """Containers: the title first, then the plan that it stands for."""

    depth = 16  # more than any member has; each member's own is counted when it is read

    def __init__(self, envelope: Envelope) -> None:
        self.envelope = envelope
        self.head = f"{envelope.title}: "
        self.known: dict[str, tuple[str, Variant, _Plan, str]] = {}
        """By the title's line: title, variant, plan, and what must not be in a text for them."""

    def read(self, lines: Lines, text: str) -> Any:
        line = lines[1 if lines[0] == "---" else 0]
        known = self.known.get(line)
        if known is not None:
            title, variant, plan, other = known
            now = self.envelope.variant(title)
            if (now is not variant and now != variant) or (other and other in text):
                plan = self.find(line, text)
        else:
            plan = self.find(line, text)
        values = _whole(plan, lines)
        if _TITLE_SEEN not in values:
            raise _Decline
        del values[_TITLE_SEEN]
        return plan.build(values)

    def find(self, line: str, text: str) -> _Plan:
        """The plan of a text whose first line is not known to have one."""
        head = self.head
        if not line.startswith(head):
            start = text.find(f"\n{head}")
            if start == -1:
                raise _Decline
            end = text.find("\n", start + 1)
            line = text[start + 1 : end if end != -1 else len(text)]
        title = _unquote(line[len(head) :])
        envelope = self.envelope
        variant = envelope.variant(title)
        if variant is None:
            raise _Decline
        layouts = variant.layouts
        other = f"\n{variant.list_key}:" if len(layouts) > 1 else ""
        in_list = "list" in layouts and (not other or other in text)
        plan = _Plan((envelope.list_record if in_list else envelope.inline_record)(variant))
        if plan.depth > self.depth:
            raise _Decline
        if len(self.known) < MAX_TITLES and not (other and in_list):
            self.known[line] = (title, variant, plan, other)
        return plan


_roots: dict[Shape, _Root] = {}


def _make_root(shape: Shape) -> _Root:
    if isinstance(shape, Envelope):
        return _EnvelopeRoot(shape)
    plan = _plan(shape)
    return _Root() if plan is None else _RecordRoot(plan)


_plans: dict[Shape, _Plan | None] = {}


def _plan(shape: Shape) -> _Plan | None:
    """The plan of a shape that is a mapping with known keys."""
    try:
        return _plans[shape]
    except KeyError:
        plan = None
        if isinstance(shape, Record):
            plan = _Plan(shape)
        elif isinstance(shape, Converted) and isinstance(shape.wire, Record):
            plan = _Plan(shape.wire)
            wire, from_wire = plan.build, shape.cls.from_wire
            plan.build = lambda values: from_wire(wire(values))
            plan.cls = None
        _plans[shape] = plan
        return plan


def _entry(field: Field) -> tuple[int, Any, int]:
    """Kind of a field's entry, what comes third in it, and how deep its value may be nested."""
    shape = field.shape
    if type(shape) is Text:
        return _TEXT, None, 0
    if isinstance(shape, Bool | Choice):
        words = shape.values
        return _WORD, {word: words[word] for word in words if word not in NULLS}, 0
    if isinstance(shape, ScalarShape):
        return _INTEGER if type(shape) is Int else _SCALAR, shape, 0
    plan = _plan(shape)
    if plan is not None:
        return _OTHER, plan.read, plan.depth
    if isinstance(shape, List | Members):
        item = shape.item
        plan = _plan(item)
        if plan is not None:
            return _OTHER, plan.read_list, 1 + plan.depth
        if type(item) is Text:
            return _OTHER, _texts, 1
        if type(item) is Int:
            return _OTHER, _integers, 1
        if isinstance(item, List) and type(item.item) is Int:
            return _OTHER, _integer_lists, 2
        if isinstance(item, ScalarShape):
            return _OTHER, _scalars(item), 1
    elif isinstance(shape, Map) and isinstance(shape.value, ScalarShape):
        return _OTHER, _free_mapping(shape), 1
    elif isinstance(shape, Converted) and isinstance(shape.wire, Map):
        return _OTHER, _converted(_free_mapping(shape.wire), shape.cls.from_wire), 1
    return _OTHER, _decline, 0


def _decline(lines: Lines, i: int, text: str, indent: str) -> tuple[Any, int]:
    raise _Decline


# --- texts --------------------------------------------------------------------------------------

_plain = re.compile(
    # On one line, begun by no indicator; ':' only before and '#' only after something that is no
    # space, no space at the end. Any character from U+0080 is a character like others.
    r"(?:[A-Za-z0-9_/.<(+=$^;\\\x80-\U0010ffff]|-(?=[^ \t]))[^\x00-\x20\x7f:#]*"
    r"(?:(?::(?=[^ \t])|(?<! )#| (?=.))[^\x00-\x20\x7f:#]*)*",
    re.DOTALL,
).fullmatch
_single = re.compile("'((?:[^']|'')*)'").fullmatch
_double = re.compile(r'"([^"\\]*(?:\\.[^"\\]*)*)"').fullmatch
_double_open = re.compile(r'[^"\\]*(?:\\.[^"\\]*)*\\?').fullmatch
_double_close = re.compile(r'([^"\\]*(?:\\.[^"\\]*)*)"').fullmatch
_single_open = re.compile("(?:[^']|'')*").fullmatch
_single_close = re.compile("((?:[^']|'')*)'").fullmatch

_ESCAPED_BREAK = re.compile(r"\\\n[ \t]*")
_BREAKS = re.compile(r"[ \t]*\n[ \t\n]*")
_UNSURE = re.compile(r"\\[ \t]+\n|\\\n[ \t]*\n")
_json_text = msgspec.json.Decoder(str).decode


def _text(lines: Lines, i: int, text: str, indent: str) -> tuple[str, int]:
    if _plain(text) is not None:
        if text in NULLS:
            raise _Decline
        return text, i
    return _styled(lines, i, text, indent)


def _styled(lines: Lines, i: int, text: str, indent: str) -> tuple[str, int]:
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
    raise _Decline


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
        raise _Decline
    while True:
        line = lines[i]
        i += 1
        if line and not line.startswith(below):
            raise _Decline
        match = close(line)
        if match is not None:
            parts.append(match[1])
            return "\n".join(parts), i
        if is_open(line) is None:
            raise _Decline
        parts.append(line)


def _fold(match: re.Match[str]) -> str:
    breaks = match[0].count("\n")
    return " " if breaks == 1 else "\n" * (breaks - 1)


def _unescape(body: str) -> str:
    """The text of what stands between double quotes."""
    if "\n" in body:
        if "\\\\" in body or _UNSURE.search(body) is not None:
            raise _Decline
        body = _BREAKS.sub(_fold, _ESCAPED_BREAK.sub("", body))
    if "\\" not in body:
        return body
    if "\\ " in body:
        if "\\\\" in body:
            raise _Decline
        body = body.replace("\\ ", " ")
    if "\\u" in body or "\\x" in body or "\\U" in body:
        return _ESCAPE.sub(_escaped, body)
    # The other escapes that peers write are JSON's; any else makes the decoder refuse.
    return _json_text(f'"{body}"')


_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.?))", re.DOTALL)
_ESCAPES = {
    '"': '"', "\\": "\\", "/": "/", "n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f",
    "0": "\0", "a": "\a", "v": "\v", "e": "\x1b",
}  # fmt: skip


def _escaped(match: re.Match[str]) -> str:
    letter = match[4]
    if letter is not None:
        char = _ESCAPES.get(letter)
        if char is None:
            raise _Decline
        return char
    code = int(match[1] or match[2] or match[3], 16)
    if 0xD800 <= code <= 0xDFFF or code > 0x10FFFF:
        raise _Decline
    return chr(code)


def _literal(lines: Lines, i: int, header: str, indent: str) -> tuple[str, int]:
    line = lines[i]
    pad = line[: len(line) - len(line.lstrip(" "))]
    if len(pad) <= len(indent) or line[len(pad) : len(pad) + 1] in ("", "\t"):
        raise _Decline
    start = i
    while line.startswith(pad) or not line:
        i += 1
        line = lines[i]
    end = i
    while not lines[end - 1]:
        end -= 1
    if lines[end] == _END:  # the text ends within the last line, so without its line break
        raise _Decline
    body = "\n".join(lines[start:end])[len(pad) :].replace(f"\n{pad}", "\n")
    return (body if header == "|-" else f"{body}\n"), i


def _unquote(text: str) -> str:
    """A scalar on one line that is no text field: without simple quotes, if it has them."""
    if text[:1] in ("'", '"'):
        quote = text[0]
        body = text[1:-1]
        if len(text) < 2 or text[-1] != quote or quote in body or "\\" in body:
            raise _Decline
        return body
    if text in NULLS or _plain(text) is None:
        raise _Decline
    return text


# --- lists and free mappings --------------------------------------------------------------------


def _texts(lines: Lines, i: int, text: str, indent: str) -> tuple[Any, int]:
    """A list of texts in the lines below its key."""
    if text or lines[i].endswith("[]"):
        return _empty_list(lines, i, text, indent)
    dash = _dash(lines[i], indent)
    below = dash[: dash.index("-")]  # what a literal block or quoted lines must be indented beyond
    size = len(dash)
    items = []
    while (line := lines[i]).startswith(dash):
        item, i = _text(lines, i + 1, line[size:], below)
        items.append(item)
    return tuple(items), i


def _scalars(shape: ScalarShape) -> Read:
    """A list of numbers or words in the lines below its key."""

    def read(lines: Lines, i: int, text: str, indent: str) -> tuple[Any, int]:
        if text or lines[i].endswith("[]"):
            return _empty_list(lines, i, text, indent)
        dash = _dash(lines[i], indent)
        size = len(dash)
        items = []
        while (line := lines[i]).startswith(dash):
            value = shape.from_text(_unquote(line[size:]))
            if value is INVALID:
                raise _Decline
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
        raise _Decline
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
            raise _Decline
        parts.append(line)
        opened += line.count("[") - line.count("]")
        i += 1
    return " ".join(parts), i


def _integers(lines: Lines, i: int, text: str, indent: str) -> tuple[Any, int]:
    """A list of integers, in flow style or in the lines below its key."""
    if text:
        text, i = _flow(lines, i, text, indent)
        return _flow_integers(text), i
    if lines[i].endswith("[]"):
        return _empty_list(lines, i, text, indent)
    dash = _dash(lines[i], indent)
    return _integer_lines(lines, i, lines[i][len(dash) :], dash)


def _integer_lines(lines: Lines, i: int, text: str, dash: str) -> tuple[Any, int]:
    """Integers, one a line after `dash`; the first one's text is known."""
    size = len(dash)
    items = []
    while True:
        if _DIGITS(text) is None:
            raise _Decline
        items.append(int(text))
        i += 1
        line = lines[i]
        if not line.startswith(dash):
            return tuple(items), i
        text = line[size:]


def _integer_lists(lines: Lines, i: int, text: str, indent: str) -> tuple[Any, int]:
    """A list of lists of integers, both in either style."""
    if text:
        text, i = _flow(lines, i, text, indent)
        if "-" in text or "\t" in text:
            raise _Decline
        return _json_lists(text), i
    dash = _dash(lines[i], indent)
    outer = dash[: dash.index("-")]
    size = len(dash)
    items = []
    while (line := lines[i]).startswith(dash):
        row = line[size:]
        if row.startswith("["):
            row, i = _flow(lines, i + 1, row, outer)
            items.append(_flow_integers(row))
        else:
            inner = _dash(row, "")
            if inner[0] != "-":
                raise _Decline
            item, i = _integer_lines(lines, i, row[len(inner) :], " " * size + inner)
            items.append(item)
    return tuple(items), i


_free_key = re.compile(r"( *)([A-Za-z_][A-Za-z0-9_./ -]*[A-Za-z0-9_./-]|[A-Za-z_])").fullmatch


_MAX_KEY = 1000  # YAML's own limit for a key on one line is 1024 characters, quotes included


def _free_mapping(shape: Map) -> Read:
    """A mapping of plain keys in the lines below its key."""
    value_shape = shape.value
    is_text = type(value_shape) is Text
    assert isinstance(value_shape, ScalarShape)
    from_text = value_shape.from_text

    def read(lines: Lines, i: int, text: str, indent: str) -> tuple[Any, int]:
        match = _free_key(lines[i].partition(": ")[0])
        if text or match is None or len(match[1]) <= len(indent):
            raise _Decline
        prefix = match[1]
        values: dict[str, Any] = {}
        while (line := lines[i]).startswith(prefix):
            head, colon, rest = line.partition(": ")
            match = _free_key(head)
            if match is None or match[1] != prefix or not colon or match[2] in values:
                raise _Decline
            if len(head) > _MAX_KEY:
                raise _Decline
            i += 1
            value: Any
            if is_text:
                value, i = _text(lines, i, rest, prefix)
            else:
                value = from_text(_unquote(rest))
                if value is INVALID:
                    raise _Decline
            values[match[2]] = value
        return values, i

    return read


def _converted(read: Read, convert: Callable[[Any], Any]) -> Read:
    def read_converted(lines: Lines, i: int, text: str, indent: str) -> tuple[Any, int]:
        value, i = read(lines, i, text, indent)
        return convert(value), i

    return read_converted
