"""The shape of any tree: its texts, copies and bounds."""

from collections.abc import Mapping as MappingABC
from types import MappingProxyType
from typing import Any

import pytest

from fastlib.codec.tree_shape import Tree
from tests.support.shapes import Number, Row, loaded, problems, refusal, simple


@pytest.mark.parametrize(
    ("tree", "value"),
    [
        ("a", "a"), (None, None), (1, "1"), (True, "true"), (False, "false"), (1.5, "1.5"),
        ([1, [None]], ["1", [None]]), ({"a": {"b": 2}}, {"a": {"b": "2"}}),
        (Number.THREE, "3"), (2**1000 - 1, str(2**1000 - 1)), ([], []), ({}, {}),
    ],
)  # fmt: skip
def test_numbers_of_a_tree_become_texts(tree: Any, value: object) -> None:
    assert loaded(Tree(), tree) == Tree().check(tree) == value


def test_plain_null_of_a_tree_is_none_and_a_quoted_one_is_text() -> None:
    assert loaded(Tree(), "null", plain=True) is None
    assert loaded(Tree(), ["null"]) == ["null"]


def test_tree_is_copied() -> None:
    tree: dict[str, Any] = {"a": ["b"]}
    found = Tree().check(tree)
    assert found == tree
    assert found is not tree
    assert found["a"] is not tree["a"]
    row = Tree().check(MappingProxyType({"a": Row()}))
    assert row == {"a": ["1", "2"]}
    assert isinstance(MappingProxyType({}), MappingABC)


def nested(levels: int, *, as_list: bool) -> Any:
    tree: Any = "a"
    for _ in range(levels):
        tree = [tree] if as_list else {"k": tree}
    return tree


@pytest.mark.parametrize("as_list", [False, True])
def test_depth_of_a_tree_is_bounded(as_list: bool) -> None:
    fits, deep = nested(32, as_list=as_list), nested(33, as_list=as_list)
    assert loaded(Tree(), fits) == Tree().check(fits) == fits
    ((code, path, message, _),) = problems(Tree(), deep)
    assert (code, message) == ("depth", "nested deeper than 32")
    assert path == "x" + ("[0]" if as_list else ".k") * 33
    assert refusal(Tree(), deep) == simple("at most 32 levels", "more, or a cycle")


def test_values_of_a_tree_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tree, "max_nodes", 4)
    for fits in (["a"] * 4, {"a": ["b", "c"], "d": None}, "a" * (5 * 1024 - 1), [["a", "b"], "c"]):
        assert Tree().check(fits) == fits
    for large in (["a"] * 5, {"a": ["b", "c"], "d": ["e"]}, "a" * (5 * 1024), [["a", "b"], ["c"]]):
        assert refusal(Tree(), large) == simple("at most 4 values", "more")


def test_problems_of_a_tree_have_their_places() -> None:
    assert problems(Tree(), {"a": ["\ud800"], "b": [{1}]}) == [
        ("value", "x.a[0]", r"expected text without lone surrogates; got '\ud800'", None),
        ("value", "x.b[0]", "expected text, a list or a mapping; got {1}", None),
    ]
