"""A rule that never applies, or that cannot be checked, is refused when its struct is declared."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import pytest
from msgspec import Meta

from fastlib import DeclarationError, Extension, Message, Start, Task
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
    Wire,
    shape_of,
)
from fastlib.migfra import ConfigSection
from tests.support.declarations import declare

pytestmark = pytest.mark.usefixtures("isolated_registry")

Small = Annotated[int, Meta(ge=0, le=9)]
FromOne = Annotated[int, Meta(ge=1, le=9)]


def declared(rule: Rule) -> type[Message]:
    """Declare a message with fields of all kinds, and one rule."""

    class Sample(Message):
        rules: ClassVar[tuple[Rule, ...]] = (rule,)

        name: str
        size: Small = 3
        text: str | None = None
        word: Literal["a", "b"] | None = None
        flag: bool | None = None
        always: bool = False
        number: Small | None = None
        other: Annotated[float | None, Wire("Any number.")] = None
        positive: FromOne | None = None
        items: Sequence[str] | None = None
        table: Mapping[str, str] | None = None
        full: Annotated[str | None, Wire("Not empty.", empty_is_absent=True)] = None

    return Sample


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (Needs("text", "number"), "true or false, and 'text' is none; for any value, use Requires"),
        (Needs("number", "text"), "use Requires('number', 'text')"),
        (Needs("word", "text"), "never applies"),
        (Needs("items", "text"), "never applies"),
        (Needs("flag", "name"), "'name' is always given"),
        (Needs("flag", "size"), "'size' is always given"),
        (Needs("flag", "flag"), "both attributes are the same"),
        (Requires("text", "name"), "'name' is always given"),
        (Requires("text", "text"), "both attributes are the same"),
        (OneOf("text", "name"), "'name' is always given"),
        (OneOf("text", "size"), "'size' is always given"),
        (OneOf(), "no attributes"),
        (AllOrNone("text"), "needs two attributes"),
        (AllOrNone("text", "text"), "needs two attributes"),
        (AllOrNone("name", "size"), "always given"),
        (Exclusive("text", "text"), "both attributes are the same"),
        (Exclusive("name", "text"), "'name' is always given, so the other could never be"),
        (Exclusive("text", "size"), "'size' is always given"),
        (Positive("text"), "'text' must be a number"),
        (Positive("flag"), "'flag' must be a number"),
        (Positive("items"), "'items' must be a number"),
        (Positive("positive"), "the type of 'positive' begins at 1"),
        (Between("text", 1, 2), "'text' must be a number"),
        (Between("number", 0, 9), "allows no other value"),
        (Between("number", -1), "allows no other value"),
        (AtMost("text", "number"), "'text' must be a number"),
        (AtMost("number", "word"), "'word' must be a number"),
        (AtMost("number", "number"), "both attributes are the same"),
        (NotEmpty("number"), "neither a text nor a list nor a mapping"),
        (NotEmpty("flag"), "neither a text nor a list nor a mapping"),
        (NotEmpty("full"), "an empty 'full' is read as absent"),
        (NotEmpty("word"), "never applies"),
    ],
)
def test_rule_without_a_meaning_is_refused(rule: Rule, said: str) -> None:
    sample = declared(rule)
    with pytest.raises(DeclarationError) as caught:
        shape_of(sample)
    assert said in str(caught.value)
    assert type(rule).__name__ in str(caught.value)
    assert str(caught.value).startswith("Sample: ")


@pytest.mark.parametrize(
    "rule",
    [
        Needs("flag", "text"),
        Needs("always", "text"),
        Requires("text", "number"),
        Requires("name", "text"),
        OneOf("text", "number"),
        AllOrNone("text", "number"),
        AllOrNone("name", "number"),
        Exclusive("text", "number"),
        Positive("size"),
        Positive("other"),
        Between("number", 1, 9),
        Between("other", 0),
        AtMost("size", "number"),
        AtMost("other", "number"),
        NotEmpty("name"),
        NotEmpty("items"),
        NotEmpty("table"),
    ],
)
def test_rule_with_a_meaning_is_taken(rule: Rule) -> None:
    shape_of(declared(rule))


def test_own_rule_need_not_say_anything() -> None:
    class Own(Rule):
        """A rule of another package that was written before rules were checked."""

        attributes = ("text",)

        def broken(self, get: Any) -> None:
            return None

    shape_of(declared(Own()))


def test_task_is_refused_when_it_is_declared() -> None:
    with pytest.raises(DeclarationError, match="Needs\\('label', 'mode'\\): it never applies"):
        declare(
            hints={"label": str | None, "mode": str | None},
            members={"label": None, "mode": None, "rules": (Needs("label", "mode"),)},
            task="a",
            result="b",
        )


def test_section_of_a_configuration_is_refused() -> None:
    class Options(ConfigSection):
        rules: ClassVar[tuple[Rule, ...]] = (Needs("label", "mode"),)
        label: str | None = None
        mode: str | None = None

    with pytest.raises(DeclarationError, match="Requires"):
        shape_of(Options)


# --- extensions -----------------------------------------------------------------------------------


def test_extension_must_name_its_task() -> None:
    with pytest.raises(DeclarationError, match=r"class Odd\(Extension, of=Start\)"):

        class Odd(Extension):
            """An option that no task would have."""

            odd: bool | None = None


def test_extension_of_an_extension_must_name_its_task() -> None:
    class Even(Extension, of=Start):
        """An option."""

        even: bool | None = None

    with pytest.raises(DeclarationError, match="must name the task that it extends"):

        class Odd(Even):
            """Another one."""

            odd: bool | None = None


def test_other_messages_need_no_keyword() -> None:
    class Plain(Message):
        """A part of a message."""

    class Base(Task):
        """The base of several tasks."""

    assert Plain() == Plain()
    assert Base.__name__ == "Base"
