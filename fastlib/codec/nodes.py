"""The exact road's trees: scalars, lists and mappings that know their line and column."""

from typing import Any, NoReturn

from .errors import LimitError, Path, Problem, render_path
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
        self.line = line  # here, as a call more would cost every scalar
        self.column = column
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


# --- of plain trees -------------------------------------------------------------------------------


_MANY = (dict, list, tuple)


def from_tree(tree: Any, limits: Limits, what: str) -> Node:
    """Nodes without a place, of dicts, lists and leaves.

    A list or a mapping that stands in the tree several times is one node, and counts each time.
    Raises LimitError, also for a tree that contains itself. Without recursion, as the limits are
    the caller's to set.
    """
    if not isinstance(tree, _MANY):
        return _scalar(tree, limits, what)
    root = _empty(tree)
    known: dict[int, tuple[Any, Node]] = {id(tree): (tree, root)}  # values kept: ids stay theirs
    repeats = False
    count = 1
    level = [(root, tree)]
    for _ in range(limits.max_depth):
        below: list[tuple[Mapping | Sequence, Any]] = []
        for node, many in level:
            count += len(many)
            if count > limits.max_nodes:
                _refuse(what, "limit-nodes", f"more than {limits.max_nodes} nodes")
            for key, value in many.items() if isinstance(many, dict) else enumerate(many):
                child: Node
                if isinstance(value, _MANY):
                    seen = known.get(id(value))
                    if seen is None:
                        child = _empty(value)
                        known[id(value)] = value, child
                        below.append((child, value))
                    else:
                        repeats = True
                        child = seen[1]
                else:
                    child = _scalar(value, limits, what)
                if isinstance(node, Mapping):
                    node.pairs.append((_scalar(key, limits, what), child))
                else:
                    node.items.append(child)
        if not below:
            break
        level = below
    else:
        _refuse(what, "limit-depth", f"nested deeper than {limits.max_depth} levels")
    if repeats:
        _measure(root, limits, what)
    return root


class _Visit:
    """A list or a mapping that is being measured."""

    __slots__ = ("height", "key", "node", "rest", "size")

    def __init__(self, node: Node) -> None:
        self.node = node
        children: list[tuple[Any, Node]] = []
        if isinstance(node, Mapping):
            children = [(key.value, child) for key, child in node.pairs if isinstance(key, Scalar)]
        elif isinstance(node, Sequence):
            children = list(enumerate(node.items))
        self.rest = iter(children)
        self.key: Any = None
        """Key or index of the child that is being measured."""
        self.size = 1 + len(children)
        self.height = 1

    def add(self, size: int, height: int) -> None:
        """Adds what a child measures."""
        self.size += size - 1
        self.height = max(self.height, 1 + height)


def _measure(root: Node, limits: Limits, what: str) -> None:
    """Counts nodes and levels where some nodes stand in several places, or in themselves.

    Each is visited once, and counted as often as it stands in the tree. Raises LimitError.
    """
    measured: dict[Node, tuple[int, int]] = {}
    stack = [_Visit(root)]
    within = {root}
    while stack:
        visit = stack[-1]
        for key, child in visit.rest:
            if isinstance(child, Scalar):
                continue
            visit.key = key
            if child in within:
                path = tuple(v.key if isinstance(v.key, int) else str(v.key) for v in stack)
                _refuse(what, "cycle", "this stands in itself, so it has no end", path)
            if child not in measured:
                stack.append(_Visit(child))
                within.add(child)
                break
            visit.add(*measured[child])
        else:
            stack.pop()
            within.discard(visit.node)
            measured[visit.node] = visit.size, visit.height
            if stack:
                stack[-1].add(visit.size, visit.height)
        if visit.size > limits.max_nodes:
            message = f"more than {limits.max_nodes} nodes, each counted wherever it stands"
            _refuse(what, "limit-nodes", message)
    if measured[root][1] > limits.max_depth:
        _refuse(what, "limit-depth", f"nested deeper than {limits.max_depth} levels")


def _empty(value: Any) -> Mapping | Sequence:
    return Mapping(None, None) if isinstance(value, dict) else Sequence(None, None)


def _scalar(value: Any, limits: Limits, what: str) -> Scalar:
    if type(value) is str and len(value) > limits.max_scalar:
        message = f"more than {limits.max_scalar} characters in {value[:40]!r}…"
        _refuse(what, "limit-scalar", message)
    return Scalar(value, False, None, None)


def _refuse(what: str, code: str, message: str, path: Path = ()) -> NoReturn:
    raise LimitError(what, [Problem(code=code, message=message, path=render_path(path))])
