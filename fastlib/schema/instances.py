"""Instances of a schema, as a Hypothesis strategy.

It supports the keywords of message schemas and of differences of two schemas. Its instances are
nearly always valid; use a validator to be sure. Examples shrink to short texts that look like
messages.
"""

import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

from fastlib.codec.schema_protocol import Schema
from fastlib.extras import needs_extra

from .walk import children

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn, SearchStrategy

_WORDS = ("vm1", "node02", "a", "live", "0", "")
_DEEP = 6
"""The depth from which values are empty, if possible."""
_TEXTS = 30
"""The number of texts that are made for a pattern."""
_NARROWER: dict[str, Callable[[Any, Any], Any]] = {
    "minimum": max,
    "minLength": max,
    "minItems": max,
    "minProperties": max,
    "maximum": min,
    "maxLength": min,
    "maxItems": min,
    "maxProperties": min,
}
_ABSENT = "x-absent"
"""Internal keyword: keys to leave out."""


def instances(schema: Schema) -> "SearchStrategy[Any]":
    """Return a strategy of instances of a document. Raises MissingExtraError."""
    with needs_extra("the comparison of schemas", "hypothesis", extra="compat"):
        from hypothesis import strategies as st

    for pattern in _patterns(schema):
        _matching(pattern)  # now, because a test cannot run within another one

    @st.composite
    def instance(draw: "DrawFn") -> Any:
        return _Drawing(draw, schema).value(schema, 0)

    return instance()


class _Drawing:
    """Draws one instance."""

    def __init__(self, draw: "DrawFn", root: Schema) -> None:
        from hypothesis import strategies

        self.draw = draw
        self.st = strategies
        self.root = root

    def one_of(self, items: Any) -> Any:
        return self.draw(self.st.sampled_from(list(items)))

    # --- the requested values ---------------------------------------------------------------------

    def flat(self, schema: Any) -> Schema:
        """Return a schema without references and choices: one of the possible ones."""
        if schema is True:
            return {}
        if schema is False:
            return {"enum": []}
        flat = {k: v for k, v in schema.items() if k not in ("$ref", "allOf", "anyOf", "oneOf")}
        parts = list(schema.get("allOf", ()))
        if "$ref" in schema:
            parts.insert(0, self.target(schema["$ref"]))
        parts += [self.one_of(schema[k]) for k in ("anyOf", "oneOf") if schema.get(k)]
        if self.draw(self.st.booleans()):
            flat[_ABSENT] = _unwanted(flat.get("not", {}))
        for part in parts:
            flat = _both(flat, self.flat(part))
        return flat

    def target(self, reference: str) -> Any:
        found: Any = self.root
        for step in reference.removeprefix("#").split("/")[1:]:
            found = found[step.replace("~1", "/").replace("~0", "~")]
        return found

    # --- the generated values ---------------------------------------------------------------------

    def value(self, schema: Any, depth: int) -> Any:
        flat = self.flat(schema)
        if "const" in flat:
            return flat["const"]
        if "enum" in flat:
            return self.draw(
                self.st.sampled_from(flat["enum"]) if flat["enum"] else self.st.nothing()
            )
        kinds = flat.get("type", ("string", "integer", "boolean", "array", "object", "null"))
        makers: dict[str, Callable[[Schema, int], Any]] = {
            "null": lambda *_: None,
            "boolean": lambda *_: self.draw(self.st.booleans()),
            "integer": self.integer,
            "number": self.number,
            "string": self.string,
            "array": self.array,
            "object": self.object,
        }
        kind = kinds if isinstance(kinds, str) else self.one_of(kinds)
        return makers[kind](flat, depth)

    def integer(self, schema: Schema, depth: int) -> int:
        low, high = schema.get("minimum"), schema.get("maximum")
        edges = [edge for edge in (low, high) if edge is not None]
        values = self.st.integers(low, high)
        drawn: int = self.draw(
            self.st.one_of(values, self.st.sampled_from(edges)) if edges else values
        )
        return drawn

    def number(self, schema: Schema, depth: int) -> int | float:
        low, high = schema.get("minimum"), schema.get("maximum")
        floats = self.st.floats(low, high, allow_nan=False, allow_infinity=False)
        integers = self.st.integers(-1000 if low is None else int(low), 1000)
        drawn: int | float = self.draw(floats if high is not None else integers | floats)
        return drawn

    def string(self, schema: Schema, depth: int) -> str:
        low, high = schema.get("minLength", 0), schema.get("maxLength")
        if "pattern" in schema:
            found = self.st.sampled_from(_matching(schema["pattern"]))
        else:
            fit = [w for w in _WORDS if low <= len(w) and (high is None or len(w) <= high)]
            letters = self.st.characters(exclude_categories=["Cs", "Cc"])
            longest = max(low, 8 if high is None else min(high, 8))
            text = self.st.text(letters, min_size=low, max_size=longest)
            found = self.st.sampled_from(fit) | text if fit else text
        drawn: str = self.draw(found)
        return drawn

    def array(self, schema: Schema, depth: int) -> list[Any]:
        first = schema.get("prefixItems", [])
        low = max(schema.get("minItems", 0), 0)
        high = min(schema.get("maxItems", low + 3), low + 3)
        size = low if depth > _DEEP else self.draw(self.st.integers(low, max(low, high)))
        items = schema.get("items", {})
        return [
            self.value(first[index] if index < len(first) else items, depth + 1)
            for index in range(size)
        ]

    def object(self, schema: Schema, depth: int) -> dict[str, Any]:
        properties: dict[str, Any] = schema.get("properties", {})
        required = schema.get("required", [])
        names = schema.get("propertyNames", {}).get("enum")
        absent = schema.get(_ABSENT, set())
        made: dict[str, Any] = {}
        optional = [
            key
            for key, below in properties.items()
            if key not in required
            and key not in absent
            and below is not False
            and (names is None or key in names)
        ]
        at_least = schema.get("minProperties", 0) - len(required)
        chosen = {key for key in optional if depth <= _DEEP and self.draw(self.st.booleans())}
        chosen |= set(optional[: max(0, at_least - len(chosen))])
        for key in dict.fromkeys([*properties, *required]):
            if key in chosen or key in required:
                made[key] = self.value(properties.get(key, {}), depth + 1)
        others = schema.get("additionalProperties", False)
        if isinstance(others, dict) and names is None and depth <= _DEEP:
            least = max(0, schema.get("minProperties", 0) - len(made))
            keys = self.st.sampled_from([word for word in _WORDS if word])
            for key in self.draw(
                self.st.lists(keys, min_size=least, max_size=least + 2, unique=True)
            ):
                made.setdefault(key, self.value(others, depth + 1))
        return made


@cache
def _matching(pattern: str) -> tuple[str, ...]:
    """Return some matching texts, shortest first. They are cached, because drawing is slow."""
    from hypothesis import HealthCheck, Phase, given, seed, settings
    from hypothesis import strategies as st

    # If the whole text matches, no text around it is needed.
    whole = re.fullmatch(r"\^([^$^]+)\$", pattern)
    inner = re.compile(f"(?:{whole[1]})" if whole else pattern, re.ASCII)
    found: set[str] = set()

    @seed(0)
    @settings(
        max_examples=_TEXTS,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.from_regex(inner, fullmatch=whole is not None))
    def collect(text: str) -> None:
        found.add(text)

    collect()
    return tuple(sorted(found, key=lambda text: (len(text), text)))


def _patterns(schema: Schema) -> Iterator[str]:
    """Yield all patterns in a schema."""
    if "pattern" in schema:
        yield schema["pattern"]
    for below in children(schema):
        yield from _patterns(below)


def _both(one: Schema, other: Schema) -> Schema:
    """Merge two schemas without choices, as far as drawing supports it."""
    both = dict(one)
    for keyword, value in other.items():
        if keyword not in both:
            both[keyword] = value
        elif keyword == "required":
            both[keyword] = list(dict.fromkeys([*both[keyword], *value]))
        elif keyword == "properties":
            below = dict(both[keyword])
            for key, schema in value.items():
                below[key] = {"allOf": [below[key], schema]} if key in below else schema
            both[keyword] = below
        elif keyword == _ABSENT:
            both[keyword] = both[keyword] | value
        elif keyword == "type":
            both[keyword] = _common(_listed(both[keyword]), _listed(value))
        elif keyword == "enum":
            both[keyword] = _common(both[keyword], value)
        elif keyword in _NARROWER:
            both[keyword] = _NARROWER[keyword](both[keyword], value)
    return both


def _listed(kinds: str | list[str]) -> list[str]:
    return [kinds] if isinstance(kinds, str) else kinds


def _common(one: list[Any], other: list[Any]) -> list[Any]:
    narrowed = [item for item in one if item in other]
    integers = "number" in one and "integer" in other and "integer" not in narrowed
    return [*narrowed, "integer"] if integers else narrowed


def _unwanted(schema: Any) -> set[str]:
    """Return the keys without which a mapping is certainly invalid for a schema."""
    if not isinstance(schema, dict):
        return set()
    keys = set(schema.get("required", ())[:1])
    for part in schema.get("anyOf", ()):
        keys |= _unwanted(part)
    return keys
