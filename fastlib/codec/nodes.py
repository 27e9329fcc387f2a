"""The exact road's trees: scalars, lists and mappings that know their line and column."""

from typing import Any, NoReturn

from .errors import LimitError, Problem
from .limits import Limits


class Node:
    """A scalar, a list or a mapping, and where it stands: line and column from 1, or None."""

    __slots__ = ("column", "line")

    def __init__(self, line: int | None, column: int | None) -> None:
        self.line = line
        self.column = column


class Scalar(Node):
    """Text, and whether it was written plain; from a plain tree, any leaf."""

    __slots__ = ("plain", "value")

    def __init__(self, value: Any, plain: bool, line: int | None, column: int | None) -> None:
        super().__init__(line, column)
        self.value = value
        self.plain = plain


class Sequence(Node):
    """A list of nodes."""

    __slots__ = ("items",)

    def __init__(self, line: int | None, column: int | None) -> None:
        super().__init__(line, column)
        self.items: list[Node] = []


class Mapping(Node):
    """Pairs of nodes, in the text's order, duplicates included."""

    __slots__ = ("pairs",)

    def __init__(self, line: int | None, column: int | None) -> None:
        super().__init__(line, column)
        self.pairs: list[tuple[Node, Node]] = []


def from_tree(tree: Any, limits: Limits, what: str) -> Node:
    """Nodes without a place, of dicts, lists and leaves. Raises LimitError, also for a cycle.

    Without recursion, as the limits are the caller's to set.
    """
    root, children = _node(tree)
    count = 1
    depth = 0
    level = [(root, children)]
    while level:
        depth += 1
        if depth > limits.max_depth and any(children for _, children in level):
            _refuse(what, "limit-depth", f"nested deeper than {limits.max_depth} levels")
        below = []
        for node, children in level:
            count += len(children)
            if count > limits.max_nodes:
                _refuse(what, "limit-nodes", f"more than {limits.max_nodes} nodes")
            for key, value in children:
                child, more = _node(value)
                if isinstance(node, Mapping):
                    node.pairs.append((Scalar(key, False, None, None), child))
                elif isinstance(node, Sequence):
                    node.items.append(child)
                if more:
                    below.append((child, more))
        level = below
    return root


def _node(value: Any) -> tuple[Node, list[tuple[Any, Any]]]:
    """A value's node without what is in it, and that: keys, or indices, and values."""
    if isinstance(value, dict):
        return Mapping(None, None), list(value.items())
    if isinstance(value, list | tuple):
        return Sequence(None, None), list(enumerate(value))
    return Scalar(value, False, None, None), []


def _refuse(what: str, code: str, message: str) -> NoReturn:
    raise LimitError(what, [Problem(code=code, message=message)])
