"""Errors of broken messages: their classes, their texts, and positions of syntax errors."""

import pickle

import pytest

import fastlib
from fastlib import (
    DeclarationError,
    FastlibError,
    LimitError,
    Limits,
    MessageError,
    Migrate,
    MigrateParameter,
    ParseError,
    Problem,
    Start,
    Stop,
    Suspend,
    UnknownKeyWarning,
    ValidationError,
)
from fastlib.codec.errors import render_path
from tests.support.problems import places, problems


def test_error_classes_form_one_tree():
    for error in (ParseError, ValidationError, LimitError):
        assert error.__bases__ == (MessageError,)
    assert MessageError.__bases__ == (FastlibError, ValueError)
    assert DeclarationError.__bases__ == (FastlibError, TypeError)
    assert FastlibError.__bases__ == (Exception,)
    assert issubclass(UnknownKeyWarning, UserWarning)


@pytest.mark.parametrize(
    ("error", "read"),
    [
        (ParseError, lambda: Suspend.from_yaml("vm-name: [")),
        (ParseError, lambda: Suspend.from_yaml(b"vm-name: \xff")),
        (ParseError, lambda: fastlib.load("*a")),
        (ValidationError, lambda: Suspend.from_yaml("vm: a")),
        (ValidationError, lambda: Suspend.load([])),
        (ValidationError, lambda: Suspend(vm_name=1)),
        (ValidationError, lambda: fastlib.load("task: no")),
        (LimitError, lambda: Suspend.from_yaml("vm-name: a", limits=Limits(max_bytes=9))),
        (LimitError, lambda: fastlib.load("[" * 100)),
    ],
)
def test_each_failure_raises_its_error_class(error, read):
    with pytest.raises(FastlibError) as caught:
        read()
    assert type(caught.value) is error
    assert caught.value.problems
    assert {problem.severity for problem in caught.value.problems} == {"error"}
    # What PyYAML or msgspec said is no help, so it is not shown as the cause.
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__


def test_error_has_facts_as_attributes():
    with pytest.raises(ValidationError) as caught:
        MigrateParameter.from_yaml("retry_counter: 1\nmigration-type:   lve\n")
    error = caught.value
    assert error.what == "MigrateParameter"
    assert (error.line, error.column) == (2, 19)
    assert error.problems == (
        Problem(
            message="expected one of live, warm, offline; got 'lve'",
            code="value",
            severity="error",
            path="migration-type",
            line=2,
            column=19,
            expected="one of live, warm, offline",
            got="'lve'",
            suggestion="live",
        ),
    )


def test_error_has_no_position_without_text():
    with pytest.raises(ValidationError) as caught:
        Start.load({"vm-name": "a", "vcpus": -1, "vcpu-map": [[0, "x"]]})
    assert (caught.value.line, caught.value.column) == (None, None)
    assert [(p.path, p.line, p.column) for p in caught.value.problems] == [
        ("vcpus", None, None),
        ("vcpu-map[0][1]", None, None),
    ]
    assert str(caught.value) == (
        "Start: 2 problems\n"
        "  vcpus: expected an integer from 0 to 4294967295; got -1\n"
        "  vcpu-map[0][1]: expected an integer from 0 to 4294967295; got 'x'"
    )


def test_str_of_one_problem_is_one_line():
    with pytest.raises(ValidationError) as caught:
        Migrate.from_yaml("vm-name: a\ndestination: b\nparameter:\n  migration-type: lve\n")
    assert str(caught.value) == (
        "Migrate: line 4, column 19: parameter.migration-type: "
        "expected one of live, warm, offline; got 'lve' (did you mean 'live'?)"
    )


def test_str_of_several_problems_has_one_line_each():
    text = "vm-name: [a]\nforce: maybe\nundefine: 1\n"
    with pytest.raises(ValidationError) as caught:
        Stop.from_yaml(text)
    assert str(caught.value) == (
        "Stop: 3 problems\n"
        "  line 1, column 10: vm-name: expected text; got a list\n"
        "  line 2, column 8: force: expected true or false; got 'maybe'\n"
        "  line 3, column 11: undefine: expected true or false; got '1'"
    )


def test_error_can_be_pickled():
    # As when a message is read in another process.
    with pytest.raises(ValidationError) as caught:
        Stop.from_yaml("force: maybe")
    error = pickle.loads(pickle.dumps(caught.value))
    assert type(error) is ValidationError
    assert (error.what, error.problems, str(error)) == (
        caught.value.what,
        caught.value.problems,
        str(caught.value),
    )


def test_render_path_joins_keys_and_indices():
    assert render_path(()) == ""
    assert render_path(("a",)) == "a"
    assert render_path(("parameter", "swap-with", "vcpu-map", 0, 1)) == (
        "parameter.swap-with.vcpu-map[0][1]"
    )
    assert render_path((0, "a", 1)) == "[0].a[1]"


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("task: quit: now", (1, 11), "a ':' is not allowed here"),
        ("task: stop vm\nlist:\n  - vm-name: a: b\n", (3, 15), "a ':' is not allowed here"),
        ("task: quit\n id: 7", (2, 4), "a ':' is not allowed here"),
        ("task: stop vm\nlist:\n  - vm-name: a\n - vm-name: b\n", (4, 2), "indentation"),
        ("task: quit\n- id\n", (2, 1), "expected a key"),
        ("- quit\ntask: quit\n", (2, 1), "expected '- '"),
        ("task: quit\nid: @x", (2, 5), "cannot begin a plain text; quote it"),
        ("task: quit\nid: `x", (2, 5), "cannot begin a plain text; quote it"),
        ("task: quit\nid: %x", (2, 5), "cannot begin a plain text; quote it"),
        ("\ttask: quit", (1, 1), "an indentation must not contain a tab; use spaces"),
        ("task: quit\nid 7\nhost: a", (3, 1), "no ':' after this key"),
        ("{task: quit} x", (1, 14), "end of the document"),
        ("task: quit\nid: '7' x\n", (2, 9), "expected"),
        ('task: quit\nid: "\\q"', (2, 6), "escape"),
    ],
)
def test_syntax_error_has_line_and_column(text, place, words):
    [problem] = problems(text)
    assert problem.code == "syntax"
    assert (problem.line, problem.column) == place
    assert words in problem.message
    with pytest.raises(ParseError) as caught:
        fastlib.load(text)
    assert caught.value.problems == (problem,)
    assert str(caught.value) == f"message: line {place[0]}, column {place[1]}: {problem.message}"


@pytest.mark.parametrize(
    ("text", "begun"),
    [
        ("task: stop vm\nlist: [{vm-name: a},\n\n", 2),
        ("{task: quit,\nid: 7\n\n", 1),
        ("task: quit\nid: '7\nhost: a\n\n", 2),
        ('task: quit\nid: "7\nhost: a\n\n', 2),
    ],
)
def test_unclosed_bracket_is_reported_at_its_start(text, begun):
    [problem] = problems(text)
    assert problem.code == "syntax"
    assert f"line {begun}" in problem.message or problem.line == begun


@pytest.mark.parametrize("text", ["a: [", "a: {b: c", 'task: "quit', "a:\n  - 'b", "a: [1,\n2"])
def test_position_of_error_is_within_the_text(text):
    [problem] = problems(text)
    assert 1 <= problem.line <= text.count("\n") + 1
    line = text.split("\n")[problem.line - 1]
    assert 1 <= problem.column <= len(line) + 1


@pytest.mark.parametrize("text", ['task: "quit', "task: quit\nid: 'x\n", 'id: "\nx: y'])
def test_unclosed_quote_is_reported_at_its_start(text):
    [problem] = problems(text)
    assert "quote" in problem.message
    assert "stream" not in problem.message  # PyYAML's word for a text


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        (b"task: quit\nid: \xff", (2, 5), "not UTF-8"),
        (b"task: quit\n\nid: caf\xe9", (3, 8), "not UTF-8"),
        ("id: äö\nhost: ü".encode("latin-1"), (1, 5), "not UTF-8"),
        (b"\xff\xfe\x00", (1, 1), "not UTF-16"),
        ("task: quit\nid: \0", (2, 5), "NUL"),
        (b"task: quit\nid: a\0b", (2, 6), "NUL"),
        ("task: quit\nid: a\ud800", (2, 6), "surrogate"),
        (b"\xef\xbb\xbftask: quit\nid: \xff", (2, 5), "not UTF-8"),
    ],
)
def test_parse_error_is_raised_for_bytes_that_are_not_text(text, place, words):
    [problem] = problems(text)
    assert problem.code == "encoding"
    assert words in problem.message
    assert (problem.line, problem.column) == place
    with pytest.raises(ParseError):
        fastlib.load(text)


def test_column_counts_characters():
    [problem] = problems("{task: stop vm, id: 日本𝒳é, list: x}")
    assert (problem.path, problem.line, problem.column) == ("list", 1, 33)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_line_counts_line_ends(end):
    text = end.join(["task: stop vm", "", "# comment", "list:", "  - vm-name: a", "    force: x"])
    assert places(text) == [(6, 12, "value", "list[0].force")]
    # What only Unicode calls a line's end is a character of the text.
    text = "task: quit\nid: a\u2028b\x85c\rd\nhost: [1]"
    assert places(text) == [(3, 7, "type", "host")]


def test_column_ignores_byte_order_mark():
    assert places("\ufefftask: no") == places("task: no") == [(1, 7, "value", "task")]
    assert places("\ufefftask: no".encode("utf-16-le")) == [(1, 7, "value", "task")]


def test_alias_without_anchor_is_reported():
    [problem] = problems("task: quit\nid: *name")
    assert (problem.code, problem.line, problem.column) == ("alias", 2, 5)
    assert "&name" in problem.message
    # A problem in what an alias stands for is told where that stands.
    text = "task: stop vm\nlist:\n  - &a {vm-name: a, force: 2}\n  - *a\n"
    assert places(text) == [
        (3, 28, "value", "list[0].force"),
        (3, 28, "value", "list[1].force"),
    ]
