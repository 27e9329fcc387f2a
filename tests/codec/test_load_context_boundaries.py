"""The state of a load: exact limits, texts and suggestions at the boundaries."""

import pytest

from fastlib.codec import LimitError, Limits
from fastlib.codec.load_context import (
    INVALID,
    MAX_PROBLEMS,
    MAX_SUGGESTIONS,
    TEXT_PER_NODE,
    LoadContext,
    add_duplicate_key,
    describe,
    is_null,
    key_text,
    nearest_word,
    shorten,
)
from fastlib.codec.nodes import Mapping, Scalar, Sequence


def scalar(value: object, plain: bool = True) -> Scalar:
    return Scalar(value, plain, 3, 7)


def test_default_values() -> None:
    assert (MAX_PROBLEMS, TEXT_PER_NODE, MAX_SUGGESTIONS) == (1000, 1024, 100)
    assert repr(INVALID) == "INVALID"


@pytest.mark.parametrize(("length", "cost"), [(0, 1), (1023, 1), (1024, 2), (2047, 2), (2048, 3)])
def test_long_scalar_counts_as_more_nodes(length: int, cost: int) -> None:
    LoadContext("X", Limits(max_nodes=cost)).count_node(scalar("a" * length))
    context = LoadContext("X", Limits(max_nodes=cost))
    context.count_node(scalar(5))
    with pytest.raises(LimitError) as caught:
        context.count_node(scalar("a" * length))
    (problem,) = caught.value.problems
    assert caught.value.what == "X"
    assert (problem.code, problem.line, problem.column) == ("limit-nodes", 3, 7)
    assert problem.message == f"more than {cost} nodes, each alias counted as all that it refers to"


def test_last_reported_problem_says_that_more_are_left_out() -> None:
    context = LoadContext("X", Limits())
    for number in range(1002):
        left = context.add_problem(scalar(1), ("a",), "value", f"{number}", suggestion="b")
        assert left is INVALID
    assert len(context.problems) == 1000
    before, last = context.problems[-2:]
    assert (before.code, before.message, before.suggestion) == ("value", "998", "b")
    assert (last.code, last.suggestion) == ("too-many", None)
    assert last.message == "more than 999 errors; the rest is left out"
    context.add_problem(scalar(1), ("a",), "value", "w", severity="warning", got="g", expected="e")
    warning = context.problems[-1]
    assert (warning.severity, warning.code, warning.message) == ("warning", "value", "w")
    assert (warning.path, warning.line, warning.column) == ("a", 3, 7)
    assert (warning.got, warning.expected) == ("g", "e")


@pytest.mark.parametrize(
    ("unknown", "severity"), [("ignore", "warning"), ("warn", "warning"), ("error", "error")]
)
def test_unknown_key_has_severity_and_suggestion(unknown: str, severity: str) -> None:
    context = LoadContext("X", Limits(), unknown)  # type: ignore[arg-type]
    context.add_unknown_key(scalar("nmae"), ("a", "nmae"), ["name"], None)
    context.add_unknown_key(scalar("nmae"), ("a", "nmae"), ["name"], "use 'name'")
    unknown_key, old_key = context.problems
    assert (unknown_key.code, unknown_key.severity) == ("unknown-key", severity)
    assert unknown_key.message == "unknown key, ignored by every peer"
    assert (unknown_key.path, unknown_key.got) == ("a.nmae", "nmae")
    assert unknown_key.suggestion == "name"
    assert (old_key.code, old_key.severity, old_key.message) == ("old-key", severity, "use 'name'")
    assert (old_key.got, old_key.suggestion) == ("nmae", None)


def test_mismatch_error_has_expected_and_found_value() -> None:
    context = LoadContext("X", Limits())
    assert context.add_mismatch(scalar("a"), ("p",), "a number", "b") is INVALID
    assert context.add_mismatch(Sequence(2, 4), ("q",), "a number") is INVALID
    value, kind = context.problems
    assert (value.code, value.path, value.line, value.column) == ("value", "p", 3, 7)
    assert value.message == "expected a number; got 'a'"
    assert (value.expected, value.got, value.suggestion) == ("a number", "'a'", "b")
    assert (kind.code, kind.path, kind.got, kind.suggestion) == ("type", "q", "an empty list", None)


@pytest.mark.parametrize(("before", "suggestion"), [(99, "name"), (100, None)])
def test_suggestions_end_after_a_hundred_problems(before: int, suggestion: str | None) -> None:
    context = LoadContext("X", Limits())
    for _ in range(before):
        context.add_problem(scalar(1), (), "value", "w")
    context.add_unknown_key(scalar("nmae"), ("nmae",), ["name"], None)
    assert context.problems[-1].suggestion == suggestion


def test_unknown_key_is_shortened_beyond_two_hundred_characters() -> None:
    context = LoadContext("X", Limits())
    for length in (200, 201):
        context.add_unknown_key(scalar("k"), ("k" * length,), [], None)
    assert [problem.got for problem in context.problems] == [
        "k" * 200,
        f"'{'k' * 40}'… (201 characters)",
    ]


@pytest.mark.parametrize(
    ("word", "known", "nearest"),
    [
        ("vm_name", ["vm-name"], "vm-name"),
        ("a_b", ["a-b"], "a-b"),
        ("a-b", ["a_b"], "a_b"),
        ("_", ["-"], "-"),
        ("-", ["_"], "_"),
        ("NAME", ["name"], "name"),
        ("name", ["NAME"], "NAME"),
        ("abcde", ["abcxy"], "abcxy"),  # a ratio of exactly 0.6
        ("abcdefg", ["abcdxyz"], None),  # of 0.57
        ("ab", ["xy"], None),
        ("a" * 200, ["a" * 200], "a" * 200),
        ("a" * 201, ["a" * 200], None),
        ("a" * 200, ["a" * 201], None),
    ],
)
def test_nearest_word_is_similar(word: str, known: list[str], nearest: str | None) -> None:
    assert nearest_word(word, known) == nearest


def test_nodes_are_described() -> None:
    mapping, sequence = Mapping(1, 1), Sequence(1, 1)
    assert (describe(mapping), describe(sequence)) == ("an empty mapping", "an empty list")
    mapping.pairs.append((scalar("a"), scalar("b")))
    sequence.items.append(scalar("a"))
    assert (describe(mapping), describe(sequence)) == ("a mapping", "a list")
    assert describe(scalar("x")) == "'x'"
    for null in (None, "", "~", "null", "Null", "NULL"):
        assert describe(scalar(null)) == "null"
    assert describe(scalar("null", plain=False)) == "'null'"
    assert [is_null(node) for node in (mapping, scalar("~"), scalar("~", False))] == [
        False,
        True,
        False,
    ]
    assert is_null(scalar(None, False))


class Wrong:
    """An object whose `repr` raises."""

    def __repr__(self) -> str:
        raise RuntimeError


class Long:
    """An object whose text has a chosen length."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __repr__(self) -> str:
        return "r" * self.length


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a" * 60, repr("a" * 60)),
        ("a" * 61, f"'{'a' * 40}'… (61 characters)"),
        (2**1000, "an integer of 1001 bits"),
        (2**1000 - 1, f"{str(2**1000 - 1)[:60]}…"),
        ([0] * 200, "a list of 200 items"),
        ({"a": [0] * 198}, "a dict of 1 items"),
        ((0,) * 200, "a tuple of 200 items"),
        (set(range(200)), "a set of 200 items"),
        (frozenset(range(200)), "a frozenset of 200 items"),
        (Wrong(), "a Wrong"),
        (Long(80), "r" * 80),
        (Long(81), f"{'r' * 60}…"),
        (True, "True"),
    ],
)
def test_values_are_shortened(value: object, text: str) -> None:
    assert shorten(value) == text


def test_small_values_have_two_hundred_items() -> None:
    # The list and its items count, and each list in it.
    for value in ([0] * 199, [[0] * 197], {"a": [0] * 197}):
        assert shorten(value) == f"{value!r:.60}…"
    assert shorten([[0] * 198]) == "a list of 1 items"


def test_keys_are_texts() -> None:
    context = LoadContext("X", Limits())
    assert key_text(scalar("a"), context, ()) == "a"
    assert key_text(scalar(5), context, ("p",)) is None
    assert key_text(Sequence(2, 4), context, ("p",)) is None
    first, second = context.problems
    assert (first.code, first.path, first.message) == ("key", "p", "a key must be text; got 5")
    assert (second.line, second.column) == (2, 4)
    assert second.message == "a key must be text; got an empty list"


def test_duplicate_key_names_the_other_spelling() -> None:
    context = LoadContext("X", Limits())
    add_duplicate_key(scalar("a"), context, ("p", "a"))
    add_duplicate_key(scalar("a"), context, ("p", "a"), "b")
    first, second = context.problems
    assert (first.code, first.path, first.line, first.column) == ("duplicate-key", "p.a", 3, 7)
    assert first.message == "this key is a duplicate; remove one of the two"
    assert second.message == "b is given already; remove one of the two"
