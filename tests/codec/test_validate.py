"""`validate` and its reports, of one document and of several."""

import pytest

import fastlib
from fastlib import (
    MessageError,
    Problem,
    Report,
    Start,
    Stop,
    Suspend,
    TaskContainer,
)
from fastlib.message.mmbwmon import Ack


def test_report_has_errors_and_warnings():
    report = fastlib.validate("task: stop vm\nlist:\n  - vm-name: a\n    froce: yes\n")
    assert report.ok
    assert report.message == TaskContainer(tasks=[Stop(vm_name="a")])
    assert report.errors == ()
    assert report.warnings == report.problems
    assert repr(report) == "<Report: errors: 0, warnings: 1>"
    report = fastlib.validate("task: stop vm\nlist:\n  - vm-name: [a]\n    froce: yes\n")
    assert not report.ok
    assert report.message is None
    assert [problem.severity for problem in report.problems] == ["error", "warning"]
    assert repr(report) == "<Report: errors: 1, warnings: 1>"


def test_report_sorts_its_problems():
    problems = [
        Problem(message="c", code="x", line=2, column=1),
        Problem(message="b", code="x", line=1, column=9),
        Problem(message="a", code="x"),
    ]
    assert [problem.message for problem in Report(None, problems).problems] == ["a", "b", "c"]


def test_validate_agrees_with_load():
    for text in ("task: quit", "task: no", "a: [", "x: y", "task: stop vm\nlist: 1", ""):
        report = fastlib.validate(text)
        if report.ok:
            assert fastlib.load(text) == report.message
        else:
            with pytest.raises(MessageError) as caught:
                fastlib.load(text)
            assert [p.line for p in caught.value.problems] == [p.line for p in report.errors]


@pytest.mark.parametrize(
    "text",
    [
        "",
        b"",
        "\0",
        b"\xff",
        "\ud800",
        "[" * 10_000,
        "{a: " * 10_000,
        "- " * 10_000,
        "'",
        '"',
        "&a *a",
        "&a [*a]",
        "? ",
        ": ",
        "!!python/object:os.system x",
        "%YAML 9.9\n---\na",
        "task: &a [*a, *a]",
        "---\n---\n---\n",
        "...\n...",
        "a: &a [x]\nb: &b [*a, *a, *a]\nc: [*b, *b, *b]",
        "task: quit\n--- [\n",
    ],
)
def test_validate_never_raises(text):
    for type in (None, TaskContainer, Ack, Start):
        for report in [fastlib.validate(text, type), *fastlib.validate_all(text, type)]:
            assert report.ok == (not report.errors)
            assert report.ok == (report.message is not None)
            assert all(str(problem) for problem in report.problems)


def test_empty_text_is_reported_as_no_message():
    for text in ("", "\n", "# only a comment\n", b"", "---\n", "---\n---\n"):
        report = fastlib.validate(text)
        assert not report.ok
        assert len(report.problems) == 1
        assert report.problems[0].line is not None


def test_empty_text_is_read_if_no_key_is_required():
    for text in ("", "---\n\n---", "# only a comment\n", b""):
        assert fastlib.validate(text, Ack).message == Ack.from_yaml(text) == Ack()


def test_validate_all_reports_each_document():
    text = """\
---
task: quit
---
task: qiut
...
---
result: vm started
list:
  - vm-name: a
    status: good
...
"""
    first, second, third = fastlib.validate_all(text)
    assert first.message == TaskContainer.from_yaml("task: quit")
    assert [(p.line, p.column, p.path) for p in second.problems] == [(4, 7, "task")]
    assert [(p.line, p.column, p.path) for p in third.problems] == [(10, 13, "list[0].status")]


def test_load_reads_only_the_first_document():
    text = "---\ntask: quit\n---\ntask: qiut\n"
    assert fastlib.load(text) == TaskContainer.from_yaml("task: quit")
    assert fastlib.validate(text).ok
    assert [report.ok for report in fastlib.validate_all(text)] == [True, False]


def test_empty_document_after_closing_line_is_not_reported():
    assert len(fastlib.validate_all("---\ntask: quit\n---")) == 1
    assert len(fastlib.validate_all("---\ntask: quit\n---\n---\ntask: quit\n---\n")) == 2
    assert len(fastlib.validate_all("task: quit\n...\n")) == 1


def test_documents_before_syntax_error_are_reported():
    first, second = fastlib.validate_all("task: quit\n---\ntask: [\n")
    assert first.ok
    assert [problem.code for problem in second.problems] == ["syntax"]


def test_anchor_is_unknown_in_next_document():
    first, second = fastlib.validate_all("task: quit\nid: &a x\n---\ntask: quit\nid: *a\n")
    assert first.ok
    assert [(p.code, p.line) for p in second.problems] == [("alias", 5)]


def test_validate_all_reads_all_documents_as_given_type():
    reports = fastlib.validate_all("vm-name: a\n---\nvm: b\n", Suspend)
    assert [report.message for report in reports] == [Suspend(vm_name="a"), None]


def test_at_most_a_thousand_problems_are_reported():
    many = "".join(f"  - vm-name: {{}}\n    k{i}: x\n" for i in range(3000))
    report = fastlib.validate(f"task: suspend vm\nlist:\n{many}")
    assert len(report.errors) == len(report.warnings) == 1000
    assert report.errors[-1].message == "more than 999 errors; the rest is left out"
    assert report.warnings[-1].code == "too-many"
    assert not report.ok
