"""Alternative forms of a message: they are read, but another form is written.

These are a field's aliases, a list of pairs for a mapping, and another layout of a container. The
declarations define them, and the form that is written.
"""

from typing import Any

from fastlib.codec.envelope import Envelope, Members
from fastlib.codec.records import Converted, Field, Record
from fastlib.codec.shapes import List, Map, Shape

from .choices import Choices


def with_alternatives(shape: Shape, tree: Any, choices: Choices) -> Any:
    """Return another plain tree with the same value as a tree that `shape` has written."""
    if isinstance(shape, Envelope):
        return _container(shape, tree, choices)
    if isinstance(shape, Record):
        return _record(shape, tree, choices)
    if isinstance(shape, Converted):
        return with_alternatives(shape.wire, tree, choices)
    if isinstance(shape, List | Members) and isinstance(tree, list):
        return [with_alternatives(shape.item, item, choices) for item in tree]
    if isinstance(shape, Map) and isinstance(tree, dict):
        named = {key: with_alternatives(shape.value, item, choices) for key, item in tree.items()}
        if shape.pairs and choices.turn("pairs", (False, True)):
            return [{key: item} for key, item in named.items()]
        return named
    return tree


def _fields(record: Record) -> dict[str, Field]:
    """Return the fields of a mapping by the written key, including fields of extensions."""
    parts = [record, *(record.extensions or ())]
    return {field.key: field for part in parts for field in part.fields}


def _record(record: Record, tree: Any, choices: Choices) -> Any:
    if not isinstance(tree, dict):
        return tree
    fields = _fields(record)
    written: dict[str, Any] = {}
    for key, item in tree.items():
        field = fields.get(key)
        if field is None:  # the title
            written[key] = item
        else:
            name = choices.turn("word", field.keys)
            written[name] = with_alternatives(field.shape, item, choices)
    return written


def _container(envelope: Envelope, tree: dict[str, Any], choices: Choices) -> Any:
    variant = envelope.variant(tree[envelope.title])
    assert variant is not None
    inline, listed = envelope.inline_record(variant), envelope.list_record(variant)
    of_members = _fields(envelope.record(variant.member))
    layout = choices.turn("layout", variant.layouts)
    if layout == "list" and variant.layouts[0] == "inline":
        member = {key: item for key, item in tree.items() if key in of_members}
        own = {key: item for key, item in tree.items() if key not in of_members}
        tree = own | {variant.list_key: [member]}
    elif layout == "inline" and variant.layouts[0] == "list":
        members = tree[variant.list_key]
        own = {key: item for key, item in tree.items() if key != variant.list_key}
        # Inline, the two share one key. So the forms are equal only if neither has a value for it.
        shared = of_members.keys() & {field.key for field in envelope.fields}
        if len(members) == 1 and not shared & (own.keys() | members[0].keys()):
            tree = own | members[0]
        else:
            layout = "list"
    return _record(inline if layout == "inline" else listed, tree, choices)
