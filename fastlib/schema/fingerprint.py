"""Fingerprints: they show whether the wire shape of a message has changed.

They do not depend on descriptions, names of Python types and the order of keys. They are computed
from the builder's schemas, so the strict form of the files does not matter.
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
    """Return the fingerprint of the `emit` and `load` schemas of one message."""
    shape = [_Shape(emit).whole(), _Shape(load).whole()]
    text = json.dumps(shape, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class _Shape:
    """A schema without descriptions. Definitions are numbered in the order of use."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.numbers: dict[str, int] = {}

    def whole(self) -> Any:
        """Return the schema and its definitions."""
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
                # Obsolete keys are only there for their explanation.
                kept = (key for key in sorted(value) if not _is_explained(value[key]))
                bare[keyword] = {key: self.bare(value[key]) for key in kept}
            else:
                bare[keyword] = sorted(value) if keyword == "required" else value
        return bare


def _is_explained(schema: Any) -> bool:
    """Return True if the schema of a key only states that it is obsolete."""
    return isinstance(schema, dict) and "deprecated" in schema
