"""Mistakes in a message, each with the problem to report, derived from the declarations.

A message's plain tree is walked together with its shape. For each place, the shape gives invalid
values and the problem that a reader must report.
"""

from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from fastlib.codec.envelope import Envelope, Members
from fastlib.codec.errors import Path, Severity, render_path
from fastlib.codec.limits import DEFAULT_LIMITS
from fastlib.codec.load_context import INVALID, LoadContext
from fastlib.codec.nodes import from_tree
from fastlib.codec.records import Converted, Field, Record
from fastlib.codec.rules import AllOrNone, Needs, OneOf, Rule
from fastlib.codec.shapes import (
    Bool,
    Choice,
    Float,
    Instant,
    Int,
    List,
    Map,
    ScalarShape,
    Shape,
    Text,
)
from fastlib.codec.writer import write_tree

MistakeKind = Literal[
    "kind", "word", "range", "missing", "null", "rule", "title", "duplicate", "misspelt"
]
"""The kind of mistake: a value of another kind, a word or a number that the place does not allow, a
missing key, null for a required value, a broken rule, an unknown title, a duplicate key, an unknown
key."""


class InvalidText(msgspec.Struct, frozen=True, kw_only=True):
    """A text with a mistake, and the problem to report."""

    text: str
    tree: Any
    """The text as a plain tree; None if only a text can express it, such as a duplicate key."""
    mistake: MistakeKind
    path: str
    """The place, like `Problem.path`."""
    code: str
    """The kind of the problem, like `Problem.code`."""
    severity: Severity = "error"
    """An unknown key is a warning: the text can be read."""


class Edit(msgspec.Struct, frozen=True):
    """One mistake: another value at a path."""

    mistake: MistakeKind
    path: Path
    code: str
    at: Path
    """The path of the change: the path itself or a parent."""
    new: Any
    severity: Severity = "error"


class _Gone:
    """Instead of a value: its key is left out."""


_GONE = _Gone()
_TWICE = "x-twice-"
"""The prefix of a key that is replaced in the text by an existing key."""
_STRANGE = ("?!", "nobody knows this", "\x7f")
"""Texts that almost no place allows."""


def edits_of(shape: Shape, tree: Any) -> list[Edit]:
    """Return every known mistake for the message with the plain tree `tree`."""
    return list(_edits(shape, tree, ()))


def made(edit: Edit, tree: Any) -> InvalidText:
    """Return the text of a message with a mistake."""
    broken = _changed(tree, edit.at, edit.new)
    text = write_tree(broken)
    if edit.mistake == "duplicate":
        key = str(edit.path[-1])
        text = text.replace(f"{_TWICE}{key}", key)
        broken = None
    return InvalidText(
        text=text,
        tree=broken,
        mistake=edit.mistake,
        path=render_path(edit.path),
        code=edit.code,
        severity=edit.severity,
    )


def _changed(tree: Any, path: Path, new: Any) -> Any:
    """Return a copy of a tree with another value at a path."""
    if not path:
        return new
    step, *rest = path
    if isinstance(tree, list):
        assert isinstance(step, int)
        return [*tree[:step], _changed(tree[step], tuple(rest), new), *tree[step + 1 :]]
    if not rest and new is _GONE:
        return {key: item for key, item in tree.items() if key != step}
    return {**tree, step: _changed(tree.get(step), tuple(rest), new)}


# --- by shape -------------------------------------------------------------------------------------


def _edits(shape: Shape, tree: Any, path: Path) -> Iterator[Edit]:
    if isinstance(shape, Envelope):
        yield from _of_container(shape, tree, path)
    elif isinstance(shape, Record):
        yield from _of_record(shape, tree, path)
    elif isinstance(shape, Converted):
        yield from _edits(shape.wire, tree, path)
        yield from _of_meaning(shape, tree, path)
    elif isinstance(shape, List | Members):
        yield Edit("kind", path, "value", path, "?!")
        yield Edit("kind", path, "type", path, {"a": "b"})
        for index, item in enumerate(tree):
            yield from _edits(shape.item, item, (*path, index))
    elif isinstance(shape, Map):
        yield Edit("kind", path, "value", path, "?!")
        for key, item in tree.items():
            yield from _edits(shape.value, item, (*path, key))
    elif isinstance(shape, ScalarShape):
        yield from _of_scalar(shape, path)
    else:
        yield from _asked(shape, path)


def _of_scalar(shape: ScalarShape, path: Path) -> Iterator[Edit]:
    if isinstance(shape, Text | Bool | Int | Float | Instant | Choice):
        # A list is none of these. Shapes of other packages decide for themselves.
        yield Edit("kind", path, "type", path, [])
        yield Edit("kind", path, "type", path, {"a": "b"})
        yield Edit("null", path, "value", path, None)
    words: tuple[str, ...] = _STRANGE
    if isinstance(shape, Int):
        for number in (shape.high + 1, 2**64, 2**32, -1, shape.low - 1):
            if not shape.low <= number <= shape.high:
                yield Edit("range", path, "value", path, number)
        words = ("1.0", "1e3", "1_000", "+1", " 1", "0b1", "0o7", "08", "true", *_STRANGE)
    elif isinstance(shape, Bool):
        words = ("1", "0", "truE", "t", "maybe", *_STRANGE)
    elif isinstance(shape, Float):
        words = ("1,5", "1e400", "0x1", "1_0.0", "true", *_STRANGE)
    elif isinstance(shape, Instant):
        words = (
            "2026-11-29T06:30:00",
            "2026-11-29T06:30Z",
            "2026-11-29",
            "2026-02-30T06:30:00Z",
            "2026-11-29T24:00:00Z",
            "2026-11-29T06:30:60Z",
            "2026-11-29T06:30:00+0100",
            "0001-01-01T00:30:00+01:00",
            "1795933800",
            *_STRANGE,
        )
    elif isinstance(shape, Choice):
        some = next(iter(shape.values))
        words = (some[:-1], some.upper(), f"{some} ", f"{some}s", *_STRANGE)
    elif isinstance(shape, Text):
        longest = shape.max if shape.max is not None else 0
        words = ("", "a", "a" * (longest + 1), *_STRANGE)
    for word in dict.fromkeys(words):
        if shape.from_text(word) is INVALID:
            yield Edit("word", path, "value", path, word)


def _asked(shape: Shape, path: Path) -> Iterator[Edit]:
    """Yield the mistakes of an unknown shape, from its own errors."""
    for other in (["?!"], "?!"):
        context = LoadContext("", DEFAULT_LIMITS)
        shape.load(from_tree(other, DEFAULT_LIMITS, ""), context, path)
        for problem in context.problems:
            if problem.severity == "error" and problem.path == render_path(path):
                yield Edit("kind", path, problem.code, path, other)


def _of_meaning(shape: Converted, tree: Any, path: Path) -> Iterator[Edit]:
    """Yield texts that the wire form allows and that have no meaning."""
    wire = shape.wire
    if not isinstance(wire, Record):
        return
    for field in wire.fields:
        for word in ("?!", "", "1"):
            if not isinstance(field.shape, Text) or not field.shape.fits(word):
                continue
            try:
                shape.cls.from_wire(wire.build({**_values(wire, tree), field.attribute: word}))
            except ValueError:
                yield Edit("word", path, "value", (*path, field.key), word)  # of the whole


def _values(record: Record, tree: dict[str, Any]) -> dict[str, Any]:
    return {field.attribute: tree[field.key] for field in record.fields if field.key in tree}


# --- mappings -------------------------------------------------------------------------------------


def _of_container(envelope: Envelope, tree: dict[str, Any], path: Path) -> Iterator[Edit]:
    title = (*path, envelope.title)
    variant = envelope.variant(tree[envelope.title])
    assert variant is not None
    if envelope.variant("?!") is None:
        yield Edit("title", title, "value", title, "?!")
    yield Edit("missing", title, "missing", title, _GONE)
    yield Edit("kind", title, "type", title, [])
    inline, *other_layouts = (layout == "inline" for layout in variant.layouts)
    record = envelope.inline_record(variant) if inline else envelope.list_record(variant)
    for edit in _of_record(record, tree, path):
        # Without its list, a container that may be inline is read as an inline one.
        if edit.new is not _GONE or edit.path != (*path, variant.list_key) or not other_layouts:
            yield edit


def _of_record(record: Record, tree: dict[str, Any], path: Path) -> Iterator[Edit]:
    yield Edit("kind", path, "type", path, ["?!"])
    known = {*record.known_keys(), *record.old}
    fields = {field.key: field for part in _parts(record) for field in part.fields}
    if record.title is not None and tree.get(record.title[0]) == record.title[1]:
        title = (*path, record.title[0])
        if record.cls.__dict__.get("__title__") == record.title:
            yield Edit("title", title, "value", title, "?!")
    for key, item in tree.items():
        here = (*path, key)
        field = fields.get(key)
        if field is not None:
            yield from _of_field(field, item, here)
        yield Edit("duplicate", here, "duplicate-key", (*path, f"{_TWICE}{key}"), item)
        if field is not None:
            yield from _misspelt(key, item, path, known)
    for part in _parts(record):
        for rule in part.rules:
            yield from _of_rule(rule, part, tree, path)


def _parts(record: Record) -> list[Record]:
    return [record, *(record.extensions or ())]


def _of_field(field: Field, item: Any, path: Path) -> Iterator[Edit]:
    if field.required:
        yield Edit("missing", path, "missing", path, _GONE)
    for edit in _edits(field.shape, item, path):
        at_once = edit.at == path and not isinstance(edit.new, dict | list | _Gone)
        if at_once and edit.new is None and field.optional:
            continue  # null means the same as absent
        if at_once and isinstance(edit.new, str) and field.wire.old_scalar is not None:
            continue  # a text for a mapping is the old form
        yield edit


def _misspelt(key: str, item: Any, path: Path, known: set[str]) -> Iterator[Edit]:
    """Yield a misspelt second key beside the right one."""
    for wrong in (key[:-1], f"{key}s", key[:1] + key[2:]):
        if wrong and wrong not in known:
            here = (*path, wrong)
            yield Edit("misspelt", here, "unknown-key", here, item, severity="warning")
            return


def _of_rule(rule: Rule, record: Record, tree: dict[str, Any], path: Path) -> Iterator[Edit]:
    keys = record.keys
    broken = dict(tree)
    if isinstance(rule, OneOf):
        for attribute in rule.attributes:
            broken.pop(keys[attribute], None)
    elif isinstance(rule, Needs):
        broken[keys[rule.attribute]] = True
        broken.pop(keys[rule.other], None)
    elif isinstance(rule, AllOrNone):
        given = [keys[a] for a in rule.attributes if keys[a] in tree]
        if len(given) < 2:
            return
        del broken[given[0]]
    else:
        return  # another package's rule: no value is known that breaks it
    problem = rule.problem(_values(record, broken).get, keys)
    if problem is not None:
        yield Edit("rule", (*path, *problem[0]), "rule", path, broken)
