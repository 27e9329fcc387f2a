"""All schemas as documents: the contents of the folder `schemas/`.

::

        emit/start-vm.task.json    the written form, closed
    load/start-vm.task.json    the understood forms, open
    emit/task.json, load/…     a task container with any title
    edit/task.json             for editors: like `load`, but closed
    asyncapi.yaml              topics, operations and messages
    index.json                 the list of it all
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from fastlib.codec.derivation import shape_of
from fastlib.codec.envelope import Envelope
from fastlib.codec.printable import escape_json
from fastlib.codec.schema_protocol import Direction, Schema
from fastlib.message.describe import find, name_of

from .builder import DIALECT, Builder, schema_by
from .editor import EditorBuilder
from .examples import example_tree
from .fingerprint import fingerprint
from .folder import INDEX, SchemaFolderError, check_name, check_owner, path_below, read_json
from .message_kind import Family, MessageKind, all_topics, families, message_kinds
from .strict_form import strict_form

NAMESPACE = "urn:fastlib:schema"
"""The prefix of every `$id`. It is only a name: no document can be fetched from it."""

Purpose = Literal["emit", "load", "edit"]
"""The directions, and `edit` for editors: accepted messages without unknown keys."""
PURPOSES: tuple[Purpose, ...] = get_args(Purpose)


def document(kind: MessageKind, purpose: Purpose = "load") -> Schema:
    """Return the schema of one kind of message as a separate document."""
    schema = kind.schema_by(_builder(purpose))
    return _document(f"{purpose}:{kind.name}", schema, [example_tree(kind)])


def part_document(name: str, purpose: Purpose = "load") -> Schema:
    """Return the schema of a message type, or of a part, by name. Raises UnknownNameError."""
    cls = find(name, by_title=False)
    return _document(f"{purpose}:{name_of(cls)}", schema_by(_builder(purpose), cls), [])


def family_document(family: Family, purpose: Purpose = "load") -> Schema:
    """Return the schema of all containers of a family, by title."""
    builder = _builder(purpose)
    members = [kind for kind in message_kinds() if kind.family == family]
    for kind in members:
        heading = {"title": f"{family}: {kind.title}", "description": kind.doc}
        builder.defs[kind.name] = heading | kind.build(builder)
    schema = {
        "title": family,
        "description": f"Any message with the key '{family}', by its title.",
        **(_by_conditions(family, members) if purpose == "edit" else _by_choice(family, members)),
    }
    other = _undeclared(builder, family)
    if other is not None and purpose != "edit":
        schema["oneOf"].append(other)
    examples = [example_tree(kind) for kind in members]
    return _document(f"{purpose}:{family}", schema | {"$defs": builder.defs}, examples)


def _builder(purpose: Purpose) -> Builder:
    return EditorBuilder() if purpose == "edit" else Builder(purpose)


def _document(name: str, schema: Schema, examples: list[Any]) -> Schema:
    schema = strict_form(schema)
    defs = schema.pop("$defs", None)
    shown = [tree for tree in examples if tree is not None]
    whole = {"$schema": DIALECT, "$id": f"{NAMESPACE}:{name}", **schema}
    return (
        whole
        | ({"examples": shown} if shown else {})
        | ({"$defs": defs} if defs is not None else {})
    )


def _by_choice(family: Family, members: list[MessageKind]) -> Schema:
    return {"oneOf": [{"$ref": f"#/$defs/{kind.name}"} for kind in members]}


def _by_conditions(family: Family, members: list[MessageKind]) -> Schema:
    """Like `_by_choice`: an editor then explains errors and completes titles."""
    titles = [kind.title for kind in members]
    return {
        "type": "object",
        "required": [family],
        "properties": {family: {"description": "Which message this is.", "enum": titles}},
        "allOf": [
            {
                "if": {"required": [family], "properties": {family: {"const": kind.title}}},
                "then": {"$ref": f"#/$defs/{kind.name}"},
            }
            for kind in members
        ],
    }


def section_document(cls: type[Any], name: str, *, extensions: bool = True) -> Schema:
    """Return the schema for editors of a file declared like a message, such as a configuration.

    Without `extensions`, it does not have the additions of other packages.
    """
    schema = schema_by(EditorBuilder(extensions=extensions), cls)
    return _document(f"edit:{name}", {**schema, "title": name}, [])


def undeclared_document(family: Family, purpose: Purpose = "load") -> Schema | None:
    """Return the schema of containers with undeclared titles; None if they are not allowed."""
    builder = _builder(purpose)
    schema = _undeclared(builder, family)
    if schema is None:
        return None
    words = {
        "title": f"any other {family}",
        "description": f"A message with the key '{family}' and a title that no task declares.",
    }
    return _document(f"{purpose}:any.{family}", words | schema | {"$defs": builder.defs}, [])


def _undeclared(builder: Builder, family: Family) -> Schema | None:
    envelope = shape_of(families()[family])
    assert isinstance(envelope, Envelope)
    return builder.undeclared(envelope)


# --- the folder -----------------------------------------------------------------------------------


def index() -> dict[str, Any]:
    """Return the list of all kinds of message, with their fingerprints, and of all topics."""
    return {
        "messages": [
            {
                "name": kind.name,
                "family": kind.family,
                "title": kind.title,
                "topics": [topic.template for topic in kind.topics],
                "fingerprint": fingerprint(
                    kind.schema_by(Builder("emit")), kind.schema_by(Builder("load"))
                ),
            }
            for kind in message_kinds()
        ],
        "families": {
            family: f"any.{family}" if undeclared_document(family, "load") else None
            for family in families()
        },
        "topics": [
            {"topic": topic.template, "sender": topic.sender, "receiver": topic.receiver}
            for topic in all_topics()
        ],
    }


def documents() -> dict[str, str]:
    """Return all derived documents by their paths in the folder."""
    from .asyncapi import asyncapi_yaml

    found: dict[str, str] = {INDEX: to_json(index()), "asyncapi.yaml": asyncapi_yaml()}
    for family in families():
        for purpose in PURPOSES:
            found[f"{purpose}/{family}.json"] = to_json(family_document(family, purpose))
        for direction in get_args(Direction):
            other = undeclared_document(family, direction)
            if other is not None:
                found[f"{direction}/any.{family}.json"] = to_json(other)
    for kind in message_kinds():
        for direction in get_args(Direction):
            found[f"{direction}/{kind.name}.json"] = to_json(document(kind, direction))
    return found


def to_json(tree: Any) -> str:
    """Return the text of a tree in the files."""
    return escape_json(json.dumps(tree, indent=2, ensure_ascii=False)) + "\n"


def write(folder: str | os.PathLike[str], texts: Mapping[str, str] | None = None) -> list[Path]:
    """Write documents, by default all, into a folder. Return the changed files.

    If all are written, files of removed messages are deleted, if the folder's index names them.
    No file outside the folder is written or deleted, regardless of the index and of symbolic links
    in the folder. Raises SchemaFolderError for a file that cannot be written.
    """
    root = Path(folder)
    check_owner(root)
    changed: list[Path] = []
    try:
        gone = set[str]() if texts is not None else _listed(root)
        texts = documents() if texts is None else texts
        for name, text in texts.items():
            path = path_below(root, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            data = text.encode()
            if not path.is_file() or path.read_bytes() != data:
                path.write_bytes(data)
                changed.append(path)
        for name in sorted(gone - texts.keys()):
            path = path_below(root, name)
            path.unlink(missing_ok=True)
            changed.append(path)
    except OSError as error:
        raise SchemaFolderError(f"cannot write {error.filename}: {error.strerror}") from None
    return changed


def _listed(root: Path) -> set[str]:
    """Return the files of messages in a folder's index; the index may be invalid.

    Raises SchemaFolderError for a name that is not a message's.
    """
    path = path_below(root, INDEX)
    if not path.exists():
        return set()
    try:
        names = [message["name"] for message in read_json(path)["messages"]]
    except (SchemaFolderError, KeyError, TypeError):
        return set()
    for name in names:
        check_name(path, name)
    return {f"{direction}/{name}.json" for name in names for direction in get_args(Direction)}
