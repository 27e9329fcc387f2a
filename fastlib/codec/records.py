"""The shapes of structs, and how a shape is derived from any type."""

import enum
import types
import typing
from collections.abc import Callable, Iterable
from collections.abc import Mapping as MappingABC
from collections.abc import Sequence as SequenceABC
from typing import Any, Literal

import msgspec

from .annotations import Wire
from .derived import derived_cache
from .errors import DeclarationError, Path, ValidationError, render_path
from .extensions import Extensions, extensions_of
from .load_context import (
    INVALID,
    MAX_SUGGESTIONS,
    Reading,
    duplicate_key,
    is_null,
    key_text,
    nearest_word,
    shorten,
)
from .nodes import Mapping, Node, Scalar
from .rules import Rule
from .shapes import Bool, Choice, Float, Int, List, Map, Shape, Text, Tree, Unfit


class Field:
    """One field of a struct."""

    __slots__ = ("attribute", "default", "key", "keys", "optional", "required", "shape", "wire")

    def __init__(
        self,
        attribute: str,
        key: str,
        shape: Shape,
        wire: Wire,
        *,
        required: bool,
        optional: bool,
        default: Any = None,
    ) -> None:
        """`default` is what is there where nothing is said; None where that is nothing."""
        self.attribute = attribute
        self.key = key
        self.keys = (key, *wire.aliases)
        self.shape = shape
        self.wire = wire
        self.required = required
        self.optional = optional
        self.default = default

    def is_empty(self, value: Any) -> bool:
        """Return whether a value means the same as no value (`Wire.empty_is_absent`)."""
        return self.wire.empty_is_absent and not self.shape.dump(value)


class Record(Shape):
    """A mapping with the keys of a struct."""

    expected = "a mapping"

    def __init__(
        self,
        cls: type[Any],
        fields: Iterable[Field],
        title: tuple[str, str] | None = None,
        build: Callable[[dict[str, Any]], Any] | None = None,
        rules: Iterable[Rule] = (),
        extensions: Extensions | None = None,
    ) -> None:
        """`title` is a key and a text that stand first, such as `("task", "init")`."""
        self.cls = self.struct = cls
        self.fields = tuple(fields)
        self.title = title
        self.rules = tuple(rules)
        self.extensions = extensions
        self.custom = build
        self.keys = {field.attribute: field.key for field in self.fields}
        for rule in self.rules:
            strange = set(rule.attributes) - self.keys.keys()
            if strange:
                raise DeclarationError(
                    f"{cls.__name__}: a rule speaks of {min(strange)!r}, which is no field"
                )
        self.by_key: dict[str, Field] = {}
        self.old: dict[str, str] = {}
        for field in self.fields:
            for key in field.keys:
                if key in self.by_key or (title and key == title[0]):
                    raise DeclarationError(f"{cls.__name__}: the key {key!r} stands for two fields")
                self.by_key[key] = field
            self.old.update(field.wire.old)

    def build(self, values: dict[str, Any]) -> Any:
        """The value of its attributes' values. Raises ValidationError."""
        return self.cls(**values) if self.custom is None else self.custom(values)

    def load(self, node: Node, reading: Reading, path: Path, *, null_is_empty: bool = False) -> Any:
        values = self.load_values(node, reading, path, null_is_empty=null_is_empty)
        return INVALID if values is INVALID else self.construct(values, node, reading, path)

    def construct(self, values: dict[str, Any], node: Node, reading: Reading, path: Path) -> Any:
        try:
            return self.build(values)
        except ValidationError as error:
            prefix = render_path(path)
            reading.problems += [p.at(node.line, node.column, prefix) for p in error.problems]
            return INVALID

    def load_values(
        self, node: Node, reading: Reading, path: Path, *, null_is_empty: bool = False
    ) -> Any:
        """The values by attribute, or INVALID."""
        if isinstance(node, Mapping):
            pairs = node.pairs
        elif null_is_empty and is_null(node):
            pairs = []
        else:
            return reading.unfit(node, path, self.expected)
        extensions = self.extensions
        parts: list[tuple[Record, Mapping]] = []
        if extensions is not None:
            pairs, parts = extensions.split(node, pairs)
        values: dict[Any, Any] = {}
        seen: dict[str | tuple[str], str] = {}
        strangers: list[str] = []
        places: dict[str, Node] = {}
        for key, item in pairs:
            reading.spend(item)
            name = key_text(key, reading, path)
            if name is None:
                continue
            field = self.by_key.get(name)
            # Of an unknown key no text is made, as it may be long, and be repeated by aliases.
            attribute = field.attribute if field else (name,)
            if attribute in seen:
                first = seen[attribute]
                duplicate_key(key, reading, (*path, name), first if first != name else None)
                values[attribute] = INVALID
                continue
            seen[attribute] = name
            if field is not None:
                places[field.key] = item
                values[attribute] = self._load_field(field, item, reading, (*path, name))
            elif self.title is not None and name == self.title[0]:
                self._check_title(item, reading, (*path, name))
            else:
                strangers.append(name)
                self.unknown(key, name, reading, path)
        for field in self.fields:
            if field.required and field.attribute not in values:
                stranger = self._stranger((field.attribute,), strangers)
                reading.problem(
                    node,
                    (*path, field.key),
                    "missing",
                    f"missing; expected {field.shape.expected}"
                    + (f"; there is {stranger!r} instead" if stranger else ""),
                    expected=field.shape.expected,
                )
                values[field.attribute] = INVALID
        for rule in self.rules:
            broken = rule.problem(values.get, self.keys)
            if broken is not None:
                below, message = broken
                near = self._stranger(rule.attributes, strangers)
                message += f"; there is {near!r} instead" if near else ""
                place = places.get(str(below[0]), node) if below else node
                values[""] = reading.problem(place, (*path, *below), "rule", message)
        if extensions is not None and parts:
            values[extensions.attribute] = extensions.load(parts, reading, path)
        return INVALID if INVALID in values.values() else values

    def _stranger(self, attributes: Iterable[str], strangers: list[str]) -> str | None:
        """An unknown key that was probably meant for one of the attributes, which is absent."""
        few = strangers[:MAX_SUGGESTIONS]
        for field in self.fields:
            if few and field.attribute in attributes:
                old = next((name for name in few if name in field.wire.old), None)
                near = old or nearest_word(field.key, few)
                if near is not None:
                    return near
        return None

    def known(self) -> list[str]:
        """The keys that may stand in the mapping."""
        title = [] if self.title is None else [self.title[0]]
        extended = [] if self.extensions is None else self.extensions.keys()
        return [*title, *self.by_key, *extended]

    def unknown(self, key: Node, name: str, reading: Reading, path: Path) -> None:
        reading.unknown_key(key, (*path, name), self.known(), self.old.get(name))

    def _check_title(self, node: Node, reading: Reading, path: Path) -> None:
        assert self.title is not None
        if not isinstance(node, Scalar) or node.value != self.title[1]:
            reading.unfit(node, path, f"'{self.title[1]}'")

    def _load_field(self, field: Field, node: Node, reading: Reading, path: Path) -> Any:
        wire = field.wire
        if field.optional and is_null(node):
            reading.problem(
                node,
                path,
                "null",
                "null is read as absent here, but is an error to the C++ peers; remove the key",
                severity="warning",
            )
            return None
        if wire.old_scalar is not None and isinstance(node, Scalar):
            reading.problem(
                node,
                path,
                "old-scalar",
                f"a bare text is read as {{{wire.old_scalar}: {node.value}}} here, "
                "but is an error to today's C++ peers; write the mapping",
                severity="warning",
            )
            mapping = Mapping(node.line, node.column)
            key = Scalar(wire.old_scalar, True, node.line, node.column)
            mapping.pairs = [(key, node)]
            node = mapping
        value = field.shape.load(node, reading, path)
        # Before the rules look at it, as in the constructor.
        return None if value is not INVALID and field.is_empty(value) else value

    def dump(self, value: Any) -> Any:
        tree: dict[str, Any] = {}
        if self.title is not None:
            tree[self.title[0]] = self.title[1]
        for field in self.fields:
            item = getattr(value, field.attribute)
            if item is not None:
                tree[field.key] = field.shape.dump(item)
        if self.extensions is not None:
            tree.update(self.extensions.dump(value))
        return tree

    def check(self, value: Any) -> Any:
        if type(value) is not self.cls:  # what a subclass adds would be lost
            raise Unfit((), f"a {self.cls.__name__}", shorten(value))
        return value


class Converted(Shape):
    """A type whose wire form is another type's: it has `to_wire()` and `from_wire(wire)`.

    `from_wire` raises ValueError, its text the problem, for a wire form without a meaning.
    """

    def __init__(self, cls: type[Any], wire: Shape) -> None:
        self.cls = cls
        self.wire = wire
        self.expected = wire.expected

    def load(self, node: Node, reading: Reading, path: Path) -> Any:
        value = self.wire.load(node, reading, path)
        if value is INVALID:
            return INVALID
        try:
            return self.cls.from_wire(value)
        except ValidationError as error:
            prefix = render_path(path)
            reading.problems += [p.at(node.line, node.column, prefix) for p in error.problems]
            return INVALID
        except ValueError as error:
            return reading.problem(node, path, "value", str(error))

    def dump(self, value: Any) -> Any:
        return self.wire.dump(value.to_wire())

    def check(self, value: Any) -> Any:
        if not isinstance(value, self.cls):
            raise Unfit((), f"a {self.cls.__name__}", shorten(value))
        return value


# --- from types to shapes -----------------------------------------------------------------------

_shapes: dict[type[Any], Shape] = derived_cache()
_deriving: set[type[Any]] = set()


def shape_of(cls: type[Any]) -> Shape:
    """The shape of a struct, derived at its first use. Raises DeclarationError."""
    shape = _shapes.get(cls)
    if shape is None:
        if cls in _deriving:
            raise DeclarationError(f"{cls.__name__}: a message cannot hold one of its own type")
        own = cls.__dict__.get("__shape__")
        _deriving.add(cls)
        try:
            shape = _shapes[cls] = own() if own is not None else _derive(cls)
        finally:
            _deriving.discard(cls)
    return shape


def _derive(cls: type[Any]) -> Shape:
    wire = getattr(cls, "__wire__", None)
    if wire is not None:
        return Converted(cls, shape_of(wire))
    return Record(
        cls,
        fields_of(cls),
        title=getattr(cls, "__title__", None),
        rules=getattr(cls, "rules", ()),
        extensions=extensions_of(cls),
    )


def fields_of(cls: type[Any]) -> list[Field]:
    """The fields of a struct, in wire order.

    That is the order of declaration, but for those that the class names in `__first__`, as a
    subclass may have fields that stand before the inherited ones.
    """
    fields = []
    for info in msgspec.structs.fields(cls):
        if info.name == getattr(cls, "__extensions__", None):
            continue
        where = f"{cls.__name__}.{info.name}"
        hint, optional, wire = _strip(info.type)
        shape = shape_of_type(hint, where, wire)
        if optional and (info.required or info.default is not None):
            raise DeclarationError(f"{where}: what may be absent has the default None")
        if wire.empty_is_absent and not optional:
            raise DeclarationError(f"{where}: it cannot be absent, so it cannot be empty for that")
        if not info.required and info.default is not msgspec.NODEFAULT:
            _check_default(where, shape, info.default, optional)
        fields.append(
            Field(
                info.name,
                info.encode_name,
                shape,
                wire,
                required=info.required,
                optional=optional,
                default=None if info.default is msgspec.NODEFAULT else info.default,
            )
        )
    first = getattr(cls, "__first__", ())
    return sorted(fields, key=lambda field: field.attribute not in first)


def _check_default(where: str, shape: Shape, default: Any, optional: bool) -> None:
    if default is None and optional:
        return
    try:
        shape.check(default)
    except Unfit as error:
        raise DeclarationError(f"{where}: its default does not fit: {error.message}") from None


def _strip(hint: Any) -> tuple[Any, bool, Wire]:
    """A hint without `Wire` and `None`: the rest, whether None was allowed, and the Wire."""
    wire = Wire()
    meta: list[Any] = []
    optional = False
    while True:
        origin = typing.get_origin(hint)
        if origin is typing.Annotated:
            hint, *extras = typing.get_args(hint)
            wire = next((extra for extra in extras if isinstance(extra, Wire)), wire)
            meta += [extra for extra in extras if isinstance(extra, msgspec.Meta)]
        elif origin in (typing.Union, types.UnionType) and type(None) in typing.get_args(hint):
            optional = True
            rest = tuple(arg for arg in typing.get_args(hint) if arg is not type(None))
            hint = typing.Union[rest]  # noqa: UP007 - of a tuple
        else:
            for extra in reversed(meta):
                hint = typing.Annotated[hint, extra]
            return hint, optional, wire


def shape_of_type(hint: Any, where: str, wire: Wire | None = None) -> Shape:
    """The shape of any type that a field may have. Raises DeclarationError."""
    wire = wire or Wire()
    meta: msgspec.Meta | None = None
    while typing.get_origin(hint) is typing.Annotated:
        hint, *extras = typing.get_args(hint)
        meta = next((extra for extra in extras if isinstance(extra, msgspec.Meta)), meta)
    origin = typing.get_origin(hint)
    args = typing.get_args(hint)
    if hint is str:
        return Text(meta)
    if hint is bool:
        return Bool()
    if hint is int:
        if meta is None or meta.ge is None or meta.le is None:
            message = "an integer needs a range: Annotated[int, Meta(ge=…, le=…)]"
            raise DeclarationError(f"{where}: {message}")
        if meta.ge < 0:
            raise DeclarationError(f"{where}: the integers of the protocol have no sign")
        return Int(int(meta.ge), int(meta.le), wire.hex_digits)
    if hint is float:
        return Float()
    if hint is Any:
        return Tree()
    if origin is Literal and all(isinstance(arg, str) for arg in args):
        return Choice({arg: arg for arg in args})
    if origin in (SequenceABC, list) or (origin is tuple and args[1:] == (...,)):
        return List(shape_of_type(args[0], where))
    if origin in (MappingABC, dict) and args[0] is str:
        return Map(shape_of_type(args[1], where), wire.pairs)
    if isinstance(hint, type):
        if issubclass(hint, enum.Enum):
            return Choice({str(member.value): member for member in hint})
        if issubclass(hint, msgspec.Struct) and not hasattr(hint, "__post_init__"):
            raise DeclarationError(f"{where}: {hint.__name__} checks nothing; make it a Message")
        if issubclass(hint, msgspec.Struct) or hasattr(hint, "__shape__"):
            return shape_of(hint)
    raise DeclarationError(
        f"{where}: {hint} cannot stand on the wire; use str, bool, float, Annotated[int, Meta(…)], "
        "a Literal or enum of texts, Sequence, Mapping[str, …], another message, or these | None"
    )
