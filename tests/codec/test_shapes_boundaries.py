"""Each shape by itself: what it loads from nodes, dumps and checks, with every bound and error.

`./dev mutation codec shapes` changes the shapes, and these tests must notice it.
"""

import math
from datetime import UTC, datetime, timedelta, timezone
from types import MappingProxyType
from typing import Any

import msgspec
import pytest
from msgspec import Meta

from fastlib.codec.derivation import shape_of
from fastlib.codec.load_context import INVALID, MAX_SUGGESTIONS
from fastlib.codec.nodes import Scalar
from fastlib.codec.shapes import (
    Bool,
    Choice,
    Float,
    Instant,
    Int,
    InvalidValue,
    List,
    Map,
    ScalarShape,
    Shape,
    Text,
    is_sequence,
)
from fastlib.codec.tree_shape import Tree
from tests.support.shapes import (
    Number,
    Row,
    context,
    loaded,
    node,
    pairs,
    problems,
    refusal,
    simple,
)

DIGIT = Int(0, 9)
WORDS = Choice({"live": "live", "warm": "warm"})
DEEP = 2**63


# --- scalars --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "text", "value"),
    [
        (Text(), "no", "no"), (Text(), "", ""), (Bool(), "true", True), (Bool(), "no", False),
        (DIGIT, "0", 0), (DIGIT, "9", 9), (DIGIT, "0x3", 3), (Float(), "1.5", 1.5),
        (Float(1), "1.26", 1.3), (WORDS, "live", "live"),
        (Instant(), "2026-01-01T00:00:00Z", datetime(2026, 1, 1, tzinfo=UTC)),
    ],
)  # fmt: skip
def test_text_is_loaded(shape: Shape, text: str, value: object) -> None:
    found = loaded(shape, text)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("shape", "leaf", "value"),
    [
        (Bool(), True, True), (DIGIT, 3, 3), (Float(), 2, 2.0), (Float(), 2.5, 2.5),
        (Instant(), datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)),
    ],
)  # fmt: skip
def test_leaf_of_a_plain_tree_is_loaded(shape: Shape, leaf: object, value: object) -> None:
    found = loaded(shape, leaf)
    assert (found, type(found)) == (value, type(value))


NUMBER = "an integer from 0 to 9"
TIME = "a time with a zone in the years 1 to 9999, such as 2026-11-29T06:30:00Z"


@pytest.mark.parametrize(
    ("shape", "tree", "problem"),
    [
        (Text(), 3, ("value", "expected text; got 3", None)),
        (Text(), "\ud800", ("value", r"expected text; got '\ud800'", None)),
        (Text(), ["a"], ("type", "expected text; got a list", None)),
        (Text(), {}, ("type", "expected text; got an empty mapping", None)),
        (Text(), None, ("value", "expected text; got null", None)),
        (Text(), Scalar("~", True, 7, 8), ("value", "expected text; got null", None)),
        (Bool(), "maybe", ("value", "expected true or false; got 'maybe'", None)),
        (Bool(), 1, ("value", "expected true or false; got 1", None)),
        (DIGIT, "10", ("value", f"expected {NUMBER}; got '10'", None)),
        (DIGIT, "-1", ("value", f"expected {NUMBER}; got '-1'", None)),
        (DIGIT, 10, ("value", f"expected {NUMBER}; got 10", None)),
        (DIGIT, True, ("value", f"expected {NUMBER}; got True", None)),
        (Int(0, 255, 2), "fff", ("value", "expected an integer from 0x0 to 0xff; got 'fff'",
         "0xfff")),
        (Int(0, 255, 2), "0ff", ("value", "expected an integer from 0x0 to 0xff; got '0ff'", None)),
        (Int(0, 255, 2), "xyz", ("value", "expected an integer from 0x0 to 0xff; got 'xyz'", None)),
        (Int(0, 255), "ff", ("value", "expected an integer from 0 to 255; got 'ff'", None)),
        (Float(), "a", ("value", "expected a number; got 'a'", None)),
        (Float(), False, ("value", "expected a number; got False", None)),
        (WORDS, "lve", ("value", "expected one of live, warm; got 'lve'", "live")),
        (WORDS, "xxxx", ("value", "expected one of live, warm; got 'xxxx'", None)),
        (WORDS, ["live"], ("type", "expected one of live, warm; got a list", None)),
        (Instant(), "2026-01-01T00:00:00", ("value", f"expected {TIME}; got '2026-01-01T00:00:00'",
         "2026-01-01T00:00:00Z")),
        (Instant(), "soon", ("value", f"expected {TIME}; got 'soon'", None)),
        (List(DIGIT), "3", ("type", "expected a list; got '3'", None)),
        (List(DIGIT), {"a": 1}, ("type", "expected a list; got a mapping", None)),
        (Map(DIGIT), [], ("type", "expected a mapping; got an empty list", None)),
        (Map(DIGIT), "a", ("type", "expected a mapping; got 'a'", None)),
    ],
)  # fmt: skip
def test_node_of_another_kind_is_reported(
    shape: Shape, tree: Any, problem: tuple[str, str, str | None]
) -> None:
    code, message, suggestion = problem
    code = "value" if isinstance(node(tree), Scalar) else code
    assert problems(shape, tree) == [(code, "x", message, suggestion)]


def test_suggestions_end_after_many_problems() -> None:
    found = context()
    for _ in range(MAX_SUGGESTIONS + 1):
        WORDS.load(node("lve"), found, ())
    assert [each.suggestion for each in found.problems] == ["live"] * MAX_SUGGESTIONS + [None]


@pytest.mark.parametrize(
    ("meta", "expected", "good", "bad"),
    [
        (Meta(pattern="^a+$"), "text that matches ^a+$", ["a", "aa"], ["", "ab"]),
        (Meta(pattern="b"), "text that matches b", ["abc"], ["a"]),
        (Meta(min_length=2), "text of 2 or more characters", ["ab", "abc"], ["a", ""]),
        (Meta(max_length=2), "text of 0 to 2 characters", ["", "ab"], ["abc"]),
        (Meta(max_length=0), "text of 0 to 0 characters", [""], ["a"]),
        (Meta(pattern="a", min_length=1, max_length=2),
         "text that matches a of 1 to 2 characters", ["a", "ba"], ["", "b", "aaa"]),
        (Meta(description="free"), "text", ["", "a"], []),
    ],
)  # fmt: skip
def test_text_may_have_a_pattern_and_a_length(
    meta: Meta, expected: str, good: list[str], bad: list[str]
) -> None:
    shape = Text(meta)
    assert shape.expected == expected
    assert shape.free is (expected == "text")
    for text in good:
        assert shape.from_text(text) == shape.check(text) == text
    for text in bad:
        assert shape.from_text(text) is INVALID
        assert refusal(shape, text) == simple(expected, repr(text))


class Word(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "another"


@pytest.mark.parametrize(
    ("shape", "value", "checked"),
    [
        (Text(), "ü", "ü"),
        (Text(), Word("a"), "a"), (DIGIT, Number.THREE, 3), (Bool(), True, True),
        (DIGIT, 0, 0), (DIGIT, 9, 9), (Float(), 3, 3.0), (Float(), 2.25, 2.25),
        (Float(1), 2.26, 2.3), (Float(0), 2.6, 3.0), (WORDS, "warm", "warm"),
        (WORDS, Word("warm"), "warm"),
        (Instant(), datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))),
         datetime(2026, 1, 1, tzinfo=UTC)),
    ],
)  # fmt: skip
def test_value_of_a_constructor_is_stored_in_its_plain_form(
    shape: Shape, value: object, checked: object
) -> None:
    found = shape.check(value)
    assert (found, type(found)) == (checked, type(checked))


def test_every_nan_is_one_object() -> None:
    assert Float().check(float("nan")) is math.nan


NONE_GIVEN = datetime(2026, 1, 1)
REMEDY = "use datetime.now(timezone.utc), or value.astimezone() for a local time"


@pytest.mark.parametrize(
    ("shape", "value", "expected"),
    [
        (Text(), 3, simple("text", "3")),
        (Text(), "\ud800", simple("text without lone surrogates", r"'\ud800'")),
        (Bool(), 1, simple("true or false", "1")),
        (DIGIT, True, simple(NUMBER, "True")),
        (DIGIT, "3", simple(NUMBER, "'3'")),
        (DIGIT, 1.0, simple(NUMBER, "1.0")),
        (DIGIT, -1, simple(NUMBER, "-1")),
        (DIGIT, 10, simple(NUMBER, "10")),
        (Float(), True, simple("a number", "True")),
        (Float(), "1", simple("a number", "'1'")),
        (Float(), 10**400, simple("a number", "an integer of 1329 bits")),
        (WORDS, "lve", simple("one of live, warm", "'lve'", near="live")),
        (WORDS, 3, simple("one of live, warm", "3")),
        (WORDS, [], simple("one of live, warm", "[]")),
        (Instant(), "now", simple("a datetime with a zone, such as that of 2026-11-29T06:30:00Z",
         "'now'")),
        (Instant(), NONE_GIVEN, (
            (), "a datetime with a zone", f"{NONE_GIVEN!r}, which has none",
            f"expected a datetime with a zone; got {NONE_GIVEN!r}, which has none: {REMEDY}", None,
        )),
        (List(DIGIT), "12", simple("a list", "'12'")),
        (List(DIGIT), {1}, simple("a list", "{1}")),
        (List(DIGIT), [1, 10], simple(NUMBER, "10", 1)),
        (List(List(DIGIT)), [[1], [2, "a"]], simple(NUMBER, "'a'", 1, 1)),
        (List(WORDS), ["live", "lve"], simple("one of live, warm", "'lve'", 1, near="live")),
        (Map(DIGIT), [], simple("a mapping", "[]")),
        (Map(DIGIT), {"a": 10}, simple(NUMBER, "10", "a")),
        (Map(DIGIT), {3: 1}, simple("text", "3", "3")),
        (Tree(), {1}, simple("text, a list or a mapping", "{1}")),
        (Tree(), 2**1000, simple("a number of at most 1000 bits", "an integer of 1001 bits")),
    ],
)  # fmt: skip
def test_value_that_does_not_fit_is_refused_with_its_place(
    shape: Shape, value: object, expected: tuple[Any, ...]
) -> None:
    assert refusal(shape, value) == expected


def test_time_outside_of_the_years_is_refused() -> None:
    value = datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1)))
    path, expected, _, message, _ = refusal(Instant(), value)
    assert path == ()
    assert expected == "a time in the years 1 to 9999 (UTC)"
    assert message.startswith("expected a time in the years 1 to 9999 (UTC); got datetime.datetime")


@pytest.mark.parametrize(
    ("shape", "value", "tree"),
    [
        (Text(), "a", "a"), (Bool(), True, True), (DIGIT, 3, 3), (Int(0, 255, 4), 10, "0x000a"),
        (Float(), 1.5, 1.5), (Instant(), datetime(2026, 1, 1, tzinfo=UTC), "2026-01-01T00:00:00Z"),
        (Choice({"red": 1}), 1, "red"), (List(Int(0, 9, 1)), (1, 2), ["0x1", "0x2"]),
        (Map(Int(0, 9, 1)), {"a": 1}, {"a": "0x1"}), (Tree(), {"a": ["b"]}, {"a": ["b"]}),
    ],
)  # fmt: skip
def test_value_is_dumped(shape: Shape, value: object, tree: object) -> None:
    found = shape.dump(value)
    assert (found, type(found)) == (tree, type(tree))


def test_problem_of_a_value_has_all_facts_and_the_unit_of_its_field() -> None:
    error = InvalidValue((), "a number", "'a'", suggestion="b")
    found = error.problem("memory", "KiB")
    assert (found.code, found.path, found.expected, found.got, found.suggestion) == (
        "value", "memory", "a number, in KiB", "'a'", "b",
    )  # fmt: skip
    assert found.message == "expected a number, in KiB; got 'a'"
    assert error.problem("memory").message == "expected a number; got 'a'"
    below = error.below(3)
    assert (below.path, below.message, below.suggestion) == ((3,), error.message, "b")
    assert below.below("a").path == ("a", 3)
    assert below.problem("memory", "KiB").expected == "a number"  # the unit is not of an item


# --- lists and mappings ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [([], True), ((), True), (Row(), True), ("a", False), (b"a", False), (bytearray(), False),
     ({}, False), (None, False), (range(2), True)],
)  # fmt: skip
def test_text_is_no_sequence(value: object, expected: bool) -> None:
    assert is_sequence(value) is expected


def test_list_is_loaded_with_the_problems_of_all_items() -> None:
    assert loaded(List(DIGIT), ["1", 2]) == (1, 2)
    assert loaded(List(DIGIT), []) == ()
    assert problems(List(DIGIT), ["1", "a", "2", []]) == [
        ("value", "x[1]", f"expected {NUMBER}; got 'a'", None),
        ("type", "x[3]", f"expected {NUMBER}; got an empty list", None),
    ]


@pytest.mark.parametrize(
    ("value", "checked"),
    [([1, 2], (1, 2)), (Row(), (1, 2)), ([], ()), ([Number.THREE], (3,)), (range(2), (0, 1))],
)
def test_list_is_stored_as_a_tuple(value: Any, checked: object) -> None:
    for shape in (List(DIGIT), List(Float())):
        found = shape.check(value)
        assert found == checked
        assert type(found) is tuple


@pytest.mark.parametrize(
    ("shape", "value"),
    [
        (List(DIGIT), (1, 2)), (List(List(DIGIT)), ((1,), (2,))), (List(Text()), ("a", "b")),
        (List(Int(0, 2**64 - 1)), (1, 2)), (List(Bool()), ()),
    ],
)  # fmt: skip
def test_tuple_that_needs_no_change_is_the_same_object(shape: List, value: object) -> None:
    assert shape.check(value) is value


@pytest.mark.parametrize(
    ("shape", "value", "expected"),
    [
        (List(DIGIT), (1, 9), True), (List(DIGIT), (10,), False), (List(DIGIT), (True,), False),
        (List(DIGIT), [1], False), (List(List(DIGIT)), ((1,), ()), True),
        (List(List(DIGIT)), ([1],), False),
    ],
)  # fmt: skip
def test_list_of_integers_is_accepted_unchanged(shape: List, value: Any, expected: bool) -> None:
    assert shape.accepts_unchanged(value) is expected


def test_arguments_of_a_shape_are_kept() -> None:
    # Made here and not for `parametrize`, so that the constructors run within the test.
    plain, hexadecimal = Int(1, 20), Int(0, 255, 2)
    assert (plain.low, plain.high, plain.digits) == (1, 20, 0)
    assert plain.expected == "an integer from 1 to 20"
    assert (hexadecimal.low, hexadecimal.high, hexadecimal.digits) == (0, 255, 2)
    assert hexadecimal.expected == "an integer from 0x0 to 0xff"
    assert (Float().decimals, Float(1).decimals) == (None, 1)
    choice = Choice({"red": 1, "blue": 2})
    assert choice.values == {"red": 1, "blue": 2}
    assert choice.texts == {1: "red", 2: "blue"}
    assert choice.expected == "one of red, blue"


def test_msgspec_checks_lists_of_integers_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = [List(Int(-1000, 1000)), List(List(Int(-1000, 1000))), List(Int(-(2**70), 2**70))]
    values: list[Any] = [(-1000, 0, 1000), ((-1000, 1000), ()), (-DEEP, DEEP - 1)]
    wrong: list[Any] = [(-1001,), ((1001,),), (2**71,)]
    for shape, value, bad in zip(shapes, values, wrong, strict=True):
        assert not shape.accepts_unchanged(bad)
        with monkeypatch.context() as patch:
            patch.setattr(Int, "check", pytest.fail)
            assert shape.accepts_unchanged(value)
            assert shape.check(value) is value
            assert shape.check([*value]) == value
        with pytest.raises(InvalidValue):
            shape.check(bad)


class Part(msgspec.Struct):
    """A struct in a list."""

    name: str


def test_structs_in_a_list_are_not_checked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = List(shape_of(Part))
    part = Part("a")
    value = (part, part)
    with monkeypatch.context() as patch:
        patch.setattr(shape.item, "check", pytest.fail)
        assert shape.check(value) is value
        for other in ([*value], []):
            found = shape.check(other)
            assert found == tuple(other)
            assert type(found) is tuple
    for wrong in ([part, "a"], ["a"], ("a", part)):
        with pytest.raises(InvalidValue):
            shape.check(wrong)


def test_message_of_an_error_is_kept_below() -> None:
    path, *facts = refusal(List(Instant()), [NONE_GIVEN])
    assert path == (0,)
    assert facts == [*refusal(Instant(), NONE_GIVEN)[1:]]


class Anything(ScalarShape):
    """A shape of another package, whose check accepts every value."""

    expected = "anything"

    def check(self, value: Any) -> Any:
        return value


def test_null_is_no_value_of_a_scalar() -> None:
    assert Anything().from_leaf(None) is INVALID
    assert Anything().from_leaf(3) == 3


def test_integers_of_64_bits_are_checked_one_by_one() -> None:
    shape = List(Int(0, 2**64 - 1))
    assert shape.check([DEEP - 1, DEEP, 2**64 - 1]) == (DEEP - 1, DEEP, 2**64 - 1)
    assert refusal(shape, [DEEP, 2**64])[0] == (1,)
    signed = List(Int(-(2**70), 2**70))
    assert signed.check([-DEEP, -DEEP - 1, DEEP]) == (-DEEP, -DEEP - 1, DEEP)


def test_only_lists_of_integers_are_checked_by_msgspec() -> None:
    assert List(DIGIT).integers is not None
    assert List(List(DIGIT)).integers is not None
    for item in (Text(), Float(), List(Text()), Map(DIGIT)):
        assert List(item).integers is None
    assert List(DIGIT).accepted is INVALID


def test_mapping_is_loaded_with_the_problems_of_all_values_and_keys() -> None:
    assert loaded(Map(DIGIT), {"a": "1", "b": 2}) == {"a": 1, "b": 2}
    assert problems(Map(DIGIT), pairs(("a", "1"), ("b", "x"), ("a", "2"), (None, "3"))) == [
        ("value", "x.b", f"expected {NUMBER}; got 'x'", None),
        ("duplicate-key", "x.a", "this key is a duplicate; remove one of the two", None),
        ("key", "x", "a key must be text; got null", None),
    ]
    assert problems(Map(DIGIT), pairs((None, "3"))) == [
        ("key", "x", "a key must be text; got null", None)
    ]


def test_empty_key_after_a_key_without_text_is_no_duplicate() -> None:
    assert problems(Map(DIGIT), pairs((None, "3"), ("", "1"))) == [
        ("key", "x", "a key must be text; got null", None)
    ]
    assert loaded(Map(DIGIT), {"": "1"}) == {"": 1}


def test_mapping_with_a_duplicate_key_is_not_loaded() -> None:
    (problem,) = problems(Map(DIGIT), pairs(("a", "1"), ("a", "1")))
    assert problem[0] == "duplicate-key"


LONG = "x" * 2048  # counts as three nodes


@pytest.mark.parametrize(
    ("shape", "tree"),
    [
        (List(Text()), [LONG]), (Map(Text()), {"a": LONG}), (Tree(), [LONG]),
        (Tree(), {"a": LONG}),
    ],
)  # fmt: skip
def test_long_text_counts_as_several_nodes(shape: Shape, tree: Any) -> None:
    found = context(3)
    assert shape.load(node(tree), found, ()) is not INVALID
    assert found._nodes == 0


def test_list_of_pairs_is_a_mapping_only_where_it_may_be() -> None:
    shape = Map(DIGIT, pairs=True)
    assert loaded(shape, [{"a": 1}, {"b": 2}]) == {"a": 1, "b": 2}
    assert loaded(shape, {"a": 1}) == {"a": 1}
    assert loaded(shape, []) == {}
    assert problems(shape, [{"a": 1}, "b"]) == [
        ("value", "x[1]", "expected a mapping with one entry; got 'b'", None)
    ]
    found = context(3)
    assert shape.load(node([LONG]), found, ()) is INVALID
    assert found._nodes == 0
    assert problems(shape, "b") == [("value", "x", "expected a mapping; got 'b'", None)]
    assert problems(Map(DIGIT), [{"a": 1}]) == [
        ("type", "x", "expected a mapping; got a list", None)
    ]


def test_mapping_of_another_class_becomes_a_dict() -> None:
    found = Map(DIGIT).check(MappingProxyType({Word("a"): Number.THREE}))
    assert found == {"a": 3}
    assert type(found) is dict
    assert [(type(key), type(item)) for key, item in found.items()] == [(str, int)]


@pytest.mark.parametrize(
    ("shape", "tree", "count"),
    [
        (List(DIGIT), [1, 2, 3], 3), (Map(DIGIT), {"a": 1, "b": 2}, 2),
        (Map(DIGIT, pairs=True), [{"a": 1}, {"b": 2}], 4), (Tree(), ["a", ["b"], {"c": "d"}], 5),
    ],
)  # fmt: skip
def test_each_visited_node_is_counted(shape: Shape, tree: Any, count: int) -> None:
    found = context(count)
    assert shape.load(node(tree), found, ()) is not INVALID
    assert found._nodes == 0
