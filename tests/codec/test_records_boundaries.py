"""Structs by themselves: the facts of their fields, and every problem of their keys and values."""

from collections.abc import Mapping as MappingABC
from collections.abc import Sequence as SequenceABC
from typing import Annotated, Any, Literal

import msgspec
import pytest

from fastlib.codec import AllOrNone, Between, DeclarationError, Requires, Rule, Wire
from fastlib.codec.composer import compose
from fastlib.codec.derivation import fields_of, shape_of
from fastlib.codec.errors import Problem, ValidationError
from fastlib.codec.limits import Limits
from fastlib.codec.load_context import INVALID, MAX_SUGGESTIONS, LoadContext
from fastlib.codec.nodes import Mapping, Node, Scalar
from fastlib.codec.records import Converted, Field, FieldFacts, Record
from fastlib.codec.shapes import (
    Bool,
    Choice,
    Float,
    Instant,
    Int,
    InvalidValue,
    List,
    Map,
    Shape,
    Text,
)
from fastlib.codec.tree_shape import Tree
from fastlib.message import Message

NODES = 1_000_000
Digit = Annotated[int, msgspec.Meta(ge=0, le=9)]


def node_of(text: str) -> Node:
    root = compose(text, Limits(), "Case")
    assert root is not None
    return root


def load(
    shape: Shape, node: Node | str, *, unknown: Any = "ignore", **options: Any
) -> tuple[Any, list[Problem]]:
    """Load a text below the path `x`; return the value and the problems."""
    context = LoadContext("Case", Limits(max_nodes=NODES), unknown)
    node = node_of(node) if isinstance(node, str) else node
    return shape.load(node, context, ("x",), **options), context.problems


def short(problems: list[Problem]) -> list[tuple[Any, ...]]:
    return [(each.code, each.path, each.line, each.column, each.message) for each in problems]


def loaded(shape: Shape, text: str, **options: Any) -> Any:
    value, problems = load(shape, text, **options)
    assert problems == []
    return value


def refused(shape: Shape, text: str | Node) -> list[tuple[Any, ...]]:
    """Return the problems of a text, all of which are errors."""
    value, problems = load(shape, text)
    assert value is INVALID
    assert {each.severity for each in problems} == {"error"}
    return short(problems)


# --- fields ---------------------------------------------------------------------------------------


def field(
    shape: Shape, wire: Wire | None = None, *, required: bool = False, optional: bool = False
) -> Field:
    return Field("an_item", "an-item", shape, wire or Wire(), required=required, optional=optional)


def test_arguments_of_a_field_are_kept() -> None:
    shape, wire = Text(), Wire(aliases=("item", "i"))
    made = Field("a_b", "a-b", shape, wire, required=True, optional=False, default=3)
    assert (made.attribute, made.key, made.keys) == ("a_b", "a-b", ("a-b", "item", "i"))
    assert (made.shape, made.wire, made.required, made.optional) == (shape, wire, True, False)
    assert made.default == 3
    assert field(Text()).default is None
    assert (field(Text()).required, field(Text()).optional) == (False, False)


EMPTY_IS_ABSENT = Wire(empty_is_absent=True)


@pytest.mark.parametrize(
    ("shape", "value", "empty"),
    [
        (Text(), "", True), (Text(), "a", False), (List(Text()), (), True),
        (List(Text()), ("a",), False), (Map(Text()), {}, True), (Map(Text()), {"a": "b"}, False),
    ],
)  # fmt: skip
def test_empty_value_means_no_value_only_if_declared(shape: Shape, value: Any, empty: bool) -> None:
    assert field(shape, EMPTY_IS_ABSENT).is_empty(value) is empty
    assert field(shape).is_empty(value) is False


def test_items_of_a_list_are_not_written_to_find_out_whether_it_is_empty(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(List, "dump", pytest.fail)
    for value in ((), ("a",)):
        assert field(List(Text()), EMPTY_IS_ABSENT).is_empty(value) is not bool(value)


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        (Bool(), "bool"), (Int(0, 9), "number"), (Float(), "number"), (List(Text()), "list"),
        (Map(Text()), "mapping"), (Text(), "text"), (Choice({"a": 1}), "text"), (Tree(), "other"),
        (Instant(), "other"),
    ],
)  # fmt: skip
def test_kind_of_a_field_is_that_of_its_shape(shape: Shape, kind: str) -> None:
    assert FieldFacts(field(shape)).kind == kind


def test_facts_of_a_field() -> None:
    assert FieldFacts(field(Text(), optional=True)).may_be_absent is True
    assert FieldFacts(field(Text())).may_be_absent is False
    assert FieldFacts(field(Text())).may_be_empty is True
    assert FieldFacts(field(Text(), EMPTY_IS_ABSENT)).may_be_empty is False
    assert FieldFacts(field(Choice({"a": 1}))).may_be_empty is False
    assert FieldFacts(field(Choice({"a": 1}), EMPTY_IS_ABSENT)).may_be_empty is False
    assert FieldFacts(field(Int(2, 7))).bounds == (2, 7)
    assert FieldFacts(field(Float())).bounds is None


# --- declarations ---------------------------------------------------------------------------------


class Plain(msgspec.Struct):
    """A class for records that are made by hand."""

    a: str
    b: str | None = None


def named(attribute: str, *aliases: str, old: dict[str, str] | None = None) -> Field:
    wire = Wire(aliases=aliases, old=old or {})
    return Field(attribute, attribute, Text(), wire, required=True, optional=False)


class Never(Rule):
    """A rule that is always a mistake."""

    def __init__(self, *attributes: str) -> None:
        self.attributes = attributes

    def mistake(self, facts: MappingABC[str, Any]) -> str | None:
        found.append(dict(facts))
        return "it is useless"


found: list[dict[str, Any]] = []


@pytest.mark.parametrize(
    ("fields", "options", "message"),
    [
        ([named("a"), named("a")], {}, "Plain: the key 'a' belongs to two fields"),
        ([named("a"), named("b", "c", "a")], {}, "Plain: the key 'a' belongs to two fields"),
        ([named("a")], {"title": ("a", "b")}, "Plain: the key 'a' belongs to two fields"),
        ([named("a", "b")], {"title": ("b", "c")}, "Plain: the key 'b' belongs to two fields"),
        ([named("a")], {"rules": [AllOrNone("z", "a", "y")]},
         "Plain: a rule names 'y', which is not a field"),
        ([named("a"), named("b")], {"rules": [Never("a", "b")]},
         "Plain: Never('a', 'b'): it is useless"),
    ],
)  # fmt: skip
def test_wrong_declaration_is_explained(
    fields: list[Field], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(DeclarationError) as caught:
        Record(Plain, fields, **options)
    assert str(caught.value) == message


def test_rules_get_the_facts_of_all_fields() -> None:
    found.clear()
    with pytest.raises(DeclarationError):
        Record(Plain, [named("a"), named("b")], rules=[Never("a")])
    ((facts),) = found
    assert {name: each.kind for name, each in facts.items()} == {"a": "text", "b": "text"}


def test_arguments_of_a_record_are_kept() -> None:
    old = {"old-a": "write 'a'"}
    a, b = named("a", "x", old=old), named("b")
    b.key, b.keys = "b-key", ("b-key",)
    rule = AllOrNone("a", "b")
    b.optional = True
    record = Record(Plain, iter([a, b]), title=("task", "t"), rules=iter([rule]))
    assert (record.cls, record.struct) == (Plain, Plain)
    assert record.fields == (a, b)
    assert record.title == record.written_title == ("task", "t")
    assert record.rules == (rule,)
    assert record.keys == {"a": "a", "b": "b-key"}
    assert record.by_key == {"a": a, "x": a, "b-key": b}
    assert (record.old, record.refused) == (old, set())
    assert record.extensions is None
    assert record.known_keys() == ["task", "a", "x", "b-key"]
    read_only = Record(Plain, [a], title=("task", "t"), title_is_written=False)
    assert (read_only.title, read_only.written_title) == (("task", "t"), None)
    assert Record(Plain, [a]).known_keys() == ["a", "x"]
    assert Record(Plain, [a]).rules == ()


def test_struct_is_built_by_the_class_or_as_declared() -> None:
    assert Record(Plain, [named("a")]).build({"a": "1"}) == Plain("1")
    other = Record(Plain, [named("a")], build=lambda values: [values])
    assert other.build({"a": "1"}) == [{"a": "1"}]


# --- keys -----------------------------------------------------------------------------------------


class Many(msgspec.Struct):
    """A struct with each kind of key."""

    name: Annotated[str, Wire("x", aliases=("title",), old={"label": "write 'name'"})]
    count: Digit | None = None
    other: Annotated[str | None, Wire("x", old={"size": "write 'other'"}, refuses_old=True)] = None


# Functions, so that the shapes are made within the tests.


def many() -> Shape:
    return shape_of(Many)


def titled(**options: Any) -> Record:
    return Record(Many, fields_of(Many), title=("task", "many"), **options)


def test_keys_are_loaded_by_all_their_spellings() -> None:
    assert loaded(many(), "{name: a, count: 3, other: b}") == Many("a", 3, "b")
    assert loaded(many(), "title: a") == Many("a")
    assert loaded(titled(), "{task: many, name: a}") == Many("a")
    assert loaded(titled(), "{name: a, task: 'many'}") == Many("a")


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("{name: a, name: b}", [("duplicate-key", "x.name", 1, 11,
         "this key is a duplicate; remove one of the two")]),
        ("{title: a, name: b}", [("duplicate-key", "x.name", 1, 12,
         "title is given already; remove one of the two")]),
        ("{name: [], name: b}", [
            ("type", "x.name", 1, 8, "expected text; got an empty list"),
            ("duplicate-key", "x.name", 1, 12, "this key is a duplicate; remove one of the two"),
        ]),
        ("{task: many, task: many, name: a}", [("duplicate-key", "x.task", 1, 14,
         "this key is a duplicate; remove one of the two")]),
        ("{name: a, count: b, other: []}", [
            ("value", "x.count", 1, 18,
             "expected an integer from 0 to 9; got 'b'"),
            ("type", "x.other", 1, 28, "expected text; got an empty list"),
        ]),
        ("count: 1", [("missing", "x.name", 1, 1, "missing; expected text")]),
        ("[]", [("type", "x", 1, 1, "expected a mapping; got an empty list")]),
        ("~", [("value", "x", 1, 1, "expected a mapping; got null")]),
        ("a", [("value", "x", 1, 1, "expected a mapping; got 'a'")]),
    ],
)  # fmt: skip
def test_wrong_keys_are_reported(text: str, problems: list[tuple[Any, ...]]) -> None:
    assert refused(titled(), text) == problems


def test_duplicate_of_an_unknown_key_is_an_error() -> None:
    value, problems = load(many(), "{name: a, y: 1, y: 2}")
    assert value is INVALID
    assert short(problems) == [
        ("unknown-key", "x.y", 1, 11, "unknown key, ignored by every peer"),
        ("duplicate-key", "x.y", 1, 17, "this key is a duplicate; remove one of the two"),
    ]
    assert [each.severity for each in problems] == ["warning", "error"]


def test_struct_with_a_wrong_title_is_still_loaded() -> None:
    """The problem is an error; the values are for the other problems."""
    for title, code, got in (("[many]", "type", "a list"), ("other", "value", "'other'")):
        value, problems = load(titled(), f"{{task: {title}, name: a}}")
        assert value == Many("a")
        assert short(problems) == [(code, "x.task", 1, 8, f"expected 'many'; got {got}")]
        assert [(each.severity, each.expected) for each in problems] == [("error", "'many'")]


@pytest.mark.parametrize(("unknown", "severity"), [("ignore", "warning"), ("error", "error")])
def test_unknown_and_obsolete_keys_are_reported(unknown: str, severity: str) -> None:
    value, problems = load(many(), "{name: a, label: b, size: c, nmae: d}", unknown=unknown)
    assert value == Many("a")
    assert short(problems) == [
        ("old-key", "x.label", 1, 11, "write 'name'"),
        ("old-key", "x.size", 1, 21, "write 'other'"),
        ("unknown-key", "x.nmae", 1, 30, "unknown key, ignored by every peer"),
    ]
    assert [each.severity for each in problems] == [severity, "error", severity]
    assert [each.suggestion for each in problems] == [None, None, "name"]


@pytest.mark.parametrize(
    ("text", "key"), [("~: a", "null"), ("[a]: b", "a list"), ("{a: b}: c", "a mapping")]
)
def test_key_without_text_is_unknown(text: str, key: str) -> None:
    value, problems = load(many(), f"{text}\nname: a")
    assert value == Many("a")
    assert short(problems) == [
        ("unknown-key", "x", 1, 1, f"unknown key ({key}), ignored by every peer")
    ]


def test_quoted_null_is_a_key() -> None:
    _, problems = load(many(), '"null": a\nname: a')
    assert [each.path for each in problems] == ["x.null"]


@pytest.mark.parametrize(("key", "got"), [(None, "null"), (5, "5")])
def test_key_of_a_plain_tree_must_be_text(key: Any, got: str) -> None:
    mapping = Mapping(None, None)
    mapping.pairs = [
        (Scalar(key, True, None, None), Scalar("a", True, None, None)),
        (Scalar("name", True, None, None), Scalar("a", True, None, None)),
    ]
    value, problems = load(many(), mapping)
    assert value == Many("a")
    assert short(problems) == [("key", "x", None, None, f"a key must be text; got {got}")]


def test_each_value_is_counted() -> None:
    for count, fits in ((2, True), (1, False)):
        context = LoadContext("Case", Limits(max_nodes=count))
        if fits:
            many().load(node_of("{name: a, y: b}"), context, ())
            assert context._nodes == 0
        else:
            with pytest.raises(Exception, match="more than 1 nodes"):
                many().load(node_of("{name: a, y: b}"), context, ())


def test_null_is_an_empty_struct_where_it_is_asked_for() -> None:
    shape = shape_of(Absent)
    assert isinstance(shape, Record)
    assert loaded(shape, "~", null_is_empty=True) == Absent()
    assert refused(shape, "~")
    value, problems = load(shape, "''", null_is_empty=True)
    assert value is INVALID
    assert short(problems) == [("value", "x", 1, 1, "expected a mapping; got ''")]
    context = LoadContext("Case", Limits())
    assert shape.load_values(node_of("~"), context, (), null_is_empty=True) == {}
    assert shape.load_values(node_of("~"), context, ()) is INVALID


# --- missing fields and rules ---------------------------------------------------------------------


class Needed(msgspec.Struct):
    """A struct with several fields that are needed."""

    name: Annotated[str, Wire("x", old={"caption": "write 'name'"})]
    level: Digit
    mode: Literal["live", "warm"] = "live"


def test_each_missing_field_is_reported() -> None:
    value, problems = load(shape_of(Needed), "\n  mode: warm")
    assert value is INVALID
    assert short(problems) == [
        ("missing", "x.name", 2, 3, "missing; expected text"),
        ("missing", "x.level", 2, 3, "missing; expected an integer from 0 to 9"),
    ]
    assert [each.expected for each in problems] == ["text", "an integer from 0 to 9"]
    assert refused(shape_of(Needed), "name: a") == [
        ("missing", "x.level", 1, 1, "missing; expected an integer from 0 to 9")
    ]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("{level: 1, nmae: a}", "; there is 'nmae' instead"),
        ("{level: 1, caption: a}", "; there is 'caption' instead"),
        ("{level: 1, nmae: a, caption: a}", "; there is 'caption' instead"),
        ("{level: 1, zzz: a}", ""),
        ("{level: 1, levle: a}", ""),
        ('{level: 1, "na\\tme": a}', r"; there is 'na\tme' instead"),
    ],
)
def test_unknown_key_that_is_meant_for_a_missing_field_is_named(text: str, hint: str) -> None:
    _, problems = load(shape_of(Needed), text)
    (missing,) = [each for each in problems if each.code == "missing"]
    assert missing.message == f"missing; expected text{hint}"


def test_only_the_first_unknown_keys_are_compared() -> None:
    many = "".join(f"{index:04}: a\n" for index in range(MAX_SUGGESTIONS))
    for text, named_key in ((f"nmae: a\n{many}", True), (f"{many}nmae: a\n", False)):
        _, problems = load(shape_of(Needed), f"level: 1\n{text}")
        (missing,) = [each for each in problems if each.code == "missing"]
        assert missing.message.endswith("'nmae' instead") is named_key


class Ruled(msgspec.Struct):
    """A struct with a rule for the whole, one for a field, and one for two."""

    rules = (AllOrNone("first", "second"), Between("third", 1, 5), Requires("third", "first"))

    first: Annotated[str | None, Wire("x", old={"one": "write 'first'"})] = None
    second: str | None = None
    third: Annotated[Digit | None, Wire("x", aliases=("three",))] = None


def test_broken_rules_are_reported_where_they_are_broken() -> None:
    shape = shape_of(Ruled)
    assert loaded(shape, "{first: a, second: b, third: 1}") == Ruled("a", "b", 1)
    assert refused(shape, "\n first: a") == [
        ("rule", "x", 2, 2, "needs first and second together, or none of them")
    ]
    assert refused(shape, "third: 9") == [
        ("rule", "x.third", 1, 8, "expected a number from 1 to 5"),
        ("rule", "x.third", 1, 8, "needs first"),
    ]
    # A key of another spelling has the path of the main key, and its own place.
    assert refused(shape, "{first: a, second: b, three: 9}") == [
        ("rule", "x.third", 1, 30, "expected a number from 1 to 5")
    ]


def test_rule_names_a_key_that_was_probably_meant() -> None:
    _, problems = load(shape_of(Ruled), "{one: a, second: b}")
    assert [each.message for each in problems if each.code == "rule"] == [
        "needs first and second together, or none of them; there is 'one' instead"
    ]
    _, problems = load(shape_of(Ruled), "{frist: a, secnod: b, third: 1}")
    assert [each.message for each in problems if each.code == "rule"] == [
        "needs first; there is 'frist' instead"
    ]
    _, problems = load(shape_of(Ruled), "{thrid: a, first: b}")
    assert [each.message for each in problems if each.code == "rule"] == [
        "needs first and second together, or none of them"
    ]


def test_rules_see_a_duplicate_as_invalid() -> None:
    problems = refused(shape_of(Ruled), "{first: a, second: b, first: c}")
    assert [each[0] for each in problems] == ["duplicate-key"]


class Present(Rule):
    """A rule that names an attribute without a value."""

    attributes = ("b",)

    def broken(self, get: Any) -> tuple[str | None, str] | None:
        return ("b", "must be given") if get("b") is None else None


def test_broken_rule_about_an_absent_field_is_at_the_struct() -> None:
    shape = Record(Plain, [named("a"), field_b()], rules=[Present()])
    assert refused(shape, "\n a: b") == [("rule", "x.b", 2, 2, "must be given")]


def field_b() -> Field:
    return Field("b", "b", Text(), Wire(), required=False, optional=True)


def test_rules_see_invalid_values_as_such() -> None:
    assert refused(shape_of(Ruled), "{first: [], second: b, third: []}") == [
        ("type", "x.first", 1, 9, "expected text; got an empty list"),
        ("type", "x.third", 1, 31,
         "expected an integer from 0 to 9; "
         "got an empty list"),
    ]  # fmt: skip


# --- values of fields -----------------------------------------------------------------------------


class Inner(Message):
    """A struct that may be written as a text."""

    key: str


class Absent(msgspec.Struct):
    """A struct with each property of a field."""

    text: Annotated[str | None, Wire("x", empty_is_absent=True)] = None
    size: Annotated[Digit | None, Wire("x", unit="KiB")] = None
    plain: Annotated[Digit | None, Wire("x")] = None
    pairs: Annotated[dict[str, str] | None, Wire("x", null_is_empty=True)] = None
    free: Annotated[dict[str, str], Wire("x", null_is_empty=True)] = msgspec.field(
        default_factory=dict
    )
    inner: Annotated[Inner | None, Wire("x", old_scalar="key")] = None
    words: Annotated[SequenceABC[str] | None, Wire("x", empty_is_absent=True)] = None


def warned(text: str) -> tuple[Any, list[tuple[Any, ...]]]:
    value, problems = load(shape_of(Absent), text)
    assert {each.severity for each in problems} == {"warning"}
    return value, short(problems)


def test_null_is_absent_with_a_warning() -> None:
    words = "null is read as absent here, but is an error to the C++ peers; remove the key"
    for key in ("text", "size", "inner", "pairs"):
        assert warned(f"{key}: ~") == (Absent(), [("null", f"x.{key}", 1, len(key) + 3, words)])


def test_null_is_an_empty_mapping_with_a_warning() -> None:
    words = "null is read as an empty mapping here, but is an error to the C++ peers; write {}"
    value, problems = warned("free: ~")
    assert value == Absent(free={})
    assert problems == [("null", "x.free", 1, 7, words)]
    assert loaded(shape_of(Absent), "free: {}") == Absent(free={})
    assert loaded(shape_of(Absent), "free: {a: b}") == Absent(free={"a": "b"})


def test_bare_text_is_read_as_a_mapping_with_a_warning() -> None:
    words = (
        "a bare text is read as {key: abc} here, but is an error to today's C++ peers; "
        "write the mapping"
    )
    assert warned("inner: abc") == (
        Absent(inner=Inner(key="abc")),
        [("old-scalar", "x.inner", 1, 8, words)],
    )
    assert loaded(shape_of(Absent), "inner: {key: abc}") == Absent(inner=Inner(key="abc"))
    value, problems = load(shape_of(Absent), "inner: []")
    assert value is INVALID
    assert [each.code for each in problems] == ["type"]


class Number(Message):
    """A struct with a number."""

    level: Digit
    unit: str


class Outer(msgspec.Struct):
    """Structs that may be written as a number, and mappings that may be null."""

    number: Annotated[Number | None, Wire("x", old_scalar="level")] = None
    needs: Annotated[dict[str, Number], Wire("x", null_is_empty=True)] = msgspec.field(
        default_factory=dict
    )


def test_problem_of_a_bare_text_is_at_its_place() -> None:
    value, problems = load(shape_of(Outer), "\n number: abc")
    assert value is INVALID
    places = [(each.code, each.path, each.line, each.column) for each in problems]
    assert places == [
        ("old-scalar", "x.number", 2, 10),
        ("value", "x.number.level", 2, 10),
        ("missing", "x.number.unit", 2, 10),
    ]
    assert problems[1].got == "'abc'"


def test_problem_of_a_number_has_its_unit() -> None:
    value, problems = load(shape_of(Absent), "{size: a, plain: a}")
    assert value is INVALID
    integer = "an integer from 0 to 9"
    assert [each.message for each in problems] == [
        f"expected {integer}, in KiB; got 'a'",
        f"expected {integer}; got 'a'",
    ]


def test_empty_value_is_absent_if_declared() -> None:
    assert loaded(shape_of(Absent), "{text: '', words: []}") == Absent()
    assert loaded(shape_of(Absent), "{text: a, words: [b]}") == Absent(text="a", words=("b",))


class TextAndMore(msgspec.Struct):
    """A rule that sees an empty text as absent."""

    rules = (AllOrNone("text", "more"),)

    text: Annotated[str | None, Wire("x", empty_is_absent=True)] = None
    more: str | None = None


def test_rules_see_an_empty_value_as_absent() -> None:
    assert loaded(shape_of(TextAndMore), "text: ''") == TextAndMore()
    assert len(refused(shape_of(TextAndMore), "{text: '', more: a}")) == 1


# --- construction, writing and checking -----------------------------------------------------------


def failing(values: dict[str, Any]) -> Any:
    problems = [
        Problem(code="own", message="wrong", path=path, line=9, column=9) for path in ("a", "")
    ]
    raise ValidationError("Other", problems)


def test_problems_of_the_constructor_get_the_place_of_the_struct() -> None:
    shape = Record(Plain, [named("a")], build=failing)
    assert refused(shape, "\n  a: b") == [
        ("own", "x.a", 2, 3, "wrong"),
        ("own", "x", 2, 3, "wrong"),
    ]
    value, problems = load(shape, "{a: b, z: c}")
    assert value is INVALID
    assert [each.code for each in problems] == ["unknown-key", "own", "own"]


def test_absent_values_are_not_written() -> None:
    assert many().dump(Many("a", None, "b")) == {"name": "a", "other": "b"}
    assert titled().dump(Many("a", 3)) == {"task": "many", "name": "a", "count": 3}
    assert titled(title_is_written=False).dump(Many("a", 3)) == {"name": "a", "count": 3}
    assert [*titled().dump(Many("a", 3))] == ["task", "name", "count"]


class Child(Plain):
    """A subclass, whose further fields would be lost."""


def test_only_the_class_itself_is_accepted() -> None:
    shape = Record(Plain, [named("a")])
    value = Plain("a")
    assert shape.check(value) is value
    for wrong, shown in ((Child("a"), "Child(a='a', b=None)"), (3, "3")):
        with pytest.raises(InvalidValue) as caught:
            shape.check(wrong)
        error = caught.value
        assert (error.path, error.expected, error.got) == ((), "a Plain", shown)


class Parts:
    """Extensions as `Record` needs them: the key `part` belongs to an extension."""

    attribute = "parts"
    result: Any = ("loaded",)

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def __iter__(self) -> Any:
        return iter(())

    def keys(self) -> list[str]:
        return ["part"]

    def split(self, node: Any, pairs: list[Any]) -> Any:
        assert node.pairs is pairs
        own = [pair for pair in pairs if pair[0].value != "part"]
        return own, [pair for pair in pairs if pair[0].value == "part"]

    def load(self, parts: Any, context: LoadContext, path: Any) -> Any:
        context.add_problem(parts[0][0], path, "part", "loaded", severity="warning")
        return self.result

    def dump(self, value: Any) -> dict[str, Any]:
        return {"part": value.a}


def test_extensions_get_their_pairs() -> None:
    parts = Parts()
    record = Record(
        Plain, [named("a")], title=("task", "t"), build=lambda values: values, extensions=parts
    )
    assert record.extensions is parts
    assert loaded(record, "a: b") == {"a": "b"}
    value, problems = load(record, "{a: b, part: c}")
    assert value == {"a": "b", "parts": ("loaded",)}
    assert short(problems) == [("part", "x", 1, 8, "loaded")]
    parts.result = INVALID
    assert load(record, "{a: b, part: c}")[0] is INVALID
    assert record.known_keys() == ["task", "a", "part"]
    assert record.dump(Plain("b")) == {"task": "t", "a": "b", "part": "b"}


# --- converted types ------------------------------------------------------------------------------


class Even:
    """A number that is written as its half."""

    def __init__(self, value: int) -> None:
        self.value = value

    def to_wire(self) -> int:
        return self.value // 2

    @classmethod
    def from_wire(cls, wire: int) -> "Even":
        if wire == 3:
            raise ValueError("three is not allowed")
        if wire == 4:
            raise ValidationError(
                "Even", [Problem(code="own", message="wrong", path=path) for path in ("a", "")]
            )
        return cls(wire * 2)


def test_type_is_converted_from_and_to_its_wire_form() -> None:
    shape = Converted(Even, Int(0, 9))
    assert shape.expected == "an integer from 0 to 9"
    assert shape.cls is Even
    assert loaded(shape, "2").value == 4
    assert shape.dump(Even(6)) == 3
    even = Even(2)
    assert shape.check(even) is even
    with pytest.raises(InvalidValue) as caught:
        shape.check("a")
    assert (caught.value.path, caught.value.expected, caught.value.got) == ((), "a Even", "'a'")


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("- 3", [("value", "x[0]", 1, 3, "three is not allowed")]),
        ("- 4", [("own", "x[0].a", 1, 3, "wrong"), ("own", "x[0]", 1, 3, "wrong")]),
        ("- a", [("value", "x[0]", 1, 3, "expected an integer from 0 to 9; got 'a'")]),
        ("- a\n- 4\n- 3", [
            ("value", "x[0]", 1, 3, "expected an integer from 0 to 9; got 'a'"),
            ("own", "x[1].a", 2, 3, "wrong"),
            ("own", "x[1]", 2, 3, "wrong"),
            ("value", "x[2]", 3, 3, "three is not allowed"),
        ]),
    ],
)  # fmt: skip
def test_wrong_wire_form_is_reported(text: str, problems: list[tuple[Any, ...]]) -> None:
    assert refused(List(Converted(Even, Int(0, 9))), text) == problems
