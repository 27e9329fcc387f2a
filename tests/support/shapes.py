"""Load, check and refuse values by a shape, for the tests of shapes."""

import enum
from collections.abc import Sequence as SequenceABC
from typing import Any

import pytest

from fastlib.codec.limits import Limits
from fastlib.codec.load_context import INVALID, LoadContext
from fastlib.codec.nodes import Mapping, Node, Scalar, Sequence
from fastlib.codec.shapes import InvalidValue, Shape


def context(max_nodes: int = 1_000_000) -> LoadContext:
    return LoadContext("Case", Limits(max_nodes=max_nodes))


def node(tree: Any, *, plain: bool = False) -> Node:
    """Return the nodes of a tree; every one is at line 7, column 8."""
    if isinstance(tree, dict):
        mapping = Mapping(7, 8)
        mapping.pairs = [(node(key), node(item, plain=plain)) for key, item in tree.items()]
        return mapping
    if isinstance(tree, Node):
        return tree
    if isinstance(tree, list):
        sequence = Sequence(7, 8)
        sequence.items = [node(item, plain=plain) for item in tree]
        return sequence
    return Scalar(tree, plain, 7, 8)


def pairs(*given: tuple[Any, Any]) -> Mapping:
    """Return a mapping, whose keys may repeat."""
    mapping = Mapping(7, 8)
    mapping.pairs = [(node(key), node(item)) for key, item in given]
    return mapping


def loaded(shape: Shape, tree: Any, *, plain: bool = False) -> Any:
    found = context()
    value = shape.load(node(tree, plain=plain), found, ("x",))
    assert found.problems == []
    return value


def problems(shape: Shape, tree: Any) -> list[tuple[str, str, str, str | None]]:
    found = context()
    assert shape.load(node(tree), found, ("x",)) is INVALID
    assert all((each.line, each.column) == (7, 8) for each in found.problems)
    return [(each.code, each.path, each.message, each.suggestion) for each in found.problems]


def refusal(shape: Shape, value: Any) -> tuple[tuple[Any, ...], str, str, str, str | None]:
    with pytest.raises(InvalidValue) as caught:
        shape.check(value)
    error = caught.value
    assert error.args == (error.path, error.expected, error.got)
    return error.path, error.expected, error.got, error.message, error.suggestion


def simple(
    expected: str, got: str, *path: Any, near: str | None = None
) -> tuple[tuple[Any, ...], str, str, str, str | None]:
    """Return the refusal whose message has both facts."""
    return path, expected, got, f"expected {expected}; got {got}", near


class Number(enum.IntEnum):
    THREE = 3


class Row(SequenceABC[int]):
    """A sequence that is neither list nor tuple."""

    def __getitem__(self, index: Any) -> Any:
        return (1, 2)[index]

    def __len__(self) -> int:
        return 2
