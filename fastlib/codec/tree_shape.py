"""The shape of any tree of texts, lists and mappings, within bounds of its depth and size."""

from collections.abc import Mapping as MappingABC
from functools import partial
from typing import Any, ClassVar

from .errors import Path
from .load_context import INVALID, TEXT_PER_NODE, LoadContext, is_null, shorten
from .nodes import Mapping, Node, Scalar, Sequence
from .scalars import write_float
from .shapes import ANY_TEXT, InvalidValue, Shape, is_sequence, load_pairs


class Tree(Shape):
    """Any tree of texts, lists and mappings. Numbers become texts."""

    expected = "text, a list or a mapping"
    max_depth: ClassVar = 32
    max_nodes: ClassVar = 1_000_000

    def load(self, node: Node, context: LoadContext, path: Path) -> Any:
        return self._load(node, context, path, 0)

    def _load(self, node: Node, context: LoadContext, path: Path, depth: int) -> Any:
        if depth > self.max_depth:
            return context.add_problem(node, path, "depth", f"nested deeper than {self.max_depth}")
        if isinstance(node, Sequence):
            items = []
            for index, item in enumerate(node.items):
                context.count_node(item)
                items.append(self._load(item, context, (*path, index), depth + 1))
            return INVALID if INVALID in items else items
        if isinstance(node, Mapping):
            return load_pairs(node.pairs, context, path, partial(self._load, depth=depth + 1))
        assert isinstance(node, Scalar)
        if is_null(node):
            return None
        try:
            return self.check(node.value)
        except InvalidValue as error:
            return context.add_mismatch(node, path, error.expected)

    def dump(self, value: Any) -> Any:
        return self.check(value)  # a copy, because a message is immutable

    def check(self, value: Any) -> Any:
        return self._check(value, 0, _Budget(self.max_nodes))

    def _check(self, value: Any, depth: int, budget: "_Budget") -> Any:
        """Return a copy of a tree. `depth` is the number of lists and mappings around it."""
        if depth > self.max_depth:
            raise InvalidValue((), f"at most {self.max_depth} levels", "more, or a cycle")
        if value is None:
            return None
        if isinstance(value, str):
            budget.spend(len(value) // TEXT_PER_NODE)
            return ANY_TEXT.check(value)
        if isinstance(value, bool | int | float):
            return self._number_text(value)
        kind = type(value)  # first, because checks against abstract classes are slow
        if kind is dict or (kind is not list and isinstance(value, MappingABC)):
            budget.spend(len(value))
            return {
                ANY_TEXT.check(key): self._check(item, depth + 1, budget)
                for key, item in value.items()
            }
        if not is_sequence(value):
            raise InvalidValue((), self.expected, shorten(value))
        budget.spend(len(value))
        return [self._check(item, depth + 1, budget) for item in value]

    @staticmethod
    def _number_text(value: float | bool) -> str:
        """Return the text of a number or truth value."""
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, float):
            return write_float(value)
        if value.bit_length() > 1000:
            raise InvalidValue((), "a number of at most 1000 bits", shorten(value))
        return str(int(value))


class _Budget:
    """Counts the values of a tree; a long text counts as several."""

    def __init__(self, max_nodes: int) -> None:
        self._max_nodes = max_nodes
        self._left = max_nodes

    def spend(self, values: int) -> None:
        """Count more values. Raises InvalidValue if there are too many."""
        self._left -= values
        if self._left < 0:
            raise InvalidValue((), f"at most {self._max_nodes} values", "more")
