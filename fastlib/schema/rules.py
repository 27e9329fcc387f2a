"""Rules between fields, as JSON Schema says them."""

from collections.abc import Iterable
from inspect import cleandoc

from fastlib.codec.annotations import AllOrNone, Needs, OneOf, Rule
from fastlib.codec.forms import Direction, Schema
from fastlib.codec.records import Field
from fastlib.codec.scalars import BOOLEANS
from fastlib.codec.shapes import Bool

TRUE = [True, *(word for word, value in BOOLEANS.items() if value)]
"""What is read as true."""


def rule_schema(rule: Rule, fields: Iterable[Field], direction: Direction) -> Schema | None:
    """The schema of a rule; None for one of a kind of its own, which no schema can say."""
    by_attribute = {field.attribute: field for field in fields}
    given = {name: _given(by_attribute[name], direction) for name in rule.attributes}
    if isinstance(rule, OneOf):
        return _any(list(given.values()))
    if isinstance(rule, Needs):
        field = by_attribute[rule.attribute]
        if not isinstance(field.shape, Bool):  # then it is never true
            return {}
        yes = {"enum": TRUE} if direction == "load" else {"const": True}
        true = _any(
            [{"required": [key], "properties": {key: yes}} for key in _keys(field, direction)]
        )
        return _any([{"not": true}, given[rule.other]])
    if isinstance(rule, AllOrNone):
        schemas = list(given.values())
        return _any([{"allOf": schemas}, {"not": _any(schemas)}])
    return None


def words(rule: Rule) -> str:
    """A rule of a kind of its own in words."""
    return " ".join(cleandoc(type(rule).__doc__ or type(rule).__name__).split("\n\n")[0].split())


def _given(field: Field, direction: Direction) -> Schema:
    """The schema of a mapping in which a field is not absent."""
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
