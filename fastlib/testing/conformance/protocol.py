"""The lines between the two sides: one line of JSON for a request, one for its answer.

The output is ASCII, so no reader can mistake a character for the end of the line.
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
    """A line is not a request or not an answer; the text has the reason."""


class PeerRequest(msgspec.Struct, frozen=True):
    """A request to read a text as a message of a type."""

    type: str
    """The name of the type, as `fastlib describe` lists it: `TaskContainer`, `agent.Init`."""
    yaml: str


class PeerAnswer(msgspec.Struct, frozen=True):
    """The understood message, or the reason why it was refused."""

    ok: bool
    emit: str = ""
    """The text that the program would send for the understood message."""
    error: str = ""
    unsupported: str = ""
    """The type or the option that the program does not support, in its own words."""


def types() -> list[type[Message]]:
    """Return every type that can be requested by its name, those with the fewest fields first."""
    found = (cls for cls in registered() if cls is not Extension)
    return [cls for cls in found if "<" not in cls.__qualname__]


def type_name(cls: type[Message]) -> str:
    """Return the name of a type in a request."""
    return name_of(cls)


def type_of(name: str) -> type[Message]:
    """Return the type of a name. Raises UnknownNameError."""
    return find(name, by_title=False)


def write_request(request: PeerRequest) -> bytes:
    """Return the line of a request."""
    return _line({"type": request.type, "yaml": request.yaml})


def read_request(line: bytes) -> PeerRequest:
    """Parse the request in a line. Raises LineError."""
    tree = _object(line)
    for key in ("type", "yaml"):
        if not isinstance(tree.get(key), str):
            raise LineError(f"{key!r} is missing or not a text")
    return PeerRequest(type=tree["type"], yaml=tree["yaml"])


def write_answer(answer: PeerAnswer) -> bytes:
    """Return the line of an answer."""
    if answer.unsupported:
        return _line({"unsupported": answer.unsupported})
    if answer.ok:
        return _line({"ok": True, "emit": answer.emit})
    return _line({"ok": False, "error": answer.error})


def read_answer(line: bytes) -> PeerAnswer:
    """Parse the answer in a line. Raises LineError.

    A message that is given as JSON, for programs without a YAML writer, is converted to YAML.
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
        return PeerAnswer(ok=True, emit=_as_yaml(tree["emit"]))
    if tree.get("ok") is False:
        error = tree.get("error")
        if not isinstance(error, str):
            raise LineError("'error' is missing or not a text")
        return PeerAnswer(ok=False, error=error)
    raise LineError("'ok' must be true or false, or 'unsupported' must be given")


def _as_yaml(emit: Any) -> str:
    try:
        return emit if isinstance(emit, str) else write_tree(emit)
    except RecursionError:
        raise LineError("'emit' is nested too deeply") from None


def _object(line: bytes) -> dict[str, Any]:
    try:
        tree = json.loads(line.decode("utf-8-sig"))  # `json` would also guess UTF-16
    except (ValueError, RecursionError) as error:
        raise LineError(f"not JSON: {error}") from None
    if not isinstance(tree, dict):
        raise LineError("not a JSON object")
    return tree


def _line(tree: dict[str, Any]) -> bytes:
    return json.dumps(tree).encode("ascii") + b"\n"
