"""The strict form of a schema: every validator compiles it without options, with equal results.

ajv in strict mode is the strictest. It requires one type beside the keywords of a type, each
required key in `properties`, and no unknown keyword or format. Extra information becomes lines of
`$comment`: `unit: KiB`, `format: date-time`, and `rule: …` for a rule that no schema can express.
"""

from typing import Any

from fastlib.codec.schema_protocol import Schema

from .walk import NAMED, ONE, SEVERAL

UNIT = "x-unit"
"""Keyword of the builder for the unit of a number."""
UNSAID = "x-rules"
"""Keyword of the builder for rules that a schema cannot express: a list of them in words.

Versions before 0.1.0 have it in their files.
"""
COMMENT = "$comment"
_RULE = "rule: "

_KEYWORDS = {
    "number": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"},
    "string": {"minLength", "maxLength", "pattern"},
    "array": {"items", "minItems", "maxItems", "uniqueItems"},
    "object": {
        "properties", "required", "additionalProperties", "patternProperties", "propertyNames",
        "minProperties", "maxProperties",
    },
}  # fmt: skip
"""The keywords that apply to values of one type only."""
_SAME_VALUE = ("not", "if", "then", "else", "allOf", "anyOf", "oneOf")
_ABOUT = {
    COMMENT, "$id", "$schema", "$defs", "default", "deprecated", "description", "examples", "title",
}  # fmt: skip
"""Keywords without an effect on validation."""


def strict_form(schema: Schema) -> Schema:
    """Return the strict form of a schema, and of all schemas in it."""
    return _strict(schema, frozenset())


def unsaid_rules(schema: Schema) -> list[str]:
    """Return the rules that a schema has in words only, without those of the schemas in it."""
    lines = str(schema.get(COMMENT, "")).splitlines()
    rules = [line.removeprefix(_RULE) for line in lines if line.startswith(_RULE)]
    return [*schema.get(UNSAID, ()), *rules]


def _strict(schema: Schema, context: frozenset[str]) -> Schema:
    """`context` are the types that the schemas around allow the same value."""
    schema = _with_comment(schema)
    own = _types(schema)
    if len(own - {"null"}) > 1:
        return _strict(_split(schema, own), context)
    schema = _guarded(schema, own or context)
    strict: Schema = {}
    for keyword, value in schema.items():
        within = (own or context) if keyword in _SAME_VALUE else frozenset[str]()
        if keyword in ONE:
            strict[keyword] = _below(value, within)
        elif keyword in SEVERAL:
            strict[keyword] = [_below(item, within) for item in value]
        elif keyword in NAMED:
            strict[keyword] = {name: _below(item, within) for name, item in value.items()}
        else:
            strict[keyword] = value
    if "required" in strict:
        known = strict.get("properties", {})
        missing = {key: True for key in strict["required"] if key not in known}
        if missing:
            strict["properties"] = {**known, **missing}
    return strict


def _below(schema: Any, context: frozenset[str]) -> Any:
    return _strict(schema, context) if isinstance(schema, dict) else schema


def _types(schema: Schema) -> frozenset[str]:
    kinds = schema.get("type", ())
    return frozenset([kinds] if isinstance(kinds, str) else kinds)


def _with_comment(schema: Schema) -> Schema:
    """Move keywords that validators do not know to lines of a comment."""
    lines = [f"unit: {schema[UNIT]}"] if UNIT in schema else []
    lines += [f"format: {schema['format']}"] if "format" in schema else []
    lines += [f"{_RULE}{rule}" for rule in schema.get(UNSAID, ())]
    rest = {key: value for key, value in schema.items() if key not in (UNIT, UNSAID, "format")}
    if not lines:
        return rest
    if COMMENT in rest:
        lines.insert(0, rest[COMMENT])
    return {**rest, COMMENT: "\n".join(lines)}


def _split(schema: Schema, types: frozenset[str]) -> Schema:
    """Return the schema with a choice for each of its types, in their order."""
    outer = {keyword: value for keyword, value in schema.items() if keyword in _ABOUT}
    inner = {
        keyword: value
        for keyword, value in schema.items()
        if keyword not in _ABOUT and keyword != "type"
    }
    choices = [{"type": kind, **_restricted(inner, kind)} for kind in schema["type"]]
    return {**outer, "anyOf": choices}


def _restricted(schema: Schema, kind: str) -> Schema:
    """Return the keywords of a schema for values of one type."""
    kind = "number" if kind == "integer" else kind
    foreign = set[str]().union(*(words for name, words in _KEYWORDS.items() if name != kind))
    said: Schema = {}
    for keyword, value in schema.items():
        if keyword in foreign:
            continue
        if keyword == "anyOf":
            choices = [_restricted(choice, kind) for choice in value]
            if {} not in choices:
                said[keyword] = choices
        elif keyword == "allOf":
            parts = [part for part in (_restricted(part, kind) for part in value) if part]
            if parts:
                said[keyword] = parts
        else:
            said[keyword] = value
    return said


def _guarded(schema: Schema, types: frozenset[str]) -> Schema:
    """Return the schema with a type beside the keywords of each type."""
    for kind, keywords in _KEYWORDS.items():
        about = schema.keys() & keywords
        known = types & ({"number", "integer"} if kind == "number" else {kind})
        if about and not known:
            guard = [{"type": kind, **{key: schema[key] for key in schema if key in about}}]
            other = {"not": {"type": kind}}
            rest = {key: value for key, value in schema.items() if key not in about}
            schema = {**rest, "allOf": [*rest.get("allOf", ()), {"anyOf": [*guard, other]}]}
    return schema
