"""`fastlib.testing.strategies`: every message, in every spelling, with every mistake."""

import re
import subprocess
import sys
import typing
from collections import Counter
from collections.abc import Callable, Sequence
from random import Random
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample
from msgspec import Meta

import fastlib
from fastlib import (
    Extension,
    Message,
    MessageError,
    Migrate,
    MigrateParameter,
    Repin,
    Result,
    ResultContainer,
    Start,
    Stop,
    Task,
    TaskContainer,
    TimeMeasurement,
    ValidationError,
)
from fastlib.codec import AllOrNone, Needs, Rule, Wire
from fastlib.extras import install_command
from fastlib.message import task
from fastlib.message.agent import InitAgent, Kpis
from fastlib.testing.choices import PlainChoices, RandomChoices
from fastlib.testing.registered import registered
from fastlib.testing.strategies import (
    NAMES,
    MistakeKind,
    containers,
    from_message,
    invalid,
    messages,
    yaml_texts,
)
from fastlib.testing.values import structs
from fastlib.testing.yaml_variants import TURNS, yaml_variant
from tests.support.strategies import MESSAGES, examples, name_of

every_message = pytest.mark.parametrize("cls", MESSAGES, ids=name_of)


# --- messages -------------------------------------------------------------------------------------


def found(strategy: st.SearchStrategy[Any], condition: Any) -> Any:
    """The smallest example of a strategy for which something holds."""
    return find(
        strategy,
        condition,
        settings=settings(max_examples=5_000, database=None, phases=[Phase.generate, Phase.shrink]),
    )


def drawn(strategy: st.SearchStrategy[Any], condition: Any, max_examples: int = 5_000) -> Any:
    """Any example of a strategy for which something holds."""
    some = settings(max_examples=max_examples, database=None, phases=[Phase.generate])
    return find(strategy, condition, settings=some)


def draw_until(
    strategy: st.SearchStrategy[Any], look: Callable[[Any], bool], max_examples: int
) -> bool:
    """Show examples to `look` until it returns True once; whether it did.

    In the long run it gets ten times that number, with any result. Their seed changes, so fewer
    would miss what is rare once in some runs.
    """
    if settings.get_current_profile_name() == "nightly":

        @settings(max_examples=10 * max_examples, database=None)
        @given(strategy)
        def look_at_all(example: Any) -> None:
            nonlocal complete
            complete = look(example)

        complete = False
        look_at_all()
        return complete
    try:
        drawn(strategy, look, max_examples)
    except NoSuchExample:
        return False
    return True


@pytest.mark.load
def test_every_message_is_drawn() -> None:
    own = {cls for cls in MESSAGES if issubclass(cls, Message)}
    assert set(registered()) >= own
    known = {f"task: {title}" for title in task._by_task}
    known |= {f"result: {title}" for title in task._by_result}
    seen: set[type[Any]] = set()
    titles: set[str] = set()

    def most_messages(message: Message) -> bool:
        seen.add(type(message))
        return len(own & seen) > len(own) / 2

    def most_titles(container: TaskContainer | ResultContainer) -> bool:
        titles.add(container.to_yaml().split("\n")[1])
        return len(known & titles) > len(known) / 2

    # Most of them: Hypothesis likes to try something near what it has tried.
    assert draw_until(messages(texts=NAMES), most_messages, 600), own - seen
    assert draw_until(containers(texts=NAMES), most_titles, 600), known - titles


@pytest.mark.parametrize("cls", [str, Start(vm_name="a"), None, dict])
def test_other_types_are_refused(cls: Any) -> None:
    with pytest.raises(TypeError, match="expected a type of message"):
        from_message(cls)


@pytest.mark.load
def test_failures_shrink_to_short_messages() -> None:
    assert found(messages(), lambda m: isinstance(m, Message)).to_yaml() == "---\n{}\n---"
    assert found(from_message(TaskContainer), lambda c: True).to_yaml().count("\n") <= 3
    assert found(containers(), lambda c: c.id).to_yaml().split("\n")[-2:] == ["id: a", "---"]
    start = found(from_message(Start), lambda start: start.vcpu_map and start.vcpu_map[0])
    assert start == Start(vm_name="a", vcpu_map=[[0]]) or start == Start(xml="a", vcpu_map=[[0]])
    migrating = found(from_message(Migrate), lambda m: m.parameter and m.parameter.rdma_migration)
    parameter = MigrateParameter(rdma_migration=True)
    assert migrating == Migrate(vm_name="a", destination="a", parameter=parameter)


def test_texts_of_free_fields_can_be_chosen() -> None:
    some = st.sampled_from(["one", "two"])

    @examples(50, 200)
    @given(from_message(Stop, texts=some))
    def check(stop: Stop) -> None:
        assert {stop.vm_name, stop.regex, stop.driver} <= {"one", "two", None}

    check()


# --- of other packages ----------------------------------------------------------------------------


class Even(Rule):
    """The size is even."""

    attributes = ("size",)

    def broken(self, get: Any) -> tuple[str | None, str] | None:
        size = get("size")
        return ("size", "must be even") if isinstance(size, int) and size % 2 else None


@pytest.mark.usefixtures("isolated_registry")
def test_rules_are_kept_by_empty_values() -> None:
    class Emptied(Message):
        rules: ClassVar[tuple[Rule, ...]] = (AllOrNone("one", "other"),)

        one: Annotated[str | None, Wire("One.", empty_is_absent=True)] = None
        other: Annotated[str | None, Wire("Another.", empty_is_absent=True)] = None

    texts = st.sampled_from(["", "a"])

    @examples(50, 500)
    @given(structs(Emptied, texts))
    def check(emptied: Emptied) -> None:
        assert (emptied.one is None) == (emptied.other is None)

    check()


@pytest.mark.usefixtures("isolated_registry")
@pytest.mark.load
def test_tasks_and_options_of_other_packages_are_drawn() -> None:
    class Snapshotted(Result):
        size: Annotated[str | None, Wire("What it takes.")] = None

    class Snapshot(
        Task, task="snapshot vm", result="vm snapshotted", result_type=Snapshotted, key="snapshots"
    ):
        rules: ClassVar[tuple[Rule, ...]] = (Needs("external", "label"), Even())

        vm_name: str
        size: Annotated[int, Meta(ge=10, le=20)]
        label: Annotated[str, Meta(pattern="^[a-f]+$")] | None = None
        short: Annotated[str, Meta(min_length=2, max_length=3)] | None = None
        external: bool | None = None
        form: Literal["raw", "qcow2"] = "raw"
        parts: Sequence[Annotated[int, Meta(ge=1, le=2)]] = ()

    class Tpm(Extension, of=Start):
        tpm: bool | None = None

    snapshot = from_message(Snapshot)
    assert isinstance(drawn(st.from_type(Snapshot), lambda s: s.parts), Snapshot)
    missing = {"external", "label", "short", "parts"}

    def nothing_is_missing(one: Snapshot) -> bool:
        missing.difference_update([name for name in missing if getattr(one, name)])
        return not missing

    assert draw_until(snapshot, nothing_is_missing, 500), missing
    assert drawn(from_message(Start), lambda s: Tpm.of(s).tpm is True).to_yaml().count("tpm") == 1
    assert isinstance(drawn(messages(), lambda m: type(m) is Snapshot), Snapshot)
    held = drawn(containers(), lambda c: "vm snapshotted" in c.to_yaml())
    assert type(held) is ResultContainer

    @examples(15, 200)
    @given(snapshot, st.data())
    def check(message: Snapshot, data: st.DataObject) -> None:
        assert message.size % 2 == 0
        text = data.draw(yaml_texts(message, other_words=True))
        assert Snapshot.from_yaml(text) == message
        assert_expected(Snapshot, data.draw(invalid(Snapshot)))

    check()


# --- by their types -------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [*MESSAGES, Message], ids=name_of)
def test_hypothesis_knows_the_types(cls: type[Any]) -> None:
    @examples(2, 500)
    @given(st.from_type(cls))
    def check(message: Any) -> None:
        assert isinstance(message, cls)
        assert type(message).from_yaml(message.to_yaml()) == message

    check()


def test_arguments_are_known_by_their_types() -> None:
    def request(
        start: Start, tasks: Task, container: TaskContainer, measured: TimeMeasurement | None = None
    ) -> tuple[Any, ...]:
        return start, tasks, container, measured

    @examples(25, 100)
    @given(st.builds(request))
    def check(drawn: tuple[Any, ...]) -> None:
        start, any_task, container, _ = drawn
        assert isinstance(start, Start)
        assert type(any_task) in task._by_type  # of a plain Task nothing is known
        assert isinstance(container, TaskContainer)

    check()


@pytest.mark.load
def test_other_types_are_left_to_hypothesis() -> None:
    @examples(50, 200)
    @given(st.from_type(object))
    def check(value: object) -> None:
        assert not isinstance(value, Message)

    check()


PROGRAM = """
import re
import sys
import typing
from collections import Counter
{first}
assert ("fastlib" in sys.modules) == {loaded}, "loaded"
{second}
from random import Random
from typing import Annotated
from hypothesis import HealthCheck, given, settings, strategies as st
from fastlib import Start, Task

class Later(Task, task="later", result="done"):
    vm_name: str

@settings(max_examples=20, database=None, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.from_type(Start), st.from_type(Later))
def check(start, later):
    assert start.vm_name is not None or start.xml is not None
    assert isinstance(later, Later)

check()
"""


@pytest.mark.parametrize(
    ("first", "second", "loaded"),
    [("import hypothesis", "import fastlib", False), ("import fastlib", "import hypothesis", True)],
)
def test_modules_can_be_imported_in_any_order(first: str, second: str, loaded: bool) -> None:
    """Hypothesis alone does not load fastlib; together they know each other."""
    code = PROGRAM.format(first=first, second=second, loaded=loaded)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_error_names_the_line_that_installs_hypothesis() -> None:
    code = (
        "import sys\nsys.modules['hypothesis'] = None\n"
        "import fastlib.testing\n"
        "try:\n    import fastlib.testing.strategies\n"
        "except ImportError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == (
        "the generation of messages needs hypothesis, which is not installed: "
        f"{install_command('testing')}\n"
    )


# --- spellings ------------------------------------------------------------------------------------


@every_message
@examples(4, 3_000)
@given(st.data())
def test_every_spelling_reads_as_the_message(cls: type[Any], data: st.DataObject) -> None:
    message = data.draw(from_message(cls))
    text = data.draw(yaml_texts(message, other_words=data.draw(st.booleans())))
    again = cls.from_yaml(text)
    assert again == message
    assert type(again) is type(message)
    assert shown(again.emit()) == shown(message.emit())


def shown(tree: Any) -> str:
    """Return the text of a tree without the order of keys; it distinguishes 1, 1.0 and true."""
    if isinstance(tree, dict):
        return f"{{{', '.join(sorted(f'{key!r}: {shown(item)}' for key, item in tree.items()))}}}"
    if isinstance(tree, list):
        return f"[{', '.join(map(shown, tree))}]"
    return repr(tree)


@every_message
@examples(3, 1_000)
@given(st.data())
def test_simplest_spelling_is_the_canonical_one(cls: type[Any], data: st.DataObject) -> None:
    message = data.draw(from_message(cls))
    if isinstance(message.emit(), dict | list):  # a bare word is alone on its line
        assert yaml_variant(message, PlainChoices()) == message.to_yaml()


FEATURES = {
    "anchor": r"&a0", "alias": r"\*a0", "tag": "!!str", "comment": "# c", "directive": "%YAML",
    "bare": "vm-name: no$", "literal": r"vm-name: \|", "folded": "driver: >", "single": "'no'",
    "explicit key": r"(?m)^\? ", "escape": r"\\x6[Ee]|\\u00", "carriage returns": "\r\n",
    "mark": "\ufeff", "another document": "task: quit", "no end": r"[^\s-]\Z", "hexadecimal": "0x",
    "octal": r"[ \[,]0[1-7]", "truth": "Yes|on|TRUE|y$",
    "flow": r"\{.*vm-name", "lines of flow": r"\[\n|,\n", "an escaped line end": r"\\\n",
}  # fmt: skip


@pytest.mark.load
def test_spellings_use_all_of_yaml() -> None:
    missing = {name: re.compile(pattern, re.MULTILINE) for name, pattern in FEATURES.items()}
    text = Stop(vm_name="no", driver="no way", force=True)
    numbers = Repin(vm_name="no", vcpu_map=[[8, 9], [8, 9]])

    def nothing_is_missing(texts: tuple[str, str]) -> bool:
        for name, pattern in list(missing.items()):
            if any(map(pattern.search, texts)):
                del missing[name]
        return not missing

    both = st.tuples(yaml_texts(text), yaml_texts(numbers))
    assert draw_until(both, nothing_is_missing, 800), missing


def test_every_choice_has_a_name() -> None:
    asked = Counter[str]()

    class Asked(RandomChoices):
        def turn(self, what: str, ways: Sequence[Any]) -> Any:
            asked[what] += 1
            return super().turn(what, ways)

    containers = (
        TaskContainer(tasks=[fastlib.Quit()]),
        fastlib.load(
            "task: migrate vm\nvm-name: a\ndestination: a\nparameter: {vcpu-map: [[8], [8]]}"
        ),
        fastlib.load(
            "result: vm stopped\nlist: [{vm-name: a b, status: error, details: 'a b\n\n  c'}]"
        ),
        InitAgent(kpi=Kpis(categories={"a": "b"}, repeat=1)),
    )
    for seed in range(400):
        for container in containers:
            yaml_variant(container, Asked(Random(seed)), other_words=True)
    assert set(asked) == set(TURNS)


@pytest.mark.load
def test_other_words_are_of_the_declarations() -> None:
    container = fastlib.load(
        "task: migrate vm\nvm-name: a\ndestination: b\nparameter: {retry_counter: 1}"
    )
    assert "retry-counter" in found(
        yaml_texts(container, other_words=True), lambda t: "retry-c" in t
    )
    quit_ = TaskContainer(tasks=[fastlib.Quit()])
    assert found(yaml_texts(quit_, other_words=True), lambda t: "list:" in t)
    repinned = fastlib.load("result: vm repinned\nlist: [{vm-name: a, status: success}]")
    assert found(yaml_texts(repinned, other_words=True), lambda t: "list" not in t)
    with pytest.raises(NoSuchExample):
        find(
            yaml_texts(container),
            lambda text: "retry-c" in text,
            settings=examples(50, 200),
        )


def test_spellings_shrink_to_the_plainest() -> None:
    message = Start(vm_name="vm1", driver="qemu", vcpus=8)

    hexadecimal = found(yaml_texts(message), lambda text: "0x" in text)
    assert hexadecimal == message.to_yaml().replace("vcpus: 8", "vcpus: 0x8")


# --- mistakes -------------------------------------------------------------------------------------


def assert_expected(cls: type[Any], case: Any) -> None:
    """Assert that a mistake is reported as expected, in the text and in the tree."""
    report = fastlib.validate(case.text, cls)
    wanted = (case.path, case.code, case.severity)
    assert wanted in [(p.path, p.code, p.severity) for p in report.problems], case.text
    if case.severity == "warning":
        assert isinstance(cls.from_yaml(case.text), cls)
        return
    with pytest.raises(ValidationError) as caught:
        cls.from_yaml(case.text)
    assert case.path in [problem.path for problem in caught.value.problems]
    if case.tree is not None:
        with pytest.raises(MessageError) as caught:
            cls.load(case.tree)
        assert (case.path, case.code) in [(p.path, p.code) for p in caught.value.problems]


@every_message
@examples(4, 2_000)
@given(st.data())
def test_every_mistake_is_reported_as_expected(cls: type[Any], data: st.DataObject) -> None:
    if cls is not TimeMeasurement:
        assert_expected(cls, data.draw(invalid(cls)))


@every_message
def test_message_without_the_mistake_has_not_its_problem(cls: type[Any]) -> None:
    """So that the test above can fail."""

    @examples(2, 100)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        case = data.draw(invalid(cls))
        message = data.draw(from_message(cls, texts=NAMES))
        if isinstance(message, msgspec.Struct):
            sound = msgspec.structs.replace(case, text=message.to_yaml(), tree=message.emit())
            with pytest.raises((AssertionError, pytest.fail.Exception)):
                assert_expected(cls, sound)

    check()


def test_every_kind_of_mistake_is_made() -> None:
    missing = set(typing.get_args(MistakeKind))

    def nothing_is_missing(cases: tuple[Any, Any]) -> bool:
        missing.difference_update(case.mistake for case in cases)
        return not missing

    both = st.tuples(invalid(TaskContainer), invalid(Start))
    assert draw_until(both, nothing_is_missing, 300), missing
