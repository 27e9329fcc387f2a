"""Problems of keys, values and titles: the place, the expected and the found value."""

import pytest

import fastlib
from fastlib import (
    MigrateParameter,
    PciId,
    ResultContainer,
    Start,
    Stop,
    Suspend,
    TaskContainer,
    ValidationError,
)
from fastlib.message.agent import InitAgent, KpiReport, Kpis
from fastlib.message.mmbwmon import Ack, SystemInfo
from tests.support.problems import places, problems


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
    [
        ("[a]: b\nvm-name: c", "a list"),
        ("{a: b}: c\nvm-name: d", "a mapping"),
        ("~: b\nvm-name: c", "null"),
    ],
)
def test_non_text_key_of_a_message_is_an_unknown_key(text, got):
    [problem] = problems(text, Suspend)
    assert (problem.code, problem.line, problem.column) == ("unknown-key", 1, 1)
    assert problem.message == f"unknown key ({got}), ignored by every peer"
    assert problem.severity == "warning"
    assert Suspend.from_yaml(text).vm_name in ("c", "d")
    with pytest.raises(ValidationError):
        Suspend.from_yaml(text, unknown="error")


@pytest.mark.parametrize(
    ("text", "got"),
    [("[a]: b", "a list"), ("{a: b}: c", "a mapping"), ("~: b", "null"), ("null: b", "null")],
)
def test_free_key_must_be_text(text, got):
    [problem] = problems(f"repeat: 1\ncategories:\n  {text}", Kpis)
    assert (problem.code, problem.line, problem.column) == ("key", 3, 3)
    assert problem.message == f"a key must be text; got {got}"


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
def test_problem_names_the_expected_value(type, text, problem):
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
