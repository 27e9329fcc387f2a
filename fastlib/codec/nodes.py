"""The nodes of the exact reader: scalars, lists and mappings with their line and column."""

from typing import Any, NoReturn

from .errors import LimitError, Path, Problem, render_path
from .limits import Limits
from .printable import printable


class Node:
    """A scalar, a list or a mapping. Line and column count from 1; None if there is no text."""

    __slots__ = ("column", "line")

    def __init__(self, line: int | None, column: int | None) -> None:
        self.line = line
        self.column = column


class Scalar(Node):
    """A text, and whether it had neither quotes nor a tag (`plain`). In a plain tree: any leaf."""

    __slots__ = ("plain", "value")

    def __init__(self, value: Any, plain: bool, line: int | None, column: int | None) -> None:
        self.line = line  # without super(), because scalars are frequent
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
    """Pairs of nodes in the order of the text, with duplicate keys."""

    __slots__ = ("pairs",)

    def __init__(self, line: int | None, column: int | None) -> None:
        super().__init__(line, column)
        self.pairs: list[tuple[Node, Node]] = []


# --- of plain trees -------------------------------------------------------------------------------


_MANY = (dict, list, tuple)


def from_tree(tree: Any, limits: Limits, what: str) -> Node:
    """Return the nodes, without positions, of a plain tree of dicts, lists and leaves.

    A list or mapping that occurs several times is one node, and counts each time. Raises
    LimitError, also for a tree that contains itself. There is no recursion, because a caller may
    set a limit that exceeds the stack.
    """
    if not isinstance(tree, _MANY):
        return _scalar(tree, limits, what)
    root = _empty(tree)
    known: dict[int, tuple[Any, Node]] = {id(tree): (tree, root)}  # keeps ids unique
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
    """A list or mapping whose size is being counted."""

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
        """Key or index of the child that is being counted."""
        self.size = 1 + len(children)
        self.height = 1

    def add(self, size: int, height: int) -> None:
        """Add the size and height of a child."""
        self.size += size - 1
        self.height = max(self.height, 1 + height)


def _measure(root: Node, limits: Limits, what: str) -> None:
    """Count nodes and levels of a tree in which some nodes occur several times.

    Each node is visited once, and counted as often as it occurs. Raises LimitError, also for a tree
    that contains itself.
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
                _refuse(what, "cycle", "this contains itself", path)
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
            message = f"more than {limits.max_nodes} nodes, each counted as often as it occurs"
            _refuse(what, "limit-nodes", message)
    if measured[root][1] > limits.max_depth:
        _refuse(what, "limit-depth", f"nested deeper than {limits.max_depth} levels")


def _empty(value: Any) -> Mapping | Sequence:
    return Mapping(None, None) if isinstance(value, dict) else Sequence(None, None)


def _scalar(value: Any, limits: Limits, what: str) -> Scalar:
    if type(value) is str and len(value) > limits.max_scalar:
        message = f"more than {limits.max_scalar} characters in {printable(repr(value[:40]))}…"
        _refuse(what, "limit-scalar", message)
    return Scalar(value, False, None, None)


def _refuse(what: str, code: str, message: str, path: Path = ()) -> NoReturn:
    raise LimitError(what, [Problem(code=code, message=message, path=render_path(path))])
