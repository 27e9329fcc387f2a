"""The ways into the readers and writers: what they hand on, and what each of them does first."""

import warnings
from types import SimpleNamespace
from typing import Annotated, Any

import msgspec
import pytest

from fastlib import Evacuate, Stop, Suspend
from fastlib.codec import Wire, compiled, dispatch
from fastlib.codec.derivation import shape_of
from fastlib.codec.dispatch import (
    check_unknown,
    inspect,
    load_root,
    read,
    read_exact,
    read_tree,
    write,
)
from fastlib.codec.errors import LimitError, ParseError, UnknownKeyWarning, ValidationError
from fastlib.codec.limits import DEFAULT_LIMITS, Limits
from fastlib.codec.load_context import INVALID, UNSUPPORTED, LoadContext
from fastlib.codec.nodes import Scalar
from fastlib.codec.shapes import Shape, Text

SUSPEND = shape_of(Suspend)
STOP = shape_of(Stop)
EVACUATE = shape_of(Evacuate)
MESSAGE = Suspend(vm_name="a")
EMPTY = Scalar(None, True, 1, 1)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Return the calls of the fast reader, which supports no text here."""
    found: list[tuple[Any, ...]] = []

    def read_fast(shape: Shape, text: str, limits: Limits) -> Any:
        found.append((shape, text, limits))
        return UNSUPPORTED

    monkeypatch.setattr(dispatch, "read_fast", read_fast)
    return found


@pytest.mark.parametrize("limits", [None, Limits(max_bytes=100)])
def test_fast_reader_gets_the_decoded_text_and_the_limits(
    calls: list[tuple[Any, ...]], limits: Limits | None
) -> None:
    assert read(SUSPEND, b"vm-name: a", "Suspend", "ignore", limits) == MESSAGE
    assert calls == [(SUSPEND, "vm-name: a", limits or DEFAULT_LIMITS)]


def test_value_of_the_fast_reader_is_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "read_fast", lambda *_: 3)
    assert read(SUSPEND, "vm-name: a", "Suspend", "ignore", None) == 3


@pytest.mark.usefixtures("calls")
def test_exact_reader_gets_the_name_the_limits_and_the_handling_of_unknown_keys() -> None:
    with pytest.raises(ValidationError) as caught:
        read(SUSPEND, "{vm-name: a, x: b}", "Case", "error", None)
    assert caught.value.what == "Case"
    with pytest.raises(LimitError) as limit:
        read(SUSPEND, "vm-name: [[a]]", "Case", "ignore", Limits(max_depth=2))
    assert limit.value.what == "Case"
    with pytest.raises(ParseError) as parse:
        read(SUSPEND, "vm-name: [", "Case", "ignore", None)
    assert parse.value.what == "Case"
    with pytest.raises(ParseError) as parse:
        read(SUSPEND, b"\xff", "Case", "ignore", None)
    assert parse.value.what == "Case"
    with pytest.raises(LimitError) as limit:
        read(SUSPEND, "vm-name: a", "Case", "ignore", Limits(max_bytes=9))
    assert limit.value.what == "Case"


def test_limits_of_the_exact_reader_count_long_aliases() -> None:
    text = f"destinations: [&a {'x' * 4096}, *a, *a, *a]"
    assert len(read_exact(EVACUATE, text, what="Case").destinations) == 4
    with pytest.raises(LimitError) as caught:
        read_exact(EVACUATE, text, what="Case", limits=Limits(max_nodes=10))
    assert caught.value.what == "Case"
    assert "more than 10 nodes, each alias counted" in str(caught.value)


@pytest.mark.parametrize("text", ["", "---\n", "# nothing\n", "null"])
def test_empty_document_is_an_empty_mapping(text: str) -> None:
    assert read_exact(STOP, "vm-name: a\nforce: true", what="Stop") == Stop(vm_name="a", force=True)
    with pytest.raises(ValidationError) as caught:
        read_exact(SUSPEND, text, what="Suspend")
    (problem,) = caught.value.problems
    assert (problem.code, problem.path, problem.line, problem.column) == (
        "missing",
        "vm-name",
        1,
        1,
    )


def test_empty_document_is_null_for_other_shapes() -> None:
    context = LoadContext("Case", DEFAULT_LIMITS)
    assert load_root(Text(), EMPTY, context) is INVALID
    (problem,) = context.problems
    assert (problem.path, problem.message) == ("", "expected text; got null")


def test_tree_is_read_with_the_name_the_limits_and_the_handling_of_unknown_keys() -> None:
    assert read_tree(SUSPEND, {"vm-name": "a", "x": 1}, what="Case") == MESSAGE
    with pytest.raises(ValidationError) as caught:
        read_tree(SUSPEND, {"vm-name": "a", "x": 1}, what="Case", unknown="error")
    assert caught.value.what == "Case"
    with pytest.raises(LimitError) as limit:
        read_tree(SUSPEND, {"vm-name": "a" * 9}, what="Case", limits=Limits(max_scalar=8))
    assert limit.value.what == "Case"
    read_tree(SUSPEND, {"vm-name": "a" * 8}, what="Case", limits=Limits(max_scalar=8))
    tree = {"destinations": ["x" * 4096] * 4}
    assert read_tree(EVACUATE, tree, what="Case").emit() == tree
    with pytest.raises(LimitError) as limit:
        read_tree(EVACUATE, tree, what="Case", limits=Limits(max_nodes=10))
    assert limit.value.what == "Case"
    assert "more than 10 nodes, each alias counted" in str(limit.value)


@pytest.mark.parametrize("unknown", ["", "Warn", "ERROR", "yes"])
def test_other_handlings_of_unknown_keys_are_refused(unknown: Any) -> None:
    words = f"^unknown must be 'ignore', 'warn' or 'error', not '{unknown}'$"
    for call in (
        lambda: check_unknown(unknown),
        lambda: read(SUSPEND, "vm-name: a", "Case", unknown, None),
        lambda: read_tree(SUSPEND, {"vm-name": "a"}, what="Case", unknown=unknown),
    ):
        with pytest.raises(ValueError, match=words):
            call()
    for known in ("ignore", "warn", "error"):
        check_unknown(known)


def test_only_unknown_and_old_keys_warn() -> None:
    text = "{name: b, vm-name: a, vm-nmae: c}"
    with pytest.warns(UnknownKeyWarning) as caught:
        assert read_exact(SUSPEND, text, what="Case", unknown="warn") == MESSAGE
    assert [str(each.message).partition(":")[0] for each in caught] == ["Case"] * 2
    assert "(did you mean 'vm-name'?)" in str(caught[1].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_exact(SUSPEND, text, what="Case") == MESSAGE
        assert read_exact(STOP, "vm-name: a", what="Case", unknown="warn") == Stop(vm_name="a")


def test_errors_are_raised_without_the_warnings() -> None:
    with pytest.raises(ValidationError) as caught:
        read_exact(SUSPEND, "{vm-name: [], x: 1}", what="Case", unknown="warn")
    assert [problem.code for problem in caught.value.problems] == ["type"]


def reports(text: str | bytes, choose: Any = None, **options: Any) -> list[Any]:
    def always(root: Any, context: LoadContext) -> Shape:
        roots.append(root)
        assert context.what == "Case"
        return SUSPEND

    roots: list[Any] = []
    return [
        (report.message, [problem.code for problem in report.problems])
        for report in inspect(choose or always, text, what="Case", **options)
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("vm-name: a", [(MESSAGE, [])]),
        ("vm-name: a\n---\nvm-name: b\n---", [(MESSAGE, []), (Suspend(vm_name="b"), [])]),
        ("", [(None, ["missing"])]),
        ("---\n---\nvm-name: a", [(None, ["missing"]), (MESSAGE, [])]),
        ("vm-name: a\n---\n---\nvm-name: a", [(MESSAGE, [])] * 2),
        ("vm-name: a\n---\n[", [(MESSAGE, []), (None, ["syntax"])]),
        ("[", [(None, ["syntax"])]),
        (b"\xff", [(None, ["encoding"])]),
        ("vm-name: a\nx: b", [(MESSAGE, ["unknown-key"])]),
        ("vm-name: []\nx: b", [(None, ["type", "unknown-key"])]),
    ],
)
def test_each_document_has_a_report(text: str | bytes, expected: list[Any]) -> None:
    assert reports(text) == expected


def test_report_of_a_root_for_which_there_is_no_shape_has_the_reason() -> None:
    def choose(root: Any, context: LoadContext) -> None:
        context.add_problem(root, (), "no-kind", "no kind", severity="warning")

    assert reports("vm-name: a", choose) == [(None, ["no-kind"])]
    assert reports("", choose) == [(None, ["no-kind"])]


def test_limits_of_a_report() -> None:
    assert reports("vm-name: a", limits=Limits(max_bytes=9)) == [(None, ["limit-bytes"])]
    assert reports("vm-name: abcde", limits=Limits(max_scalar=4)) == [(None, ["limit-scalar"])]

    def evacuate(root: Any, context: LoadContext) -> Shape:
        return EVACUATE

    text = f"destinations: [&a {'x' * 4096}, *a, *a, *a]"
    ((message, codes),) = reports(text, evacuate)
    assert (len(message.destinations), codes) == (4, [])
    assert reports(text, evacuate, limits=Limits(max_nodes=10)) == [(None, ["limit-nodes"])]


def test_style_of_a_text() -> None:
    message = Suspend(vm_name="a\nb")
    assert write(message, SUSPEND) == write(message, SUSPEND, "block")
    assert write(message, SUSPEND) == '---\nvm-name: "a\\nb"\n---'
    assert write(message, SUSPEND, "flow") == '{vm-name: "a\\nb"}'
    assert "vm-name: |-\n" in write(message, SUSPEND, "literal")
    words = "^style must be 'block', 'literal' or 'flow', not 'Flow'$"
    with pytest.raises(ValueError, match=words):
        write(message, SUSPEND, "Flow")  # type: ignore[arg-type]


def test_reader_and_writer_are_imported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from fastlib.codec import fast_reader, writer

    monkeypatch.setattr(dispatch, "read_exact", pytest.fail)
    monkeypatch.setattr(dispatch, "read_fast", dispatch._import_fast_reader)
    monkeypatch.setattr(dispatch, "_write_block", dispatch._import_writer)
    assert read(SUSPEND, "vm-name: a", "Suspend", "ignore", None) == MESSAGE
    assert dispatch.read_fast is fast_reader.read_fast
    assert write(MESSAGE, SUSPEND) == "---\nvm-name: a\n---"
    assert dispatch._write_block is writer.write_block


def test_outdated_compiled_modules_are_named_once_and_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dispatch, "read_fast", dispatch._import_fast_reader)
    monkeypatch.setattr(dispatch, "outdated_files", lambda: ["/a.so", "/b.so"])
    calls = warning_calls(monkeypatch)
    assert read(SUSPEND, "vm-name: a", "Suspend", "ignore", None) == MESSAGE
    assert calls == [
        (
            "fastlib reads slowly, because these compiled modules belong to another version of "
            "fastlib; remove them: /a.so, /b.so",
            RuntimeWarning,
            7,
        )
    ]
    assert dispatch.read_fast is dispatch._read_nothing
    assert read(SUSPEND, "vm-name: a", "Suspend", "ignore", None) == MESSAGE
    assert len(calls) == 1
    assert compiled.outdated_files() == []


# --- the place of a warning -----------------------------------------------------------------------


def warning_calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, type[Warning], int]]:
    """Return the calls of `warnings.warn`; the level of the caller is 7."""
    calls: list[tuple[str, type[Warning], int]] = []

    def warn(message: str, category: type[Warning], stacklevel: int) -> None:
        calls.append((message, category, stacklevel))

    monkeypatch.setattr(warnings, "warn", warn)
    monkeypatch.setattr(dispatch, "_callers_level", lambda frame: 7 if frame.f_lineno else 0)
    return calls


def test_unknown_key_warns_at_the_place_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = warning_calls(monkeypatch)
    words = "Case: x: unknown key, ignored by every peer"
    read_tree(SUSPEND, {"vm-name": "a", "x": 1}, what="Case", unknown="warn")
    assert calls == [(words, UnknownKeyWarning, 7)]


def stack(*modules: str) -> Any:
    """Return the innermost frame of a stack, whose modules are given from the inside out."""
    frame = None
    for module in reversed(modules):
        frame = SimpleNamespace(f_back=frame, f_globals={"__name__": module})
    return frame


@pytest.mark.parametrize(
    ("modules", "level"),
    [
        (["fastlib.codec.dispatch", "user"], 2),
        (["fastlib.codec.dispatch", "fastlib", "fastlib.message.base", "user.tool", "fastlib"], 4),
        (["fastlib.codec.dispatch", "fastlib_migfra.x", "user"], 2),
        (["fastlib.codec.dispatch", "codec.fastlib", "user"], 2),
        (["fastlib.codec.dispatch", "fastlib.cli"], 2),
        (["fastlib.codec.dispatch"], 1),
    ],
)
def test_caller_is_the_first_function_outside_of_the_package(
    modules: list[str], level: int
) -> None:
    assert dispatch._callers_level(stack(*modules)) == level


# --- reports --------------------------------------------------------------------------------------


class Refusing(msgspec.Struct):
    """A struct that reads a message, and reports an error for it nevertheless."""

    a: Annotated[str | None, Wire("x", old={"b": "write 'a'"}, refuses_old=True)] = None


def test_value_with_an_error_is_not_reported() -> None:
    def choose(root: Any, context: LoadContext) -> Shape:
        return shape_of(Refusing)

    assert reports("{a: c}", choose) == [(Refusing(a="c"), [])]
    assert reports("{b: c}", choose) == [(None, ["old-key"])]


@pytest.mark.parametrize("text", ["", "---\n# nothing\n"])
def test_empty_document_is_reported_at_the_beginning(text: str) -> None:
    (report,) = inspect(lambda root, context: SUSPEND, text, what="Case")
    (problem,) = report.problems
    assert (problem.code, problem.line, problem.column) == ("missing", 1, 1)


def test_report_has_the_problems_before_an_exceeded_limit() -> None:
    def choose(root: Any, context: LoadContext) -> Shape:
        context.add_problem(root, (), "first", "the first problem")
        return EVACUATE

    text = f"destinations: [&a {'x' * 4096}, *a, *a, *a]"
    limits = Limits(max_nodes=10)
    assert reports(text, choose, limits=limits) == [(None, ["first", "limit-nodes"])]
