"""Writes YAML in the layout of the C++ fast-lib, from plain trees and from structs.

`write_tree` writes any plain tree, and defines the layout. `write_block` returns the same text for
a struct without building a tree: it compiles a function for each struct and indentation.
`tests/codec/test_readers_agree.py` compares the two. See docs/reference/protocol.md, "Text".
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec

from .caches import derived_cache
from .derivation import shape_of
from .envelope import MAX_TITLES, Envelope, Members, Variant
from .instants import write_instant
from .records import Converted, Field, Record
from .scalars import RESERVED, is_long_key, write_float, write_literal, write_text
from .shapes import Bool, Choice, Float, Instant, Int, List, Shape, Text

_STEP = "  "


# --- plain trees ----------------------------------------------------------------------------------


def write_tree(tree: Any, *, literal: bool = False) -> str:
    """Return the document of a plain tree in block style, with nested lists in flow style.

    With `literal`, texts of several lines are literal blocks, if every reader reads them exactly.
    """
    return f"---\n{_lines(tree, '', literal)}---"


def write_flow(tree: Any) -> str:
    """Return a plain tree on one line, in flow style."""
    if isinstance(tree, dict):
        pairs = (f"{_flow_key(key)}: {write_flow(item)}" for key, item in tree.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(tree, list):
        return f"[{', '.join(map(write_flow, tree))}]"
    return _leaf(tree)


def _flow_key(key: str) -> str:
    text = write_text(key)
    return f"? {text} " if is_long_key(text) else text


def _leaf(value: Any) -> str:
    if isinstance(value, str):
        return write_text(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return write_float(value) if isinstance(value, float) else str(value)


def _is_flow(tree: Any) -> bool:
    """Return whether a value is on the line of its key: a leaf, an empty or a nested list, `{}`."""
    if isinstance(tree, dict):
        return not tree
    return not isinstance(tree, list) or all(isinstance(item, list) for item in tree)


def _lines(tree: Any, pad: str, literal: bool) -> str:
    """Return the lines of a tree, each indented by `pad`."""
    if isinstance(tree, dict) and tree:
        return "".join([_pair(key, item, pad, literal) for key, item in tree.items()])
    if _is_flow(tree):
        return f"{pad}{write_flow(tree)}\n"
    below = pad + _STEP
    lines = []
    for item in tree:
        if _is_flow(item):
            lines.append(f"{pad}- {write_flow(item)}\n")
        else:
            lines.append(f"{pad}- {_lines(item, below, literal)[len(below) :]}")
    return "".join(lines)


def _pair(key: str, item: Any, pad: str, literal: bool = False) -> str:
    """Return the lines of a key and its value."""
    text = write_text(key)
    head = f"{pad}? {text}\n{pad}:" if is_long_key(text) else f"{pad}{text}:"
    if _is_flow(item):
        block = write_literal(item, pad) if literal and isinstance(item, str) else None
        return f"{head} {block or write_flow(item)}\n"
    return f"{head}\n{_lines(item, pad + _STEP, literal)}"


# --- structs ------------------------------------------------------------------------------------

Write = Callable[[Any], str]

_roots: dict[Shape, Write] = derived_cache()


def write_block(value: Any, shape: Shape) -> str:
    """Return a document of a checked value in block style."""
    write = _roots.get(shape)
    if write is None:
        write = _roots[shape] = _root(shape)
    return write(value)


def _root(shape: Shape) -> Write:
    if isinstance(shape, Envelope):
        return _envelope(shape)
    if isinstance(shape, Record):
        lines = _record(shape, "")
        empty = "{}\n"

        def write_record(value: Any) -> str:
            return f"---\n{lines(value) or empty}---"

        return write_record
    return lambda value: write_tree(shape.dump(value))


def _envelope(envelope: Envelope) -> Write:
    """Return the writer of containers. It compiles one function for each title."""
    title_of = envelope.title
    own = Record(envelope.cls, envelope.fields)
    written: dict[str, tuple[Variant, Write]] = {}

    def write_envelope(value: Any) -> str:
        title = getattr(value, title_of)
        variant = envelope.variant(title)
        assert variant is not None
        known = written.get(title)
        if known is not None and (known[0] is variant or known[0] == variant):
            return known[1](value)
        write = for_variant(title, variant)
        if len(written) < MAX_TITLES:
            written[title] = (variant, write)
        return write(value)

    def for_variant(title: str, variant: Variant) -> Write:
        head = f"---\n{title_of}: {write_text(title)}\n"
        member = envelope.record(variant.member)
        if variant.layouts[0] == "inline":
            names = {field.key for field in member.fields}
            tail = _compile(Record(envelope.cls, [f for f in own.fields if f.key not in names]), "")
            one = _record(member, "")
            members_of = envelope.members

            def write_inline(value: Any) -> str:
                return f"{head}{one(getattr(value, members_of)[0])}{tail(value)}---"

            return write_inline
        members = Field(
            envelope.members,
            variant.list_key,
            Members(envelope, variant),
            own.fields[0].wire,
            required=True,
            optional=False,
        )
        body = _compile(Record(envelope.cls, [members, *own.fields]), "")

        def write_list(value: Any) -> str:
            return f"{head}{body(value)}---"

        return write_list

    return write_envelope


_records: dict[tuple[Record, str, bool], Write] = derived_cache()


def _record(record: Record, pad: str, *, item: bool = False) -> Write:
    """Return a function for the lines of a struct; with `item`, the first line has a dash."""
    key = (record, pad, item)
    write = _records.get(key)
    if write is None:
        write = _records[key] = _compile(record, pad, item=item)
    return write


def _compile(record: Record, pad: str, *, item: bool = False) -> Write:
    """Return a compiled function for the lines of a struct.

    For a struct with a required text and an optional integer, the source is about this::

        def write(o):
            s = ''
            v = o.name
            s += f'name: {text(v)}\\n'
            v = o.count
            if v is not None: s += f'count: {v}\\n'
            return s

    It consists of names and literals of the declaration only.
    """
    names: dict[str, Any] = {"RESERVED": RESERVED}
    lines = ["def write(o):", "    s = ''"]
    if record.written_title is not None:
        key, title = record.written_title
        first = f"{pad}{write_text(key)}: {write_text(title)}\n"
        lines[1] = f"    s = {first!r}"
    for index, field in enumerate(record.fields):
        line = _field_line(field, pad, f"_{index}", names)
        lines.append(f"    v = o.{field.attribute}")
        if field.optional or not field.required:
            lines.append(f"    if v is not None: s += {line}")
        else:
            lines.append(f"    s += {line}")
    if record.extensions is not None:
        names["extended"] = partial(_extended, pad)
        attribute = record.extensions.attribute
        lines.append(f"    if o.{attribute}: s += extended(o.{attribute})")
    if item:
        outer = pad[: -len(_STEP)]
        dash, empty = f"{outer}- ", f"{outer}- {{}}\n"
        lines.append(f"    return {dash!r} + s[{len(pad)}:] if s else {empty!r}")
    else:
        lines.append("    return s")
    exec("\n".join(lines), names)  # noqa: S102 - of identifiers and literals from a declaration
    write: Write = names["write"]
    return write


def _extended(pad: str, extensions: Sequence[Any]) -> str:
    """Return the lines of a struct's extensions."""
    lines = []
    for extension in extensions:
        shape = shape_of(type(extension))
        assert isinstance(shape, Record)
        lines.append(_record(shape, pad)(extension))
    return "".join(lines)


def _field_line(field: Field, pad: str, name: str, names: dict[str, Any]) -> str:
    """Return a source expression for the lines of a field whose value is `v`.

    Adds the objects that the expression uses to `names`.
    """
    shape = field.shape
    head = f"{pad}{write_text(field.key)}:"
    f_head = head.replace("\\", "\\\\").replace("{", "{{").replace("}", "}}").replace("'", "\\'")
    if type(shape) is Text:
        names["text"] = write_text
        return (
            f"(f'{f_head} {{v}}\\n' if v.isascii() and v.isidentifier() "
            "and v[0] not in 'eE' and v not in RESERVED "
            f"else f'{f_head} {{text(v)}}\\n')"
        )
    if type(shape) is Bool:
        return f"({f'{head} true{chr(10)}'!r} if v else {f'{head} false{chr(10)}'!r})"
    if type(shape) is Int:
        if shape.digits:
            return f"f'{f_head} \"0x{{v:0{shape.digits}x}}\"\\n'"
        return f"f'{f_head} {{v}}\\n'"
    if type(shape) is Float:
        names["number"] = write_float
        return f"f'{f_head} {{number(v)}}\\n'"
    if type(shape) is Instant:
        names["instant"] = write_instant
        return f"f'{f_head} \"{{instant(v)}}\"\\n'"
    if type(shape) is Choice:
        names[name] = {
            value: f"{head} {write_text(text)}\n" for text, value in shape.values.items()
        }
        return f"{name}[v]"
    names[name] = _value(shape, field.key, head, pad)
    return f"{name}(v)"


def _value(shape: Shape, key: str, head: str, pad: str) -> Write:
    """Return a function for the lines of a key and a value that is not a simple scalar."""
    below = pad + _STEP
    if isinstance(shape, Record):
        lines = _record(shape, below)

        def write_mapping(value: Any) -> str:
            body = lines(value)
            return f"{head}\n{body}" if body else f"{head} {{}}\n"

        return write_mapping
    if isinstance(shape, List | Members):
        item = shape.item
        if isinstance(item, List) and type(item.item) is Int:
            return lambda value: f"{head} {_integer_lists(value)}\n"
        write = _item(item, below)
        if write is not None:

            def write_list(value: Sequence[Any]) -> str:
                if not value:
                    return f"{head} []\n"
                return f"{head}\n{''.join([write(item) for item in value])}"

            return write_list
    return lambda value: _pair(key, shape.dump(value), pad)


def _item(shape: Shape, pad: str) -> Write | None:
    """Return a function for the lines of a list item whose dash is indented by `pad`."""
    if isinstance(shape, Record):
        return _record(shape, pad + _STEP, item=True)
    if isinstance(shape, Converted) and isinstance(shape.wire, Record):
        lines = _record(shape.wire, pad + _STEP, item=True)
        return lambda value: lines(value.to_wire())
    if type(shape) is Text:
        return lambda value: f"{pad}- {write_text(value)}\n"
    return None


_json = msgspec.json.Encoder().encode


def _integer_lists(value: Any) -> str:
    return _json(value).decode().replace(",", ", ")
