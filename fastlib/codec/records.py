"""The shapes of structs: `Record` for their fields, `Converted` for types that convert a value."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from .annotations import Wire
from .constructor import constructor_of
from .errors import DeclarationError, Path, ValidationError, render_path
from .load_context import (
    INVALID,
    MAX_SUGGESTIONS,
    LoadContext,
    add_duplicate_key,
    is_null,
    key_text,
    nearest_word,
    shorten,
)
from .nodes import Mapping, Node, Scalar
from .printable import printable
from .rules import Rule
from .shapes import Bool, Choice, Float, Int, InvalidValue, List, Map, Shape, Text

Pair = tuple[Node, Node]
"""A key and its value."""


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
        """`key` is the wire key; `default` is the value if the key is missing."""
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
        if not self.wire.empty_is_absent:
            return False
        if type(value) is tuple:  # a list, and writing its items is slow
            return not value
        return not self.shape.dump(value)


class FieldFacts:
    """The facts about a field for rules."""

    def __init__(self, field: Field) -> None:
        self._field = field

    @property
    def kind(self) -> str:
        """See `rules.Facts`."""
        shape = self._field.shape
        kinds = {Bool: "bool", Int: "number", Float: "number", List: "list", Map: "mapping"}
        text = "text" if isinstance(shape, Text | Choice) else "other"
        return next((kind for cls, kind in kinds.items() if isinstance(shape, cls)), text)

    @property
    def may_be_absent(self) -> bool:
        """See `rules.Facts`."""
        return self._field.optional

    @property
    def may_be_empty(self) -> bool:
        """See `rules.Facts`."""
        return not self._field.wire.empty_is_absent and not isinstance(self._field.shape, Choice)

    @property
    def bounds(self) -> tuple[float, float] | None:
        """See `rules.Facts`."""
        shape = self._field.shape
        return (shape.low, shape.high) if isinstance(shape, Int) else None


def _shown(rule: Rule) -> str:
    return f"{type(rule).__name__}({', '.join(map(repr, rule.attributes))})"


class ExtensionSet(Protocol):
    """The extensions of a struct: records whose keys are mixed with the keys of the struct.

    `Extensions` implements it. This module knows the protocol only, because extensions are records
    themselves.
    """

    @property
    def attribute(self) -> str:
        """Name of the attribute of the struct that holds its extensions."""

    def __iter__(self) -> "Iterator[Record]":
        """Iterate over the extensions, in the order in which they are written."""

    def keys(self) -> list[str]:
        """Return all keys of all extensions."""

    def split(self, node: Node, pairs: list[Pair]) -> "tuple[list[Pair], list[ExtensionPart]]":
        """Split the pairs of a mapping: those of the struct, and those of each extension."""

    def load(self, parts: "list[ExtensionPart]", context: LoadContext, path: Path) -> Any:
        """Return the extensions that `split` has found as a tuple, or INVALID."""

    def dump(self, value: Any) -> dict[str, Any]:
        """Return the keys of all extensions of a struct."""


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
        extensions: ExtensionSet | None = None,
        title_is_written: bool = True,
    ) -> None:
        """`title` is the first key and its text, such as `("task", "init")`.

        Without `title_is_written`, the title is only read.
        `build` returns the struct of its values by attribute, if calling `cls` is not enough.
        """
        self.cls = self.struct = cls
        self.constructor = constructor_of(cls)
        self.fields = tuple(fields)
        self.title = title
        self.written_title = title if title_is_written else None
        self.rules = tuple(rules)
        self.extensions = extensions
        self.custom_build = build
        self.keys = {field.attribute: field.key for field in self.fields}
        for rule in self.rules:
            unknown = set(rule.attributes) - self.keys.keys()
            if unknown:
                raise DeclarationError(
                    f"{cls.__name__}: a rule names {min(unknown)!r}, which is not a field"
                )
            mistake = rule.mistake({field.attribute: FieldFacts(field) for field in self.fields})
            if mistake is not None:
                raise DeclarationError(f"{cls.__name__}: {_shown(rule)}: {mistake}")
        self.by_key: dict[str, Field] = {}
        self.old: dict[str, str] = {}
        self.refused: set[str] = set()
        """The keys of `old` that are an error for every reader."""
        for field in self.fields:
            for key in field.keys:
                if key in self.by_key or (title and key == title[0]):
                    raise DeclarationError(f"{cls.__name__}: the key {key!r} belongs to two fields")
                self.by_key[key] = field
            self.old.update(field.wire.old)
            if field.wire.refuses_old:
                self.refused.update(field.wire.old)

    def build(self, values: dict[str, Any]) -> Any:
        """Return the struct of its values by attribute. Raises ValidationError."""
        return (
            self.constructor(**values) if self.custom_build is None else self.custom_build(values)
        )

    def load(
        self, node: Node, context: LoadContext, path: Path, *, null_is_empty: bool = False
    ) -> Any:
        values = self.load_values(node, context, path, null_is_empty=null_is_empty)
        return INVALID if values is INVALID else self.construct(values, node, context, path)

    def construct(
        self, values: dict[str, Any], node: Node, context: LoadContext, path: Path
    ) -> Any:
        try:
            return self.build(values)
        except ValidationError as error:
            prefix = render_path(path)
            context.problems += [p.at(node.line, node.column, prefix) for p in error.problems]
            return INVALID

    def load_values(
        self, node: Node, context: LoadContext, path: Path, *, null_is_empty: bool = False
    ) -> Any:
        """Return the values by attribute, or INVALID after every problem was reported."""
        if isinstance(node, Mapping):
            pairs = node.pairs
        elif null_is_empty and is_null(node):
            pairs = []
        else:
            return context.add_mismatch(node, path, self.expected)
        extensions = self.extensions
        parts: list[ExtensionPart] = []
        if extensions is not None:
            pairs, parts = extensions.split(node, pairs)
        loader = _RecordLoader(self, node, context, path)
        for key, item in pairs:
            loader.load_pair(key, item)
        loader.report_missing_fields()
        loader.check_rules()
        values = loader.values
        if extensions is not None and parts:
            values[extensions.attribute] = extensions.load(parts, context, path)
        return INVALID if loader.failed or INVALID in values.values() else values

    def known_keys(self) -> list[str]:
        """Return the keys that the mapping may have."""
        title = [] if self.title is None else [self.title[0]]
        extended = [] if self.extensions is None else self.extensions.keys()
        return [*title, *self.by_key, *extended]

    def report_unknown_key(self, key: Node, name: str, context: LoadContext, path: Path) -> None:
        """Report a key of a mapping at `path` that no field has."""
        context.add_unknown_key(
            key,
            (*path, name),
            self.known_keys(),
            self.old.get(name),
            is_refused=name in self.refused,
        )

    def dump(self, value: Any) -> Any:
        tree: dict[str, Any] = {}
        if self.written_title is not None:
            tree[self.written_title[0]] = self.written_title[1]
        for field in self.fields:
            item = getattr(value, field.attribute)
            if item is not None:
                tree[field.key] = field.shape.dump(item)
        if self.extensions is not None:
            tree.update(self.extensions.dump(value))
        return tree

    def check(self, value: Any) -> Any:
        if type(value) is not self.cls:  # the fields of a subclass would be lost
            raise InvalidValue((), f"a {self.cls.__name__}", shorten(value))
        return value


ExtensionPart = tuple[Record, Mapping]
"""An extension, and the pairs of a mapping that belong to it."""


class _RecordLoader:
    """Loads the pairs of one mapping into the attributes of a struct. Reports every problem."""

    def __init__(self, record: Record, node: Node, context: LoadContext, path: Path) -> None:
        self.values: dict[str, Any] = {}
        """The values by attribute; INVALID for one that could not be loaded."""
        self.failed = False
        """True after a problem that is not the problem of one attribute."""
        self._record = record
        self._node = node
        self._context = context
        self._path = path
        self._spellings: dict[str | tuple[str], str] = {}
        """The spelling of each attribute's key; unknown keys are tuples of themselves."""
        self._value_nodes: dict[str, Node] = {}
        """The node of each value, by the main key of its field."""
        self._unknown_keys: list[str] = []

    def load_pair(self, key: Node, item: Node) -> None:
        """Load the value of one key."""
        context = self._context
        context.count_node(item)
        if not isinstance(key, Scalar) or (key.line is not None and is_null(key)):
            context.add_key_without_text(key, self._path)
            return
        name = key_text(key, context, self._path)
        if name is None:
            return
        record = self._record
        field = record.by_key.get(name)
        # A tuple, because building a text for an unknown key would copy it. It may be long, and
        # aliases may repeat it.
        attribute = field.attribute if field else (name,)
        path = (*self._path, name)
        if attribute in self._spellings:
            first = self._spellings[attribute]
            add_duplicate_key(key, context, path, first if first != name else None)
            self.failed = True
            if field is not None:
                self.values[field.attribute] = INVALID
            return
        self._spellings[attribute] = name
        if field is not None:
            self._value_nodes[field.key] = item
            self.values[field.attribute] = _load_field(field, item, context, path)
        elif record.title is not None and name == record.title[0]:
            if not isinstance(item, Scalar) or item.value != record.title[1]:
                context.add_mismatch(item, path, f"'{record.title[1]}'")
        else:
            self._unknown_keys.append(name)
            record.report_unknown_key(key, name, context, self._path)

    def report_missing_fields(self) -> None:
        """Report each required field that has no key."""
        for field in self._record.fields:
            if not field.required or field.attribute in self.values:
                continue
            expected = field.shape.expected
            message = f"missing; expected {expected}" + self._hint((field.attribute,))
            self._context.add_problem(
                self._node, (*self._path, field.key), "missing", message, expected=expected
            )
            self.values[field.attribute] = INVALID

    def check_rules(self) -> None:
        """Report each rule that the values break."""
        for rule in self._record.rules:
            broken = rule.problem(self.values.get, self._record.keys)
            if broken is None:
                continue
            below, message = broken
            node = self._value_nodes.get(str(below[0]), self._node) if below else self._node
            message += self._hint(rule.attributes)
            self._context.add_problem(node, (*self._path, *below), "rule", message)
            self.failed = True

    def _hint(self, attributes: Iterable[str]) -> str:
        """Name an unknown key that was probably meant for one of the attributes."""
        names = self._unknown_keys[:MAX_SUGGESTIONS]
        if not names:
            return ""
        for field in self._record.fields:
            if field.attribute in attributes:
                old = next((name for name in names if name in field.wire.old), None)
                near = old or nearest_word(field.key, names)
                if near is not None:
                    return f"; there is {printable(repr(near))} instead"
        return ""


def _load_field(field: Field, node: Node, context: LoadContext, path: Path) -> Any:
    """Return the value of a field, None if it is absent, or INVALID."""
    wire = field.wire
    if field.optional and is_null(node):
        context.add_problem(
            node,
            path,
            "null",
            "null is read as absent here, but is an error to the C++ peers; remove the key",
            severity="warning",
        )
        return None
    if wire.null_is_empty and is_null(node):
        context.add_problem(
            node,
            path,
            "null",
            "null is read as an empty mapping here, but is an error to the C++ peers; write {}",
            severity="warning",
        )
        node = Mapping(node.line, node.column)
    if wire.old_scalar is not None and isinstance(node, Scalar):
        context.add_problem(
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
    value = field.shape.load(node, context, path)
    if value is INVALID and wire.unit:
        context.name_unit(path, wire.unit)
    # The rules must see None for an empty value, as they do in the constructor.
    return None if value is not INVALID and field.is_empty(value) else value


class Converted(Shape):
    """A type whose wire form is another type's: it has `to_wire()` and `from_wire(wire)`.

    `from_wire` raises ValueError, its text the problem, for a wire form without a meaning.
    """

    def __init__(self, cls: type[Any], wire: Shape) -> None:
        self.cls = cls
        self.wire = wire
        self.expected = wire.expected

    def load(self, node: Node, context: LoadContext, path: Path) -> Any:
        value = self.wire.load(node, context, path)
        if value is INVALID:
            return INVALID
        try:
            return self.cls.from_wire(value)
        except ValidationError as error:
            prefix = render_path(path)
            context.problems += [p.at(node.line, node.column, prefix) for p in error.problems]
            return INVALID
        except ValueError as error:
            return context.add_problem(node, path, "value", str(error))

    def dump(self, value: Any) -> Any:
        return self.wire.dump(value.to_wire())

    def check(self, value: Any) -> Any:
        if not isinstance(value, self.cls):
            raise InvalidValue((), f"a {self.cls.__name__}", shorten(value))
        return value
