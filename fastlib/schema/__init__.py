"""Schemas of the messages, all derived from their types, and what can be proved by them.

JSON Schemas of what is written (`emit`) and of what is understood (`load`), the AsyncAPI document,
examples, fingerprints; and whether two versions understand each other.
"""

from .asyncapi import asyncapi, asyncapi_yaml
from .builder import schema_of
from .documents import (
    PURPOSES,
    Purpose,
    document,
    documents,
    family_document,
    index,
    part_document,
    to_json,
    write,
)
from .examples import example_text, example_tree, examples
from .fingerprint import fingerprint
from .folder import SchemaFolder, SchemaFolderError
from .kinds import Family, Kind, families, find_kind, kinds

__all__ = [
    "PURPOSES",
    "Family",
    "Kind",
    "Purpose",
    "SchemaFolder",
    "SchemaFolderError",
    "asyncapi",
    "asyncapi_yaml",
    "document",
    "documents",
    "example_text",
    "example_tree",
    "examples",
    "families",
    "family_document",
    "find_kind",
    "fingerprint",
    "index",
    "kinds",
    "part_document",
    "schema_of",
    "to_json",
    "write",
]
