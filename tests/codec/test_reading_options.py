"""Options of a reader: the handling of unknown keys, and limits."""

import warnings
from pathlib import Path

import pytest

import fastlib
from fastlib import (
    Evacuate,
    LimitError,
    Limits,
    Migrate,
    Repin,
    Stop,
    Suspend,
    TaskContainer,
    UnknownKeyWarning,
    ValidationError,
)
from fastlib.codec.limits import DEFAULT_LIMITS
from fastlib.codec.tree_shape import Tree
from fastlib.message.application import ApplicationKpis
from fastlib.message.mmbwmon import Ack
from tests.support.problems import kinds_of_problems

STRANGE = "vm-name: a\nvm-nmae: b\n"


def test_unknown_keys_are_ignored_by_default():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Suspend.from_yaml(STRANGE) == Suspend(vm_name="a")
        assert Suspend.from_yaml(STRANGE, unknown="ignore") == Suspend(vm_name="a")


@pytest.mark.parametrize(
    "read",
    [
        lambda: Suspend.from_yaml(STRANGE, unknown="warn"),
        lambda: Suspend.load({"vm-name": "a", "vm-nmae": "b"}, unknown="warn"),
        lambda: fastlib.load("task: suspend vm\nlist:\n- vm-name: a\n  vm-nmae: b",
                             unknown="warn"),
    ],
    ids=["from_yaml", "load", "fastlib.load"],
)  # fmt: skip
def test_unknown_key_warns_if_asked_for(read):
    with pytest.warns(UnknownKeyWarning, match="vm-nmae: unknown key.*'vm-name'") as caught:
        message = read()
    assert message in (Suspend(vm_name="a"), TaskContainer(tasks=[Suspend(vm_name="a")]))
    # The place of the warning is where fastlib was called.
    assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.parametrize(
    ("read", "path", "line"),
    [
        (lambda: Suspend.from_yaml(STRANGE, unknown="error"), "vm-nmae", 2),
        (lambda: Suspend.load({"vm-name": "a", "vm-nmae": "b"}, unknown="error"), "vm-nmae", None),
        (lambda: fastlib.load("task: quit\nvm-nmae: b", unknown="error"), "vm-nmae", 2),
        (lambda: Migrate.from_yaml("vm-name: a\ndestination: b\nparameter:\n  vm-nmae: c",
                                   unknown="error"), "parameter.vm-nmae", 4),
    ],
)  # fmt: skip
def test_unknown_key_is_an_error_if_asked_for(read, path, line):
    with pytest.raises(ValidationError) as caught:
        read()
    [problem] = caught.value.problems
    assert (problem.severity, problem.code) == ("error", "unknown-key")
    assert (problem.path, problem.line) == (path, line)


def test_merge_key_is_an_unknown_key():
    text = "task: stop vm\nlist:\n  - &a {vm-name: a, force: yes}\n  - {<<: *a, vm-name: b}\n"
    assert TaskContainer.from_yaml(text).tasks[1] == Stop(vm_name="b")
    assert kinds_of_problems(text) == [("warning", "unknown-key", "list[1].<<")]


LIMITED = "task: stop vm\nlist:\n  - vm-name: abcdefgh\n  - vm-name: b\n"


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (Limits(max_bytes=len(LIMITED) - 1), "limit-bytes"),
        (Limits(max_depth=2), "limit-depth"),
        (Limits(max_nodes=10), "limit-nodes"),
        (Limits(max_scalar=7), "limit-scalar"),
    ],
)
def test_limit_error_is_raised_over_a_limit(limits, code):
    for read in (TaskContainer.from_yaml, fastlib.load):
        for text in (LIMITED, LIMITED.encode()):
            with pytest.raises(LimitError) as caught:
                read(text, limits=limits)
            assert [problem.code for problem in caught.value.problems] == [code]
            assert caught.value.line is not None
            # Not only an error of its own, but one problem among others to `validate`.
            assert [p.code for p in fastlib.validate(text, limits=limits).problems] == [code]


def test_default_limits_apply_if_none_are_given():
    limits = Limits()
    assert (limits.max_bytes, limits.max_depth) == (16 * 1024 * 1024, 64)
    text = "vm-name: a\nx: " + "[" * 63 + "]" * 63
    assert Suspend.from_yaml(text) == Suspend(vm_name="a")
    with pytest.raises(LimitError, match="nested deeper than 64 levels"):
        Suspend.from_yaml("vm-name: a\nx: " + "[" * 64 + "]" * 64)


def test_text_exactly_at_a_limit_is_read():
    limits = Limits(max_bytes=len(LIMITED), max_depth=3, max_nodes=11, max_scalar=8)
    assert len(TaskContainer.from_yaml(LIMITED, limits=limits).tasks) == 2
    assert fastlib.validate(LIMITED, limits=limits).ok


def test_limit_error_is_raised_for_a_tree():
    tree = TaskContainer.from_yaml(LIMITED).emit()
    for limits, code in ((Limits(max_depth=2), "limit-depth"), (Limits(max_nodes=6),
                                                                "limit-nodes")):  # fmt: skip
        with pytest.raises(LimitError) as caught:
            TaskContainer.load(tree, limits=limits)
        assert [problem.code for problem in caught.value.problems] == [code]
    with pytest.raises(LimitError, match="more than 3 characters in 'stop vm'"):
        TaskContainer.load(tree, limits=Limits(max_scalar=3))
    for longest in ("vm-name", {"vm-name": "a"}, {"vm-nam": "aaaaaaa"}, ["aaaaaaa"]):
        with pytest.raises(LimitError, match="more than 6 characters"):
            Suspend.load(longest, limits=Limits(max_scalar=6))
    assert TaskContainer.load(tree, limits=Limits(max_depth=3, max_nodes=7, max_scalar=8)).tasks


def test_empty_lists_and_mappings_of_a_tree_count():
    # As a text does.
    for tree in ({"x": {"y": []}}, {"x": {"y": {}}}, {"x": {"y": ()}}):
        assert Ack.load(tree, limits=Limits(max_depth=3)) == Ack()
        with pytest.raises(LimitError, match="nested deeper than 2 levels"):
            Ack.load(tree, limits=Limits(max_depth=2))


def cycles():
    """Trees that contain themselves, and where."""
    tree = {"vm-name": "a"}
    tree["parameter"] = tree
    yield tree, "parameter"
    rows = ["a"]
    rows += [rows, rows]
    yield {"vm-name": "a", "x": [rows]}, "x[0][1]"
    outer, inner = {"a": []}, {}
    inner["b"] = outer
    outer["a"].append(inner)
    yield {"c": inner, "d": outer}, "c.b.a[0]"


@pytest.mark.parametrize(("tree", "path"), list(cycles()))
def test_tree_that_contains_itself_is_refused(tree, path):
    with pytest.raises(LimitError) as caught:
        Migrate.load(tree)
    [problem] = caught.value.problems
    assert (problem.code, problem.path) == ("cycle", path)


def test_shared_part_of_a_tree_counts_each_time():
    row = [1, 2]
    shared = {"vm-name": "a", "vcpu-map": [row, row, row]}
    repin = Repin(vm_name="a", vcpu_map=[[1, 2]] * 3)
    for limits in (Limits(max_nodes=12), Limits(max_nodes=12, max_depth=3)):
        assert Repin.load(shared, limits=limits) == repin
    for limits, words in (
        (Limits(max_nodes=11), "more than 11 nodes, each counted as often as it occurs"),
        (Limits(max_depth=2), "nested deeper than 2 levels"),
    ):
        with pytest.raises(LimitError, match=words):
            Repin.load(shared, limits=limits)
    # The deepest place of it counts, also where it stands higher up before.
    nest = [["a"]]
    tree = {"x": nest, "y": {"z": [nest]}}
    assert Ack.load(tree, limits=Limits(max_depth=5)) == Ack()
    with pytest.raises(LimitError, match="nested deeper than 4 levels"):
        Ack.load(tree, limits=Limits(max_depth=4))


def test_constructor_refuses_unbounded_trees(monkeypatch, pytestconfig):
    """With `--long` at its real limit, which takes seconds to reach."""
    assert Tree.max_nodes == DEFAULT_LIMITS.max_nodes == 1_000_000
    if not pytestconfig.getoption("long"):
        monkeypatch.setattr(Tree, "max_nodes", 10_000)
    doubled = ["a"]
    for _ in range(30):
        doubled = [doubled, doubled]
    with pytest.raises(ValidationError, match=f"at most {Tree.max_nodes} values; got more"):
        ApplicationKpis(kpis=doubled)
    # What is refused is shown by its size, if it is large.
    with pytest.raises(ValidationError, match=r"destinations\[0\]: .*; got a list of 2 items"):
        Evacuate(destinations=[doubled])


@pytest.mark.parametrize("name", Limits.__struct_fields__)
@pytest.mark.parametrize("value", [0, -1, 1.5, "8", None, True])
def test_limits_must_be_positive_integers(name, value):
    with pytest.raises(
        ValueError, match=f"Limits: {name} must be a positive integer, not {value!r}"
    ):
        Limits(**{name: value})
    assert getattr(Limits(**{name: 1}), name) == 1


def test_max_bytes_counts_bytes():
    text = "vm-name: äöü"
    size = len(text.encode())
    assert Suspend.from_yaml(text, limits=Limits(max_bytes=size)).vm_name == "äöü"
    with pytest.raises(LimitError):
        Suspend.from_yaml(text, limits=Limits(max_bytes=size - 1))


def test_from_yaml_refuses_other_types_than_text():
    for value in (None, 1, {"vm-name": "a"}, Path("a")):
        with pytest.raises(TypeError):
            Suspend.from_yaml(value)
        with pytest.raises(TypeError):
            fastlib.load(value)
    assert Suspend.from_yaml(bytearray(b"vm-name: a")) == Suspend(vm_name="a")


def test_misspelt_option_raises_value_error():
    for call in (
        lambda: TaskContainer.from_yaml("task: quit", unknown="eror"),
        lambda: TaskContainer.load({"task": "quit"}, unknown="eror"),
        lambda: fastlib.load("task: quit", unknown="eror"),
    ):
        with pytest.raises(ValueError, match="'ignore', 'warn' or 'error', not 'eror'"):
            call()
    with pytest.raises(ValueError, match="'block', 'literal' or 'flow', not 'json'"):
        fastlib.load("task: quit").to_yaml(style="json")


def test_limits_apply_to_each_document():
    text = "task: quit\n---\ntask: quit\nid: a\n"
    reports = fastlib.validate_all(text, limits=Limits(max_nodes=5))
    assert [report.ok for report in reports] == [True, True]


def test_nesting_beyond_the_limit_of_libyaml_is_a_limit_error():
    """libyaml from 0.2.6 on ends at 1000 levels, before it says anything of the first."""
    text = "vm-name: a\nx: " + "[" * 5000 + "]" * 5000
    with pytest.raises(LimitError, match="nested deeper than 64 levels") as caught:
        Stop.from_yaml(text, unknown="error")
    assert caught.value.problems[0].code == "limit-depth"
    assert caught.value.problems[0].line == 2
