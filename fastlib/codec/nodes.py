"""The exact road's trees: scalars, lists and mappings that know their line and column."""

from typing import Any

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
    """Nodes without a place, of dicts, lists and leaves. Raises LimitError, also for a cycle."""
    count = 0

    def node(value: Any, depth: int) -> Node:
        nonlocal count
        count += 1
        if depth > limits.max_depth:
            raise LimitError(
                what,
                [
                    Problem(
                        code="limit-depth",
                        message=f"nested deeper than {limits.max_depth} levels",
                    )
                ],
            )
        if count > limits.max_nodes:
            raise LimitError(
                what,
                [Problem(code="limit-nodes", message=f"more than {limits.max_nodes} nodes")],
            )
        if isinstance(value, dict):
            mapping = Mapping(None, None)
            mapping.pairs = [
                (Scalar(key, False, None, None), node(item, depth + 1))
                for key, item in value.items()
            ]
            return mapping
        if isinstance(value, list | tuple):
            sequence = Sequence(None, None)
            sequence.items = [node(item, depth + 1) for item in value]
            return sequence
        return Scalar(value, False, None, None)

    return node(tree, 0)
