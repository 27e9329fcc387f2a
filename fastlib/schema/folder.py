"""A folder of schemas that a version of fastlib has written.

The folder may be untrusted, such as a checkout of a proposed change. So names in its index are not
used as paths, and symbolic links in it are not followed.
"""

import json
import os
import re
import stat
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import msgspec

from fastlib.codec.errors import FastlibError
from fastlib.codec.schema_protocol import Direction, Schema

from .received import problem_of

INDEX = "index.json"
MAX_BYTES: Final = 16 << 20
"""The maximum size of a schema file in bytes."""
_NAME: Final = re.compile(r"\w[\w.-]{0,199}")
"""The allowed characters of a message's name, so it always names a file in its folder."""


class SchemaFolderError(FastlibError):
    """A folder of schemas cannot be read or written."""


def path_below(root: Path, name: str) -> Path:
    """Return the path of a file in a folder, such as `emit/quit.task.json`.

    Raises SchemaFolderError if the name or a symbolic link leads out of the folder.
    """
    path = root
    for part in name.split("/"):
        if part in ("", ".", ".."):
            raise SchemaFolderError(f"{root}: the name {name!r} leads out of the folder")
        path = path / part
        if path.is_symlink():
            raise SchemaFolderError(
                f"{path} is a symbolic link, which may lead out of the folder; remove the link"
            )
    return path


def check_owner(root: Path) -> None:
    """Raise SchemaFolderError if another user's link leads to the folder to be written.

    It could lead anywhere. Links of root and of this user are followed.
    """
    for path in (root, *root.absolute().parents):
        with suppress(OSError):  # it does not exist yet
            found = path.lstat()
            if stat.S_ISLNK(found.st_mode) and found.st_uid not in (0, os.geteuid()):
                raise SchemaFolderError(
                    f"{path} is a symbolic link of another user, whose target is not trusted; "
                    "remove it, or choose another folder"
                )


def check_name(place: Path, name: object) -> None:
    """Raise SchemaFolderError if this cannot be the name of a message or a family."""
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise SchemaFolderError(
            f"{place}: {repr(name)[:200]} is not the name of a message: expected letters, digits, "
            "'-', '_' and '.', at most 200; correct the file, or write the schemas into an empty "
            "folder"
        )


def read_json(path: Path) -> Any:
    """Return the content of a file. Raises SchemaFolderError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise SchemaFolderError(f"{path} is not a regular file")
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        hint = "; 'fastlib schema --write DIR' makes one" if path.name == INDEX else ""
        raise SchemaFolderError(f"cannot read {path}: {error.strerror}{hint}") from None
    if len(data) > MAX_BYTES:
        raise SchemaFolderError(f"{path} is larger than {MAX_BYTES} bytes")
    try:
        return json.loads(data.decode("utf-8"))
    except ValueError as error:
        raise SchemaFolderError(f"{path} is not JSON: {error}") from None
    except RecursionError:
        raise SchemaFolderError(f"{path} is nested too deeply") from None


class ListedMessage(msgspec.Struct, frozen=True):
    """The entry of one kind of message in the index."""

    name: str
    topics: tuple[str, ...]
    fingerprint: str
    family: str | None = None
    title: str | None = None


class ListedTopic(msgspec.Struct, frozen=True):
    """The entry of one topic in the index."""

    topic: str
    sender: str
    receiver: str


class Index(msgspec.Struct, frozen=True):
    """The content of a folder's index."""

    messages: tuple[ListedMessage, ...]
    families: dict[str, str | None]
    """The schemas of containers with undeclared titles, by the key of the title."""
    topics: tuple[ListedTopic, ...]


class SchemaFolder:
    """The schemas of one version. They are read at their first use."""

    def __init__(self, path: str | os.PathLike[str], name: str | None = None) -> None:
        """`name` is the version's name in reports. Raises SchemaFolderError."""
        self.path = Path(path)
        self.name = name or str(path)
        try:
            self.index = msgspec.convert(self._read(INDEX), Index)
        except msgspec.ValidationError as error:
            raise SchemaFolderError(f"{self.path / INDEX}: {error}") from None
        readers = (name for name in self.index.families.values() if name is not None)
        for listed in (*(message.name for message in self.index.messages), *readers):
            check_name(self.path / INDEX, listed)

    def _read(self, name: str) -> Any:
        return read_json(path_below(self.path, name))

    @cached_property
    def messages(self) -> dict[str, ListedMessage]:
        """Return the kinds of message by name."""
        return {message.name: message for message in self.index.messages}

    def schema(self, direction: Direction, name: str) -> Schema:
        """Return the schema of a kind of message, or of a family. Raises SchemaFolderError."""
        check_name(self.path, name)
        schema = self._read(f"{direction}/{name}.json")
        problem = problem_of(schema)
        if problem is not None:
            raise SchemaFolderError(
                f"{self.path}/{direction}/{name}.json cannot be used as a schema: {problem}"
            )
        assert isinstance(schema, dict)
        return schema

    def reader_of(self, message: ListedMessage) -> str | None:
        """Return the name of the schema by which this version reads a message of another one.

        It is the schema with the same title, or with the same name if only the topic identifies the
        message. A container with an unknown title is read as a container of its family, if at all.
        """
        for own in self.index.messages:
            if message.title is None:
                if own.name == message.name and own.title is None:
                    return own.name
            elif (own.family, own.title) == (message.family, message.title):
                return own.name
        return None if message.family is None else self.index.families.get(message.family)

    def sides(self, message: ListedMessage) -> list[tuple[str, str]]:
        """Return sender and receiver of a message."""
        topics = {topic.topic: topic for topic in self.index.topics}
        found = [topics[name] for name in message.topics if name in topics]
        return list(dict.fromkeys((topic.sender, topic.receiver) for topic in found))
