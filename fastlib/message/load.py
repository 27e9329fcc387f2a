"""Load messages of unknown type: the title in the text identifies the type."""

import re
from typing import Any, cast

from fastlib.codec import dispatch
from fastlib.codec.derivation import shape_of
from fastlib.codec.errors import Path, Problem, Report
from fastlib.codec.further_documents import further_document
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
from fastlib.codec.missing_space import hint_of_key
from fastlib.codec.nodes import Mapping, Node, Scalar
from fastlib.codec.records import Record
from fastlib.codec.shapes import InvalidValue, Shape
from fastlib.codec.text import decode

from .base import Message
from .registry import class_of_title, titles
from .result_container import ResultContainer
from .task import Task, TaskContainer


class _AnyMessage(Shape):
    """A mapping whose `task` or `result` identifies its type."""

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
    """Return the type of a document that begins with `task: <title>`."""
    found = class_of_title("task", title)
    if found is None:
        return None
    return TaskContainer if issubclass(found, Task) else found


def choose(node: Node, context: LoadContext) -> Shape | None:
    """Return the shape of a document's root by its title; None after a problem in `context`."""
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
        "the message type is unknown: there is neither 'task' nor 'result'"
        + (f", but {near!r}{hint_of_key(near, ('task', 'result'))}" if near else "")
        + (_CONFIGURATION_HINT if not near and "hypervisor" in names else ""),
    )
    return None


def _has_field(cls: type[Message], key: str) -> bool:
    """Return True if a message has a field with this key, such as `result` in mmbwmon's reply."""
    shape = shape_of(cls)
    return isinstance(shape, Record) and key in shape.by_key


def load(
    text: str | bytes,
    *,
    unknown: Unknown = "ignore",
    limits: Limits | None = None,
    ignored: list[Problem] | None = None,
) -> Message:
    """Return the message of a text. `task:` or `result:` identifies its type.

    `ignored` is a list to which each part without an effect is added as a problem, such as for a
    log: the unknown keys, and the second document.

    Raises ParseError, ValidationError and LimitError, like `Message.from_yaml`.
    """
    dispatch.check_unknown(unknown)
    limits = limits or DEFAULT_LIMITS
    decoded = decode(text, limits, "message")
    found = _titled(decoded)
    if found is not None:
        value = dispatch.read_fast(shape_of(found), decoded, limits)
        if value is not UNSUPPORTED:
            if ignored is not None:
                _add_further_document(decoded, ignored)
            return cast(Message, value)
    value = dispatch.read_exact(
        _ANY, decoded, what="message", unknown=unknown, limits=limits, ignored=ignored
    )
    if ignored is not None:
        _add_further_document(decoded, ignored)
    return cast(Message, value)


def _add_further_document(text: str, problems: list[Problem]) -> None:
    found = further_document(text)
    if found is not None:
        problems.append(found)


_CONFIGURATION_HINT = (
    "; 'hypervisor' is a key of the daemon's configuration, which 'migfra --check -c FILE' checks"
)

_TITLE = lazy_pattern(r"^(task|result): *['\"]?([^'\"\n]*)", re.MULTILINE)


_END = lazy_pattern(r"\n(?:---|\.\.\.)")
"""Return where the first document ends, or a text that looks like its end."""


def _titled(text: str) -> type[Message] | None:
    """Guess the type from a text's title; the reader of that type verifies it."""
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
    """Return all problems of a text, errors and warnings. Bad input raises no error.

    `type` is the message's type if no title identifies it. Only the first document counts, as on
    the wire; `validate_all` checks each one.
    """
    return validate_all(text, type, limits=limits)[0]


def validate_all(
    text: str | bytes,
    type: type[Message] | None = None,
    *,
    limits: Limits | None = None,
) -> list[Report]:
    """Return a report for each document of a text, without empty documents after the first."""
    pick = choose if type is None else lambda node, context: shape_of(type)
    what = "message" if type is None else type.__name__
    return dispatch.inspect(pick, text, what=what, limits=limits)
