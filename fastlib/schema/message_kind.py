"""Every kind of message on the wire. Each kind has its own schemas and example.

A container type has one kind for each title, because the title decides its content.
"""

import re
from collections.abc import Iterator
from inspect import cleandoc
from typing import Literal

import msgspec

from fastlib.codec.derivation import shape_of
from fastlib.codec.envelope import Envelope
from fastlib.codec.errors import DeclarationError
from fastlib.codec.load_context import nearest_word
from fastlib.codec.own_doc import own_doc
from fastlib.codec.schema_protocol import Direction, Schema
from fastlib.message import Message, topics
from fastlib.message.describe import UnknownNameError, message_types, name_of
from fastlib.message.task import declaration_of_result
from fastlib.message.topics import Topic

from .builder import Builder
from .strict_form import strict_form

Family = Literal["task", "result"]
"""The key of a container's title: `task: start vm`, `result: vm started`."""


class MessageKind(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of message on the wire."""

    name: str
    """The name of its files: `start-vm.task`, `vm-started.result`, `agent.Init`."""
    cls: type[Message]
    """The type of the whole message."""
    family: Family | None = None
    """For containers, the key of the title."""
    title: str | None = None
    """The title that identifies the kind on the wire; None if only the topic does."""
    doc: str = ""

    @property
    def summary(self) -> str:
        """The first sentences of `doc`, on one line."""
        return " ".join(self.doc.split("\n\n")[0].split())

    @property
    def topics(self) -> tuple[Topic, ...]:
        """Its topics."""
        return self.cls.__topics__

    def schema(self, direction: Direction, *, closed: bool | None = None) -> Schema:
        """Return the schema without the keywords of a document. Raises DeclarationError."""
        return strict_form(self.schema_by(Builder(direction, closed=closed)))

    def schema_by(self, builder: Builder) -> Schema:
        """Return the schema from a new builder, in the builder's own form."""
        schema = self.build(builder)
        heading = f"{self.family}: {self.title}" if self.family else name_of(self.cls)
        defs = {"$defs": builder.defs} if builder.defs else {}
        return {"title": heading, "description": self.doc, **schema, **defs}

    def build(self, builder: Builder) -> Schema:
        """Return the schema from a builder that has the definitions."""
        shape = shape_of(self.cls)
        if isinstance(shape, Envelope):
            assert self.title is not None
            return builder.container(shape, self.title)
        return builder.root(shape)


def message_kinds() -> list[MessageKind]:
    """Return every declared kind of message, sorted by name.

    Raises DeclarationError if two have the same name.
    """
    found: dict[str, MessageKind] = {}
    for kind in _kinds():
        if kind.name in found:
            raise DeclarationError(
                f"{kind.title!r} and {found[kind.name].title!r} both have the name {kind.name!r}; "
                "change one of the titles"
            )
        found[kind.name] = kind
    return [found[name] for name in sorted(found)]


def _kinds() -> Iterator[MessageKind]:
    for cls in message_types():
        shape = shape_of(cls)
        topics = cls.__dict__.get("__topics__", ())
        # A custom shape does not state whether it writes the title.
        title = cls.__dict__.get("__title__")
        title = getattr(shape, "written_title", title) if title else None
        if isinstance(shape, Envelope) and topics:
            for known in shape.titles():
                family: Family = "result" if shape.title == "result" else "task"
                yield MessageKind(
                    name=f"{re.sub(r'[^A-Za-z0-9_.]+', '-', known)}.{family}",
                    cls=cls,
                    family=family,
                    title=known,
                    doc=_doc(shape, known),
                )
        elif topics or title:
            doc = cleandoc(own_doc(cls) or "")
            yield MessageKind(name=name_of(cls), cls=cls, title=title and title[1], doc=doc)


def _doc(envelope: Envelope, title: str) -> str:
    variant = envelope.variant(title)
    assert variant is not None
    doc = cleandoc(own_doc(variant.member) or "")
    if envelope.title != "result":
        return doc
    declared = declaration_of_result(title)
    whose = f"of '{declared.task}'" if declared else "that no task declares"
    return f"Results {whose}: one for each member, in their order.\n\n{doc}"


def find_kind(name: str) -> MessageKind:
    """Return the kind of a name or a title; the task if both exist. Raises UnknownNameError."""
    by_name = {kind.name: kind for kind in message_kinds()}
    by_title = {kind.title: kind for kind in by_name.values() if kind.family != "task"}
    by_title |= {kind.title: kind for kind in by_name.values() if kind.family == "task"}
    found = by_name.get(name) or by_title.get(name)
    if found is None:
        near = nearest_word(name, [*by_name, *(title for title in by_title if title)])
        raise UnknownNameError(f"there is no kind of message {name!r}", name, near)
    return found


def families() -> dict[Family, type[Message]]:
    """Return the containers: the keys of their titles, and their types."""
    return {kind.family: kind.cls for kind in message_kinds() if kind.family is not None}


def all_topics() -> list[Topic]:
    """Return the topics of the protocol and those that messages of other packages name."""
    known = {topic.template: topic for topic in topics.ALL.values()}
    for kind in message_kinds():
        for topic in kind.topics:
            known.setdefault(topic.template, topic)
    return list(known.values())
