"""The schemas of the rules that are for general use."""

from collections.abc import Sequence
from typing import Any

import pytest

from fastlib.codec import (
    AtMost,
    Between,
    Exclusive,
    FastlibError,
    NotEmpty,
    Positive,
    Requires,
    Rule,
)
from fastlib.migfra import ConfigSection
from fastlib.schema import schema_of
from fastlib.schema.strict_form import unsaid_rules
from tests.support.schema.readers import validator


class Options(ConfigSection):
    """The fields that the rules are about."""

    first: float | None = None
    last_one: float | None = None
    name: str | None = None
    names: Sequence[str] | None = None


def with_rule(rule: Rule) -> type[Options]:
    namespace = {"__module__": __name__, "__doc__": "Of one test.", "rules": (rule,)}
    made: type[Options] = type(Options)("Made", (Options,), namespace)
    return made


TREES: list[dict[str, Any]] = [
    {},
    {"first": 1.5},
    {"first": 0.0},
    {"first": -1.0},
    {"last-one": 1.5},
    {"first": 1.5, "last-one": 0.5},
    {"name": ""},
    {"name": "a", "first": 2.5},
    {"names": []},
    {"names": ["a"]},
]


@pytest.mark.parametrize("direction", ["emit", "load"])
@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (Requires("first", "last_one"), []),
        (Exclusive("first", "last_one"), []),
        (NotEmpty("name"), []),
        (NotEmpty("names"), []),
        (Positive("first"), ["first must be a number greater than 0"]),
        (Between("first", 0), ["first must be a number from 0 on"]),
        (Between("first", 1, 2), ["first must be a number from 1 to 2"]),
    ],
)
def test_schema_and_rule_accept_the_same_values(rule: Rule, words: list[str], direction: Any):
    cls = with_rule(rule)
    schema = schema_of(cls, direction)
    assert unsaid_rules(schema) == words
    judge = validator(schema)
    for tree in TREES:
        try:
            cls.load(tree)
        except FastlibError:
            assert not judge.is_valid(tree), tree
        else:
            assert judge.is_valid(tree), tree


def test_schema_says_rule_in_words_that_it_cannot_express():
    schema = schema_of(with_rule(AtMost("first", "last_one")), "emit")
    assert unsaid_rules(schema) == ["first must not be greater than last-one"]
    assert "allOf" not in schema


def test_schema_says_rule_of_other_package_in_words():
    class Odd(Positive):
        """The first number is odd."""

        def describe(self, keys: Any) -> str:
            return "first is odd"

    schema = schema_of(with_rule(Odd("first")), "load")
    assert unsaid_rules(schema) == ["first is odd"]
    assert "allOf" not in schema
