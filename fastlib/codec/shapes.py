"""Shapes: the conversion of each type between the wire and Python.

A shape loads nodes into values and reports every problem with its position. It dumps values to a
plain tree, and it checks the values passed to a constructor. The fast reader and the writer are
built from the same shapes, so a message is described only once. The shapes of structs are in
`records`, that of any tree in `tree_shape`.
"""

import math
import re
import typing
from collections.abc import Callable
from collections.abc import Mapping as MappingABC
from collections.abc import Sequence as SequenceABC
from datetime import datetime
from typing import Any

import msgspec

from .errors import Path, Problem
from .instants import EXAMPLE, in_utc, parse_instant, write_instant
from .lazy_pattern import lazy_pattern
from .load_context import (
    INVALID,
    MAX_SUGGESTIONS,
    LoadContext,
    add_duplicate_key,
    is_null,
    key_text,
    nearest_word,
    shorten,
    with_unit,
)
from .nodes import Mapping, Node, Scalar, Sequence
from .scalars import BOOLEANS, parse_float, parse_integer


class Shape:
    """Base class of the shapes: how values of one type are loaded, dumped and checked."""

    expected: str
    """The expectation in errors."""

    struct: type[Any] | None = None
    """For structs, the class. Its instances need no check; the constructor has checked them."""

    def load(self, node: Node, context: LoadContext, path: Path) -> Any:
        """Return the value of a node, or INVALID after reporting why to `context`."""
        raise NotImplementedError

    def dump(self, value: Any) -> Any:
        """Return the plain tree of a checked value."""
        raise NotImplementedError

    def check(self, value: Any) -> Any:
        """Return the value in the form in which it is stored; the same object if nothing changes.

        Raises InvalidValue for a value that the type does not allow.
        """
        raise NotImplementedError


class ScalarShape(Shape):
    """Base class of the shapes whose values are written as one scalar."""

    def from_text(self, text: str) -> Any:
        """Return the value of a scalar's text, or INVALID."""
        raise NotImplementedError

    def from_leaf(self, value: Any) -> Any:
        """Return the value of a leaf of a plain tree that is not a text, or INVALID."""
        try:
            return INVALID if value is None else self.check(value)
        except InvalidValue:
            return INVALID

    def suggest(self, text: str) -> str | None:
        """Return the probable intention of an invalid text, or None."""
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
    """Return whether a value is a list, a tuple or another sequence, but not a text."""
    kind = type(value)
    if kind is tuple or kind is list:
        return True
    return isinstance(value, SequenceABC) and not isinstance(value, str | bytes | bytearray)


class InvalidValue(Exception):
    """A value passed to a constructor that its field does not allow."""

    def __init__(
        self,
        path: Path,
        expected: str,
        got: str,
        message: str = "",
        suggestion: str | None = None,
    ) -> None:
        super().__init__(path, expected, got)
        self.path = path
        self.expected = expected
        self.got = got
        self.message = message or f"expected {expected}; got {got}"
        self.suggestion = suggestion

    def below(self, step: str | int) -> "InvalidValue":
        """Return the same error with one more step at the beginning of its path."""
        path = (step, *self.path)
        return InvalidValue(path, self.expected, self.got, self.message, self.suggestion)

    def problem(self, path: str, unit: str = "") -> Problem:
        """Return the problem of a value of a field with this unit."""
        problem = Problem(
            code="value",
            message=self.message,
            path=path,
            expected=self.expected,
            got=self.got,
            suggestion=self.suggestion,
        )
        return problem if self.path else with_unit(problem, unit)


_NO_TEXT = lazy_pattern("[\ud800-\udfff]")


class Text(ScalarShape):
    """A text. Quotes make no difference."""

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
        """Return whether a text has the pattern and the length that are required."""
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
    """An integer in a range. With `digits`, it is written as a hexadecimal text."""

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
    """A number. With `decimals`, it is rounded to this number of decimals."""

    expected = "a number"

    def __init__(self, decimals: int | None = None) -> None:
        self.decimals = decimals

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
        if math.isnan(value):
            return math.nan  # one nan, so that messages stay equal
        return value if self.decimals is None else round(value, self.decimals)


class Instant(ScalarShape):
    """A time with a zone: a `datetime` that is stored and written in UTC."""

    expected = f"a time with a zone in the years 1 to 9999, such as {EXAMPLE}"

    def from_text(self, text: str) -> Any:
        value = parse_instant(text)
        return INVALID if value is None else value

    def suggest(self, text: str) -> str | None:
        value = parse_instant(f"{text}Z")
        return None if value is None else write_instant(value)

    def dump(self, value: Any) -> Any:
        return write_instant(value)

    def check(self, value: Any) -> Any:
        if not isinstance(value, datetime):
            raise InvalidValue(
                (), f"a datetime with a zone, such as that of {EXAMPLE}", shorten(value)
            )
        if value.utcoffset() is None:
            got = f"{shorten(value)}, which has none"
            remedy = "use datetime.now(timezone.utc), or value.astimezone() for a local time"
            message = f"expected a datetime with a zone; got {got}: {remedy}"
            raise InvalidValue((), "a datetime with a zone", got, message)
        moved = in_utc(value)
        if moved is None:
            raise InvalidValue((), "a time in the years 1 to 9999 (UTC)", shorten(value))
        return moved


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
            near = self.suggest(value) if isinstance(value, str) else None
            raise InvalidValue((), self.expected, shorten(value), suggestion=near) from None


def _tuple_of(item: Any) -> Any:
    return tuple[item, ...]


class List(Shape):
    expected = "a list"

    def __init__(self, item: Shape) -> None:
        self.item = item
        self.integers: Any = None
        """For lists of integers at any depth, their type. msgspec checks it in C."""
        self.accepted: Any = INVALID
        """The last list that the fast reader decoded as `integers`. It needs no other check."""
        if type(item) is Int:
            bounds = msgspec.Meta(ge=max(item.low, -(2**63)), le=min(item.high, 2**63 - 1))
            self.integers = _tuple_of(typing.Annotated[int, bounds])
        elif isinstance(item, List) and item.integers is not None:
            self.integers = _tuple_of(item.integers)
        if self.integers is not None:
            # In a struct, because msgspec prepares other types again for each call.
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

    def accepts_unchanged(self, value: Any) -> bool:
        """For lists of integers: return whether `check` would return the same object."""
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
            # If msgspec refuses a list, the items are checked one by one below. They may be
            # integers of 64 bits, and an error needs the index.
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


ANY_TEXT = Text()
"""The shape of keys, and of the texts of any tree."""


def load_pairs(
    pairs: list[tuple[Node, Node]],
    context: LoadContext,
    path: Path,
    load: Callable[[Node, LoadContext, Path], Any],
) -> Any:
    """Return a dict of pairs with free keys, or INVALID. `load` loads each value."""
    values: dict[str, Any] = {}
    reported: set[int] = set()
    """The ids of keys that are not texts. With aliases, one key may come several times."""
    for key, item in pairs:
        context.count_node(item)
        if id(key) in reported:
            continue
        name = key_text(key, context, path)
        if name is None:
            reported.add(id(key))
        elif name in values:
            add_duplicate_key(key, context, (*path, name))
            values[name] = INVALID
        else:
            values[name] = load(item, context, (*path, name))
    return INVALID if reported or INVALID in values.values() else values


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
        return load_pairs(pairs, context, path, self.value.load)

    def dump(self, value: Any) -> Any:
        return {key: self.value.dump(item) for key, item in value.items()}

    def check(self, value: Any) -> Any:
        if not isinstance(value, MappingABC):
            raise InvalidValue((), self.expected, shorten(value))
        checked = {}
        for key, item in value.items():
            try:
                checked[ANY_TEXT.check(key)] = self.value.check(item)
            except InvalidValue as error:
                raise error.below(str(key)) from None
        return checked
