"""Shapes: what a type means on the wire, and the exact conversion by it.

A shape turns nodes into values, collecting every problem with its place; values into a plain tree;
and it checks the values given to a constructor. The fast roads (`reader`, `writer`) are built from
the same shapes, so there is no second description of a message. The shapes of structs are in
`records`.
"""

import math
import re
import typing
from collections.abc import Mapping as MappingABC
from collections.abc import Sequence as SequenceABC
from typing import Any, ClassVar

import msgspec

from .errors import Path
from .load_context import (
    INVALID,
    MAX_SUGGESTIONS,
    TEXT_PER_NODE,
    LoadContext,
    add_duplicate_key,
    is_null,
    key_text,
    nearest_word,
    shorten,
)
from .nodes import Mapping, Node, Scalar, Sequence
from .scalars import BOOLEANS, parse_float, parse_integer, write_float


class Shape:
    """What a type means on the wire."""

    expected: str
    """In an error: what belongs there."""

    struct: type[Any] | None = None
    """For structs the class, any instance of which is fit, as its constructor has checked it."""

    def load(self, node: Node, context: LoadContext, path: Path) -> Any:
        """Return the value of a node, or INVALID after reporting why to `context`."""
        raise NotImplementedError

    def dump(self, value: Any) -> Any:
        """The plain tree of a checked value."""
        raise NotImplementedError

    def check(self, value: Any) -> Any:
        """The value as it will be stored, the same object if nothing changes.

        Raises InvalidValue for a value that the type does not allow.
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
        except InvalidValue:
            return INVALID

    def suggest(self, text: str) -> str | None:
        """What was probably meant by a text that has no value."""
        return None

    def load(self, node: Node, context: LoadContext, path: Path) -> Any:
        suggestion = None
        if isinstance(node, Scalar) and not is_null(node):
            text = node.value
            value = self.from_text(text) if isinstance(text, str) else self.from_leaf(text)
            if value is not INVALID:
                return value
            if isinstance(text, str) and len(context.problems) < MAX_SUGGESTIONS:
                suggestion = self.suggest(text)
        return context.add_mismatch(node, path, self.expected, suggestion)


def is_sequence(value: object) -> bool:
    """True for a list, a tuple and the like, but no text."""
    kind = type(value)
    if kind is tuple or kind is list:
        return True
    return isinstance(value, SequenceABC) and not isinstance(value, str | bytes | bytearray)


class InvalidValue(Exception):
    """A value given to a constructor that its field does not allow."""

    def __init__(self, path: Path, expected: str, got: str, message: str = "") -> None:
        super().__init__(path, expected, got)
        self.path = path
        self.expected = expected
        self.got = got
        self.message = message or f"expected {expected}; got {got}"

    def below(self, step: str | int) -> "InvalidValue":
        return InvalidValue((step, *self.path), self.expected, self.got, self.message)


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
            raise InvalidValue((), self.expected, shorten(value))
        if not value.isascii() and _NO_TEXT.search(value) is not None:
            raise InvalidValue((), "text without lone surrogates", shorten(value))
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
            raise InvalidValue((), self.expected, shorten(value))
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
            raise InvalidValue((), self.expected, shorten(value))
        if not self.low <= value <= self.high:
            raise InvalidValue((), self.expected, shorten(value))
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
            raise InvalidValue((), self.expected, shorten(value))
        try:
            value = float(value)
        except OverflowError:
            raise InvalidValue((), self.expected, shorten(value)) from None
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
            raise InvalidValue((), self.expected, shorten(value)) from None


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

    def load(self, node: Node, context: LoadContext, path: Path) -> Any:
        if not isinstance(node, Sequence):
            return context.add_mismatch(node, path, self.expected)
        values = []
        for index, item in enumerate(node.items):
            context.count_node(item)
            values.append(self.item.load(item, context, (*path, index)))
        return INVALID if INVALID in values else tuple(values)

    def dump(self, value: Any) -> Any:
        return [self.item.dump(item) for item in value]

    def holds(self, value: Any) -> bool:
        """Of lists of integers: True for tuples that need nothing done."""
        try:
            checked: bool = msgspec.convert((value,), self._box).items == value
        except msgspec.ValidationError:
            return False
        return checked

    def check(self, value: Any) -> Any:
        if not is_sequence(value):
            raise InvalidValue((), self.expected, shorten(value))
        item = self.item
        if self.integers is not None:
            # What msgspec refuses (integers beyond 63 bits, too) is looked at one by one.
            try:
                checked = msgspec.convert((value,), self._box).items
            except msgspec.ValidationError:
                pass
            else:
                return value if checked == value else checked
        elif item.struct is not None and set(map(type, value)) <= {item.struct}:
            return value if type(value) is tuple else tuple(value)
        items = []
        same = type(value) is tuple
        for index, old in enumerate(value):
            try:
                new = item.check(old)
            except InvalidValue as error:
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

    def load(self, node: Node, context: LoadContext, path: Path) -> Any:
        if isinstance(node, Mapping):
            pairs = node.pairs
        elif self.pairs and isinstance(node, Sequence):
            pairs = []
            for index, item in enumerate(node.items):
                context.count_node(item)
                if not isinstance(item, Mapping):
                    return context.add_mismatch(item, (*path, index), "a mapping with one entry")
                pairs += item.pairs
        else:
            return context.add_mismatch(node, path, self.expected)
        values: dict[str, Any] = {}
        for key, item in pairs:
            context.count_node(item)
            name = key_text(key, context, path)
            if name is None:
                values[""] = INVALID
            elif name in values:
                add_duplicate_key(key, context, (*path, name))
                values[name] = INVALID
            else:
                values[name] = self.value.load(item, context, (*path, name))
        return INVALID if INVALID in values.values() else values

    def dump(self, value: Any) -> Any:
        return {key: self.value.dump(item) for key, item in value.items()}

    def check(self, value: Any) -> Any:
        if not isinstance(value, MappingABC):
            raise InvalidValue((), self.expected, shorten(value))
        text = Text()
        checked = {}
        for key, item in value.items():
            try:
                checked[text.check(key)] = self.value.check(item)
            except InvalidValue as error:
                raise error.below(str(key)) from None
        return checked


class Tree(Shape):
    """Anything: texts, lists and mappings as they stand. Numbers become their text."""

    expected = "text, a list or a mapping"
    max_depth: ClassVar = 32
    max_nodes: ClassVar = 1_000_000

    def load(self, node: Node, context: LoadContext, path: Path) -> Any:
        return self._load(node, context, path, 0)

    def _load(self, node: Node, context: LoadContext, path: Path, depth: int) -> Any:
        if depth > self.max_depth:
            return context.add_problem(node, path, "depth", f"nested deeper than {self.max_depth}")
        if isinstance(node, Sequence):
            items = []
            for index, item in enumerate(node.items):
                context.count_node(item)
                items.append(self._load(item, context, (*path, index), depth + 1))
            return INVALID if INVALID in items else items
        if isinstance(node, Mapping):
            values: dict[str, Any] = {}
            for key, item in node.pairs:
                context.count_node(item)
                name = key_text(key, context, path)
                if name is None:
                    values[""] = INVALID
                elif name in values:
                    add_duplicate_key(key, context, (*path, name))
                    values[name] = INVALID
                else:
                    values[name] = self._load(item, context, (*path, name), depth + 1)
            return INVALID if INVALID in values.values() else values
        assert isinstance(node, Scalar)
        if is_null(node):
            return None
        try:
            return self.check(node.value)
        except InvalidValue as error:
            return context.add_mismatch(node, path, error.expected)

    def dump(self, value: Any) -> Any:
        return self.check(value)  # a copy, as a message does not change

    def check(self, value: Any) -> Any:
        return self._check(value, 0, [self.max_nodes])

    def _check(self, value: Any, depth: int, left: list[int]) -> Any:
        """A copy; `left` is how many more values it may have, long texts counted as several."""
        if depth > self.max_depth:
            raise InvalidValue((), f"at most {self.max_depth} levels", "more, or a cycle")
        if value is None:
            return None
        if isinstance(value, str):
            left[0] -= len(value) // TEXT_PER_NODE
            if left[0] < 0:
                raise InvalidValue((), f"at most {self.max_nodes} values", "more")
            return Text().check(value)
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, int):
            if value.bit_length() > 1000:
                raise InvalidValue((), "a number of at most 1000 bits", shorten(value))
            return str(int(value))
        if isinstance(value, float):
            return write_float(value)
        kind = type(value)  # as asking an abstract class takes long
        is_mapping = kind is dict or (kind is not list and isinstance(value, MappingABC))
        if not is_mapping and not is_sequence(value):
            raise InvalidValue((), self.expected, shorten(value))
        left[0] -= len(value)
        if left[0] < 0:
            raise InvalidValue((), f"at most {self.max_nodes} values", "more")
        if is_mapping:
            text = Text()
            return {text.check(k): self._check(v, depth + 1, left) for k, v in value.items()}
        return [self._check(item, depth + 1, left) for item in value]
