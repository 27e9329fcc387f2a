"""Shapes from annotations: each type, and each declaration that is refused, in all its words."""

import enum
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import pytest
from msgspec import Meta

from fastlib.codec.annotations import Wire
from fastlib.codec.derivation import fields_of, shape_of, shape_of_type
from fastlib.codec.errors import DeclarationError
from fastlib.codec.records import Converted, Record
from fastlib.codec.rules import OneOf
from fastlib.codec.shapes import Bool, Choice, Float, Instant, Int, List, Map, Shape, Text
from fastlib.codec.tree_shape import Tree

Small = Annotated[int, Meta(ge=0, le=9)]


class Checked(msgspec.Struct):
    """The base of the structs here: as a message, it checks its values."""

    def __post_init__(self) -> None:
        """Check nothing."""


class Part(Checked):
    name: str


class Colour(enum.Enum):
    RED = "red"
    ONE = 1


class Own:
    """No struct, but with a shape of its own."""

    @staticmethod
    def __shape__() -> Shape:
        return Bool()


def struct(**fields: Any) -> type[msgspec.Struct]:
    """Return a struct `Case` with these fields: hints, or pairs of a hint and its default."""
    pairs = [
        (name, *hint) if isinstance(hint, tuple) else (name, hint) for name, hint in fields.items()
    ]
    return msgspec.defstruct("Case", pairs, bases=(Checked,), kw_only=True)


@pytest.mark.parametrize(
    ("hint", "kind"),
    [
        (str, Text), (bool, Bool), (Small, Int), (float, Float), (datetime, Instant), (Any, Tree),
        (Literal["a", "b"], Choice), (Colour, Choice), (Sequence[str], List), (list[str], List),
        (tuple[str, ...], List), (Mapping[str, bool], Map), (dict[str, bool], Map), (Part, Record),
        (Own, Bool),
    ],
)  # fmt: skip
def test_type_has_its_shape(hint: Any, kind: type[Shape]) -> None:
    assert type(shape_of_type(hint, "Case.x")) is kind


def test_shape_has_the_bounds_of_its_type() -> None:
    number = shape_of_type(Annotated[int, Meta(ge=2, le=9)], "Case.x")
    assert isinstance(number, Int)
    assert (number.low, number.high, number.digits) == (2, 9, 0)
    number = shape_of_type(Annotated[int, Meta(ge=0, le=9)], "Case.x", Wire(hex_digits=4))
    assert isinstance(number, Int)
    assert (number.low, number.digits) == (0, 4)
    real = shape_of_type(float, "Case.x", Wire(decimals=3))
    assert isinstance(real, Float)
    assert real.decimals == 3
    text = shape_of_type(Annotated[str, "other", Meta(max_length=3)], "Case.x")
    assert isinstance(text, Text)
    assert text.max == 3
    twice = Annotated[Annotated[str, Meta(max_length=3)], "other"]
    text = shape_of_type(twice, "Case.x")
    assert isinstance(text, Text)
    assert text.max == 3
    assert shape_of_type(Literal["b", "a"], "Case.x").expected == "one of b, a"
    colours = shape_of_type(Colour, "Case.x")
    assert isinstance(colours, Choice)
    assert colours.values == {"red": Colour.RED, "1": Colour.ONE}
    numbers = shape_of_type(Sequence[Small], "Case.x")
    assert isinstance(numbers, List)
    assert isinstance(numbers.item, Int)
    for pairs in (False, True):
        mapping = shape_of_type(Mapping[str, Small], "Case.x", Wire(pairs=pairs))
        assert isinstance(mapping, Map)
        assert mapping.pairs is pairs
        assert isinstance(mapping.value, Int)


CANNOT = (
    "use str, bool, float, datetime, Annotated[int, Meta(…)], a Literal or enum of texts, "
    "Sequence, Mapping[str, …], another message, or these | None"
)
RANGE = "an integer needs a range: Annotated[int, Meta(ge=…, le=…)]"


@pytest.mark.parametrize(
    ("hint", "text"),
    [
        (bytes, f"Case.x: <class 'bytes'> cannot be sent; {CANNOT}"),
        (set[str], f"Case.x: set[str] cannot be sent; {CANNOT}"),
        (tuple[str, str], f"Case.x: tuple[str, str] cannot be sent; {CANNOT}"),
        (dict[bool, str], f"Case.x: dict[bool, str] cannot be sent; {CANNOT}"),
        (Literal["a", 1], f"Case.x: typing.Literal['a', 1] cannot be sent; {CANNOT}"),
        (Annotated[bytes, "x"], f"Case.x: <class 'bytes'> cannot be sent; {CANNOT}"),
        (list[bytes], f"Case.x: <class 'bytes'> cannot be sent; {CANNOT}"),
        (dict[str, bytes], f"Case.x: <class 'bytes'> cannot be sent; {CANNOT}"),
        (int, f"Case.x: {RANGE}"),
        (Annotated[int, Meta(ge=0)], f"Case.x: {RANGE}"),
        (Annotated[int, Meta(le=9)], f"Case.x: {RANGE}"),
        (Annotated[int, Meta(ge=-1, le=9)], "Case.x: the integers of the protocol have no sign"),
        (
            msgspec.defstruct("Plain", ["x"]),
            "Case.x: Plain checks nothing; make it a Message",
        ),
    ],
)  # fmt: skip
def test_type_that_cannot_be_sent_is_refused_with_the_field(hint: Any, text: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        shape_of_type(hint, "Case.x")
    assert str(caught.value) == text
    with pytest.raises(DeclarationError) as caught:
        fields_of(struct(x=hint))
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("hint", "text"),
    [
        ((str | None,), "Case.x: a field that may be absent has the default None"),
        ((str | None, "a"), "Case.x: a field that may be absent has the default None"),
        (
            (Annotated[str, Wire(empty_is_absent=True)],),
            "Case.x: it must not be absent, so an empty value cannot mean absent",
        ),
        ((str, None), "Case.x: its default does not fit: expected text; got None"),
        ((Small, 10), "Case.x: its default does not fit: expected an integer from 0 to 9; got 10"),
    ],
)  # fmt: skip
def test_field_whose_default_or_absence_does_not_fit_is_refused(
    hint: tuple[Any, ...], text: str
) -> None:
    with pytest.raises(DeclarationError) as caught:
        fields_of(struct(x=hint))
    assert str(caught.value) == text


def test_struct_of_its_own_type_is_refused_and_nothing_is_left() -> None:
    class Loop(Checked):
        inner: "Annotated[Loop | None, Wire()]" = None

    Loop.__annotations__["inner"] = Annotated[Loop | None, Wire()]
    words = "Loop: a message cannot hold one of its own type"
    for _ in range(2):  # the second attempt finds nothing of the first one
        with pytest.raises(DeclarationError) as caught:
            shape_of(Loop)
        assert str(caught.value) == words


def test_field_has_its_facts() -> None:
    wire = Wire("The name.", unit="KiB")
    cls = msgspec.defstruct(
        "Case",
        [
            ("a", Annotated[str, wire]),
            ("b", Annotated[str, wire] | None, None),
            ("c", Small, 3),
            ("d", Annotated[Annotated[int, Meta(ge=0, le=9)], wire] | None, None),
            ("e", list[str], msgspec.field(default_factory=list)),
            ("long_name", str),
        ],
        bases=(Checked,), kw_only=True, rename="kebab",
    )  # fmt: skip
    fields = fields_of(cls)
    assert [field.attribute for field in fields] == ["a", "b", "c", "d", "e", "long_name"]
    assert [field.key for field in fields] == ["a", "b", "c", "d", "e", "long-name"]
    assert [field.required for field in fields] == [True, False, False, False, False, True]
    assert [field.optional for field in fields] == [False, True, False, True, False, False]
    assert [field.default for field in fields] == [None, None, 3, None, None, None]
    assert [field.wire for field in fields] == [wire, wire, Wire(), wire, Wire(), Wire()]
    kinds = [Text, Text, Int, Int, List, Text]
    assert [type(field.shape) for field in fields] == kinds
    fields.clear()  # a copy
    assert len(fields_of(cls)) == 6


@pytest.mark.parametrize(
    ("hint", "expected"),
    [
        (Annotated[str, Meta(min_length=2), Meta(max_length=5)], "text of 2 to 5 characters"),
        (Annotated[str, Meta(min_length=2), Meta(min_length=2)], "text of 2 or more characters"),
        (Annotated[str, Meta(description="a"), Meta(pattern="b")], "text that matches b"),
        (Annotated[Annotated[int, Meta(ge=1)], Meta(le=9)], "an integer from 1 to 9"),
        (Annotated[float, Meta(description="a")], "a number"),
    ],
)
def test_bounds_of_all_annotations_apply(hint: Any, expected: str) -> None:
    assert shape_of_type(hint, "Case.x").expected == expected
    (field,) = fields_of(struct(x=(hint | None, None)))
    assert field.shape.expected == expected


def test_bounds_around_none_apply_with_those_within() -> None:
    inner = Annotated[str, Meta(min_length=2)] | None
    (field,) = fields_of(struct(x=(Annotated[inner, Meta(max_length=5)], None)))
    assert field.shape.expected == "text of 2 to 5 characters"


UNCHECKED = (
    "is not checked here; int has ge and le, str has min_length, max_length and pattern, and a "
    "Rule can check the rest"
)


@pytest.mark.parametrize(
    ("hint", "text"),
    [
        (Annotated[float, Meta(ge=0)], f"Meta(ge=…) {UNCHECKED}"),
        (Annotated[float, Meta(lt=1.5)], f"Meta(lt=…) {UNCHECKED}"),
        (Annotated[int, Meta(gt=0, le=9)], f"Meta(gt=…) {UNCHECKED}"),
        (Annotated[int, Meta(ge=0, le=9, multiple_of=3)], f"Meta(multiple_of=…) {UNCHECKED}"),
        (Annotated[list[str], Meta(min_length=1)], f"Meta(min_length=…) {UNCHECKED}"),
        (Annotated[Mapping[str, str], Meta(max_length=1)], f"Meta(max_length=…) {UNCHECKED}"),
        (Annotated[Literal["a"], Meta(pattern="a")], f"Meta(pattern=…) {UNCHECKED}"),
        (Annotated[str, Meta(max_length=3), Meta(max_length=5)],
         "Meta(max_length=…) is given twice, and differs"),
        (Annotated[int, Meta(ge=0, le=3), Meta(ge=1)], "Meta(ge=…) is given twice, and differs"),
    ],
)  # fmt: skip
def test_bound_that_fastlib_cannot_check_is_refused(hint: Any, text: str) -> None:
    """Else an author would rely on it."""
    with pytest.raises(DeclarationError) as caught:
        shape_of_type(hint, "Case.x")
    assert str(caught.value) == f"Case.x: {text}"


def test_annotated_type_may_be_one_of_two_with_none() -> None:
    """`X | None` needs a hash of the annotation."""
    assert hash(Wire("a", old={"b": "c"})) == hash(Wire("a", old={"b": "c"}))
    assert len({hash(Wire("a")), hash(Wire("b")), hash(Wire("a", unit="s"))}) == 3
    (field,) = fields_of(struct(x=(Annotated[str, Wire("a", old={"b": "c"})] | None, None)))
    assert field.optional
    assert field.wire.old == {"b": "c"}


def test_fields_in_first_go_before_the_others() -> None:
    class Case(Checked, kw_only=True):
        __first__: ClassVar = ("c", "b")
        a: str
        b: str
        c: str

    assert [field.attribute for field in fields_of(Case)] == ["b", "c", "a"]


def test_field_of_the_extensions_has_no_key() -> None:
    class Case(Checked, kw_only=True):
        __extensions__: ClassVar = "more"
        a: str
        more: tuple[Any, ...] = ()

    assert [field.attribute for field in fields_of(Case)] == ["a"]
    shape = shape_of(Case)
    assert isinstance(shape, Record)
    assert shape.extensions is not None


def test_struct_has_its_title_and_rules() -> None:
    class Plain(Checked):
        a: str | None = None

    shape = shape_of(Plain)
    assert isinstance(shape, Record)
    assert (shape.cls, shape.title, shape.rules) == (Plain, None, ())
    assert shape.extensions is None
    assert shape_of(Plain) is shape

    class Titled(Checked):
        __title__: ClassVar = ("task", "x")
        __title_is_written__: ClassVar = False
        rules: ClassVar = (OneOf("a", "b"),)
        a: str | None = None
        b: str | None = None

    shape = shape_of(Titled)
    assert isinstance(shape, Record)
    assert (shape.title, shape.written_title) == (("task", "x"), None)
    assert shape.rules == Titled.rules

    class Written(Checked):
        __title__: ClassVar = ("task", "x")

    shape = shape_of(Written)
    assert isinstance(shape, Record)
    assert shape.written_title == ("task", "x")


def test_struct_with_another_form_on_the_wire_is_converted() -> None:
    class Case(Checked):
        __wire__: ClassVar = Part
        a: str

    shape = shape_of(Case)
    assert isinstance(shape, Converted)
    assert shape.cls is Case
    assert shape_of(Own) is shape_of(Own)
    assert isinstance(shape_of(Own), Bool)
