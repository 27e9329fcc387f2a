"""Spots: the smallest trees of a type, each with one additional place.

Tested one by one, they show the place of a fault.
"""

from collections.abc import Iterator
from functools import cache
from itertools import combinations
from typing import Any, NamedTuple

from fastlib.codec.derivation import shape_of
from fastlib.codec.envelope import Envelope
from fastlib.codec.errors import FastlibError, Path
from fastlib.codec.limits import DEFAULT_LIMITS
from fastlib.codec.load_context import INVALID, LoadContext
from fastlib.codec.nodes import from_tree
from fastlib.codec.records import Converted, Field, Record
from fastlib.codec.shapes import List, Shape
from fastlib.message import Message

from .aspects import ordinary

MOST_ADDED = 2
"""The maximum number of further keys to try if a rule requires some."""


class Spot(NamedTuple):
    """A tree and its subject."""

    tree: Any
    path: Path
    """Empty if it is the smallest tree of its type or title."""
    shape: Shape | None
    """The shape of the value at the path."""


@cache
def spots_of(cls: Any) -> tuple[Spot, ...]:
    """Return the spots of a type, smallest trees first."""
    shape = shape_of(cls)
    found = _in_container(shape) if isinstance(shape, Envelope) else _spots(shape)
    return tuple(spot for spot in found if _loads(cls, spot.tree))


def _loads(cls: type[Message], tree: Any) -> bool:
    try:
        cls.load(tree)
    except FastlibError:
        return False
    return True


def valid(shape: Shape, tree: Any) -> bool:
    """Return True if a plain tree is a value of a shape, without any warning."""
    context = LoadContext("", DEFAULT_LIMITS)
    return (
        shape.load(from_tree(tree, DEFAULT_LIMITS, ""), context, ()) is not INVALID
        and not context.problems
    )


def _spots(shape: Shape) -> Iterator[Spot]:
    """Yield all spots of a shape; the first one is its smallest tree."""
    inner = shape
    while isinstance(inner, Converted):
        inner = inner.wire
    if isinstance(inner, Record):
        smallest = _completed(shape, inner, {})
        if smallest is None:
            return
        yield Spot(smallest, (), None)
        for part in (inner, *(inner.extensions or ())):
            for field in part.fields:
                yield from _of_field(shape, inner, field)
    else:
        tree = smallest_tree(shape)
        if tree is not None:
            yield Spot(tree, (), shape)


def _of_field(shape: Shape, record: Record, field: Field) -> Iterator[Spot]:
    """Yield the field with the smallest value, then with each spot in the value."""
    item: Shape = field.shape
    inside: Path = (field.key,)
    in_list = isinstance(item, List)
    below = _spots(item.item if isinstance(item, List) else item)
    for number, spot in enumerate(below):
        value = [spot.tree] if in_list else spot.tree
        tree = _completed(shape, record, {field.key: value})
        if tree is None:
            continue
        if number == 0:
            yield Spot(tree, inside, item)
        if spot.path:
            yield Spot(tree, (*inside, *((0,) if in_list else ()), *spot.path), spot.shape)


def _completed(shape: Shape, record: Record, given: dict[str, Any]) -> dict[str, Any] | None:
    """Return the smallest valid mapping with some values."""
    title = record.written_title
    tree: dict[str, Any] = {} if title is None else {title[0]: title[1]}
    others = []
    for field in record.fields:
        if field.key in given:
            continue
        if field.required:
            value = smallest_tree(field.shape)
            if value is None:
                return None
            tree[field.key] = value
        else:
            others.append(field)
    tree |= given
    if valid(shape, tree):
        return tree
    for field in record.fields:
        # A type that converts its text may require a certain text.
        for value in ordinary(field.shape):
            other = tree | {field.key: value}
            if field.key not in given and field.required and valid(shape, other):
                return other
    for count in range(1, MOST_ADDED + 1):
        for added in combinations(others, count):
            more = {field.key: smallest_tree(field.shape) for field in added}
            if None not in more.values() and valid(shape, tree | more):
                return tree | more
    return None


_SMALLEST: dict[int, tuple[Shape, Any]] = {}


def smallest_tree(shape: Shape) -> Any:
    """Return the smallest plain tree of a shape; None if none is known."""
    known = _SMALLEST.get(id(shape))
    if known is None:
        known = _SMALLEST[id(shape)] = (shape, _smallest(shape))
    return known[1]


def _smallest(shape: Shape) -> Any:
    inner = shape
    while isinstance(inner, Converted):
        inner = inner.wire
    if isinstance(inner, Record):
        return _completed(shape, inner, {})
    if isinstance(inner, List) and isinstance(inner.item, Record | Converted):
        item = smallest_tree(inner.item)
        return [] if item is None else [item]
    return next((tree for tree in ordinary(shape) if valid(shape, tree)), None)


def _in_container(envelope: Envelope) -> Iterator[Spot]:
    titles = sorted(envelope.titles(), key=lambda title: (len(title), title))
    own_title = titles[0] if titles else ""
    for title in titles:
        variant = envelope.variant(title)
        assert variant is not None
        inline = variant.layouts[0] == "inline"
        for spot in _spots(envelope.record(variant.member)):
            if inline:
                yield Spot({envelope.title: title, **spot.tree}, spot.path, spot.shape)
            else:
                path = (variant.list_key, 0, *spot.path) if spot.path else ()
                tree = {envelope.title: title, variant.list_key: [spot.tree]}
                yield Spot(tree, path, spot.shape)
                if not spot.path:
                    item = List(envelope.record(variant.member))
                    yield Spot(tree, (variant.list_key,), item)
        if title == own_title:
            smallest = smallest_tree(envelope.record(variant.member))
            base: dict[str, Any] = {envelope.title: title}
            base |= smallest if inline else {variant.list_key: [smallest]}
            for field in envelope.fields:
                value = smallest_tree(field.shape)
                if value is not None:
                    yield Spot(base | {field.key: value}, (field.key,), field.shape)
