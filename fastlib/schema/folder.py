"""A folder of schemas as it was written by some version of fastlib."""

import json
import os
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from fastlib.codec.errors import FastlibError
from fastlib.codec.schema_protocol import Direction, Schema

INDEX = "index.json"


class SchemaFolderError(FastlibError):
    """A folder of schemas cannot be read or written."""


class ListedMessage(msgspec.Struct, frozen=True):
    """What the index says of one kind of message."""

    name: str
    topics: tuple[str, ...]
    fingerprint: str
    family: str | None = None
    title: str | None = None


class ListedTopic(msgspec.Struct, frozen=True):
    """What the index says of one topic."""

    topic: str
    sender: str
    receiver: str


class Index(msgspec.Struct, frozen=True):
    """What is in a folder."""

    messages: tuple[ListedMessage, ...]
    families: dict[str, str | None]
    """What reads containers with titles that are not declared, by the key of the title."""
    topics: tuple[ListedTopic, ...]


class SchemaFolder:
    """The schemas of one version, read when they are asked for."""

    def __init__(self, path: str | os.PathLike[str], name: str | None = None) -> None:
        """`name` is what it is called in reports. Raises SchemaFolderError."""
        self.path = Path(path)
        self.name = name or str(path)
        try:
            self.index = msgspec.convert(self._read(INDEX), Index)
        except msgspec.ValidationError as error:
            raise SchemaFolderError(f"{self.path / INDEX}: {error}") from None

    def _read(self, name: str) -> Any:
        path = self.path / name
        try:
            return json.loads(path.read_text("utf-8"))
        except OSError as error:
            hint = "; 'fastlib schema --write DIR' makes one" if name == INDEX else ""
            raise SchemaFolderError(f"cannot read {path}: {error.strerror}{hint}") from None
        except ValueError as error:
            raise SchemaFolderError(f"{path} is no JSON: {error}") from None

    @cached_property
    def messages(self) -> dict[str, ListedMessage]:
        """The kinds of message by name."""
        return {message.name: message for message in self.index.messages}

    def schema(self, direction: Direction, name: str) -> Schema:
        """The schema of a kind of message, or of a family. Raises SchemaFolderError."""
        schema = self._read(f"{direction}/{name}.json")
        if not isinstance(schema, dict):
            raise SchemaFolderError(f"{self.path}/{direction}/{name}.json is no schema")
        return schema

    def reader_of(self, message: ListedMessage) -> str | None:
        """The name of the schema by which this version reads a message of another one.

        That of the same title or, as where the topic alone tells, of the same name. A container
        with an unknown title is read as any of its family, if at all.
        """
        for own in self.index.messages:
            if message.title is None:
                if own.name == message.name and own.title is None:
                    return own.name
            elif (own.family, own.title) == (message.family, message.title):
                return own.name
        return None if message.family is None else self.index.families.get(message.family)

    def sides(self, message: ListedMessage) -> list[tuple[str, str]]:
        """Who sends a message to whom."""
        topics = {topic.topic: topic for topic in self.index.topics}
        found = [topics[name] for name in message.topics if name in topics]
        return list(dict.fromkeys((topic.sender, topic.receiver) for topic in found))
