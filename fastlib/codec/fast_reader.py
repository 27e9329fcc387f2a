"""The fast road in: the block style that peers write, read line by line straight into structs.

A table for each struct and indentation knows the beginning of every line that may come next, so a
line is recognised by one look-up, indentation included. What no table knows ends the mapping, and
what then nobody knows makes the whole text decline: the exact road answers, with its errors and
warnings. So this road only ever sees texts without any problem, and must only be right about those
that it accepts. `tests/codec/test_readers_agree.py` holds the two together.
"""

import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from .derived import derived_cache
from .envelope import MAX_TITLES, Envelope, Members, Variant
from .fast_values import (
    END,
    Decline,
    Lines,
    converted,
    dash_of,
    decline,
    empty_list,
    free_mapping,
    integer_lists,
    integers,
    plain,
    scalars,
    styled,
    texts,
    unquote,
)
from .limits import Limits
from .load_context import INVALID, TEXT_PER_NODE
from .records import Converted, Field, Record
from .scalars import NULLS
from .shapes import Bool, Choice, Int, List, Map, ScalarShape, Shape, Text

DECLINED: Final = object()
"""The answer of the fast road to what it is not sure of."""

Entry = tuple[int, str, Any]


class Table(NamedTuple):
    """How the lines of a mapping may begin at one indentation."""

    whole: dict[str, Entry]
    """By the whole line: keys with their values below, and lines of which all is known."""
    heads: dict[str, Entry]
    """By what stands before the first `: `, indentation included."""


# Kinds of entries, and what comes third in them.
_TEXT = 0  # nothing
_WORD = 1  # the value of each word
_SCALAR = 2  # the shape
_TITLE = 3  # the title that must stand here
_OTHER = 4  # a Read
_INTEGER = 5  # the shape
_LINE = 6  # the value of the whole line

_TITLE_SEEN = " title"  # no attribute's name

_MAX_INDENT = 64  # tables are kept by indentation, and hostile texts have many
_MAX_TABLES = 64


_SURROGATE = re.compile("[\ud800-\udfff]").search


def read_fast(shape: Shape, text: str, limits: Limits) -> Any:
    """The value of a text, or DECLINED."""
    root = _roots.get(shape)
    if root is None:
        root = _roots[shape] = _make_root(shape)
    size = len(text)
    if size > limits.max_scalar or root.depth > limits.max_depth or "\0" in text:
        return DECLINED
    if not text.isascii() and _SURROGATE(text) is not None:
        return DECLINED
    if size * 6 > limits.max_nodes and _nodes(text) > limits.max_nodes:
        return DECLINED
    if "\r" in text:
        text = text.replace("\r\n", "\n")
        if "\r" in text:
            return DECLINED
    lines = text.split("\n")
    lines.append(END)
    try:
        return root.read(lines, text)
    except (Decline, ValueError, TypeError):
        # ValueError is a constructor's refusal, a converter's, or msgspec's for what is no JSON;
        # TypeError a member that is missing. The exact road decides.
        return DECLINED


def _nodes(text: str) -> int:
    """At most so many nodes are in a text that this road reads."""
    # A line has at most an item, its key and its value, and one list or mapping; and flow lists.
    lists = text.count(",") + text.count("[")
    return 4 * text.count("\n") + 4 + lists + len(text) // TEXT_PER_NODE


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
    by_line, by_head = rest
    whole = by_line.get
    heads = by_head.get
    cls = plan.cls
    while True:
        line = lines[i]
        entry = whole(line)
        if entry is not None:
            text = ""
        else:
            head, colon, text = line.partition(": ")
            entry = heads(head) if colon else None
            if entry is None:
                if first is None:
                    break
                entry = first.heads.get(head) if colon else first.whole.get(line)
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
            if (text.isalnum() or plain(text) is not None) and text not in NULLS:
                values[attribute] = text
            else:
                values[attribute], i = styled(lines, i, text, indent)
        elif kind == _OTHER:
            values[attribute], i = what(lines, i, text, indent)
        elif kind == _WORD:
            value = what.get(text, INVALID)
            if value is INVALID:
                value = what.get(unquote(text), INVALID)
                if value is INVALID:
                    raise Decline
            values[attribute] = value
        elif kind == _INTEGER:
            if text.isdigit() and text.isascii() and text[0] != "0" and len(text) < 21:
                values[attribute] = int(text)  # its range is checked by the constructor
            else:
                value = what.from_text(unquote(text))
                if value is INVALID:
                    raise Decline
                values[attribute] = value
        elif kind == _SCALAR:
            value = what.from_text(unquote(text))
            if value is INVALID:
                raise Decline
            values[attribute] = value
        else:  # the title
            if unquote(text) != what:
                raise Decline
            values[_TITLE_SEEN] = None
    if len(values) != count:  # a key stood there twice
        raise Decline
    return values, i


class _Plan:
    """How the lines of one struct look, at each indentation."""

    def __init__(self, record: Record) -> None:
        cls, custom = record.cls, record.custom_build
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
                raise Decline
            if len(self.tables) >= _MAX_TABLES:
                self.tables.clear()
            table = self.tables[prefix] = Table({}, {})
            if self.title is not None and plain(self.title[1]) is not None:
                line = f"{prefix}{self.title[0]}: {self.title[1]}"
                table.whole[line] = (_LINE, _TITLE_SEEN, None)
            for key, entry in self.entries.items():
                kind, attribute, what = entry
                for spelling in (key, f'"{key}"', f"'{key}'"):
                    table.heads[prefix + spelling] = entry
                    if kind == _OTHER:
                        table.whole[f"{prefix}{spelling}:"] = entry
                if kind == _WORD and len(what) < 50:
                    for word, value in what.items():
                        table.whole[f"{prefix}{key}: {word}"] = (_LINE, attribute, value)
        return table

    def read(self, lines: Lines, i: int, text: str, indent: str) -> tuple[Any, int]:
        """A mapping in the lines below its key."""
        line = lines[i]
        prefix = line[: len(line) - len(line.lstrip(" "))]
        if text or len(prefix) <= len(indent):
            raise Decline
        values, end = _scan(lines, i, None, self.table(prefix), prefix, self)
        if end == i:
            raise Decline
        cls = self.cls
        return (self.build(values) if cls is None else cls(**values)), end

    def read_list(self, lines: Lines, i: int, text: str, indent: str) -> tuple[Any, int]:
        """A list of mappings in the lines below its key."""
        if text or lines[i].endswith("[]"):
            return empty_list(lines, i, text, indent)
        dash = dash_of(lines[i], indent)
        below = " " * len(dash)
        items, end = _scan(lines, i, self.table(dash), self.table(below), below, self)
        if end == i:
            raise Decline
        return items, end


# --- roots --------------------------------------------------------------------------------------


class _Root:
    """A plan for whole texts; this one declines them all."""

    depth = 0

    def read(self, lines: Lines, text: str) -> Any:
        raise Decline


def _whole(plan: _Plan, lines: Lines) -> dict[str, Any]:
    """The values of a document that is one mapping."""
    start = 1 if lines[0] == "---" else 0
    line = lines[start]
    prefix = line[: len(line) - len(line.lstrip(" "))] if line[:1] == " " else ""
    values: dict[str, Any]
    values, i = _scan(lines, start, None, plan.table(prefix), prefix, plan)
    line = lines[i]
    if i == start:
        raise Decline
    if line not in _ENDS:
        while not line:
            i += 1
            line = lines[i]
        if line not in _ENDS:
            raise Decline
    return values


_ENDS = ("---", END, "...")


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
            raise Decline
        del values[_TITLE_SEEN]
        return plan.build(values)

    def find(self, line: str, text: str) -> _Plan:
        """The plan of a text whose first line is not known to have one."""
        head = self.head
        if not line.startswith(head):
            start = text.find(f"\n{head}")
            if start == -1:
                raise Decline
            end = text.find("\n", start + 1)
            line = text[start + 1 : end if end != -1 else len(text)]
        title = unquote(line[len(head) :])
        envelope = self.envelope
        variant = envelope.variant(title)
        if variant is None:
            raise Decline
        layouts = variant.layouts
        other = f"\n{variant.list_key}:" if len(layouts) > 1 else ""
        in_list = "list" in layouts and (not other or other in text)
        plan = _Plan((envelope.list_record if in_list else envelope.inline_record)(variant))
        if plan.depth > self.depth:
            raise Decline
        if len(self.known) < MAX_TITLES and not (other and in_list):
            self.known[line] = (title, variant, plan, other)
        return plan


_roots: dict[Shape, _Root] = derived_cache()


def _make_root(shape: Shape) -> _Root:
    if isinstance(shape, Envelope):
        return _EnvelopeRoot(shape)
    plan = _plan(shape)
    return _Root() if plan is None else _RecordRoot(plan)


_plans: dict[Shape, _Plan | None] = derived_cache()


def _plan(shape: Shape) -> _Plan | None:
    """The plan of a shape that is a mapping with known keys."""
    if not isinstance(shape, Record | Converted):
        return None
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
            return _OTHER, texts, 1
        if type(item) is Int:
            return _OTHER, integers, 1
        if isinstance(item, List) and type(item.item) is Int:
            return _OTHER, integer_lists, 2
        if isinstance(item, ScalarShape):
            return _OTHER, scalars(item), 1
    elif isinstance(shape, Map) and isinstance(shape.value, ScalarShape):
        return _OTHER, free_mapping(shape), 1
    elif isinstance(shape, Converted) and isinstance(shape.wire, Map):
        return _OTHER, converted(free_mapping(shape.wire), shape.cls.from_wire), 1
    return _OTHER, decline, 0
