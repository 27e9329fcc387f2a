"""The fast reader: reads the peers' block style line by line, directly into structs.

For each struct and indentation there is a table of the possible beginnings of the next line. One
look-up recognises a key together with its indentation. A line that is in no table ends the mapping.
If no open mapping knows the line, the whole text is unsupported: the exact reader reads it, and
reports errors and warnings. So this reader never reports a problem. It must be correct only for the
texts that it accepts. `tests/codec/test_readers_agree.py` compares the two readers.
"""

import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from .caches import derived_cache
from .envelope import MAX_TITLES, Envelope, Members, Variant
from .fast_values import (
    END_OF_TEXT,
    Lines,
    Unsupported,
    ValueReader,
    converting_reader,
    free_mapping_reader,
    integer_list_reader,
    integer_lists_reader,
    item_prefix,
    match_plain,
    read_empty_list,
    read_quoted_or_block,
    read_text_list,
    read_unsupported,
    scalar_list_reader,
    unquote,
)
from .limits import Limits
from .load_context import INVALID, TEXT_PER_NODE
from .load_context import UNSUPPORTED as UNSUPPORTED
from .records import Converted, Field, Record
from .scalars import NULLS
from .shapes import Bool, Choice, Int, List, Map, ScalarShape, Shape, Text

Entry = tuple[int, str, Any, bool]
"""How to read the value of a key: its kind (below), its attribute, the data of the kind, and
whether the line begins an item of a list."""


class Table(NamedTuple):
    """The keys of a mapping at one indentation, or of a list of mappings."""

    by_line: dict[str, Entry]
    """Entries by the whole line: `key:` with a value below it, and frequent lines `key: word`."""
    by_key: dict[str, Entry]
    """Entries by the text before the first `: `, with the indentation and the dash."""
    indent: str
    """The spaces before a key. In a list, the first key of each item has a dash among them."""
    is_list: bool


# Kinds of entries, and the third item of such an entry.
_TEXT: Final = 0  # a text: nothing
_WORD: Final = 1  # a word of a closed set: the value of each word
_SCALAR: Final = 2  # another scalar: its shape
_TITLE: Final = 3  # the title of the message: the title that is expected
_OTHER: Final = 4  # any other value: its ValueReader
_INTEGER: Final = 5  # an integer: its shape
_LINE: Final = 6  # a line that is known as a whole: the value of the key

_TITLE_SEEN: Final = " title"  # a key of `values` that is no attribute

_MAX_NULL: Final = max(map(len, NULLS))

_MAX_INDENT: Final = 64  # spaces; a text with more indentation is unsupported
_MAX_TABLES: Final = 64  # tables per struct; tables are kept by indentation


_SURROGATE: Final = re.compile(
    f"[{chr(0xD800)}-{chr(0xDFFF)}]"
).search  # mypyc takes none in a literal


def read_fast(shape: Shape, text: str, limits: Limits) -> Any:
    """Return the value of a text, or UNSUPPORTED."""
    reader = _document_readers.get(shape)
    if reader is None:
        reader = _document_readers[shape] = _make_document_reader(shape)
    size = len(text)
    if size > limits.max_scalar or reader.depth > limits.max_depth or "\0" in text:
        return UNSUPPORTED
    if not text.isascii() and _SURROGATE(text) is not None:
        return UNSUPPORTED
    if size * 6 > limits.max_nodes and _max_nodes_in(text) > limits.max_nodes:
        return UNSUPPORTED
    if "\r" in text:
        text = text.replace("\r\n", "\n")
        if "\r" in text:
            return UNSUPPORTED
    lines = text.split("\n")
    lines.append(END_OF_TEXT)
    try:
        return reader.read(lines, text)
    except (Unsupported, ValueError, TypeError):
        # ValueError: a constructor or a converter refused a value, or msgspec a list of integers.
        # TypeError: a required field is missing. The exact reader reports the problem.
        return UNSUPPORTED


def _max_nodes_in(text: str) -> int:
    """Return an upper bound of the number of nodes in a text that this reader supports."""
    # A line has at most an item, its key and its value, and one list or mapping. To these are added
    # the lists in flow style and their items.
    lists = text.count(",") + text.count("[")
    return 4 * text.count("\n") + 4 + lists + len(text) // TEXT_PER_NODE


# --- mappings -----------------------------------------------------------------------------------


def _read_fields(lines: Lines, i: int, table: Table, reader: "_StructReader") -> tuple[Any, int]:
    """Read the fields of one mapping, or the items of a list of mappings.

    For a mapping, the result is its values by attribute. For a list, it is a tuple of structs. The
    second part of the result is the index of the first line that belongs to neither.

    This loop is by far the hottest of the fast reader. Function calls would cost more than most
    lines take, so mappings, lists and all simple kinds of values are read in the one loop. The line
    decides what happens. The first row that matches counts:

    ===============  ==================  ========================================================
    line             found in            action
    ===============  ==================  ========================================================
    `key:`           `table.by_line`     read the value below
    `key: word`      `table.by_line`     take the known value
    `key: value`     `table.by_key`      read the value by the kind of its entry
    any other        nowhere             list: build the last item and return all of them;
                                         mapping: return the values
    ===============  ==================  ========================================================

    In a list, each key is in the table twice: as it is, and after a dash. The entry then says that
    it begins an item, so the item before it is built first.

    `count` is the number of keys that were read for `values`. If there are fewer values, a key was
    there twice, and the text is unsupported.
    """
    items: list[Any] = []
    values: dict[str, Any] = {}
    count = 0
    by_line, by_key, indent, is_list = table
    construct = reader.construct
    while True:
        line = lines[i]
        entry = by_line.get(line)
        if entry is not None:
            text = ""
        else:
            key, colon, text = line.partition(": ")
            if not colon:
                break
            entry = by_key.get(key)
            if entry is None:
                break
        kind, attribute, what, begins_item = entry
        if begins_item and count:
            if len(values) != count:
                raise Unsupported
            items.append(reader.build(values) if construct is None else construct(**values))
            values = {}
            count = 0
        i += 1
        count += 1
        if kind == _LINE:
            values[attribute] = what
        elif kind == _TEXT:
            if (text.isalnum() or match_plain(text) is not None) and (
                len(text) > _MAX_NULL or text not in NULLS
            ):
                values[attribute] = text
            else:
                values[attribute], i = read_quoted_or_block(lines, i, text, indent)
        elif kind == _OTHER:
            values[attribute], i = what(lines, i, text, indent)
        elif kind == _WORD:
            value = what.get(text, INVALID)
            if value is INVALID:
                value = what.get(unquote(text), INVALID)
                if value is INVALID:
                    raise Unsupported
            values[attribute] = value
        elif kind == _INTEGER:
            if text.isdigit() and text.isascii() and text[0] != "0" and len(text) < 21:
                values[attribute] = int(text)  # its range is checked by the constructor
            else:
                value = what.from_text(unquote(text))
                if value is INVALID:
                    raise Unsupported
                values[attribute] = value
        elif kind == _SCALAR:
            value = what.from_text(unquote(text))
            if value is INVALID:
                raise Unsupported
            values[attribute] = value
        else:  # _TITLE
            if unquote(text) != what:
                raise Unsupported
            values[_TITLE_SEEN] = None
    if len(values) != count:  # a key was there twice
        raise Unsupported
    if not is_list:
        return values, i
    if count:
        items.append(reader.build(values) if construct is None else construct(**values))
    return tuple(items), i


class _StructReader:
    """Reads the lines of one type of struct, at any indentation."""

    def __init__(self, record: Record) -> None:
        custom_build = record.custom_build
        self.construct: Callable[..., Any] | None = None if custom_build else record.constructor
        """The constructor, if calling it with the values is all that is needed; else None."""
        self.build: Callable[[dict[str, Any]], Any] = record.build
        """Returns the struct of its values by attribute."""
        self.title = record.title
        self.entries: dict[str, Entry] = {}
        """Entries by key, of all spellings."""
        if record.title is not None:
            self.entries[record.title[0]] = (_TITLE, _TITLE_SEEN, record.title[1], False)
        self.depth = 1
        """The maximum depth of nesting in a mapping of this struct."""
        for field in record.fields:
            kind, what, depth = _make_entry(field)
            self.depth = max(self.depth, 1 + depth)
            for key in field.keys:
                self.entries[key] = (kind, field.attribute, what, False)
        self.tables: dict[str, Table] = {}

    def table(self, prefix: str, dash: str = "") -> Table:
        """Return the table of lines that have `prefix`, spaces only, before the key.

        With `dash`, which is as long as `prefix`, it is the table of a list: `dash` is before the
        first key of each item, `prefix` before the others.
        """
        table = self.tables.get(dash or prefix)
        if table is None:
            if len(prefix) > _MAX_INDENT:
                raise Unsupported
            if len(self.tables) >= _MAX_TABLES:
                self.tables.clear()
            table = Table({}, {}, prefix, bool(dash))
            self._add_lines(table, prefix, False)
            if dash:
                self._add_lines(table, dash, True)
            self.tables[dash or prefix] = table
        return table

    def _add_lines(self, table: Table, prefix: str, begins_item: bool) -> None:
        """Add the lines that have `prefix` before the key."""
        if self.title is not None and match_plain(self.title[1]) is not None:
            line = f"{prefix}{self.title[0]}: {self.title[1]}"
            table.by_line[line] = (_LINE, _TITLE_SEEN, None, begins_item)
        for key, (kind, attribute, what, _) in self.entries.items():
            entry = (kind, attribute, what, begins_item)
            for spelling in (key, f'"{key}"', f"'{key}'"):
                table.by_key[prefix + spelling] = entry
                if kind == _OTHER:
                    table.by_line[f"{prefix}{spelling}:"] = entry
            if kind == _WORD and len(what) < 50:
                for word, value in what.items():
                    table.by_line[f"{prefix}{key}: {word}"] = (_LINE, attribute, value, begins_item)

    def read(self, lines: Lines, i: int, text: str, indent: str) -> tuple[Any, int]:
        """Read a mapping in the lines below its key (a ValueReader)."""
        line = lines[i]
        prefix = line[: len(line) - len(line.lstrip(" "))]
        if text or len(prefix) <= len(indent):
            raise Unsupported
        values, end = _read_fields(lines, i, self.table(prefix), self)
        if end == i:
            raise Unsupported
        construct = self.construct
        return (self.build(values) if construct is None else construct(**values)), end

    def read_list(self, lines: Lines, i: int, text: str, indent: str) -> tuple[Any, int]:
        """Read a list of mappings in the lines below its key (a ValueReader)."""
        if text or lines[i].endswith("[]"):
            return read_empty_list(lines, i, text, indent)
        dash = item_prefix(lines[i], indent)
        items, end = _read_fields(lines, i, self.table(" " * len(dash), dash), self)
        if end == i:
            raise Unsupported
        return items, end


# --- documents ----------------------------------------------------------------------------------


class _DocumentReader:
    """Reads whole texts of one shape. This base class supports none."""

    depth = 0
    """How deep the text may be nested."""

    def read(self, lines: Lines, text: str) -> Any:
        """Return the value of a text; `lines` are its lines, then END_OF_TEXT."""
        raise Unsupported


_DOCUMENT_ENDS: Final = ("---", "...", END_OF_TEXT)


def _read_document(reader: _StructReader, lines: Lines) -> dict[str, Any]:
    """Return the values of a document that is one mapping. Text after it is not read."""
    start = 1 if lines[0] == "---" else 0
    line = lines[start]
    prefix = line[: len(line) - len(line.lstrip(" "))] if line[:1] == " " else ""
    values: dict[str, Any]
    values, i = _read_fields(lines, start, reader.table(prefix), reader)
    line = lines[i]
    if i == start:
        raise Unsupported
    if line not in _DOCUMENT_ENDS:
        while not line:
            i += 1
            line = lines[i]
        if line not in _DOCUMENT_ENDS:
            raise Unsupported
    return values


class _StructDocument(_DocumentReader):
    """Reads texts that are one struct."""

    def __init__(self, reader: _StructReader) -> None:
        self.reader = reader
        self.depth = reader.depth

    def read(self, lines: Lines, text: str) -> Any:
        values = _read_document(self.reader, lines)
        values.pop(_TITLE_SEEN, None)  # it may be missing where the type is known
        return self.reader.build(values)


class _KnownTitle(NamedTuple):
    """The result for the line of a title."""

    title: str
    variant: Variant
    reader: _StructReader
    other_layout: str
    """The reader is wrong if this is in the text, because the members then have another layout."""


class _EnvelopeDocument(_DocumentReader):
    """Reads containers: finds the title, then reads the text by the variant of that title."""

    depth = 16  # more than any member has; `_find_reader` checks the depth of each

    def __init__(self, envelope: Envelope) -> None:
        self.envelope = envelope
        self.head = f"{envelope.title}: "
        self.known: dict[str, _KnownTitle] = {}
        """By the line of the title."""

    def read(self, lines: Lines, text: str) -> Any:
        line = lines[1 if lines[0] == "---" else 0]
        known = self.known.get(line)
        if known is not None:
            title, variant, reader, other = known
            now = self.envelope.variant(title)
            if (now is not variant and now != variant) or (other and other in text):
                reader = self._find_reader(line, text)
        else:
            reader = self._find_reader(line, text)
        values = _read_document(reader, lines)
        if _TITLE_SEEN not in values:
            raise Unsupported
        del values[_TITLE_SEEN]
        return reader.build(values)

    def _find_reader(self, line: str, text: str) -> _StructReader:
        """Return the reader for the title of a text, and remember it for the text's first line."""
        head = self.head
        if not line.startswith(head):
            start = text.find(f"\n{head}")
            if start == -1:
                raise Unsupported
            end = text.find("\n", start + 1)
            line = text[start + 1 : end if end != -1 else len(text)]
        title = unquote(line[len(head) :])
        envelope = self.envelope
        variant = envelope.variant(title)
        if variant is None:
            raise Unsupported
        layouts = variant.layouts
        other = f"\n{variant.list_key}:" if len(layouts) > 1 else ""
        in_list = "list" in layouts and (not other or other in text)
        record = envelope.list_record(variant) if in_list else envelope.inline_record(variant)
        reader = _StructReader(record)
        if reader.depth > self.depth:
            raise Unsupported
        if len(self.known) < MAX_TITLES and not (other and in_list):
            self.known[line] = _KnownTitle(title, variant, reader, other)
        return reader


_document_readers: dict[Shape, _DocumentReader] = derived_cache()


def _make_document_reader(shape: Shape) -> _DocumentReader:
    if isinstance(shape, Envelope):
        return _EnvelopeDocument(shape)
    reader = _struct_reader(shape)
    return _DocumentReader() if reader is None else _StructDocument(reader)


# --- from shapes to readers -----------------------------------------------------------------------

_struct_readers: dict[Shape, _StructReader | None] = derived_cache()


def _struct_reader(shape: Shape) -> _StructReader | None:
    """Return the reader of a shape that is a mapping with known keys; None for any other shape."""
    if not isinstance(shape, Record | Converted):
        return None
    try:
        return _struct_readers[shape]
    except KeyError:
        reader = None
        if isinstance(shape, Record):
            reader = _StructReader(shape)
        elif isinstance(shape.wire, Record):
            reader = _StructReader(shape.wire)
            build_wire, from_wire = reader.build, shape.cls.from_wire
            reader.build = lambda values: from_wire(build_wire(values))
            reader.construct = None
        _struct_readers[shape] = reader
        return reader


def _make_entry(field: Field) -> tuple[int, Any, int]:
    """Return the kind of a field's entry, its third item, and how deep its value may be nested."""
    shape = field.shape
    if type(shape) is Text:
        return _TEXT, None, 0
    if isinstance(shape, Bool | Choice):
        # Other words have another meaning without quotes: null, or a text before a comment.
        words = shape.values
        plain = {word: words[word] for word in words if match_plain(word) is not None}
        return _WORD, {word: plain[word] for word in plain if word not in NULLS}, 0
    if isinstance(shape, ScalarShape):
        return _INTEGER if type(shape) is Int else _SCALAR, shape, 0
    reader, depth = _value_reader(shape)
    return _OTHER, reader, depth


def _value_reader(shape: Shape) -> tuple[ValueReader, int]:
    """Return the reader of a mapping or a list, and how deep it may be nested."""
    reader = _struct_reader(shape)
    if reader is not None:
        return reader.read, reader.depth
    if isinstance(shape, List | Members):
        return _list_reader(shape)
    if isinstance(shape, Map) and isinstance(shape.value, ScalarShape):
        return free_mapping_reader(shape.value), 1
    if isinstance(shape, Converted) and isinstance(shape.wire, Map):
        read_wire, depth = _value_reader(shape.wire)
        return converting_reader(read_wire, shape.cls.from_wire), depth
    return read_unsupported, 0


def _list_reader(shape: List | Members) -> tuple[ValueReader, int]:
    """Return the reader of a list, and how deep it may be nested."""
    item = shape.item
    reader = _struct_reader(item)
    if reader is not None:
        return reader.read_list, 1 + reader.depth
    if type(item) is Text:
        return read_text_list, 1
    if isinstance(shape, List) and type(item) is Int:
        return integer_list_reader(shape), 1
    if isinstance(shape, List) and isinstance(item, List) and type(item.item) is Int:
        return integer_lists_reader(shape, item), 2
    if isinstance(item, ScalarShape):
        return scalar_list_reader(item), 1
    return read_unsupported, 0
