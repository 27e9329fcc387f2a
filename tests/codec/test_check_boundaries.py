"""Rules and compiled checks: exact attributes, and exact source of the conditions."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Annotated, Any, Literal

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
from fastlib.codec import check as check_module
from fastlib.codec.caches import clear_derived_caches
from fastlib.codec.check import _condition, _rule_condition, check
from fastlib.codec.derivation import fields_of
from fastlib.codec.load_context import INVALID
from fastlib.codec.shapes import List
from fastlib.message import Extension, Message, PciAddress, Task

Count = Annotated[int, msgspec.Meta(ge=0, le=100)]


@pytest.fixture(autouse=True)
def checkers_are_compiled_anew() -> None:
    """Compile each checker in the test that uses it."""
    clear_derived_caches()


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
    percent: Annotated[float | None, Wire("x", decimals=1)] = None
    when: datetime | None = None


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
        "percent": "type(v) is float and v == round(v, 1)",
        "when": "type(v) is datetime and v.tzinfo is UTC and not v.fold",
    }


ADDRESS = PciAddress(bus=1, device=2, function=3)
GOOD: dict[str, Any] = {
    "text": "a",
    "empty": "a",
    "flag": True,
    "count": 100,
    "ratio": 0.25,
    "mode": "live",
    "inner": Inner(a="x"),
    "inner_empty": Inner(a="x"),
    "inners": (Inner(a="x"),),
    "addresses": (ADDRESS,),
    "percent": 0.5,
    "when": datetime(2026, 11, 30, tzinfo=UTC),
}
"""A value for each kind of condition that needs no further check."""
WRONG: dict[str, Any] = {
    "text": 5,
    "empty": 5,
    "flag": "maybe",
    "count": 101,
    "ratio": "a",
    "mode": "cold",
    "numbers": (-1,),
    "names": (5,),
    "inner": ADDRESS,
    "inner_empty": ADDRESS,
    "inners": (ADDRESS,),
    "addresses": (Inner(),),
    "percent": "a",
    "when": "yesterday",
}


def test_good_values_are_kept_without_further_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_module, "_normalize", pytest.fail)
    several = Several(**GOOD)
    assert all(getattr(several, name) is value for name, value in GOOD.items())
    check(several)


@pytest.mark.parametrize("attribute", WRONG)
def test_wrong_value_is_refused_among_good_ones(attribute: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Several(**{**GOOD, attribute: WRONG[attribute]})
    (problem,) = caught.value.problems
    assert problem.path.partition("[")[0] == attribute.replace("_", "-")


def test_every_wrong_value_is_reported() -> None:
    with pytest.raises(ValidationError) as caught:
        Several(**WRONG)
    assert len(caught.value.problems) == len(WRONG)


def test_not_a_number_is_kept() -> None:
    """It is not equal to itself, so its condition never holds."""
    several = Several(ratio=math.nan, percent=math.nan)
    assert several.ratio is not None
    assert several.percent is not None
    assert math.isnan(several.ratio)
    assert math.isnan(several.percent)


def test_values_that_need_more_are_normalised() -> None:
    zone = timezone(timedelta(hours=1))
    several = Several(
        empty="",
        inner_empty=Inner(),
        percent=0.25,
        when=datetime(2026, 11, 30, 1, tzinfo=zone),
        numbers=[1],
        names=["a"],
    )
    assert (several.empty, several.inner_empty, several.percent) == (None, None, 0.2)
    assert (several.numbers, several.names) == ((1,), ("a",))
    assert several.when == GOOD["when"]
    assert several.when is not None
    assert several.when.tzinfo is UTC


class Needed(Message):
    """Fields that must be given, with and without a condition, and one that checks itself."""

    own: Annotated[str, Wire("x", own_check=True)]
    names: Sequence[str]
    text: str
    mode: str = "live"


def test_needed_fields_are_checked() -> None:
    assert Needed(own=5, names=["a"], text="b").names == ("a",)  # type: ignore[arg-type]
    for wrong in ({"names": None}, {"text": None}, {"names": "a"}, {"text": 5}):
        with pytest.raises(ValidationError) as caught:
            Needed(**({"own": "a", "names": (), "text": "b"} | wrong))
        (problem,) = caught.value.problems
        assert problem.path == next(iter(wrong))
    with pytest.raises(ValidationError) as caught:
        Needed(own="a", names=(), text=None)  # type: ignore[arg-type]
    (problem,) = caught.value.problems
    assert (problem.expected, problem.got) == ("text", "None")


def test_equal_text_becomes_the_object_of_the_default() -> None:
    """msgspec leaves a default out of the repr by identity."""
    needed = Needed(own="a", names=(), text="b", mode="".join(["li", "ve"]))
    assert "mode" not in repr(needed)
    assert "mode='warm'" in repr(Needed(own="a", names=(), text="b", mode="warm"))


def test_struct_without_rules_is_checked() -> None:
    class Plain(msgspec.Struct):
        count: Count

    check(Plain(1))
    with pytest.raises(ValidationError, match="from 0 to 100"):
        check(Plain(101))


class Ruled(Message):
    """A struct with two rules."""

    a: str | None = None
    b_c: str | None = None
    d: str | None = None
    rules = (OneOf("a", "b_c"), AllOrNone("b_c", "d"))


def test_every_broken_rule_is_reported() -> None:
    Ruled(a="x")
    Ruled(b_c="x", d="x")
    with pytest.raises(ValidationError) as caught:
        Ruled(d="x")
    problems = [(each.code, each.path, each.message) for each in caught.value.problems]
    assert problems == [
        ("rule", "", "needs a or b-c"),
        ("rule", "", "needs b-c and d together, or none of them"),
    ]
    assert caught.value.what == "Ruled"
    with pytest.raises(ValidationError):
        Ruled(a="x", d="x")
    with pytest.raises(ValidationError):
        Ruled()


@pytest.mark.usefixtures("isolated_registry")
def test_extensions_are_checked_and_stored_in_order() -> None:
    class Many(Task, task="many", result="done", layout="list"):
        vm_name: str

    class Size(Extension, of=Many):
        size: Count | None = None

    class Colour(Extension, of=Many):
        colour: str | None = None

    assert Many(vm_name="a").extensions == ()
    both = Many(vm_name="a", extensions=[Colour(colour="red"), Size(size=1)])
    assert both.extensions == (Size(size=1), Colour(colour="red"))
    assert Many(vm_name="a", extensions=[Size()]).extensions == ()
    for wrong in (5, [Inner()], [Size(size=1), Size(size=2)]):
        with pytest.raises(ValidationError) as caught:
            Many(vm_name=5, extensions=wrong)  # type: ignore[arg-type]
        assert [each.path for each in caught.value.problems] == ["vm-name", "extensions"]


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
