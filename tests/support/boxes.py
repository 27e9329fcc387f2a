"""A container with members of several types and layouts, for tests of the codec alone."""

from typing import Annotated, Any

import msgspec

from fastlib.codec import AllOrNone, Wire
from fastlib.codec.derivation import fields_of, shape_of
from fastlib.codec.envelope import Envelope, Variant
from fastlib.codec.records import Record
from fastlib.message import Message


class Member(Message):
    """The base class of the members."""


class Thing(Member):
    """A member that is beside the title."""

    rules = (AllOrNone("name", "shared"),)

    name: Annotated[
        str | None, Wire("x", aliases=("label",), old={"size": "write 'name'"}, refuses_old=True)
    ] = None
    shared: str | None = None


class Item(Member):
    """A member in a list."""

    word: Annotated[
        str, Wire("x", old={"term": "write 'word'", "count": "write 'word', too"}, refuses_old=True)
    ] = "w"


class Box(msgspec.Struct, kw_only=True):
    """The container."""

    kind: str
    members: Annotated[tuple[Member, ...], Wire("The members.")]
    number: Annotated[str | None, Wire("x", old={"id": "write 'number'"})] = None
    shared: str | None = None


KINDS = {
    kind.title: kind
    for kind in (
        Variant(title="one", member=Thing, layouts=("inline",)),
        Variant(title="many", member=Item, layouts=("list",)),
        Variant(title="inline first", member=Item, layouts=("inline", "list")),
        Variant(title="list first", member=Item, layouts=("list", "inline"), list_key="entries"),
        Variant(title="also entries", member=Item, layouts=("list",), list_key="entries"),
    )
}


def variant(title: str) -> Variant | None:
    """Return the variant of a title. A title that begins with `free` is not declared."""
    if title.startswith("free"):
        return Variant(title=title, member=Item, layouts=("list",))
    return KINDS.get(title)


def record_of(cls: type[Any]) -> Record:
    shape = shape_of(cls)
    assert isinstance(shape, Record)
    return shape


def box() -> Envelope:
    """Return the shape of a box."""
    return Envelope(
        Box,
        title="kind",
        members="members",
        fields=(f for f in fields_of(Box) if f.key not in ("kind", "members")),
        variant=variant,
        titles=lambda: KINDS,
        record=record_of,
    )
