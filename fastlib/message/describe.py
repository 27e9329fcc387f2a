"""Message types as data: their meaning, fields, types, units and rules.

All of it is derived from the declarations, so each declared type is described::

    describe(Migrate).result.title             # 'vm migrated'
    find_field(find("migrate vm"), "parameter.swap-with").doc
"""

import re
import sys
from collections.abc import Iterator
from inspect import cleandoc
from itertools import pairwise
from typing import Any

import msgspec

from fastlib.codec.derivation import fields_of, shape_of
from fastlib.codec.envelope import Envelope, Layout
from fastlib.codec.errors import DeclarationError, FastlibError
from fastlib.codec.load_context import nearest_word
from fastlib.codec.records import Converted, Field, Record
from fastlib.codec.shapes import Choice, Float, Instant, Int, List, Map, Shape, Text

from .base import Message
from .registry import REGISTRY, class_of_title, titles
from .result_container import ResultContainer
from .task import Task, TaskContainer

_PACKAGE = "fastlib.message"


class UnknownNameError(FastlibError, LookupError):
    """There is no message, or no field of a message, with that name."""

    def __init__(self, reason: str, name: str, suggestion: str | None = None) -> None:
        """`reason` is one sentence without the suggestion."""
        super().__init__(reason, name, suggestion)
        self.reason = reason
        self.name = name
        self.suggestion = suggestion
        """The nearest known name, if one is near."""

    def __str__(self) -> str:
        hint = f" (did you mean {self.suggestion!r}?)" if self.suggestion else ""
        return f"{self.reason}{hint}"


class MemberLayout(msgspec.Struct, frozen=True, kw_only=True):
    """The place of the members in a container, by the container's title."""

    title: str
    type: str
    """Name of the members' type."""
    layouts: tuple[Layout, ...]
    """The layouts that are read; the first one is written."""
    list_key: str
    """The key of the list, if they are in one."""

    @property
    def words(self) -> str:
        forms = {"inline": "one, inline", "list": f"a list under '{self.list_key}'"}
        first, *others = (forms[layout] for layout in self.layouts)
        return first + "".join(f"; {other}, is also read" for other in others)


class FieldDescription(msgspec.Struct, frozen=True, kw_only=True):
    """One field of a message."""

    key: str
    """The key on the wire."""
    attribute: str
    """The name in Python."""
    type: str
    """The expected value, in the words of the errors."""
    required: bool
    doc: str = ""
    unit: str = ""
    values: tuple[str, ...] = ()
    """All values, if they are a closed set."""
    message: str | None = None
    """Name of the message type in this place, alone or in a list or a mapping."""
    aliases: tuple[str, ...] = ()
    """Other keys that are read and never written."""
    old: dict[str, str] = {}
    """Keys that are no longer read, with the remedy for each."""
    refuses_old: bool = False
    """Whether a message with one of these keys is refused."""
    notes: tuple[str, ...] = ()
    """Other spellings of the value, and their meanings."""
    extension: str | None = None
    """Name of the extension that has the field, unless it is the message's own."""


class MessageDescription(msgspec.Struct, frozen=True, kw_only=True):
    """One type of message, or of a part of one."""

    name: str
    doc: str
    titles: tuple[str, ...]
    """The titles after `task:` that identify this type; empty if none does."""
    title_is_written: bool
    """False if the title is only read."""
    container: MemberLayout | None
    """For a task: its place in its container."""
    result: MemberLayout | None
    """For a task: the place of its results in theirs."""
    form: str
    """The expected value, in the words of the errors."""
    fields: tuple[FieldDescription, ...]
    rules: tuple[str, ...]
    """Rules that concern several fields."""
    members: tuple[MemberLayout, ...]
    """For a container: its members by title."""

    @property
    def summary(self) -> str:
        """The first sentences of `doc`, on one line."""
        return " ".join(self.doc.split("\n\n")[0].split())


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Types of messages that belong together."""

    name: str
    doc: str
    messages: tuple[MessageDescription, ...]


# --- names ----------------------------------------------------------------------------------------


def message_types() -> list[type[Message]]:
    """Return every public message type, with those of other imported packages."""
    declared = list(REGISTRY.messages.values())
    found: dict[type[Message], None] = {}

    def add_below(above: type[Message]) -> None:
        """Add the subclasses of a class, each one followed by its own."""
        for cls in declared:
            if above in cls.__bases__:
                found[cls] = None
                add_below(cls)

    add_below(Message)
    return [cls for cls in found if _is_public(cls) and _has_shape(cls)]


def _is_public(cls: type[Message]) -> bool:
    return not any(part.startswith(("_", "<")) for part in cls.__qualname__.split("."))


def _has_shape(cls: type[Message]) -> bool:
    """Return True if all types in the declaration are known and allowed."""
    try:
        shape_of(cls)
    except (DeclarationError, NameError):
        return False
    return True


def name_of(cls: type[Any]) -> str:
    """Return the name of a type: `Start`, `agent.Init`; for another package, with its module."""
    if getattr(sys.modules[_PACKAGE], cls.__name__, None) is cls:
        return str(cls.__name__)
    return f"{cls.__module__.removeprefix(f'{_PACKAGE}.')}.{cls.__qualname__}"


def find(name: str, *, by_title: bool = True) -> type[Message]:
    """Return the type of a name from `name_of`, or of its last part if that is unique.

    With `by_title`, also accept a title of a task, a result or another message. Raises
    UnknownNameError.
    """
    names = {name_of(cls): cls for cls in message_types()}
    if by_title:
        for key in ("task", "result"):
            for title in titles(key):
                cls = class_of_title(key, title)
                if cls is not None and cls in names.values():
                    names.setdefault(title, cls)
    if name in names:
        return names[name]
    ends = [cls for cls in message_types() if cls.__name__ == name]
    if len(ends) == 1:
        return ends[0]
    lasts = {known.rpartition(".")[2]: known for known in reversed(names)}
    nearest = nearest_word(name, names) or lasts.get(nearest_word(name, lasts) or "")
    raise UnknownNameError(f"there is no message {name!r}", name, nearest)


# --- fields ---------------------------------------------------------------------------------------


def words(shape: Shape, *, several: bool = False) -> str:
    """Describe a shape in the words of the errors; with `several`, as the items of a list."""
    if isinstance(shape, List):
        return f"{'lists' if several else 'a list'} of {words(shape.item, several=True)}"
    if isinstance(shape, Map):
        return f"{'mappings' if several else 'a mapping'} of names to {words(shape.value)}"
    if isinstance(shape, Record | Converted):
        held = _held(shape)
        if held is not None:
            return f"{'mappings' if several else 'a mapping'}, {name_of(held)}"
        if isinstance(shape, Converted):
            return words(shape.wire, several=several)
    if several:
        if isinstance(shape, Int):
            return shape.expected.replace("an integer", "integers", 1)
        if isinstance(shape, Text):
            return shape.expected.replace("text", "texts", 1)
        if isinstance(shape, Float):
            return "numbers"
        if isinstance(shape, Instant):
            return shape.expected.replace("a time", "times", 1)
    return shape.expected


def _held(shape: Shape) -> type[Message] | None:
    """Return the message type in a place, alone or in a list or a mapping."""
    if isinstance(shape, List):
        return _held(shape.item)
    if isinstance(shape, Map):
        return _held(shape.value)
    if isinstance(shape, Record | Converted) and issubclass(shape.cls, Message):
        return shape.cls
    return None


def _notes(field: Field, keyword: str | None) -> Iterator[str]:
    wire = field.wire
    if keyword is not None:
        option = f"--{keyword.replace('_', '-')}"
        yield f"The client's keyword is '{keyword}', the commands' option {option}."
    if wire.hex_digits:
        yield f"Written as 0x and {wire.hex_digits} hexadecimal digits."
    if wire.old_scalar is not None:
        yield f"A bare text is understood as its '{wire.old_scalar}', with a warning."
    if wire.pairs:
        yield "A list of one-entry mappings is understood, too."
    if wire.null_is_empty:
        yield "Null is understood as an empty mapping, with a warning."
    if wire.decimals is not None:
        yield f"Rounded to {wire.decimals} decimals."
    if wire.empty_is_absent:
        yield "Empty means absent."


def _describe_field(
    field: Field, *, required: bool, extension: str | None = None, keyword: str | None = None
) -> FieldDescription:
    shape = field.shape
    held = _held(shape)
    return FieldDescription(
        key=field.key,
        attribute=field.attribute,
        type=words(shape),
        required=required,
        doc=field.wire.doc,
        unit=field.wire.unit,
        values=tuple(shape.values) if isinstance(shape, Choice) else (),
        message=None if held is None else name_of(held),
        aliases=tuple(field.wire.aliases),
        old=dict(field.wire.old),
        refuses_old=field.wire.refuses_old,
        notes=tuple(_notes(field, keyword)),
        extension=extension,
    )


def _fields(cls: type[Message]) -> list[Field]:
    """Return the fields in their order on the wire."""
    shape = shape_of(cls)
    if isinstance(shape, Converted):
        shape = shape.wire
    if isinstance(shape, Record):
        below = [field for part in shape.extensions or () for field in part.fields]
        return [*shape.fields, *below]
    if isinstance(shape, Envelope):
        return [field for field in fields_of(cls) if field.attribute != shape.members]
    return []


def _describe_fields(cls: type[Message]) -> tuple[FieldDescription, ...]:
    shape = shape_of(cls)
    title = shape.title if isinstance(shape, Envelope) else None  # always present on the wire
    own = {
        field: name_of(part.cls)
        for part in (shape.extensions if isinstance(shape, Record) else None) or ()
        for field in part.fields
    }
    keywords = getattr(cls, "__keywords__", {})
    return tuple(
        _describe_field(
            field,
            required=field.required or field.key == title,
            extension=own.get(field),
            keyword=keywords.get(field.attribute),
        )
        for field in _fields(cls)
    )


# --- messages -------------------------------------------------------------------------------------


def _member_layout(container: type[Message], title: str) -> MemberLayout:
    envelope = shape_of(container)
    assert isinstance(envelope, Envelope)
    variant = envelope.variant(title)
    assert variant is not None
    return MemberLayout(
        title=variant.title,
        type=name_of(variant.member),
        layouts=variant.layouts,
        list_key=variant.list_key,
    )


def describe(cls: type[Message]) -> MessageDescription:
    """Describe a message type from its declaration."""
    shape = shape_of(cls)
    declared = cls.__dict__.get("declaration") if issubclass(cls, Task) else None
    members: tuple[MemberLayout, ...] = ()
    if isinstance(shape, Envelope):
        members = tuple(_member_layout(cls, title) for title in shape.titles())
    keys = {field.attribute: field.key for field in _fields(cls)}
    return MessageDescription(
        name=name_of(cls),
        title_is_written=getattr(cls, "__title_is_written__", True),
        doc=cleandoc(cls.__dict__.get("__doc__") or ""),
        titles=tuple(title for title in titles("task") if class_of_title("task", title) is cls),
        container=declared and _member_layout(TaskContainer, declared.task),
        result=declared and _member_layout(ResultContainer, declared.result),
        form=shape.expected,
        fields=_describe_fields(cls),
        rules=tuple(rule.describe(keys) for rule in cls.rules),
        members=members,
    )


def find_field(cls: type[Message], path: str) -> FieldDescription:
    """Return the field at a path of keys such as `parameter.swap-with`, also a path from an error.

    Aliases of keys and the names in Python are also accepted. The path of a task may begin with the
    key of its list in the container. Raises UnknownNameError.
    """
    keys = re.sub(r"\[[0-9]*\]", "", path).split(".")
    if len(keys) > 1 and keys[0].replace("_", "-") in _list_keys(cls):
        del keys[0]  # the path is that of a problem of the container
    field = _field(cls, keys[0])
    for above, key in pairwise(keys):
        held = _held(field.shape)
        if held is None:
            raise UnknownNameError(f"{above!r} has no fields of its own", key)
        cls = held
        field = _field(cls, key)
    return next(found for found in _describe_fields(cls) if found.key == field.key)


def _list_keys(cls: type[Message]) -> set[str]:
    """Return the keys of the lists in which a container has this task or these results."""
    declared = cls.__dict__.get("declaration") if issubclass(cls, Task) else None
    return set() if declared is None else {declared.key} - {f.key for f in _fields(cls)}


def _field(cls: type[Message], name: str) -> Field:
    known: dict[str, Field] = {}
    for field in _fields(cls):
        for key in (*field.keys, field.attribute):
            known.setdefault(key, field)
        if name in field.wire.old:
            raise UnknownNameError(field.wire.old[name], name)
    if name not in known:
        nearest = nearest_word(name, [*(f.key for f in known.values()), *_list_keys(cls)])
        if nearest is None:  # but it may be a field of a part
            below = {path.rpartition(".")[2]: path for path in _paths_below(cls)}
            nearest = below.get(nearest_word(name, below) or "")
        raise UnknownNameError(f"{name_of(cls)} has no field {name!r}", name, nearest)
    return known[name]


def _paths_below(cls: type[Message], above: str = "") -> Iterator[str]:
    """Yield the paths of the fields of a message's parts, the outer ones last."""
    for field in _fields(cls):
        held = _held(field.shape)
        if held is not None:
            path = f"{above}{field.key}."
            yield from _paths_below(held, path)
            yield from (f"{path}{below.key}" for below in _fields(held))


def groups() -> list[Group]:
    """Return every public message type: tasks, containers, then module by module, and parts."""
    tasks: list[type[Message]] = []
    containers: list[type[Message]] = []
    parts: list[type[Message]] = []
    modules: dict[str, list[type[Message]]] = {}
    for cls in message_types():
        if issubclass(cls, Task) and "declaration" in cls.__dict__:
            tasks.append(cls)
        elif isinstance(shape_of(cls), Envelope):
            containers.append(cls)
        elif name_of(cls) == cls.__name__:
            parts.append(cls)
        else:
            modules.setdefault(cls.__module__, []).append(cls)
    found = [
        ("tasks", "Tasks that a scheduler sends to a migration daemon", tasks),
        ("containers", "Containers of tasks and of their results", containers),
    ]
    for module, classes in modules.items():
        name = module.removeprefix(f"{_PACKAGE}.")
        text = getattr(sys.modules.get(module), "__doc__", None) or module
        doc = cleandoc(text).split("\n")[0].rstrip(".")
        found.append((name, doc, classes))
    found.append(("parts", "Parts of messages", parts))
    return [
        Group(name=name, doc=doc, messages=tuple(map(describe, classes)))
        for name, doc, classes in found
        if classes
    ]
