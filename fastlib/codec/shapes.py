"""What a struct's declaration says about the wire, and the exact conversion by it.

A *shape* is derived once from each type. It turns nodes into values, collecting every problem with
its place; values into a plain tree; and it checks the values given to a constructor. The fast roads
(`reader`, `writer`) are built from the same shapes, so there is no second description of a message.
"""

import enum
import math
import re
import types
import typing
from collections.abc import Callable, Iterable
from collections.abc import Mapping as MappingABC
from collections.abc import Sequence as SequenceABC
from typing import Any, ClassVar, Final, Literal

import msgspec

from .errors import (
    DeclarationError,
    LimitError,
    Path,
    Problem,
    Severity,
    ValidationError,
    render_path,
)
from .limits import Limits
from .nodes import Mapping, Node, Scalar, Sequence
from .scalars import BOOLEANS, NULLS, parse_float, parse_integer, write_float

Unknown = Literal["ignore", "warn", "error"]


class Wire(msgspec.Struct, frozen=True):
    """What the wire says of a field beyond its type: `Annotated[…, Wire("…", unit="KiB")]`.

    The wire key itself is the attribute's name in kebab-case, or `msgspec.field(name=…)`.
    """

    doc: str = ""
    """What the field means, one sentence; schemas, `describe` and the reference show it."""
    unit: str = ""
    """The unit of a number, such as KiB."""
    aliases: tuple[str, ...] = ()
    """Other keys that are understood; never written."""
    old: dict[str, str] = {}
    """Keys that once stood for this field and are not understood, with the remedy for each."""
    old_scalar: str | None = None
    """For a mapping: a bare text is understood as this key's value, with a warning."""
    empty_is_absent: bool = False
    """An empty text or list means the same as none, as it does to the C++ peers."""
    hex_digits: int = 0
    """For an integer: written as text, `0x` and that many digits."""
    own_check: bool = False
    """The struct's own `__post_init__` checks the field."""
    pairs: bool = False
    """For a mapping with free keys: a list of one-entry mappings is understood, too."""


class Rule:
    """A rule between the fields of one struct, checked on construction and on load.

    Structs list their rules in the class variable `rules`.
    """

    kept: str = "False"
    """A Python expression in the struct `o`, cheap, true only if the rule is kept; constructors
    ask `broken` where it is not."""

    def broken(self, get: Callable[[str], Any]) -> tuple[Path, str] | None:
        """The path and the problem, or None if the rule is kept.

        `get` gives an attribute's value: None if it is absent, `INVALID` if it cannot be read.
        """
        raise NotImplementedError


class OneOf(Rule):
    """At least one of the attributes must be given."""

    def __init__(self, *attributes: str) -> None:
        self.attributes: Final = attributes
        self.kept = " or ".join(f"o.{attribute} is not None" for attribute in attributes)

    def broken(self, get: Callable[[str], Any]) -> tuple[Path, str] | None:
        for attribute in self.attributes:
            if get(attribute) is not None:
                return None
        keys = " or ".join(attribute.replace("_", "-") for attribute in self.attributes)
        return (), f"needs {keys}"


class Needs(Rule):
    """If `attribute` is true, `other` must be given."""

    def __init__(self, attribute: str, other: str) -> None:
        self.attribute: Final = attribute
        self.other: Final = other
        self.kept = f"o.{attribute} is not True or o.{other} is not None"

    def broken(self, get: Callable[[str], Any]) -> tuple[Path, str] | None:
        if get(self.attribute) is not True or get(self.other) is not None:
            return None
        key, other = self.attribute.replace("_", "-"), self.other.replace("_", "-")
        return (key,), f"needs {other}"


class AllOrNone(Rule):
    """The attributes are given together, or not at all."""

    def __init__(self, *attributes: str) -> None:
        self.attributes: Final = attributes
        self.kept = " and ".join(f"o.{attribute} is None" for attribute in attributes)

    def broken(self, get: Callable[[str], Any]) -> tuple[Path, str] | None:
        given = [attribute for attribute in self.attributes if get(attribute) is not None]
        if len(given) in (0, len(self.attributes)):
            return None
        keys = " and ".join(attribute.replace("_", "-") for attribute in self.attributes)
        return (), f"needs {keys} together, or none of them"


class _Invalid:
    """The value of what could not be read; its problem is already known."""

    def __repr__(self) -> str:
        return "INVALID"


INVALID: Final = _Invalid()


class Reading:
    """One load: what was found wrong so far, and what is left of the limits."""

    def __init__(self, what: str, limits: Limits, unknown: Unknown = "ignore") -> None:
        self.what = what
        self.problems: list[Problem] = []
        self._unknown: Severity = "error" if unknown == "error" else "warning"
        self._max_nodes = limits.max_nodes
        self._nodes = limits.max_nodes

    def spend(self, node: Node) -> None:
        """Counts a node each time it is visited, so that aliases count for what they stand for."""
        self._nodes -= 1
        if self._nodes < 0:
            message = f"more than {self._max_nodes} nodes, each alias counted for all it stands for"
            problem = Problem(
                code="limit-nodes", message=message, line=node.line, column=node.column
            )
            raise LimitError(self.what, [problem])

    def problem(
        self,
        node: Node,
        path: Path,
        code: str,
        message: str,
        *,
        severity: Severity = "error",
        expected: str | None = None,
        got: str | None = None,
        suggestion: str | None = None,
    ) -> _Invalid:
        self.problems.append(
            Problem(
                code=code,
                message=message,
                severity=severity,
                path=render_path(path),
                line=node.line,
                column=node.column,
                expected=expected,
                got=got,
                suggestion=suggestion,
            )
        )
        return INVALID

    def unfit(self, node: Node, path: Path, expected: str, suggestion: str | None = None) -> Any:
        """The node is not what belongs there."""
        got = describe(node)
        return self.problem(
            node,
            path,
            "value" if isinstance(node, Scalar) else "type",
            f"expected {expected}; got {got}",
            expected=expected,
            got=got,
            suggestion=suggestion,
        )

    def unknown_key(self, key: Node, path: Path, known: Iterable[str], remedy: str | None) -> None:
        name = str(path[-1])
        nearest = None if remedy else nearest_word(name, known)
        self.problem(
            key,
            path,
            "old-key" if remedy else "unknown-key",
            remedy or "unknown key, ignored by every peer",
            severity=self._unknown,
            got=name,
            suggestion=nearest,
        )


def nearest_word(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant, if one is near."""
    import difflib

    if len(word) > 200:
        return None
    folded = {k.lower().replace("_", "-"): k for k in known}
    near = difflib.get_close_matches(word.lower().replace("_", "-"), folded, n=1, cutoff=0.6)
    return folded[near[0]] if near else None


def describe(node: Node) -> str:
    """A node in a few words, for an error."""
    if isinstance(node, Mapping):
        return "a mapping" if node.pairs else "an empty mapping"
    if isinstance(node, Sequence):
        return "a list" if node.items else "an empty list"
    assert isinstance(node, Scalar)
    return "null" if is_null(node) else shorten(node.value)


def shorten(value: object) -> str:
    """A value as Python would write it, of bounded length."""
    if isinstance(value, str) and len(value) > 60:
        return f"{value[:40]!r}… ({len(value)} characters)"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}…"


def is_null(node: Node) -> bool:
    """True for `~`, `null` or nothing, unquoted."""
    if not isinstance(node, Scalar):
        return False
    return node.value is None or (node.plain and node.value in NULLS)


# --- shapes -------------------------------------------------------------------------------------


class Shape:
    """What a type means on the wire."""

    expected: str
    """In an error: what belongs there."""

    def load(self, node: Node, reading: Reading, path: Path) -> Any:
        """The value of a node, or INVALID after telling `reading` why."""
        raise NotImplementedError

    def dump(self, value: Any) -> Any:
        """The plain tree of a checked value."""
        raise NotImplementedError

    def check(self, value: Any) -> Any:
        """The value as it will be stored, the same object if nothing changes.

        Raises Unfit for a value that the type does not allow.
        """
        raise NotImplementedError


class ScalarShape(Shape):
    """A shape whose values are written as one scalar."""

    def from_text(self, text: str) -> Any:
        """The value of a scalar's text, or INVALID."""
        raise NotImplementedError

    def from_leaf(self, value: Any) -> Any:
        """The value of a plain tree's leaf that is no text, or INVALID."""
        try:
            return INVALID if value is None else self.check(value)
        except Unfit:
            return INVALID

    def suggest(self, text: str) -> str | None:
        """What was probably meant by a text that has no value."""
        return None

    def load(self, node: Node, reading: Reading, path: Path) -> Any:
        suggestion = None
        if isinstance(node, Scalar) and not is_null(node):
            text = node.value
            value = self.from_text(text) if isinstance(text, str) else self.from_leaf(text)
            if value is not INVALID:
                return value
            suggestion = self.suggest(text) if isinstance(text, str) else None
        return reading.unfit(node, path, self.expected, suggestion)


def is_sequence(value: object) -> bool:
    """True for a list, a tuple and the like, but no text."""
    kind = type(value)
    if kind is tuple or kind is list:
        return True
    return isinstance(value, SequenceABC) and not isinstance(value, str | bytes | bytearray)


class Unfit(Exception):
    """A value given to a constructor that its field does not allow."""

    def __init__(self, path: Path, expected: str, got: str, message: str = "") -> None:
        super().__init__(path, expected, got)
        self.path = path
        self.expected = expected
        self.got = got
        self.message = message or f"expected {expected}; got {got}"

    def below(self, step: str | int) -> "Unfit":
        return Unfit((step, *self.path), self.expected, self.got, self.message)


_NO_TEXT = re.compile("[\ud800-\udfff]")


class Text(ScalarShape):
    """Any text; quoted or not makes no difference."""

    def __init__(self, meta: msgspec.Meta | None = None) -> None:
        self.pattern = re.compile(meta.pattern) if meta and meta.pattern else None
        self.min = (meta and meta.min_length) or 0
        self.max = meta.max_length if meta else None
        words = ["text"]
        if self.pattern:
            words.append(f"that matches {self.pattern.pattern}")
        if self.min or self.max is not None:
            bounds = f"{self.min} to {self.max}" if self.max is not None else f"{self.min} or more"
            words.append(f"of {bounds} characters")
        self.expected = " ".join(words)
        self.free = len(words) == 1

    def fits(self, text: str) -> bool:
        if self.free:
            return True
        size = len(text)
        if size < self.min or (self.max is not None and size > self.max):
            return False
        return self.pattern is None or self.pattern.search(text) is not None

    def from_text(self, text: str) -> Any:
        return text if self.fits(text) and _NO_TEXT.search(text) is None else INVALID

    def dump(self, value: Any) -> Any:
        return value

    def check(self, value: Any) -> Any:
        if not isinstance(value, str) or not self.fits(value):
            raise Unfit((), self.expected, shorten(value))
        if not value.isascii() and _NO_TEXT.search(value) is not None:
            raise Unfit((), "text without lone surrogates", shorten(value))
        return value if type(value) is str else str.__str__(value)


class Bool(ScalarShape):
    expected = "true or false"
    values = BOOLEANS

    def from_text(self, text: str) -> Any:
        return BOOLEANS.get(text, INVALID)

    def dump(self, value: Any) -> Any:
        return value

    def check(self, value: Any) -> Any:
        if not isinstance(value, bool):
            raise Unfit((), self.expected, shorten(value))
        return value


class Int(ScalarShape):
    """An integer in a range; with `digits`, written as text in hexadecimal."""

    def __init__(self, low: int, high: int, digits: int = 0) -> None:
        self.low = low
        self.high = high
        self.digits = digits
        if digits:
            self.expected = f"an integer from 0x{self.low:x} to 0x{self.high:x}"
        else:
            self.expected = f"an integer from {self.low} to {self.high}"

    def from_text(self, text: str) -> Any:
        value = parse_integer(text)
        return INVALID if value is None or not self.low <= value <= self.high else value

    def suggest(self, text: str) -> str | None:
        if self.digits and not text.startswith("0") and parse_integer(f"0x{text}") is not None:
            return f"0x{text}"
        return None

    def dump(self, value: Any) -> Any:
        return f"0x{value:0{self.digits}x}" if self.digits else value

    def check(self, value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int):
            raise Unfit((), self.expected, shorten(value))
        if not self.low <= value <= self.high:
            raise Unfit((), self.expected, shorten(value))
        return value if type(value) is int else int(value)


class Float(ScalarShape):
    expected = "a number"

    def from_text(self, text: str) -> Any:
        value = parse_float(text)
        return INVALID if value is None else self.check(value)

    def dump(self, value: Any) -> Any:
        return value

    def check(self, value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Unfit((), self.expected, shorten(value))
        try:
            value = float(value)
        except OverflowError:
            raise Unfit((), self.expected, shorten(value)) from None
        return math.nan if math.isnan(value) else value  # one nan, so that messages stay equal


class Choice(ScalarShape):
    """One of a closed set: a Literal of texts, or an enum of them."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values
        self.texts = {value: text for text, value in values.items()}
        self.expected = f"one of {', '.join(values)}"

    def from_text(self, text: str) -> Any:
        return self.values.get(text, INVALID)

    def suggest(self, text: str) -> str | None:
        return nearest_word(text, self.values)

    def dump(self, value: Any) -> Any:
        return self.texts[value]

    def check(self, value: Any) -> Any:
        try:
            return self.values[self.texts[value]]
        except (KeyError, TypeError):
            raise Unfit((), self.expected, shorten(value)) from None


def _tuple_of(item: Any) -> Any:
    return tuple[item, ...]


class List(Shape):
    expected = "a list"

    def __init__(self, item: Shape) -> None:
        self.item = item
        self.integers: Any = None
        """For lists of integers, however deep: their type, so that msgspec can check them in C."""
        if type(item) is Int:
            bounds = msgspec.Meta(ge=max(item.low, -(2**63)), le=min(item.high, 2**63 - 1))
            self.integers = _tuple_of(typing.Annotated[int, bounds])
        elif isinstance(item, List) and item.integers is not None:
            self.integers = _tuple_of(item.integers)
        if self.integers is not None:
            # In a struct, as msgspec prepares the type of a struct once, of others at each call.
            self._box: Any = msgspec.defstruct("Box", [("items", self.integers)], array_like=True)

    def load(self, node: Node, reading: Reading, path: Path) -> Any:
        if not isinstance(node, Sequence):
            return reading.unfit(node, path, self.expected)
        values = []
        for index, item in enumerate(node.items):
            reading.spend(item)
            values.append(self.item.load(item, reading, (*path, index)))
        return INVALID if INVALID in values else tuple(values)

    def dump(self, value: Any) -> Any:
        return [self.item.dump(item) for item in value]

    def check(self, value: Any) -> Any:
        if not is_sequence(value):
            raise Unfit((), self.expected, shorten(value))
        item = self.item
        if self.integers is not None:
            # What msgspec refuses (integers beyond 63 bits, too) is looked at one by one.
            try:
                checked = msgspec.convert((value,), self._box).items
            except msgspec.ValidationError:
                pass
            else:
                return value if checked == value else checked
        elif isinstance(item, Record) and all(
            issubclass(kind, item.cls) for kind in set(map(type, value))
        ):
            return value if type(value) is tuple else tuple(value)
        items = []
        same = type(value) is tuple
        for index, old in enumerate(value):
            try:
                new = item.check(old)
            except Unfit as error:
                raise error.below(index) from None
            same = same and new is old
            items.append(new)
        return value if same else tuple(items)


class Map(Shape):
    """A mapping with free keys."""

    expected = "a mapping"

    def __init__(self, value: Shape, pairs: bool = False) -> None:
        self.value = value
        self.pairs = pairs

    def load(self, node: Node, reading: Reading, path: Path) -> Any:
        if isinstance(node, Mapping):
            pairs = node.pairs
        elif self.pairs and isinstance(node, Sequence):
            pairs = []
            for index, item in enumerate(node.items):
                reading.spend(item)
                if not isinstance(item, Mapping):
                    return reading.unfit(item, (*path, index), "a mapping with one entry")
                pairs += item.pairs
        else:
            return reading.unfit(node, path, self.expected)
        values: dict[str, Any] = {}
        for key, item in pairs:
            reading.spend(item)
            name = key_text(key, reading, path)
            if name is None:
                values[""] = INVALID
            elif name in values:
                duplicate_key(key, reading, (*path, name))
                values[name] = INVALID
            else:
                values[name] = self.value.load(item, reading, (*path, name))
        return INVALID if INVALID in values.values() else values

    def dump(self, value: Any) -> Any:
        return {key: self.value.dump(item) for key, item in value.items()}

    def check(self, value: Any) -> Any:
        if not isinstance(value, MappingABC):
            raise Unfit((), self.expected, shorten(value))
        text = Text()
        checked = {}
        for key, item in value.items():
            try:
                checked[text.check(key)] = self.value.check(item)
            except Unfit as error:
                raise error.below(str(key)) from None
        return checked


class Tree(Shape):
    """Anything: texts, lists and mappings as they stand. Numbers become their text."""

    expected = "text, a list or a mapping"
    max_depth: ClassVar = 32

    def load(self, node: Node, reading: Reading, path: Path) -> Any:
        return self._load(node, reading, path, 0)

    def _load(self, node: Node, reading: Reading, path: Path, depth: int) -> Any:
        if depth > self.max_depth:
            return reading.problem(node, path, "depth", f"nested deeper than {self.max_depth}")
        if isinstance(node, Sequence):
            items = []
            for index, item in enumerate(node.items):
                reading.spend(item)
                items.append(self._load(item, reading, (*path, index), depth + 1))
            return INVALID if INVALID in items else items
        if isinstance(node, Mapping):
            values: dict[str, Any] = {}
            for key, item in node.pairs:
                reading.spend(item)
                name = key_text(key, reading, path)
                if name is None:
                    values[""] = INVALID
                elif name in values:
                    duplicate_key(key, reading, (*path, name))
                    values[name] = INVALID
                else:
                    values[name] = self._load(item, reading, (*path, name), depth + 1)
            return INVALID if INVALID in values.values() else values
        assert isinstance(node, Scalar)
        if is_null(node):
            return None
        try:
            return self.check(node.value)
        except Unfit as error:
            return reading.unfit(node, path, error.expected)

    def dump(self, value: Any) -> Any:
        return self.check(value)  # a copy, as a message does not change

    def check(self, value: Any) -> Any:
        return self._check(value, 0)

    def _check(self, value: Any, depth: int) -> Any:
        if depth > self.max_depth:
            raise Unfit((), f"at most {self.max_depth} levels", "more, or a cycle")
        if value is None:
            return None
        if isinstance(value, str):
            return Text().check(value)
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, int):
            return str(value)
        if isinstance(value, float):
            return write_float(value)
        if isinstance(value, MappingABC):
            text = Text()
            return {text.check(k): self._check(v, depth + 1) for k, v in value.items()}
        if is_sequence(value):
            return [self._check(item, depth + 1) for item in value]
        raise Unfit((), self.expected, shorten(value))


def key_text(key: Node, reading: Reading, path: Path) -> str | None:
    """The text of a mapping's key, or None after saying that it is none."""
    if isinstance(key, Scalar) and isinstance(key.value, str):
        return key.value
    reading.problem(key, path, "key", f"a key must be text; got {describe(key)}")
    return None


def duplicate_key(key: Node, reading: Reading, path: Path, other: str | None = None) -> None:
    twice = f"{other} stands there already" if other else "this key stands there already"
    reading.problem(key, path, "duplicate-key", f"{twice}; remove one of the two")


class Field:
    """One field of a struct."""

    __slots__ = ("attribute", "default", "key", "keys", "optional", "required", "shape", "wire")

    def __init__(
        self, attribute: str, key: str, shape: Shape, wire: Wire, *, required: bool, optional: bool
    ) -> None:
        self.attribute = attribute
        self.key = key
        self.keys = (key, *wire.aliases)
        self.shape = shape
        self.wire = wire
        self.required = required
        self.optional = optional


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
    ) -> None:
        """`title` is a key and a text that stand first, such as `("task", "init")`."""
        self.cls = cls
        self.fields = tuple(fields)
        self.title = title
        self.rules = tuple(rules)
        self.custom = build
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
        values: dict[str, Any] = {}
        seen: dict[str, str] = {}
        strangers: list[str] = []
        places: dict[str, Node] = {}
        for key, item in pairs:
            reading.spend(item)
            name = key_text(key, reading, path)
            if name is None:
                continue
            field = self.by_key.get(name)
            attribute = field.attribute if field else f" {name}"  # no attribute's name
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
                stranger = next((s for s in strangers if s in field.wire.old), None)
                stranger = stranger or nearest_word(field.key, strangers)
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
            broken = rule.broken(values.get)
            if broken is not None:
                below, message = broken
                place = places.get(str(below[0]), node) if below else node
                values[""] = reading.problem(place, (*path, *below), "rule", message)
        return INVALID if INVALID in values.values() else values

    def known(self) -> list[str]:
        """The keys that may stand in the mapping."""
        return [*self.by_key] if self.title is None else [self.title[0], *self.by_key]

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
        return field.shape.load(node, reading, path)

    def dump(self, value: Any) -> Any:
        tree: dict[str, Any] = {}
        if self.title is not None:
            tree[self.title[0]] = self.title[1]
        for field in self.fields:
            item = getattr(value, field.attribute)
            if item is not None:
                tree[field.key] = field.shape.dump(item)
        return tree

    def check(self, value: Any) -> Any:
        if not isinstance(value, self.cls):
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

_shapes: dict[type[Any], Shape] = {}


def shape_of(cls: type[Any]) -> Shape:
    """The shape of a struct, derived at its first use. Raises DeclarationError."""
    shape = _shapes.get(cls)
    if shape is None:
        own = cls.__dict__.get("__shape__")
        shape = _shapes[cls] = own() if own is not None else _derive(cls)
    return shape


def _derive(cls: type[Any]) -> Shape:
    wire = getattr(cls, "__wire__", None)
    if wire is not None:
        return Converted(cls, shape_of_type(wire, f"{cls.__name__}.__wire__"))
    return Record(
        cls, fields_of(cls), title=getattr(cls, "__title__", None), rules=getattr(cls, "rules", ())
    )


def fields_of(cls: type[Any]) -> list[Field]:
    """The fields of a struct, in wire order."""
    fields = []
    for info in msgspec.structs.fields(cls):
        where = f"{cls.__name__}.{info.name}"
        hint, optional, wire = _strip(info.type)
        fields.append(
            Field(
                info.name,
                info.encode_name,
                shape_of_type(hint, where, wire),
                wire,
                required=info.required,
                optional=optional,
            )
        )
    return fields


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
        if issubclass(hint, msgspec.Struct) or hasattr(hint, "__shape__"):
            return shape_of(hint)
    raise DeclarationError(
        f"{where}: {hint} cannot stand on the wire; use str, bool, float, Annotated[int, Meta(…)], "
        "a Literal or enum of texts, Sequence, Mapping[str, …], another message, or these | None"
    )
