"""Check a foreign schema before it is used.

A schema can name other documents. jsonschema-rs would fetch them, from files and the network. It
can also refer to itself without end. So a schema must be one document, like those of `fastlib
schema`.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

from fastlib.codec.schema_protocol import Schema

from .builder import DIALECT
from .strict_form import COMMENT, UNSAID

MAX_DEPTH: Final = 100
"""The maximum number of levels of nested schemas."""

_ONE: Final = (
    *("additionalProperties", "unevaluatedProperties", "propertyNames", "items", "contains"),
    *("unevaluatedItems", "contentSchema", "not", "if", "then", "else"),
)
_LISTS: Final = ("allOf", "anyOf", "oneOf", "prefixItems")
_MAPPINGS: Final = ("properties", "patternProperties", "dependentSchemas", "$defs")
_SAME_VALUE: Final = ("not", "if", "then", "else")
_OTHER_DOCUMENTS: Final = (
    *("$id", "$schema", "$dynamicRef", "$recursiveRef", "$anchor", "$dynamicAnchor", "$vocabulary"),
    *("id", "definitions", "dependencies", "additionalItems", "extends"),
)
"""Keywords that change the meaning of a reference, and keywords of other drafts."""
_TYPES: Final = {"null", "boolean", "integer", "number", "string", "array", "object"}
_REFERENCE: Final = re.compile(r"#/\$defs/([^/~%]+)")
_NUMBERS: Final = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_COUNTS: Final = (
    *("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"),
    *("minContains", "maxContains"),
)


def problem_of(document: Any) -> str | None:
    """Return why a document cannot be used as a schema, with the place; None if it can."""
    try:
        _check(document)
    except _UnusableError as error:
        return str(error)
    return None


class _UnusableError(Exception):
    """The text has the place and the reason."""


def _check(document: Any) -> None:
    if not isinstance(document, dict):
        raise _UnusableError("expected a mapping of keywords")
    if document.get("$schema", DIALECT) != DIALECT:
        raise _UnusableError(f"$schema: expected {DIALECT}")
    if not isinstance(document.get("$id", ""), str):
        raise _UnusableError("$id: expected a text")
    root = {key: value for key, value in document.items() if key not in ("$schema", "$id")}
    definitions = root.get("$defs", {})
    names = set(definitions) if isinstance(definitions, dict) else set[str]()
    pending: list[tuple[str, Any, int]] = [("", root, 0)]
    while pending:
        place, schema, depth = pending.pop()
        if isinstance(schema, bool):
            continue
        if not isinstance(schema, dict):
            raise _UnusableError(f"{place}: expected a schema")
        if depth > MAX_DEPTH:
            raise _UnusableError(f"{place}: schemas are nested more than {MAX_DEPTH} levels deep")
        _check_keywords(place, schema, names)
        pending += ((where, below, depth + 1) for where, below in _below(place, schema))
    _check_cycles(root)


def _below(place: str, schema: Schema) -> Iterator[tuple[str, Any]]:
    """Yield the place and the schema for each schema right below."""
    for keyword, value in schema.items():
        where = f"{place}/{keyword}"
        if keyword in _ONE:
            yield where, value
        elif keyword in _LISTS:
            if not isinstance(value, list):
                raise _UnusableError(f"{where}: expected a list of schemas")
            yield from ((f"{where}/{number}", below) for number, below in enumerate(value))
        elif keyword in _MAPPINGS:
            if not isinstance(value, dict):
                raise _UnusableError(f"{where}: expected a mapping of schemas")
            yield from ((f"{where}/{name}", below) for name, below in value.items())


def _check_keywords(place: str, schema: Schema, names: set[str]) -> None:
    for keyword, value in schema.items():
        expected = _expected(keyword, value, names)
        if expected is not None:
            raise _UnusableError(f"{place}/{keyword}: expected {expected}")


def _expected(keyword: str, value: Any, names: set[str]) -> str | None:
    """Return the expectation for a keyword's value if the value is wrong, else None."""
    if keyword in _OTHER_DOCUMENTS:
        return "no such keyword"
    if keyword == "$ref":
        found = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
        sound = found is not None and found[1] in names
        return None if sound else "'#/$defs/NAME' with a NAME of this document"
    if keyword == "type":
        kinds = value if isinstance(value, list) else [value]
        sound = bool(kinds) and all(isinstance(kind, str) and kind in _TYPES for kind in kinds)
        return None if sound else "a type of JSON, or a list of these"
    if keyword in ("required", UNSAID):
        sound = isinstance(value, list) and all(isinstance(name, str) for name in value)
        return None if sound else "a list of texts"
    if keyword == COMMENT:
        return None if isinstance(value, str) else "a text"
    if keyword in ("enum", "examples"):
        return None if isinstance(value, list) else "a list"
    if keyword in _NUMBERS:
        return None if type(value) in (int, float) and value - value == 0 else "a number"
    if keyword in _COUNTS:
        return None if type(value) is int and value >= 0 else "a number from 0"
    if keyword == "pattern":
        return None if isinstance(value, str) and _compiles(value) else "a regular expression"
    return None


def _compiles(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError):
        return False
    return True


def _check_cycles(root: Schema) -> None:
    """Refuse definitions that only refer to themselves."""
    definitions: Schema = root.get("$defs", {})
    needs = {name: set(_targets(schema)) for name, schema in definitions.items()}
    while needs:
        # A definition without dependencies is not part of a cycle.
        done = {name for name, targets in needs.items() if not targets & needs.keys()}
        if not done:
            raise _UnusableError(f"/$defs/{min(needs)}: the definition refers to itself")
        needs = {name: targets for name, targets in needs.items() if name not in done}


def _targets(schema: Any) -> Iterator[str]:
    """Yield the definitions that a schema applies to the same value."""
    pending = [schema]
    while pending:
        one = pending.pop()
        if not isinstance(one, dict):
            continue
        if "$ref" in one:
            yield one["$ref"].removeprefix("#/$defs/")
        pending += [one[keyword] for keyword in _SAME_VALUE if keyword in one]
        for keyword in ("allOf", "anyOf", "oneOf"):
            pending += one.get(keyword, ())
        pending += one.get("dependentSchemas", {}).values()
