"""Messages of which only the text is known: the type is found by its title."""

import re
from typing import Any, cast

from fastlib.codec import dispatch
from fastlib.codec.derivation import shape_of
from fastlib.codec.errors import Path, Report
from fastlib.codec.lazy_pattern import lazy_pattern
from fastlib.codec.limits import DEFAULT_LIMITS, Limits
from fastlib.codec.load_context import (
    INVALID,
    MAX_SUGGESTIONS,
    UNSUPPORTED,
    LoadContext,
    Unknown,
    is_null,
    nearest_word,
    shorten,
)
from fastlib.codec.nodes import Mapping, Node, Scalar
from fastlib.codec.records import Record
from fastlib.codec.shapes import InvalidValue, Shape
from fastlib.codec.text import decode

from .base import Message
from .registry import class_of_title, titles
from .result_container import ResultContainer
from .task import Task, TaskContainer


class _AnyMessage(Shape):
    """A mapping whose `task` or `result` says what it is."""

    expected = "a mapping with the key 'task' or 'result'"

    def load(self, node: Node, context: LoadContext, path: Path) -> Any:
        shape = choose(node, context)
        return INVALID if shape is None else dispatch.load_root(shape, node, context)

    def dump(self, value: Any) -> Any:
        return shape_of(type(value)).dump(value)

    def check(self, value: Any) -> Any:
        if not isinstance(value, Message):
            raise InvalidValue((), "a message", shorten(value))
        return value


_ANY = _AnyMessage()


def type_of_title(title: str) -> type[Message] | None:
    """The type of a document that begins with `task: <title>`."""
    found = class_of_title("task", title)
    if found is None:
        return None
    return TaskContainer if issubclass(found, Task) else found


def choose(node: Node, context: LoadContext) -> Shape | None:
    """The shape of a document's root, by its title; None after reporting a problem to `context`."""
    if is_null(node):
        context.add_problem(node, (), "empty", f"there is no message; expected {_ANY.expected}")
        return None
    if not isinstance(node, Mapping):
        context.add_mismatch(node, (), _ANY.expected)
        return None
    keys = {key.value: item for key, item in reversed(node.pairs) if isinstance(key, Scalar)}
    task = keys.get("task")
    title = task.value if isinstance(task, Scalar) else None
    found = type_of_title(title) if isinstance(title, str) else None
    if "result" in keys and (found is None or not _has_field(found, "result")):
        return shape_of(ResultContainer)
    if found is not None:
        return shape_of(found)
    if task is not None:
        known = titles("task")
        expected = f"one of {', '.join(known)}"
        nearest = nearest_word(title, known) if isinstance(title, str) else None
        context.add_mismatch(task, ("task",), expected, nearest)
        return None
    some = node.pairs[:MAX_SUGGESTIONS]
    names = [str(key.value) for key, _ in some if isinstance(key, Scalar)]
    near = nearest_word("task", names) or nearest_word("result", names)
    context.add_problem(
        node,
        (),
        "no-title",
        "cannot tell which message this is: there is neither 'task' nor 'result'"
        + (f", but {near!r}" if near else ""),
    )
    return None


def _has_field(cls: type[Message], key: str) -> bool:
    """Return whether a message has a field of this key, as mmbwmon's reply has its `result`."""
    shape = shape_of(cls)
    return isinstance(shape, Record) and key in shape.by_key


def load(
    text: str | bytes, *, unknown: Unknown = "ignore", limits: Limits | None = None
) -> Message:
    """The message of a text, its type found by `task:` or `result:`.

    Raises ParseError, ValidationError and LimitError, as `Message.from_yaml` does.
    """
    dispatch.check_unknown(unknown)
    limits = limits or DEFAULT_LIMITS
    decoded = decode(text, limits, "message")
    found = _titled(decoded)
    if found is not None:
        value = dispatch.read_fast(shape_of(found), decoded, limits)
        if value is not UNSUPPORTED:
            return cast(Message, value)
    value = dispatch.read_exact(_ANY, decoded, what="message", unknown=unknown, limits=limits)
    return cast(Message, value)


_TITLE = lazy_pattern(r"^(task|result): *['\"]?([^'\"\n]*)", re.MULTILINE)


_END = lazy_pattern(r"\n(?:---|\.\.\.)")
"""Where the first document ends, or something that begins like it."""


def _titled(text: str) -> type[Message] | None:
    """The type that a text's title seems to name; the reader of that type makes sure."""
    match = _TITLE.search(text)
    if match is None or _END.search(text, 1, match.start()) is not None:
        return None
    return ResultContainer if match[1] == "result" else type_of_title(match[2])


def validate(
    text: str | bytes,
    type: type[Message] | None = None,
    *,
    limits: Limits | None = None,
) -> Report:
    """All problems of a text, errors and warnings; never raises for bad input.

    `type` is the message's type where no title tells it. Only the first document counts, as on
    the wire; `validate_all` looks at each.
    """
    return validate_all(text, type, limits=limits)[0]


def validate_all(
    text: str | bytes,
    type: type[Message] | None = None,
    *,
    limits: Limits | None = None,
) -> list[Report]:
    """A report for each document of a text, empty ones after the first left out."""
    pick = choose if type is None else lambda node, context: shape_of(type)
    what = "message" if type is None else type.__name__
    return dispatch.inspect(pick, text, what=what, limits=limits)
