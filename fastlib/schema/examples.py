"""A well-made message of each kind, with comments: the files in `schemas/examples/`."""

from functools import cache
from importlib.resources import files
from typing import Any

from fastlib.message.describe import UnknownNameError

from .message_kind import MessageKind

SUFFIX = ".yaml"


@cache
def examples() -> dict[str, str]:
    """Return the texts of all examples by the names of their kinds."""
    folder = files(__package__) / "examples"
    paths = sorted(folder.iterdir(), key=lambda path: path.name)
    return {
        path.name.removesuffix(SUFFIX): path.read_text("utf-8")
        for path in paths
        if path.name.endswith(SUFFIX)
    }


def example_text(kind: MessageKind) -> str:
    """Return the example of a kind. Raises UnknownNameError if it has none."""
    text = examples().get(kind.name)
    if text is None:
        raise UnknownNameError(f"there is no example of {kind.name}", kind.name)
    return text


def example_tree(kind: MessageKind) -> Any | None:
    """Return the example of a kind as a plain tree; None if it has none (other packages)."""
    text = examples().get(kind.name)
    return None if text is None else kind.cls.from_yaml(text).emit()
