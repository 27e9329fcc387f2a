"""Schemas of the messages, derived from their types, and proofs by schemas.

There are JSON Schemas of written messages (`emit`) and of accepted ones (`load`), the AsyncAPI
document, examples and fingerprints. `compat` decides whether two versions understand each other.
"""

from .asyncapi import asyncapi, asyncapi_yaml
from .builder import schema_of
from .compat import CompatibilityReport, Level, MessageReport, Status, compare, compare_all
from .containment import ContainmentResult, contains
from .documents import (
    PURPOSES,
    Purpose,
    document,
    documents,
    family_document,
    index,
    part_document,
    section_document,
    to_json,
    write,
)
from .examples import example_text, example_tree, examples
from .fingerprint import fingerprint
from .folder import SchemaFolder, SchemaFolderError
from .instances import instances
from .message_kind import Family, MessageKind, families, find_kind, message_kinds
from .versions import VersionError, find_released, find_version

__all__ = [
    "PURPOSES",
    "CompatibilityReport",
    "ContainmentResult",
    "Family",
    "Level",
    "MessageKind",
    "MessageReport",
    "Purpose",
    "SchemaFolder",
    "SchemaFolderError",
    "Status",
    "VersionError",
    "asyncapi",
    "asyncapi_yaml",
    "compare",
    "compare_all",
    "contains",
    "document",
    "documents",
    "example_text",
    "example_tree",
    "examples",
    "families",
    "family_document",
    "find_kind",
    "find_released",
    "find_version",
    "fingerprint",
    "index",
    "instances",
    "message_kinds",
    "part_document",
    "schema_of",
    "section_document",
    "to_json",
    "write",
]
