"""The rules of structs as JSON Schema."""

import math
from collections.abc import Iterable

from fastlib.codec.records import Field
from fastlib.codec.rules import (
    AllOrNone,
    Between,
    Exclusive,
    Needs,
    NotEmpty,
    OneOf,
    Positive,
    Requires,
    Rule,
    ValueRule,
)
from fastlib.codec.scalars import BOOLEANS
from fastlib.codec.schema_protocol import Direction, Schema
from fastlib.codec.shapes import Bool

TRUE = [True, *(word for word, value in BOOLEANS.items() if value)]
"""The texts that are read as true."""


def rule_schema(rule: Rule, fields: Iterable[Field], direction: Direction) -> Schema:
    """Return the schema of a rule; an empty one if JSON Schema cannot express it.

    Only rules that `is_exact` are expressed completely. A subclass may override the rule, so the
    type must be exactly the known one.
    """
    by_attribute = {field.attribute: field for field in fields}
    given = {name: _given(by_attribute[name], direction) for name in rule.attributes}
    if type(rule) is OneOf:
        return _any(list(given.values()))
    if type(rule) is AllOrNone:
        schemas = list(given.values())
        return _any([{"allOf": schemas}, {"not": _any(schemas)}])
    if type(rule) is Needs:
        field = by_attribute[rule.attribute]
        if not isinstance(field.shape, Bool):  # then it is never true
            return {}
        yes = {"enum": TRUE} if direction == "load" else {"const": True}
        true = _any(
            [{"required": [key], "properties": {key: yes}} for key in _keys(field, direction)]
        )
        return _any([{"not": true}, given[rule.other]])
    if type(rule) is Requires:
        return _any([{"not": given[rule.attribute]}, given[rule.other]])
    if type(rule) is Exclusive:
        return {"not": {"allOf": list(given.values())}}
    if isinstance(rule, ValueRule):
        value = _value_schema(rule)
        keys = _keys(by_attribute[rule.attribute], direction)
        return {"properties": dict.fromkeys(keys, value)} if value else {}
    return {}


def is_exact(rule: Rule) -> bool:
    """Return True if the schema of a rule accepts exactly the values that the rule accepts.

    A rule about numbers is not exact, because a number can be written as a text.
    """
    return type(rule) in (OneOf, AllOrNone, Needs, Requires, Exclusive, NotEmpty)


def words(rule: Rule, fields: Iterable[Field]) -> str:
    """Return a rule in words, on one line."""
    text = rule.describe({field.attribute: field.key for field in fields})
    return " ".join(text.split("\n\n")[0].split())


def _value_schema(rule: ValueRule) -> Schema:
    """Return the schema of the value that a rule is about."""
    if type(rule) is Positive:
        return {"exclusiveMinimum": 0}
    if type(rule) is Between:
        schema: Schema = {"minimum": rule.minimum}
        return schema if rule.maximum == math.inf else {**schema, "maximum": rule.maximum}
    if type(rule) is NotEmpty:
        return {"not": {"enum": ["", [], {}]}}
    return rule.value_schema()


def _given(field: Field, direction: Direction) -> Schema:
    """Return the schema of a mapping in which a field is not absent."""
    if direction == "emit":
        return {"required": [field.key]}
    nothing: Schema = {"type": "null"}
    if field.wire.empty_is_absent:
        nothing = {"enum": [None, "", [], {}]}
    return _any([{"required": [key], "properties": {key: {"not": nothing}}} for key in field.keys])


def _keys(field: Field, direction: Direction) -> tuple[str, ...]:
    return field.keys if direction == "load" else (field.key,)


def _any(schemas: list[Schema]) -> Schema:
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
