"""Walk over the schemas in a schema."""

from collections.abc import Callable, Iterator
from typing import Any

from fastlib.codec.schema_protocol import Schema

ONE = ("additionalProperties", "items", "not", "if", "then", "else")
"""Keywords whose value is a schema."""
SEVERAL = ("allOf", "anyOf", "oneOf")
"""Keywords whose value is a list of schemas."""
NAMED = ("properties", "patternProperties", "$defs")
"""Keywords whose value is a mapping of names (not keywords) to schemas."""


def children(schema: Schema) -> Iterator[Schema]:
    """Yield the schemas directly in a schema."""
    for keyword in ONE:
        if isinstance(schema.get(keyword), dict):
            yield schema[keyword]
    for keyword in SEVERAL:
        yield from schema.get(keyword, ())
    for keyword in NAMED:
        yield from (below for below in schema.get(keyword, {}).values() if isinstance(below, dict))


def rebuilt(schema: Schema, change: Callable[[Schema], Schema]) -> Schema:
    """Return a copy in which `change` has replaced each schema, inner ones first."""

    def below(value: Any) -> Any:
        return rebuilt(value, change) if isinstance(value, dict) else value

    copy: Schema = {}
    for keyword, value in schema.items():
        if keyword in ONE:
            copy[keyword] = below(value)
        elif keyword in SEVERAL:
            copy[keyword] = [below(item) for item in value]
        elif keyword in NAMED:
            copy[keyword] = {name: below(item) for name, item in value.items()}
        else:
            copy[keyword] = value
    return change(copy)
