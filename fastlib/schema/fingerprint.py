"""Fingerprints: what tells whether the wire shape of a message has changed.

Words for people, names of types in Python and the order of keys are no part of it. It is made of
what the builder says of the types, so the strict form of the files does not matter.
"""

import hashlib
import json
from typing import Any

from fastlib.codec.schema_protocol import Schema

from .walk import NAMED, ONE, SEVERAL

_WORDS = {
    "$comment", "$id", "$schema", "default", "description", "examples", "title", "x-unit",
}  # fmt: skip
_PREFIX = "#/$defs/"


def fingerprint(emit: Schema, load: Schema) -> str:
    """Of what is written and what is understood of one message."""
    shape = [_Shape(emit).whole(), _Shape(load).whole()]
    text = json.dumps(shape, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class _Shape:
    """A schema without words; definitions are numbered as they are met."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.numbers: dict[str, int] = {}

    def whole(self) -> Any:
        """The schema and its definitions."""
        shapes = [self.bare(self.schema)]
        while len(shapes) <= len(self.numbers):
            name = list(self.numbers)[len(shapes) - 1]
            shapes.append(self.bare(self.schema["$defs"][name]))
        return shapes

    def bare(self, schema: Any) -> Any:
        if not isinstance(schema, dict):
            return schema
        bare: Schema = {}
        for keyword in sorted(schema.keys() - _WORDS - {"$defs"}):
            value = schema[keyword]
            if keyword == "$ref":
                name = value.removeprefix(_PREFIX)
                bare[keyword] = self.numbers.setdefault(name, len(self.numbers))
            elif keyword in ONE:
                bare[keyword] = self.bare(value)
            elif keyword in SEVERAL:
                bare[keyword] = [self.bare(item) for item in value]
            elif keyword in NAMED:
                # Keys that nobody reads are there to explain them.
                kept = (key for key in sorted(value) if not _is_explained(value[key]))
                bare[keyword] = {key: self.bare(value[key]) for key in kept}
            else:
                bare[keyword] = sorted(value) if keyword == "required" else value
        return bare


def _is_explained(schema: Any) -> bool:
    """Whether the schema of a key tells only that nobody reads it."""
    return isinstance(schema, dict) and "deprecated" in schema
