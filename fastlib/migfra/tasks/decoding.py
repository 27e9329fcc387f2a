"""Decode a payload to a task container, or to the answer for an unreadable one."""

import hashlib
import re
from copy import copy
from typing import Any, Final, TypeGuard

import msgspec

from fastlib.codec import dispatch
from fastlib.codec.errors import LimitError, MessageError, Problem
from fastlib.codec.limits import Limits
from fastlib.codec.load_context import LoadContext
from fastlib.codec.nodes import Mapping, Node, Scalar
from fastlib.codec.shapes import Shape
from fastlib.message import ResultContainer, TaskContainer, load
from fastlib.message.result_container import UNREADABLE

from .container_bounds import problem_with, read_limits, short_id
from .results import failure

MOST_PROBLEMS: Final = 20
"""Maximum number of problems of a message that its answer reports."""
LOOKED_AT: Final = 1 << 20
"""Bytes of a text that are searched for its id if it is not YAML, or too large."""

_ID: Final = re.compile(
    rb"^id:[ \t]+(?:'([^'\r\n]{1,1000})'|\"([^\"\\\r\n]{1,1000})\"|"
    rb"([^\s'\"#&*!|>{}\[\],%@`][^\r\n#]{0,999}))",
    re.MULTILINE,
)


class Unreadable(msgspec.Struct, frozen=True):
    """A payload that is not a task container."""

    id: str | None
    """The id, if it could be read."""
    reason: str
    """Every problem with line and column."""

    def answer(self) -> ResultContainer:
        """All problems as one text, for the answer to the sender."""
        return ResultContainer(
            result=UNREADABLE, results=(failure("unknown", self.reason),), id=self.id
        )


def read(
    payload: bytes,
    largest: int,
    *,
    most_members: int | None = None,
    size: int | None = None,
    ignored: list[Problem] | None = None,
) -> TaskContainer | Unreadable:
    """Return the task container of a payload of at most `largest` bytes.

    With `most_members`, the container must keep the bounds of `container_bounds.py`. Without, the
    journal has it already, and no bound applies. `size` is that of the whole message if the payload
    is only its beginning. `ignored` gets the parts of a container without an effect.
    """
    size = len(payload) if size is None else size
    if size > largest:
        reason = (
            f"a message must have at most {largest} bytes; got {size}; send smaller containers, "
            "or raise 'limits: {payload: ...}' in the daemon's configuration"
        )
        return Unreadable(short_id(_id_of_text(payload)), reason)
    limits = read_limits(largest, bounded=most_members is not None)
    try:
        message = load(payload, limits=limits, ignored=ignored)
    except MessageError as error:
        return _explained(payload, error, limits)
    if not isinstance(message, TaskContainer):
        kind = type(message).__name__
        id = message.id if isinstance(message, ResultContainer) else None
        return Unreadable(short_id(id), f"expected a container of tasks; this is a {kind}")
    problem = None if most_members is None else problem_with(message, most_members)
    return message if problem is None else Unreadable(short_id(message.id), problem)


def digest(container: TaskContainer) -> bytes:
    """Return a digest that two containers share only if they order the same, in any spelling.

    An order that is repeated with more time (`expires`) is still the same one.
    """
    if container.expires is not None:
        container = copy(container)  # `replace` would check it again
        msgspec.structs.force_setattr(container, "expires", None)
    return hashlib.sha256(container.to_yaml().encode("utf-8", "surrogatepass")).digest()


def digest_of(payload: bytes) -> bytes:
    """Return the `digest` of the container of a payload that was accepted."""
    found = read(payload, max(len(payload), 1))
    if isinstance(found, Unreadable):  # an older fastlib or a missing plugin has read it
        return hashlib.sha256(payload).digest()
    return digest(found)


def _explained(payload: bytes, error: MessageError, limits: Limits) -> Unreadable:
    """Return the problems of a text, and its id from a second search.

    A text that exceeds a limit is not parsed again, because that would take long.
    """
    if isinstance(error, LimitError):
        return Unreadable(short_id(_id_of_text(payload)), _reason(error.problems))
    found: list[str] = []

    def look(node: Node, context: LoadContext) -> Shape | None:
        found.extend(_id_of_root(node))
        return None

    dispatch.inspect(look, payload, what=error.what, limits=limits)
    id = found[0] if found else _id_of_text(payload)
    return Unreadable(short_id(id), _reason(error.problems))


def _id_of_root(node: Any) -> list[str]:
    if not isinstance(node, Mapping):
        return []
    return [
        value.value
        for key, value in node.pairs
        if isinstance(key, Scalar) and key.value == "id"
        if isinstance(value, Scalar) and _is_sound(value.value)
    ]


def _is_sound(text: str | None) -> TypeGuard[str]:
    """Return whether a result can echo a text."""
    return isinstance(text, str) and text != "" and not re.search("[\ud800-\udfff]", text)


def _id_of_text(payload: bytes) -> str | None:
    """Return the id that a text seems to have at the beginning of a line."""
    match = _ID.search(payload[:LOOKED_AT])
    if match is None:
        return None
    text = next(group for group in match.groups() if group is not None)
    try:
        return text.decode().strip() or None
    except UnicodeDecodeError:
        return None


def _reason(problems: tuple[Problem, ...]) -> str:
    errors = [str(problem) for problem in problems if problem.severity == "error"]
    more = len(errors) - MOST_PROBLEMS
    shown = errors[:MOST_PROBLEMS] + ([f"and {more} more"] if more > 0 else [])
    return "; ".join(shown)
