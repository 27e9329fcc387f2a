"""Plain trees as nodes: the limits, and what occurs several times."""

from typing import Any

import pytest

from fastlib.codec.errors import LimitError
from fastlib.codec.limits import Limits
from fastlib.codec.nodes import Mapping, Node, Scalar, Sequence, from_tree


def nodes(tree: Any, **limits: int) -> Node:
    return from_tree(tree, Limits(**limits), "Stop")


def refusal(tree: Any, **limits: int) -> tuple[str, str, str]:
    with pytest.raises(LimitError) as caught:
        nodes(tree, **limits)
    assert caught.value.what == "Stop"
    (problem,) = caught.value.problems
    assert (problem.line, problem.column) == (None, None)
    return problem.code, problem.path, problem.message


def plain(node: Node) -> Any:
    """Return the tree of nodes that have no position."""
    assert (node.line, node.column) == (None, None)
    if isinstance(node, Scalar):
        assert node.plain is False
        return node.value
    if isinstance(node, Sequence):
        return [plain(item) for item in node.items]
    assert isinstance(node, Mapping)
    return {plain(key): plain(value) for key, value in node.pairs}


@pytest.mark.parametrize(
    "tree",
    [None, "a", 3, [], {}, [1, [2, {}], {"a": [], "b": {"c": None}}], {"a": {1: "b"}, "c": [[]]}],
)
def test_tree_becomes_nodes(tree: Any) -> None:
    assert plain(nodes(tree)) == tree


def test_node_has_its_position() -> None:
    for node in (Node(2, 3), Scalar("a", True, 2, 3), Sequence(2, 3), Mapping(2, 3)):
        assert (node.line, node.column) == (2, 3)


def test_tuple_is_a_list() -> None:
    assert plain(nodes((1, ("a",)))) == [1, ["a"]]


def test_value_that_occurs_twice_is_one_node() -> None:
    inner = ["a"]
    root = nodes({"x": inner, "y": inner, "z": ["a"]})
    assert isinstance(root, Mapping)
    (_, x), (_, y), (_, z) = root.pairs
    assert x is y
    assert x is not z


@pytest.mark.parametrize("tree", ["xxxx", ["xxxx"], {"xxxx": 1}, {"a": "xxxx"}])
def test_long_scalar_is_refused(tree: Any) -> None:
    assert plain(nodes(tree, max_scalar=4)) == tree
    assert refusal(tree, max_scalar=3) == (
        "limit-scalar", "", "more than 3 characters in 'xxxx'…",
    )  # fmt: skip


def test_long_scalar_is_shown_in_part_on_one_line() -> None:
    _, _, message = refusal("\u202e" + "x" * 50, max_scalar=3)
    assert message == f"more than 3 characters in '\\u202e{'x' * 39}'…"


@pytest.mark.parametrize(
    ("tree", "count"), [(["a", "b"], 3), ({"a": 1, "b": 2}, 3), ([["a"], {"b": []}], 5)]
)
def test_nodes_are_counted_without_keys(tree: Any, count: int) -> None:
    assert plain(nodes(tree, max_nodes=count)) == tree
    assert refusal(tree, max_nodes=count - 1) == (
        "limit-nodes", "", f"more than {count - 1} nodes",
    )  # fmt: skip


@pytest.mark.parametrize(("tree", "depth"), [([["a"]], 2), ({"a": {"b": {}}}, 3), ([[], [[]]], 3)])
def test_levels_are_counted(tree: Any, depth: int) -> None:
    assert plain(nodes(tree, max_depth=depth)) == tree
    assert refusal(tree, max_depth=depth - 1) == (
        "limit-depth", "", f"nested deeper than {depth - 1} levels",
    )  # fmt: skip


def test_repeated_value_counts_each_time() -> None:
    inner = [1, 2]  # 3 nodes
    tree = [inner, inner, {"a": inner}]  # 1 + 3 + 3 + (1 + 3)
    assert plain(nodes(tree, max_nodes=11)) == tree
    assert refusal(tree, max_nodes=10) == (
        "limit-nodes", "", "more than 10 nodes, each counted as often as it occurs",
    )  # fmt: skip


@pytest.mark.parametrize(
    "outer", [lambda x: [x, [x]], lambda x: [[x], x], lambda x: {"a": x, "b": [x]}]
)
def test_repeated_value_has_the_depth_of_its_deepest_place(outer: Any) -> None:
    tree = outer([["a"]])  # 2 levels, and 2 above it
    assert plain(nodes(tree, max_depth=4)) == tree
    assert refusal(tree, max_depth=3) == ("limit-depth", "", "nested deeper than 3 levels")


SHARED: list[Any] = []


@pytest.mark.parametrize(
    ("tree", "depth"),
    [
        ([SHARED, SHARED, [[[]]]], 4), ([[[[]]], SHARED, SHARED], 4),
        ([SHARED, [[[SHARED]]], []], 5), ([[[[SHARED]]], SHARED, []], 5),
    ],
)  # fmt: skip
def test_depth_is_that_of_the_deepest_part_wherever_it_is(tree: Any, depth: int) -> None:
    assert plain(nodes(tree, max_depth=depth)) == tree
    assert refusal(tree, max_depth=depth - 1)[0] == "limit-depth"


def test_tree_that_contains_itself_is_refused_with_its_place() -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert refusal(loop) == ("cycle", "[0]", "this contains itself")
    inner: dict[Any, Any] = {"ok": ["x"]}
    inner[7] = ["a", inner]
    outer = {"first": 1, "key": ["b", inner]}
    assert refusal(outer) == ("cycle", "key[1][7][1]", "this contains itself")
    strange: dict[Any, Any] = {}
    strange[1.5] = strange
    assert refusal(strange) == ("cycle", "1.5", "this contains itself")


def test_exponential_tree_is_refused_soon() -> None:
    tree: Any = ["x"]
    for _ in range(40):
        tree = [tree, tree]
    assert refusal(tree)[0] == "limit-nodes"
