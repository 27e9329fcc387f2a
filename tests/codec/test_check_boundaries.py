"""Rules and compiled checks: exact attributes, and exact source of the conditions."""

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
import pytest

from fastlib.codec import (
    AllOrNone,
    AtMost,
    Between,
    DeclarationError,
    Exclusive,
    Needs,
    OneOf,
    Positive,
    Requires,
    Rule,
    ValidationError,
    Wire,
)
from fastlib.codec.check import _condition, _rule_condition
from fastlib.codec.derivation import fields_of
from fastlib.codec.load_context import INVALID
from fastlib.codec.shapes import List
from fastlib.message import Message, PciAddress

Count = Annotated[int, msgspec.Meta(ge=0, le=100)]


def test_rules_keep_their_arguments() -> None:
    # Made here and not for `parametrize`, so that the constructors run within the test.
    for rule in (
        OneOf("a", "b"),
        AllOrNone("a", "b"),
        Needs("a", "b"),
        Requires("a", "b"),
        Exclusive("a", "b"),
        AtMost("a", "b"),
    ):
        assert rule.attributes == ("a", "b")
    for dependency in (Needs("a", "b"), Requires("a", "b")):
        assert (dependency.attribute, dependency.other) == ("a", "b")
    assert Positive("a").attributes == ("a",)
    assert Positive("a").attribute == "a"
    between = Between("a", 1, 2)
    assert (between.attributes, between.minimum, between.maximum) == (("a",), 1, 2)
    assert Between("a", 1).maximum == float("inf")


@pytest.mark.parametrize(
    ("first", "second"), [(INVALID, 1), (1, INVALID), (INVALID, INVALID), (None, 1), (1, None)]
)
def test_order_is_not_checked_for_values_that_are_missing(first: object, second: object) -> None:
    assert AtMost("a", "b").broken({"a": first, "b": second}.get) is None


class Inner(Message):
    """A struct in a struct."""

    a: str | None = None


class Several(Message):
    """One field for each kind of condition."""

    text: str | None = None
    empty: Annotated[str | None, Wire("x", empty_is_absent=True)] = None
    flag: bool | None = None
    count: Count | None = None
    ratio: float | None = None
    mode: Literal["live", "warm"] | None = None
    numbers: Sequence[Annotated[int, msgspec.Meta(ge=0, le=4294967295)]] | None = None
    names: Sequence[str] | None = None
    inner: Inner | None = None
    inner_empty: Annotated[Inner | None, Wire("x", empty_is_absent=True)] = None
    inners: Sequence[Inner] | None = None
    addresses: Annotated[Sequence[PciAddress] | None, Wire("x", empty_is_absent=True)] = None


def test_condition_is_compiled_for_each_type() -> None:
    assert {field.attribute: _condition(field) for field in fields_of(Several)} == {
        "text": "type(v) is str and v.isascii()",
        "empty": "type(v) is str and v.isascii() and v",
        "flag": "(v is True or v is False)",
        "count": "type(v) is int and 0 <= v <= 100",
        "ratio": "type(v) is float and v == v",
        "mode": "type(v) is str and v in ('live', 'warm')",
        "numbers": "(v is numbers_list.accepted or numbers_list.accepts_unchanged(v))",
        "names": None,
        "inner": "type(v) is inner_class",
        "inner_empty": "type(v) is inner_empty_class and v != inner_empty_class()",
        "inners": "type(v) is tuple and {*map(type, v)} == {inners_class}",
        "addresses": "type(v) is tuple and {*map(type, v)} == {addresses_class}",
    }


def test_list_that_fast_reader_decoded_is_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = next(field.shape for field in fields_of(Several) if field.attribute == "numbers")
    assert isinstance(shape, List)
    with monkeypatch.context() as patch:
        patch.setattr(shape, "accepts_unchanged", pytest.fail)
        found = Several.from_yaml("numbers: [0, 4294967295]")
    assert found.numbers == (0, 4294967295)
    assert shape.accepted is found.numbers
    for wrong in ("[4294967296]", "[0, -1]", "[18446744073709551616]", "[1.0]"):
        with pytest.raises(ValidationError):
            Several.from_yaml(f"numbers: {wrong}")
    for other in ((0, -1), (True, 2), [0, 4294967296]):
        with pytest.raises(ValidationError):
            Several(numbers=other)  # type: ignore[arg-type]
    several = Several.from_yaml(f"numbers: {[*range(2000)]}")
    assert several.numbers == (*range(2000),)
    assert shape.accepted is not several.numbers  # so no long list outlives its message


def test_list_of_structs_is_kept_or_normalised() -> None:
    address = PciAddress(bus=1, device=2, function=3)
    kept = (Inner(a="x"),)
    assert Several(inners=kept).inners is kept
    assert Several(inners=[*kept]).inners == kept
    assert Several(inners=()).inners == ()
    assert Several(addresses=[address]).addresses == (address,)
    assert Several(addresses=()).addresses is None
    for wrong in ([address], (Inner(), address), (Inner(), None)):
        with pytest.raises(ValidationError):
            Several(inners=wrong)
    for wrong in ((Inner(),), (address, Inner()), (address, None)):
        with pytest.raises(ValidationError):
            Several(addresses=wrong)


def test_condition_is_compiled_for_each_rule() -> None:
    names = ("a", "b")
    conditions: list[tuple[Rule, str]] = [
        (OneOf("a", "b"), "(o.a is not None or o.b is not None)"),
        (OneOf(), "False"),
        (AllOrNone("a", "b"), "o.a is None and o.b is None"),
        (AllOrNone(), "False"),
        (Needs("a", "b"), "(o.a is not True or o.b is not None)"),
        (Requires("a", "b"), "False"),
        (OneOf("a", "c"), "False"),
        (Needs("a", "c"), "False"),
    ]
    for rule, condition in conditions:
        assert _rule_condition(rule, names) == condition
    assert _rule_condition(OneOf("a"), names) == "(o.a is not None)"


def test_refusal_names_the_class() -> None:
    with pytest.raises(ValidationError) as caught:
        Several(count=101)
    assert caught.value.what == "Several"
    (problem,) = caught.value.problems
    assert (problem.code, problem.path) == ("value", "count")
    assert problem.expected == "an integer from 0 to 100"
    assert (problem.got, problem.line, problem.column) == ("101", None, None)


def test_annotation_refuses_wrong_types() -> None:
    wrong = 'Wire takes a text and keywords: Wire("…", aliases=("name",))'
    for arguments in ({"aliases": ["a"]}, {"doc": 5}, {"doc": ("a",), "aliases": "a"}):
        with pytest.raises(DeclarationError) as caught:
            Wire(**arguments)  # type: ignore[arg-type]
        assert str(caught.value) == wrong
    assert Wire("x", aliases=("a",)).aliases == ("a",)
