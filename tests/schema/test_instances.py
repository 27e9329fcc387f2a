"""Instances of `emit` schemas are read, and written again unchanged."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastlib.schema import find_kind, instances
from fastlib.schema.shrinking import shrunk
from tests.support.schema.readers import names, schema, validator
from tests.support.strategies import examples

NUMBERS = re.compile(r"wall: |-?\.(inf|nan)$")


def leaves(tree):
    if isinstance(tree, dict | list):
        for below in tree.values() if isinstance(tree, dict) else tree:
            yield from leaves(below)
    else:
        yield tree


@pytest.mark.parametrize("name", names())
def test_instances_of_emit_are_written_unchanged(name):
    judge = validator(schema(f"emit/{name}"))
    kind = find_kind(name)
    seen = []

    @examples(everyday=5, nightly=1000)
    @given(instances(schema(f"emit/{name}")))
    def check(tree):
        if judge.is_valid(tree):
            seen.append(tree)
            # A number in a text may be written in several ways, and JSON has no word for some.
            found = [*leaves(tree)]
            if any(isinstance(leaf, float) and round(leaf, 3) != leaf for leaf in found):
                return  # a time is written with six decimals, a part or a rate with three
            if not any(isinstance(leaf, str) and NUMBERS.match(leaf) for leaf in found):
                assert kind.cls.load(tree).emit() == tree

    check()
    assert seen


@given(st.integers(0, 2**64), st.lists(st.text(max_size=5), max_size=5))
@settings(max_examples=50)
def test_shrinking_ends_at_the_smallest_fault(bound, texts):
    tree = {"a": {"b": [2**64 + bound, *texts], "c": "x" * 30}, "d": True}
    found = shrunk(tree, lambda t: isinstance(t.get("a"), dict)
                   and any(type(n) is int and n >= bound for n in t["a"].get("b", ())))  # fmt: skip
    assert found == {"a": {"b": [max(bound, 0)]}}
