"""The rules between the fields of a struct, on construction and on load."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, ClassVar

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastlib.codec import (
    AllOrNone,
    AtMost,
    Between,
    Exclusive,
    Needs,
    NotEmpty,
    OneOf,
    Positive,
    Requires,
    Rule,
    ValidationError,
    ValueRule,
    Wire,
)
from fastlib.message import Message

pytestmark = pytest.mark.usefixtures("isolated_registry")

Count = Annotated[int, msgspec.Meta(ge=0, le=100)]


class Options(Message):
    """The fields that the rules of these tests are about."""

    first: float | None = None
    last_one: float | None = None
    count: Count | None = None
    name: str | None = None
    other: str | None = None
    on: bool | None = None
    names: Sequence[str] | None = None


def with_rules(*rules: Rule) -> type[Options]:
    namespace = {"__module__": __name__, "__doc__": "Of one test.", "rules": rules}
    made: type[Options] = type(Options)("Made", (Options,), namespace)
    return made


PROBLEMS: list[tuple[Rule, dict[str, Any], str, str]] = [
    # rule, values, path, message
    (OneOf("first", "last_one"), {}, "", "needs first or last-one"),
    (OneOf("first", "last_one"), {"first": 1.0}, "", ""),
    (AllOrNone("first", "last_one"), {}, "", ""),
    (AllOrNone("first", "last_one"), {"first": 1.0, "last_one": 1.0}, "", ""),
    (
        AllOrNone("first", "last_one"),
        {"first": 1.0},
        "",
        "needs first and last-one together, or none of them",
    ),
    (Needs("on", "last_one"), {"on": True}, "on", "needs last-one"),
    (Needs("on", "last_one"), {"on": True, "last_one": 1.0}, "", ""),
    (Needs("on", "last_one"), {"on": False}, "", ""),
    (Requires("on", "last_one"), {"on": False}, "on", "needs last-one"),
    (Requires("on", "last_one"), {"last_one": 1.0}, "", ""),
    (Requires("on", "last_one"), {"on": False, "last_one": 1.0}, "", ""),
    (Exclusive("first", "last_one"), {"first": 1.0}, "", ""),
    (Exclusive("first", "last_one"), {"last_one": 1.0}, "", ""),
    (
        Exclusive("first", "last_one"),
        {"first": 1.0, "last_one": 2.0},
        "last-one",
        "first is given as well; remove one of the two",
    ),
    (Positive("last_one"), {}, "", ""),
    (Positive("last_one"), {"last_one": 0.5}, "", ""),
    (Positive("last_one"), {"last_one": 0.0}, "last-one", "expected a number greater than 0"),
    (Positive("last_one"), {"last_one": -1.0}, "last-one", "expected a number greater than 0"),
    (
        Positive("last_one"),
        {"last_one": float("inf")},
        "last-one",
        "expected a number greater than 0",
    ),
    (
        Positive("last_one"),
        {"last_one": float("nan")},
        "last-one",
        "expected a number greater than 0",
    ),
    (Positive("count"), {"count": 0}, "count", "expected a number greater than 0"),
    (Between("count", 3), {}, "", ""),
    (Between("count", 3), {"count": 3}, "", ""),
    (Between("count", 3), {"count": 2}, "count", "expected a number from 3 on"),
    (Between("first", 3), {"first": float("inf")}, "first", "expected a number from 3 on"),
    (Between("first", 0, 1), {"first": 1.0}, "", ""),
    (Between("first", 0, 1), {"first": 1.5}, "first", "expected a number from 0 to 1"),
    (Between("first", 0, 1), {"first": -0.5}, "first", "expected a number from 0 to 1"),
    (AtMost("first", "last_one"), {"first": 2.0}, "", ""),
    (AtMost("first", "last_one"), {"last_one": 2.0}, "", ""),
    (AtMost("first", "last_one"), {"first": 2.0, "last_one": 2.0}, "", ""),
    (
        AtMost("first", "last_one"),
        {"first": 2.5, "last_one": 2.0},
        "first",
        "is greater than last-one",
    ),
    (NotEmpty("name"), {}, "", ""),
    (NotEmpty("name"), {"name": "a"}, "", ""),
    (NotEmpty("name"), {"name": ""}, "name", "is empty"),
    (NotEmpty("names"), {"names": ("",)}, "", ""),
    (NotEmpty("names"), {"names": ()}, "names", "is empty"),
]


@pytest.mark.parametrize(("rule", "values", "path", "message"), PROBLEMS)
def test_rule_is_checked_on_construction_and_on_load(
    rule: Rule, values: dict[str, Any], path: str, message: str
):
    cls = with_rules(rule)
    tree = Options(**values).emit()
    if not message:
        assert cls.load(tree) == cls.from_yaml(cls(**values).to_yaml()) == cls(**values)
        return
    attempts = [
        lambda: cls(**values),
        lambda: cls.load(tree),
        lambda: cls.from_yaml(Options(**values).to_yaml()),
    ]
    for attempt in attempts:
        with pytest.raises(ValidationError) as caught:
            attempt()
        (problem,) = caught.value.problems
        assert (problem.path, problem.message, problem.code) == (path, message, "rule")


@pytest.mark.parametrize(
    "rule", [Positive("first"), Between("first", 0), AtMost("first", "last_one")]
)
def test_rule_is_not_checked_for_value_that_cannot_be_loaded(rule: Rule):
    with pytest.raises(ValidationError) as caught:
        with_rules(rule).load({"first": "much", "last-one": "more"})
    assert [problem.code for problem in caught.value.problems] == ["value", "value"]


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (OneOf("first", "last_one"), "needs first or last-one"),
        (AllOrNone("first", "last_one"), "needs first and last-one together, or none of them"),
        (Needs("on", "last_one"), "on needs last-one"),
        (Requires("on", "last_one"), "on needs last-one"),
        (Exclusive("first", "last_one"), "takes first or last-one, not both"),
        (Positive("last_one"), "last-one must be a number greater than 0"),
        (Between("last_one", 1), "last-one must be a number from 1 on"),
        (Between("last_one", 1, 2.5), "last-one must be a number from 1 to 2.5"),
        (AtMost("first", "last_one"), "first must not be greater than last-one"),
        (NotEmpty("last_one"), "last-one must not be empty"),
    ],
)
def test_describe_names_the_wire_keys(rule: Rule, words: str):
    keys = {"first": "first", "last_one": "last-one", "on": "on"}
    assert rule.describe(keys) == words


# --- rules of other packages ----------------------------------------------------------------------


class Even(ValueRule):
    """A number must be even."""

    def problem_with(self, value: Any) -> str | None:
        return None if value % 2 == 0 else "{count} must be even"


class Unlike(OneOf):
    """A subclass of a rule that is compiled."""

    def broken(self, get: Any) -> tuple[str | None, str] | None:
        return ("name", "must be unlike {other}") if get("name") == get("other") else None


def test_rule_of_other_package_is_described_by_its_docstring():
    assert Even("count").describe({}) == "A number must be even."
    assert type("Undocumented", (Rule,), {})().describe({}) == "Undocumented"


def test_value_rule_shows_its_text_unchanged():
    with pytest.raises(ValidationError, match=r"count: \{count\} must be even"):
        with_rules(Even("count"))(count=3)
    assert with_rules(Even("count"))(count=4).count == 4


def test_subclass_of_compiled_rule_is_called():
    with pytest.raises(ValidationError, match="name: must be unlike other"):
        with_rules(Unlike("name", "other"))(name="a", other="a")
    assert with_rules(Unlike("name", "other"))(name="a").other is None


def test_rule_without_implementation_raises():
    with pytest.raises(NotImplementedError):
        with_rules(Rule())()
    with pytest.raises(NotImplementedError):
        with_rules(ValueRule("name"))(name="a")


executed: list[str] = []
"""The source texts of the next tests append to it, if they are ever executed."""

SOURCE = f"__import__('sys').modules[{__name__!r}].executed.append('x') or True"


@pytest.fixture
def nothing_executed() -> Iterator[None]:
    executed.clear()
    yield
    assert executed == []


@pytest.mark.usefixtures("nothing_executed")
def test_source_text_of_a_rule_is_not_executed():
    class Sly(Even):
        kept = SOURCE
        condition = SOURCE

    with pytest.raises(ValidationError, match="must be even"):
        with_rules(Sly("count"))(count=3)


@pytest.mark.usefixtures("nothing_executed")
@pytest.mark.parametrize("make", [OneOf, AllOrNone, Needs])
def test_attribute_names_of_a_rule_are_not_executed(make: Any):
    rule = make("name", "other")
    cls = with_rules(rule)
    rule.attributes = (f"name or {SOURCE}", "other")
    with contextlib.suppress(ValidationError, AttributeError):
        cls(name="a")


numbers = st.none() | st.floats() | st.sampled_from([0.0, 1.0, -1.0])


@given(first=numbers, last_one=numbers, on=st.none() | st.booleans())
@example(first=None, last_one=None, on=True)
@example(first=0.0, last_one=None, on=None)
def test_compiled_condition_agrees_with_the_rule(
    first: float | None, last_one: float | None, on: bool | None
):
    values = {"first": first, "last_one": last_one, "on": on}
    for cls in COMPILED:
        (rule,) = cls.rules
        try:
            cls(**values)
        except ValidationError:
            followed = False
        else:
            followed = True
        assert followed == (rule.broken(values.get) is None)


COMPILED = [
    with_rules(rule)
    for rule in (OneOf("first", "last_one"), AllOrNone("first", "last_one"), Needs("on", "first"))
]


# --- empty values ---------------------------------------------------------------------------------


class Emptiable(Message):
    """Empty texts are absent."""

    rules: ClassVar[tuple[Rule, ...]] = (Exclusive("a", "b"), AllOrNone("b", "c"))

    a: Annotated[str | None, Wire("One.", empty_is_absent=True)] = None
    b: Annotated[str | None, Wire("Another.", empty_is_absent=True)] = None
    c: Annotated[str | None, Wire("A third.", empty_is_absent=True)] = None


@pytest.mark.parametrize("text", ["a: x\nb: ''\n", "b: ''\n", "{a: x, b: ''}", "{b: ''}"])
def test_rule_takes_empty_value_for_absent(text: str):
    # The block style is loaded by the fast reader, the flow style by the exact one.
    assert Emptiable.from_yaml(text).b is None
