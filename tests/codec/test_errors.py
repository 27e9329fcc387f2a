"""What is said of broken messages: where, what was expected, what stood there, what was meant."""

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
    PciId,
    Problem,
    Report,
    ResultContainer,
    Start,
    Stop,
    Suspend,
    TaskContainer,
    UnknownKeyWarning,
    ValidationError,
)
from fastlib.codec.errors import render_path
from fastlib.message.agent import InitAgent, KpiReport, Kpis
from fastlib.message.mmbwmon import Ack, SystemInfo


def problems(text, type=None):
    return fastlib.validate(text, type).problems


def places(text, type=None):
    """The line, column, code and path of each problem of a text, in the order told."""
    return [(p.line, p.column, p.code, p.path) for p in problems(text, type)]


# --- the tree of errors -------------------------------------------------------------------------


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


# --- texts that are no YAML ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("task: quit: now", (1, 11), "a ':' cannot stand here"),
        ("task: stop vm\nlist:\n  - vm-name: a: b\n", (3, 15), "a ':' cannot stand here"),
        ("task: quit\n id: 7", (2, 4), "a ':' cannot stand here"),
        ("task: stop vm\nlist:\n  - vm-name: a\n - vm-name: b\n", (4, 2), "indentation"),
        ("task: quit\n- id\n", (2, 1), "expected a key"),
        ("- quit\ntask: quit\n", (2, 1), "expected '- '"),
        ("task: quit\nid: @x", (2, 5), "cannot begin a plain text; quote it"),
        ("task: quit\nid: `x", (2, 5), "cannot begin a plain text; quote it"),
        ("task: quit\nid: %x", (2, 5), "cannot begin a plain text; quote it"),
        ("\ttask: quit", (1, 1), "a tab cannot stand in an indentation; use spaces"),
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


# --- keys ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type", "text", "key", "suggestion"),
    [
        (Suspend, "vm-name: a\nvm-nmae: b", "vm-nmae", "vm-name"),
        (Suspend, "vm-name: a\nvm_name: b", "vm_name", "vm-name"),
        (Suspend, "vm-name: a\nVM-Name: b", "VM-Name", "vm-name"),
        (Suspend, "vm-name: a\ndriwer: b", "driwer", "driver"),
        (Suspend, "vm-name: a\ntime_measurement: yes", "time_measurement", "time-measurement"),
        (Start, "vm-name: a\nvpcus: 1", "vpcus", "vcpus"),
        (Start, "vm-name: a\npci-id: []", "pci-id", "pci-ids"),
        (Start, "vm-name: a\nprobe-host: b", "probe-host", "probe-hostname"),
        (Kpis, "repeat: 1\ncategories: {}\nrepeats: 2", "repeats", "repeat"),
        (Suspend, "vm-name: a\nhost: b", "host", None),
        (Suspend, "vm-name: a\nx: b", "x", None),
        (Suspend, "vm-name: a\n'': b", "", None),
    ],
)
def test_unknown_key_is_reported_with_nearest_known_key(type, text, key, suggestion):
    [problem] = problems(text, type)
    assert (problem.severity, problem.code) == ("warning", "unknown-key")
    assert (problem.path, problem.got) == (key, key)
    assert problem.line == text.count("\n") + 1
    assert problem.column == 1
    assert problem.suggestion == suggestion
    assert ("did you mean" in str(problem)) == (suggestion is not None)


def test_suggestion_is_a_key_of_the_same_mapping():
    text = (
        "task: migrate vm\nvm-name: a\ndestination: b\nparameter:\n  destnation: c\n  vcpu-mpa: []"
    )
    assert [(p.path, p.suggestion) for p in problems(text)] == [
        ("parameter.destnation", None),
        ("parameter.vcpu-mpa", "vcpu-map"),
    ]
    # The container's own keys are keys of an inline member's place, too.
    text = "task: migrate vm\nvm-name: a\ndestination: b\nhots: c"
    assert [(p.path, p.suggestion) for p in problems(text)] == [("hots", "host")]


@pytest.mark.parametrize(
    ("type", "text", "place"),
    [
        (Suspend, "driver: a", (1, 1, "vm-name")),
        (Suspend, "\n\n  driver: a\n", (3, 3, "vm-name")),
        (TaskContainer, "task: suspend vm", (1, 1, "list")),
        (TaskContainer, "task: start vm", (1, 1, "vm-configurations")),
        (TaskContainer, "task: suspend vm\nlist:\n  - vm-name: a\n  - driver: b",
         (4, 5, "list[1].vm-name")),
        (TaskContainer, "task: migrate vm\nvm-name: a", (1, 1, "destination")),
        (TaskContainer, "task: migrate vm\nvm-name: a\ndestination: b\nparameter:\n"
         "  swap-with:\n    vcpu-map: []", (6, 5, "parameter.swap-with.vm-name")),
        (TaskContainer, "task: start vm\nvm-configurations:\n- vm-name: a\n  pci-ids:\n"
         "  - device: 0x1\n", (5, 5, "vm-configurations[0].pci-ids[0].vendor")),
        (TaskContainer, "task: start vm\nvm-configurations:\n- vm-name: a\n  devs:\n"
         "  - {}\n", (5, 5, "vm-configurations[0].devs[0].pci-addr")),
        (ResultContainer, "result: vm started\nlist:\n  - vm-name: a", (3, 5, "list[0].status")),
        (ResultContainer, "result: vm migrated\nvm-name: a", (1, 1, "status")),
        (TaskContainer, "id: 7", (1, 1, "task")),
        (ResultContainer, "list: []", (1, 1, "result")),
        (InitAgent, "task: init agent\nKPI: {repeat: 1}", (2, 6, "KPI.categories")),
    ],
)  # fmt: skip
def test_missing_key_is_reported(type, text, place):
    [problem] = problems(text, type)
    assert (problem.severity, problem.code) == ("error", "missing")
    assert (problem.line, problem.column, problem.path) == place
    assert problem.message.startswith("missing; ")
    assert problem.expected


def test_missing_key_names_similar_unknown_key():
    by_code = {problem.code: problem for problem in problems("vm-nmae: a\ndriver: b", Suspend)}
    assert set(by_code) == {"missing", "unknown-key"}
    assert "'vm-nmae'" in by_code["missing"].message
    assert by_code["unknown-key"].suggestion == "vm-name"
    with pytest.raises(ValidationError, match="there is 'vm-nmae' instead"):
        Suspend.from_yaml("vm-nmae: a")


@pytest.mark.parametrize(
    ("type", "text", "place"),
    [
        (Suspend, "vm-name: a\ndriver: b\nvm-name: a", (3, 1, "vm-name")),
        (Suspend, "{vm-name: a, 'vm-name': b}", (1, 14, "vm-name")),
        (Suspend, "vm-name: a\nx: 1\nx: 2", (3, 1, "x")),
        (TaskContainer, "task: quit\ntask: quit", (2, 1, "task")),
        (TaskContainer, "task: stop vm\nlist: []\nlist: []", (3, 1, "list")),
        (TaskContainer, "task: stop vm\nlist:\n- vm-name: a\n  vm-name: b",
         (4, 3, "list[0].vm-name")),
        (TaskContainer, "task: migrate vm\nid: 1\nvm-name: a\ndestination: b\nid: 1",
         (5, 1, "id")),
        (TaskContainer, "task: migrate vm\nconcurrent-execution: no\nvm-name: a\n"
         "destination: b\nconcurrent-execution: no", (5, 1, "concurrent-execution")),
        (KpiReport, "task: KPI\nsource: a\nKPIS:\n  - {a: 1, a: 2}", (4, 12, "KPIS[0].a")),
        (Kpis, "repeat: 1\ncategories: {a: b, c: d, a: b}", (2, 26, "categories.a")),
    ],
)  # fmt: skip
def test_duplicate_key_is_reported(type, text, place):
    [problem] = [problem for problem in problems(text, type) if problem.severity == "error"]
    assert problem.code == "duplicate-key"
    assert (problem.line, problem.column, problem.path) == place
    with pytest.raises(ValidationError):
        type.from_yaml(text)


@pytest.mark.parametrize(
    ("text", "got"),
    [("[a]: b\nvm-name: c", "a list"), ("{a: b}: c\nvm-name: d", "a mapping")],
)
def test_key_must_be_text(text, got):
    [problem] = problems(text, Suspend)
    assert (problem.code, problem.line, problem.column) == ("key", 1, 1)
    assert problem.message == f"a key must be text; got {got}"


# --- values -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type", "text", "problem"),
    [
        (MigrateParameter, "migration-type: lve", ("value", "one of live, warm, offline", "'lve'",
                                                   "live")),
        (MigrateParameter, "migration-type: Warm", ("value", "one of live, warm, offline",
                                                    "'Warm'", "warm")),
        (MigrateParameter, "migration-type: offlien", ("value", "one of live, warm, offline",
                                                       "'offlien'", "offline")),
        (MigrateParameter, "migration-type: xyz", ("value", "one of live, warm, offline", "'xyz'",
                                                   None)),
        (MigrateParameter, "migration-type: [live]", ("type", "one of live, warm, offline",
                                                      "a list", None)),
        (MigrateParameter, "retry_counter: -1", ("value", "an integer from 0 to 4294967295",
                                                 "'-1'", None)),
        (MigrateParameter, "rdma-migration: 1", ("value", "true or false", "'1'", None)),
        (MigrateParameter, "rdma-migration: {}", ("type", "true or false", "an empty mapping",
                                                  None)),
        (MigrateParameter, "transport: []", ("type", "text", "an empty list", None)),
        (MigrateParameter, "transport: {a: b}", ("type", "text", "a mapping", None)),
        (MigrateParameter, "swap-with: []", ("type", "a mapping", "an empty list", None)),
        (MigrateParameter, "vcpu-map: 0", ("value", "a list", "'0'", None)),
        (MigrateParameter, "vcpu-map: {}", ("type", "a list", "an empty mapping", None)),
        (PciId, "device: 0x1\nvendor: 15b3", ("value", "an integer from 0x0 to 0xffff", "'15b3'",
                                              "0x15b3")),
        (SystemInfo, "{threads: 1, smt: 1, numa: 1, bandwidth: [1, x]}",
         ("value", "a number", "'x'", None)),
        (Ack, "- a", ("type", "a mapping", "a list", None)),
        (Ack, "a", ("value", "a mapping", "'a'", None)),
    ],
)  # fmt: skip
def test_invalid_value_is_reported_with_what_was_expected(type, text, problem):
    [found] = problems(text, type)
    assert (found.code, found.expected, found.got, found.suggestion) == problem
    assert found.message == f"expected {found.expected}; got {found.got}"
    assert found.severity == "error"


def test_long_value_is_shortened_in_message():
    [problem] = problems(f"vm-name: a\nforce: {'x' * 5000}", Stop)
    assert problem.got == f"'{'x' * 40}'… (5000 characters)"
    assert len(str(problem)) < 200
    [problem] = problems(f"vm-name: a\n{'x' * 500}: 1", Stop)
    assert problem.suggestion is None


def test_all_problems_are_reported_in_order_of_the_text():
    text = """\
task: start vm
vm-configurations:
  - vm-name: [a]
    vcpus: many
    pci-ids:
      - vendor: 15b3
        devise: 0x1004
    vcpu-map: [[0, -1], 2]
  - transient: yes
    transient: no
  - just text
concurrent-execution: perhaps
tsk: x
"""
    assert places(text) == [
        (3, 14, "type", "vm-configurations[0].vm-name"),
        (4, 12, "value", "vm-configurations[0].vcpus"),
        (6, 9, "missing", "vm-configurations[0].pci-ids[0].device"),
        (6, 17, "value", "vm-configurations[0].pci-ids[0].vendor"),
        (7, 9, "unknown-key", "vm-configurations[0].pci-ids[0].devise"),
        (8, 20, "value", "vm-configurations[0].vcpu-map[0][1]"),
        (8, 25, "value", "vm-configurations[0].vcpu-map[1]"),
        (9, 5, "rule", "vm-configurations[1]"),
        (10, 5, "duplicate-key", "vm-configurations[1].transient"),
        (11, 5, "value", "vm-configurations[2]"),
        (12, 23, "value", "concurrent-execution"),
        (13, 1, "unknown-key", "tsk"),
    ]
    report = fastlib.validate(text)
    assert [problem.code for problem in report.warnings] == ["unknown-key"] * 2
    with pytest.raises(ValidationError) as caught:
        fastlib.load(text)
    assert sorted(p.path for p in caught.value.problems) == sorted(p.path for p in report.errors)
    assert str(caught.value).startswith("message: 10 problems\n  line ")


def test_problems_of_error_are_in_order_of_the_text():
    text = "driver: [a]\nforce: maybe\nundefine: perhaps\n"
    with pytest.raises(ValidationError) as caught:
        Stop.from_yaml(text)
    lines = [problem.line for problem in caught.value.problems]
    assert lines == sorted(lines)
    assert caught.value.line == 1


# --- titles -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("title", "nearest"),
    [
        ("strat vm", "start vm"),
        ("start_vm", "start vm"),
        ("Start VM", "start vm"),
        ("migrate", "migrate vm"),
        ("evacuate nodes", "evacuate node"),
        ("qiut", "quit"),
        ("init agnt", "init agent"),
        ("zzz", None),
    ],
)
def test_unknown_title_is_reported_with_nearest_title(title, nearest):
    [problem] = problems(f"id: 7\ntask: {title}")
    assert (problem.path, problem.line, problem.column) == ("task", 2, 7)
    assert problem.suggestion == nearest
    assert problem.expected.startswith("one of ")
    for known in ("start vm", "quit", "init agent", "KPI", "stop monitoring", "suspend"):
        assert known in problem.expected.removeprefix("one of ").split(", ")
    with pytest.raises(ValidationError):
        fastlib.load(f"task: {title}")


@pytest.mark.parametrize("title", ["[start vm]", "{start: vm}", "~", ""])
def test_title_must_be_text(title):
    [problem] = problems(f"task: {title}")
    assert (problem.severity, problem.path, problem.line) == ("error", "task", 1)
    [problem] = problems(f"task: {title}", TaskContainer)
    assert (problem.severity, problem.path, problem.line) == ("error", "task", 1)


def test_title_of_other_message_is_refused_in_container():
    [problem] = problems("task: init", TaskContainer)
    assert (problem.path, problem.got) == ("task", "'init'")
    assert "start vm" in problem.expected
    assert "init agent" not in problem.expected


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("tsk: quit\nid: 7", "tsk"),
        ("Task: quit", "Task"),
        ("id: 7\nresutl: vm started\nlist: []", "resutl"),
        ("vm-name: a", None),
        ("{}", None),
    ],
)
def test_load_needs_a_title(text, near):
    [problem] = problems(text)
    assert (problem.code, problem.line, problem.column) == ("no-title", 1, 1)
    assert "'task'" in problem.message
    assert "'result'" in problem.message
    assert near is None or f"'{near}'" in problem.message
    with pytest.raises(ValidationError):
        fastlib.load(text)


@pytest.mark.parametrize(
    ("text", "got"), [("quit", "'quit'"), ("[]", "an empty list"), ("- task: quit", "a list")]
)
def test_root_must_be_a_mapping(text, got):
    [problem] = problems(text)
    assert problem.got == got
    assert problem.expected == "a mapping with the key 'task' or 'result'"


def test_title_of_other_message_is_refused():
    [problem] = problems("task: quit\nhostname: a", fastlib.message.agent.Init)
    assert (problem.path, problem.expected, problem.got) == ("task", "'init'", "'quit'")


# --- reports ------------------------------------------------------------------------------------


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


# --- several documents --------------------------------------------------------------------------


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
