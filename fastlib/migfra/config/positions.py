"""Find the nodes of a configuration's text, for line and column."""

from fastlib.codec.composer import compose
from fastlib.codec.errors import MessageError
from fastlib.codec.limits import DEFAULT_LIMITS
from fastlib.codec.nodes import Mapping, Node, Scalar
from fastlib.codec.text import decode


def root_of(text: str | bytes) -> Node | None:
    """Return the root of a text, None if it cannot be read."""
    try:
        return compose(decode(text, DEFAULT_LIMITS, "configuration"), DEFAULT_LIMITS, "")
    except MessageError:
        return None


def child(node: Node | None, key: str) -> Node | None:
    """Return the value of a key in a mapping, None if it has none."""
    if not isinstance(node, Mapping):
        return None
    return next((v for k, v in node.pairs if isinstance(k, Scalar) and k.value == key), None)


def position_of(text: str | bytes, keys: tuple[str, ...]) -> tuple[int | None, int | None]:
    """Return line and column of the value of a key, or of the nearest section that is given."""
    node = root_of(text)
    found: Node | None = None
    for key in keys:
        node = child(node, key)
        if node is None:
            break
        found = node
    return (None, None) if found is None else (found.line, found.column)
