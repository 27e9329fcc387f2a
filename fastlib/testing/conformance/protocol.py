"""The lines that go between the two sides: one of JSON for a request, one for its answer.

What is written is ASCII, so that no reader can take a character within for the end of the line.
"""

import json
from typing import Any

import msgspec

from fastlib.codec.writer import write_tree
from fastlib.message import Message
from fastlib.message.describe import find, name_of
from fastlib.message.extension import Extension
from fastlib.testing.registered import registered


class LineError(ValueError):
    """A line that is no request, or no answer; the text says why."""


class PeerRequest(msgspec.Struct, frozen=True):
    """Read this text as a message of this type."""

    type: str
    """The name of the type, as `fastlib describe` lists it: `TaskContainer`, `agent.Init`."""
    yaml: str


class PeerAnswer(msgspec.Struct, frozen=True):
    """What was understood, or why nothing was."""

    ok: bool
    emit: str = ""
    """What would be sent for the message that was understood."""
    error: str = ""
    unsupported: str = ""
    """The type or the option that the program does not have, in its own words."""


def types() -> list[type[Message]]:
    """Every type that can be asked for by its name, those with the fewest fields first."""
    found = (cls for cls in registered() if cls is not Extension)
    return [cls for cls in found if "<" not in cls.__qualname__]


def type_name(cls: type[Message]) -> str:
    """The name by which a request asks for a type."""
    return name_of(cls)


def type_of(name: str) -> type[Message]:
    """The type of a name. Raises UnknownNameError."""
    return find(name, by_title=False)


def write_request(request: PeerRequest) -> bytes:
    """The line of a request."""
    return _line({"type": request.type, "yaml": request.yaml})


def read_request(line: bytes) -> PeerRequest:
    """The request of a line. Raises LineError."""
    tree = _object(line)
    for key in ("type", "yaml"):
        if not isinstance(tree.get(key), str):
            raise LineError(f"{key!r} is missing or not a text")
    return PeerRequest(type=tree["type"], yaml=tree["yaml"])


def write_answer(answer: PeerAnswer) -> bytes:
    """The line of an answer."""
    if answer.unsupported:
        return _line({"unsupported": answer.unsupported})
    if answer.ok:
        return _line({"ok": True, "emit": answer.emit})
    return _line({"ok": False, "error": answer.error})


def read_answer(line: bytes) -> PeerAnswer:
    """The answer of a line. Raises LineError.

    A message that is given as JSON, as who has no writer of YAML does, is written as YAML.
    """
    tree = _object(line)
    if "unsupported" in tree:
        name = tree["unsupported"]
        if not isinstance(name, str) or not name.strip():
            raise LineError("'unsupported' is not the name of a type or of an option")
        return PeerAnswer(ok=False, unsupported=name.strip())
    if tree.get("ok") is True:
        if "emit" not in tree:
            raise LineError("'emit' is missing")
        emit = tree["emit"]
        return PeerAnswer(ok=True, emit=emit if isinstance(emit, str) else write_tree(emit))
    if tree.get("ok") is False:
        error = tree.get("error")
        if not isinstance(error, str):
            raise LineError("'error' is missing or not a text")
        return PeerAnswer(ok=False, error=error)
    raise LineError("'ok' is neither true nor false, and there is no 'unsupported'")


def _object(line: bytes) -> dict[str, Any]:
    try:
        tree = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise LineError(f"not JSON: {error}") from None
    if not isinstance(tree, dict):
        raise LineError("not a JSON object")
    return tree


def _line(tree: dict[str, Any]) -> bytes:
    return json.dumps(tree).encode("ascii") + b"\n"
