"""Containers whose members' type is named by a title, such as `task: start vm`.

The members are in a list under a key, or a single member is inline: its keys are beside the title.
The declaration of the member decides. It may allow several layouts; the first one is written.
"""

from collections.abc import Callable, Iterable
from typing import Any, Literal

import msgspec

from .constructor import constructor_of
from .derivation import fields_of
from .errors import Path
from .load_context import INVALID, MAX_SUGGESTIONS, LoadContext, is_null, nearest_word, shorten
from .nodes import Mapping, Node, Scalar, Sequence
from .records import Field, Record
from .shapes import InvalidValue, Shape

Layout = Literal["list", "inline"]

MAX_TITLES = 1000
"""Maximum number of titles in a cache. The title of a result is free text, so there can be many."""


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """The type and layout of the members that follow a title."""

    title: str
    member: type[Any]
    """The struct of each member."""
    layouts: tuple[Layout, ...]
    """The layouts that are read; the first one is written."""
    list_key: str = "list"
    """The key of the list of members."""


class Envelope(Shape):
    """The shape of a container: a mapping of a title, the members, and the fields of its own."""

    expected = "a mapping"

    def __init__(
        self,
        cls: type[Any],
        *,
        title: str,
        members: str,
        fields: Iterable[Field],
        variant: Callable[[str], Variant | None],
        titles: Callable[[], Iterable[str]],
        record: Callable[[type[Any]], Record],
    ) -> None:
        """Create the shape of the container `cls`.

        title: the wire key of the title, and its attribute.
        members: the attribute of the members.
        fields: the container's own fields. A key that an inline member also has is one key.
        variant: returns the variant of a title, or None for an unknown title.
        titles: returns all declared titles.
        record: returns the shape of a member's class.
        """
        self.cls = cls
        self.title = title
        self.members = members
        self.fields = tuple(fields)
        self.variant = variant
        self.titles = titles
        self.record = record
        self._layouts: dict[tuple[str, Layout], tuple[Variant, Record]] = {}

    def inline_record(self, variant: Variant) -> Record:
        """Return the shape of an inline container: the member's keys, then the container's own."""
        return self._record(variant, "inline")

    def list_record(self, variant: Variant) -> Record:
        """Return the shape of a container with a list: the list, then the container's own keys."""
        return self._record(variant, "list")

    def _record(self, variant: Variant, layout: Layout) -> Record:
        known = self._layouts.get((variant.title, layout))
        if known is not None and known[0] == variant:
            return known[1]
        record = (
            _ListRecord(self, variant) if layout == "list" else _make_inline_record(self, variant)
        )
        if len(self._layouts) < MAX_TITLES:
            self._layouts[variant.title, layout] = (variant, record)
        return record

    def load(self, node: Node, context: LoadContext, path: Path) -> Any:
        if not isinstance(node, Mapping):
            return context.add_mismatch(node, path, f"a mapping with the key '{self.title}'")
        title = self._load_title(node, context, path)
        if title is None:
            return INVALID
        variant = self.variant(title)
        assert variant is not None
        if "list" in variant.layouts and (
            len(variant.layouts) == 1 or _has_key(node, variant.list_key)
        ):
            return self.list_record(variant).load(node, context, path)
        return self.inline_record(variant).load(node, context, path)

    def _load_title(self, node: Mapping, context: LoadContext, path: Path) -> str | None:
        """Return the title, or None after reporting that it is missing or unknown."""
        for key, item in node.pairs:
            if isinstance(key, Scalar) and key.value == self.title:
                if not isinstance(item, Scalar) or not isinstance(item.value, str) or is_null(item):
                    context.add_mismatch(item, (*path, self.title), "text")
                    return None
                known = sorted(self.titles())
                if self.variant(item.value) is not None:
                    if item.value not in known:
                        self._warn_of_title(item, context, (*path, self.title), known)
                    return item.value
                context.add_mismatch(
                    item,
                    (*path, self.title),
                    f"one of {', '.join(known)}",
                    nearest_word(item.value, known),
                )
                return None
        some = node.pairs[:MAX_SUGGESTIONS]
        names = [key.value for key, _ in some if isinstance(key, Scalar)]
        near = nearest_word(self.title, [name for name in names if isinstance(name, str)])
        context.add_problem(
            node,
            (*path, self.title),
            "missing",
            "missing; it names the kind of the message" + (f"; is it '{near}'?" if near else ""),
            expected="text",
        )
        return None

    def _warn_of_title(
        self, node: Scalar, context: LoadContext, path: Path, known: Iterable[str]
    ) -> None:
        context.add_problem(
            node,
            path,
            "unknown-title",
            f"unknown title {shorten(node.value)}; its contents are read as plain {self.members}",
            severity="warning",
            got=shorten(node.value),
            suggestion=nearest_word(node.value, known),
        )

    def dump(self, value: Any) -> Any:
        title = getattr(value, self.title)
        variant = self.variant(title)
        assert variant is not None
        members = getattr(value, self.members)
        member = self.record(variant.member)
        tree: dict[str, Any] = {self.title: title}
        if variant.layouts[0] == "inline":
            tree.update(member.dump(members[0]))
        else:
            tree[variant.list_key] = [member.dump(item) for item in members]
        for field in self.fields:
            item = getattr(value, field.attribute)
            if item is not None:
                tree[field.key] = field.shape.dump(item)
        return tree

    def check(self, value: Any) -> Any:
        if not isinstance(value, self.cls):
            raise InvalidValue((), f"a {self.cls.__name__}", shorten(value))
        return value


def _has_key(node: Mapping, name: str) -> bool:
    return any(isinstance(key, Scalar) and key.value == name for key, _ in node.pairs)


class Members(Shape):
    """The list of members. A null entry is an empty member; peers write that for `quit`."""

    expected = "a list"

    def __init__(self, envelope: Envelope, variant: Variant) -> None:
        self.item = envelope.record(variant.member)
        self.one = variant.layouts[0] == "inline"

    def load(self, node: Node, context: LoadContext, path: Path) -> Any:
        if not isinstance(node, Sequence):
            return context.add_mismatch(node, path, self.expected)
        if self.one and len(node.items) != 1:
            return context.add_mismatch(node, path, "a list with exactly one entry")
        values = []
        for index, item in enumerate(node.items):
            context.count_node(item)
            values.append(self.item.load(item, context, (*path, index), null_is_empty=True))
        return INVALID if INVALID in values else tuple(values)


def _make_inline_record(envelope: Envelope, variant: Variant) -> Record:
    """Return the shape of a container with one inline member."""
    member = envelope.record(variant.member)
    names = {name for field in member.fields for name in field.keys}
    own = [field for field in envelope.fields if field.key not in names]
    outer = [field.attribute for field in own]
    construct, title, members = constructor_of(envelope.cls), envelope.title, envelope.members

    def build(values: dict[str, Any]) -> Any:
        rest: dict[str, Any] = {title: variant.title}
        for attribute in outer:
            if attribute in values:
                rest[attribute] = values.pop(attribute)
        rest[members] = (member.build(values),)
        return construct(**rest)

    return _InlineRecord(
        variant.member,
        [*member.fields, *own],
        title=(title, variant.title),
        build=build,
        rules=member.rules,
        extensions=member.extensions,
    )


class _InlineRecord(Record):
    """A container with one inline member. It explains the key `list` to users who add it."""

    def report_unknown_key(self, key: Node, name: str, context: LoadContext, path: Path) -> None:
        remedy = None
        if name == "list" and self.title is not None:
            remedy = (
                f"unknown key here; the keys of the one member of {self.title[1]} "
                f"are beside '{self.title[0]}'"
            )
        context.add_unknown_key(
            key,
            (*path, name),
            self.known_keys(),
            remedy or self.old.get(name),
            is_refused=name in self.refused,
        )


class _ListRecord(Record):
    """A container with a list. It explains where the keys of other layouts belong."""

    def __init__(self, envelope: Envelope, variant: Variant) -> None:
        members = Field(
            envelope.members,
            variant.list_key,
            Members(envelope, variant),
            next(f.wire for f in fields_of(envelope.cls) if f.attribute == envelope.members),
            required=True,
            optional=False,
        )

        construct, title = constructor_of(envelope.cls), envelope.title
        title_text = variant.title

        def build(values: dict[str, Any]) -> Any:
            values[title] = title_text
            return construct(**values)

        super().__init__(
            variant.member,
            [members, *envelope.fields],
            title=(envelope.title, variant.title),
            build=build,
        )
        self.envelope = envelope
        self.variant = variant

    def report_unknown_key(self, key: Node, name: str, context: LoadContext, path: Path) -> None:
        remedy = None
        member = self.envelope.record(self.variant.member)
        if name in member.refused:
            remedy = member.old[name]
        elif name in member.known_keys():
            remedy = f"unknown key here; it belongs to each entry of '{self.variant.list_key}'"
        else:
            others = (self.envelope.variant(title) for title in self.envelope.titles())
            owners = sorted(
                v.title for v in others if v and v.layouts[0] == "list" and v.list_key == name
            )
            if owners:
                remedy = (
                    f"'{name}' belongs to {' and '.join(owners)}; the members of "
                    f"{self.variant.title} are under '{self.variant.list_key}'"
                )
        context.add_unknown_key(
            key, (*path, name), self.known_keys(), remedy, is_refused=name in member.refused
        )
