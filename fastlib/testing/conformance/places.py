"""Places: the type that declares a key, and the key. Each difference belongs to a place.

A task in a container, or an option within another message, has the place of its declaration. So
if a peer loses `driver` of `Suspend`, this is one difference for all messages with a `Suspend`.
"""

import re
from functools import cache
from typing import Any

import msgspec

from fastlib.codec.derivation import shape_of
from fastlib.codec.envelope import Envelope, Members
from fastlib.codec.errors import Path
from fastlib.codec.records import Converted, Record
from fastlib.codec.shapes import Bool, Choice, Float, Instant, Int, List, Map, Shape, Text
from fastlib.message import Message
from fastlib.message.describe import name_of


class Place(msgspec.Struct, frozen=True):
    """A declared key of a type, or the type as a whole."""

    type: str
    """The name of the type, as `fastlib describe` lists it."""
    key: str = ""
    """The wire key; empty for the type itself."""
    kind: str = "message"
    """The kind of value: `text`, `integer`, `list` …"""

    def __str__(self) -> str:
        return f"{self.type}.{self.key}" if self.key else self.type


ANY_TEXT = Place("any-text", "", "spelling")
"""For texts in a spelling that is not read: such a fault does not belong to a place."""

_KINDS: tuple[tuple[type[Shape], str], ...] = (
    (Text, "text"),
    (Bool, "boolean"),
    (Int, "integer"),
    (Float, "number"),
    (Instant, "instant"),
    (Choice, "word"),
    (List, "list"),
    (Members, "list"),
    (Map, "mapping"),
    (Record, "mapping"),
)


def kind_of_shape(shape: Shape) -> str:
    """Return the kind of value of a shape, in one word."""
    while isinstance(shape, Converted):
        shape = shape.wire
    return next((name for kind, name in _KINDS if isinstance(shape, kind)), "value")


@cache
def place_of_type(cls: Any) -> Place:
    """Return the place of a whole type."""
    return Place(name_of(cls))


def place_at(cls: type[Message], tree: Any, path: Path) -> Place:
    """Return the place of a path in the plain tree of a message.

    An undeclared path has the place of its parent.
    """
    shape: Shape = shape_of(cls)
    place = place_of_type(cls)
    for step in path:
        if isinstance(shape, Converted):
            shape = shape.wire
        if isinstance(shape, Envelope):
            place, shape = _in_container(shape, tree, str(step))
        elif isinstance(shape, Record):
            found = _in_record(shape, str(step))
            if found is None:
                return place
            place, shape = found
        elif isinstance(shape, List | Members):
            shape = shape.item
            while isinstance(shape, Converted):
                shape = shape.wire
        elif isinstance(shape, Map):
            shape = shape.value
        else:
            return place
        tree = _below(tree, step)
    return place


def places_along(cls: type[Message], tree: Any, path: Path) -> tuple[Place, ...]:
    """Return the places of a path and of all its parents except the root."""
    found = (place_at(cls, tree, path[:length]) for length in range(1, len(path) + 1))
    return tuple(dict.fromkeys(found))


def _below(tree: Any, step: str | int) -> Any:
    if isinstance(tree, dict):
        return tree.get(step)
    if isinstance(tree, list) and isinstance(step, int) and step < len(tree):
        return tree[step]
    return None


def _in_record(record: Record, key: str) -> tuple[Place, Shape] | None:
    for part in (record, *(record.extensions or ())):
        field = part.by_key.get(key)
        if field is not None:
            place = Place(name_of(part.cls), field.key, kind_of_shape(field.shape))
            return place, field.shape
        if part.title is not None and part.title[0] == key:
            return Place(name_of(part.cls), key, "word"), Text()
    return None


def _in_container(envelope: Envelope, tree: Any, key: str) -> tuple[Place, Shape]:
    own = Place(name_of(envelope.cls), key, "text")
    for field in envelope.fields:
        if key in field.keys:
            return msgspec.structs.replace(own, kind=kind_of_shape(field.shape)), field.shape
    title = tree.get(envelope.title) if isinstance(tree, dict) else None
    variant = envelope.variant(title) if isinstance(title, str) else None
    if variant is not None and key != envelope.title:
        member = envelope.record(variant.member)
        if key == variant.list_key:
            return Place(own.type, key, "list"), List(member)
        found = _in_record(member, key)
        if found is not None:
            return found
    return own, Text()


def steps_of(path: str) -> Path:
    """Return the steps of a path in the form of `Problem.path`: `list[0].driver`."""
    found = re.findall(r"\[(\d+)\]|([^.\[\]]+)", path)
    return tuple(int(number) if number else key for number, key in found)


def title_of(cls: type[Message], tree: Any) -> str:
    """Return the title of a container; empty for other messages."""
    key = getattr(shape_of(cls), "title", None)
    return str(tree.get(key, "")) if isinstance(key, str) and isinstance(tree, dict) else ""


def place_of_title(cls: type[Message], tree: Any) -> Place:
    """Return the place of all containers with one title; for other messages, of the type."""
    return Place(name_of(cls), slug(title_of(cls, tree)))


def slug(text: str) -> str:
    """Return a text as a part of a name."""
    text = text.replace("+", "plus ").replace(" 1", "space 1")
    return re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-").lower()[:60].rstrip("-")
