"""Schemas for editors: accepted messages without unknown keys, with errors in words.

An editor shows the keyword that fails, so a pattern would fill its screen. Here an `if` tests
whether a value is accepted, and `else` has a constant that states the expectation. `memory: lots`
shows 'Value must be "an integer, in KiB".' A `not` refuses the constant itself.

Keys that editors should not offer, such as other spellings, are matched by patterns, because
editors offer the keys in `properties`.
"""

import re
from collections.abc import Iterable
from typing import Any

from fastlib.codec.records import Field, Record
from fastlib.codec.schema_protocol import Schema
from fastlib.codec.shapes import Bool, Choice, Float, Instant, Int, Text

from .builder import Builder, _Parts

_WHOLE_RANGES = {(0, 2**32 - 1), (0, 2**64 - 1)}
"""Ranges of integers that no error needs to name."""
_NULL: Schema = {"type": "null"}


class EditorBuilder(Builder):
    """Builds the schemas of accepted messages, for editors."""

    def __init__(self, *, extensions: bool = True) -> None:
        super().__init__("load", closed=True, extensions=extensions)
        self._unit = ""
        """The unit of the field whose value is built."""
        self._in_words = True

    def text(self, written: str, *, also: str = "", expected: str = "text") -> Schema:
        return self._explained(super().text(written, also=also), expected)

    def _text(self, shape: Text) -> Schema:
        return self._explained(super()._text(shape), shape.expected)

    def _bool(self, shape: Bool) -> Schema:
        return self._explained(super()._bool(shape), shape.expected, [True, False])

    def _int(self, shape: Int) -> Schema:
        bounds = {"type": "integer", "minimum": shape.low, "maximum": shape.high}
        whole = (shape.low, shape.high) in _WHOLE_RANGES
        expected = "an integer" if whole else shape.expected
        return self._explained(super()._int(shape), expected, number=bounds)

    def _float(self, shape: Float) -> Schema:
        return self._explained(super()._float(shape), shape.expected)

    def _instant(self, shape: Instant) -> Schema:
        return self._explained(super()._instant(shape), shape.expected)

    def _choice(self, shape: Choice) -> Schema:
        values = list(shape.values)
        return self._explained(super()._choice(shape), {"enum": values}, values)

    def or_null(self, schema: Schema) -> Schema:
        """Return a schema that also accepts null; an explained one accepts it beside `then`."""
        match schema:
            case {"anyOf": [{"if": admitted, "then": _, "else": otherwise}]}:
                return {**schema, "anyOf": [{"if": admitted, "else": otherwise}]}
        return super().or_null(schema)

    def _explained(
        self,
        understood: Schema,
        expected: str | Schema,
        examples: Iterable[Any] = (),
        number: Schema | None = None,
    ) -> Schema:
        """Return a schema that accepts the same values, and states the expectation in words.

        Editors offer `examples`. `number` is the schema of numbers with a named range.
        """
        if not self._in_words:
            return understood
        otherwise = expected if isinstance(expected, dict) else self._constant(expected)
        if number is not None:
            otherwise = {"if": {"type": "integer"}, "then": number, "else": otherwise}
        offered = list(examples)
        # As long as the key has no value yet, editors would offer the constant.
        words = {"if": {"anyOf": [understood, _NULL]}, "then": understood, "else": otherwise}
        # Editors add no colon after a key whose schema has neither a type nor a choice.
        return {"anyOf": [words], **({"examples": offered} if offered else {})}

    def _constant(self, expected: str) -> Schema:
        """Return a schema that refuses every value, with the expectation as its error."""
        words = f"{expected}, in {self._unit}" if self._unit else expected
        return {"const": words, "not": {"const": words}}

    # --- structs ----------------------------------------------------------------------------------

    def _value(self, field: Field) -> Schema:
        self._unit = field.wire.unit
        try:
            return super()._value(field)
        finally:
            self._unit = ""

    def _old_scalar(self, record: Record, key: str) -> Schema:
        # Errors are about the mapping, which is the current form.
        self._in_words = False
        try:
            return super()._old_scalar(record, key)
        finally:
            self._in_words = True

    def _add_aliases(self, parts: _Parts, field: Field) -> None:
        conditions = len(parts.conditions)
        super()._add_aliases(parts, field)
        del parts.conditions[conditions : conditions + len(field.wire.aliases)]
        for alias in field.wire.aliases:
            parts.patterns[_pattern(alias)] = parts.properties.pop(alias)
            parts.conditions.append(
                {"if": {"required": [alias]}, "then": {"properties": {field.key: False}}}
            )

    def _add_old_keys(self, parts: _Parts, field: Field) -> None:
        for key, remedy in field.wire.old.items():
            if key not in parts.properties:
                about = {"deprecated": True, "description": f"Not read: {remedy}."}
                expected = self._constant(f"left out: {remedy}")
                parts.patterns.setdefault(_pattern(key), {**about, **expected})

    def _condition(self, rule: Schema) -> Schema:
        """Write `if A, then B` instead of `not A, or B`: its error names the missing key."""
        match rule:
            case {"anyOf": [{"not": condition}, consequence], **rest} if not rest:
                return {"if": condition, "then": consequence}
        return rule


def _pattern(key: str) -> str:
    """Return the pattern of one key, for regular expressions of JavaScript, too."""
    return "^" + re.sub(r"[][\\^$.|?*+(){}/]", r"\\\g<0>", key) + "$"
