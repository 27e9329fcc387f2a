"""The parts of problems, errors and reports, without a message that is read."""

import pytest

from fastlib.codec.errors import (
    ArgumentError,
    MessageError,
    Problem,
    Report,
    ValidationError,
    in_order,
    render_path,
)


def problem(message: str = "wrong", **fields: object) -> Problem:
    return Problem(message=message, code="value", **fields)


def test_long_keys_of_a_path_are_shortened() -> None:
    assert render_path(("a" * 100, "b" * 101, 0)) == f"{'a' * 100}.{'b' * 60}…[0]"


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (problem(), "wrong"),
        (problem(path="a\x1b"), "a\\x1b: wrong"),
        (problem(line=2, column=3), "line 2, column 3: wrong"),
        (problem(line=2, column=3, path="a", suggestion="b"), "line 2, column 3: a: wrong"
         " (did you mean 'b'?)"),
    ],
)  # fmt: skip
def test_text_of_a_problem_has_its_place_and_the_suggestion(given: Problem, text: str) -> None:
    assert str(given) == text


@pytest.mark.parametrize(
    ("path", "prefix", "moved"),
    [
        ("a", "", "a"), ("", "", ""), ("", "list[0]", "list[0]"), ("a", "list[0]", "list[0].a"),
        ("[1]", "list", "list[1]"),
    ],
)  # fmt: skip
def test_problem_can_be_moved(path: str, prefix: str, moved: str) -> None:
    before = problem(path=path, line=1, column=1, expected="x")
    assert before.at(4, 5, prefix) == problem(path=moved, line=4, column=5, expected="x")
    assert before.at(None, None) == problem(path=path, expected="x")


def test_problems_are_sorted_by_line_and_column_and_those_without_come_first() -> None:
    given = [
        problem("f", line=2, column=10), problem("d", line=1, column=2), problem("a"),
        problem("e", line=2, column=9), problem("c", line=1, column=1), problem("b"),
    ]  # fmt: skip
    assert "".join(each.message for each in in_order(given)) == "abcdef"


@pytest.mark.parametrize("base", [ArgumentError, MessageError])
def test_text_of_an_error_counts_its_problems(base: type[ArgumentError | MessageError]) -> None:
    assert str(base("Stop", [problem(path="a")])) == "Stop: a: wrong"
    assert str(base("Stop", [problem(), problem("bad")])) == "Stop: 2 problems\n  wrong\n  bad"
    assert str(base("Stop", [])) == "Stop: 0 problems"
    error = base("Stop", iter([problem()]))
    assert (error.what, error.problems) == ("Stop", (problem(),))
    assert error.args == ("Stop", (problem(),))


def test_position_of_an_error_is_that_of_its_first_problem() -> None:
    error = ValidationError("Stop", [problem(line=2, column=4), problem(line=1, column=3)])
    assert (error.line, error.column) == (1, 3)
    error = ValidationError("Stop", [])
    assert (error.line, error.column) == (None, None)


def test_report_separates_errors_and_warnings() -> None:
    error, warning = problem(line=2, column=1), problem(line=1, column=1, severity="warning")
    report = Report(None, [error, warning])
    assert report.message is None
    assert report.problems == (warning, error)
    assert (report.errors, report.warnings) == ((error,), (warning,))
    assert not report.ok
    assert not report
    assert repr(report) == "<Report: errors: 1, warnings: 1>"
    report = Report(3, [warning])
    assert (report.message, report.ok, bool(report)) == (3, True, True)
