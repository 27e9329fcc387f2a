"""Extensions: options that another package adds to a task."""

import argparse
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta
from msgspec.structs import replace

from fastlib import (
    DeclarationError,
    Extension,
    Stop,
    Task,
    TaskContainer,
    ValidationError,
    load,
    validate,
)
from fastlib.cli.commands.task import add_arguments
from fastlib.codec import Wire
from fastlib.codec.derivation import shape_of
from fastlib.codec.dispatch import read_exact
from fastlib.codec.fast_reader import UNSUPPORTED, read_fast
from fastlib.codec.limits import DEFAULT_LIMITS
from fastlib.codec.rules import AllOrNone
from fastlib.codec.writer import write_tree
from fastlib.message.describe import describe, find_field
from fastlib.testing import isolated_registry

declarations = isolated_registry()
with declarations:

    class Listed(Task, task="extended in a list", result="1 extended", key="things"):
        """A task in a list."""

        vm_name: Annotated[str | None, Wire("A name.", old={"name": "write 'vm-name'"})] = None

    class Inline(Task, task="extended inline", result="2 extended", layout="inline"):
        """A task inline."""

        vm_name: Annotated[str, Wire("A name.")]

    class Either(
        Task, task="extended in both ways", result="3 extended", layout=("inline", "list")
    ):
        """A task in either place."""

    class Part(Extension, of=(Listed, Inline, Either)):
        """One field of each kind that there is."""

        rules = (AllOrNone("speed", "speeds"),)

        safe: Annotated[bool | None, Wire("Whether.", aliases=("is-safe",))] = None
        speed: Annotated[Annotated[int, Meta(ge=0, le=99)] | None, Wire("How fast.")] = None
        speeds: Annotated[tuple[Annotated[int, Meta(ge=0, le=9)], ...] | None, Wire("All.")] = None
        words: Annotated[str | None, Wire("What is said.")] = None

    class Other(Extension, of=Listed):
        """A second one."""

        other: Annotated[str | None, Wire("Anything.", empty_is_absent=True)] = None

    class Shadowed(Task, task="extended shadows", result="5 extended", layout="inline"):
        """A task with a command."""

        vm_name: Annotated[str, Wire("A name.")]

    class Shadows(Extension, of=Shadowed):
        """Fields that are called like options of the command."""

        timeout: Annotated[Annotated[int, Meta(ge=0, le=9)] | None, Wire("Another timeout.")] = None
        host: Annotated[str | None, Wire("Another host.")] = msgspec.field(
            default=None, name="node"
        )
        fresh: Annotated[bool | None, Wire("100% fresh.")] = None


@pytest.fixture(scope="module", autouse=True)
def _declared() -> Iterator[None]:
    with declarations:
        yield


PARTS = [
    Part(safe=True),
    Part(speed=3, speeds=(1, 2)),
    Part(words="no"),
    Part(words="several\nlines: 1"),
    Part(safe=False, speed=0, speeds=(), words="a"),
]


@pytest.mark.parametrize("part", PARTS, ids=repr)
@pytest.mark.parametrize(
    "make",
    [
        lambda part: TaskContainer(
            tasks=[
                Listed(vm_name="a", extensions=[part]),
                Listed(vm_name="b"),
                Listed(extensions=[Other(other="c"), part]),
                Listed(extensions=[Other(other="c")]),
            ],
            id="1",
        ),
        lambda part: TaskContainer(tasks=[Inline(vm_name="a", extensions=[part])], id="1"),
        lambda part: TaskContainer(tasks=[Either(extensions=[part])], id="1"),
        lambda part: Listed(vm_name="a", extensions=[part]),
    ],
    ids=["in a list", "inline", "either", "alone"],
)
def test_extensions_round_trip(make: Callable[[Any], Any], part: Part) -> None:
    message = make(part)
    cls = type(message)
    for style in ("block", "literal", "flow"):
        assert cls.from_yaml(message.to_yaml(style=style)) == message
    assert cls.load(message.emit()) == message
    shape = shape_of(cls)
    text = message.to_yaml()
    assert text == write_tree(shape.dump(message))
    assert read_exact(shape, text, what="message") == message
    fast = read_fast(shape, text, DEFAULT_LIMITS)
    assert fast is UNSUPPORTED or fast == message
    if isinstance(message, TaskContainer):
        assert load(text) == message


def test_fast_reader_supports_tasks_without_extensions() -> None:
    message = TaskContainer(tasks=[Listed(vm_name="a")], id="1")
    assert read_fast(shape_of(TaskContainer), message.to_yaml(), DEFAULT_LIMITS) == message


def test_keys_of_extensions_are_beside_those_of_the_task() -> None:
    task = Inline(vm_name="a", extensions=[Part(safe=True, words="b")])
    container = TaskContainer(tasks=[task], id="1")
    assert container.emit() == {
        "task": "extended inline",
        "vm-name": "a",
        "safe": True,
        "words": "b",
        "id": "1",
    }


def test_extension_of_a_task_is_found_by_its_class() -> None:
    task = Listed(extensions=[Other(other="a")])
    assert Other.of(task) == Other(other="a")
    assert Part.of(task) == Part()
    with pytest.raises(TypeError, match="Other does not extend Inline"):
        Other.of(Inline(vm_name="a"))
    with pytest.raises(TypeError, match="Other does not extend Stop"):
        Other.of(Stop(vm_name="a"))


def test_tasks_with_equal_extensions_are_equal() -> None:
    one, other = Part(safe=True), Other(other="a")
    assert Listed(extensions=[one, other]) == Listed(extensions=(other, one))
    assert Listed(extensions=[Part(), Other(other="")]) == Listed()
    assert hash(Listed(extensions=[one])) == hash(Listed(extensions=[one]))
    assert replace(Listed(extensions=[one]), vm_name="a").extensions == (one,)
    assert repr(Listed()) == "Listed()"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([Other(other="a")], r"extensions of Inline \(Part\); got \[Other"),
        ([3], "expected a list of extensions"),
        (Part(safe=True), "expected a list of extensions"),
        ("", "expected a list of extensions"),
        ([Part(safe=True), Part()], "each extension is given once"),
    ],
)
def test_wrong_extensions_are_refused(given: Any, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Inline(vm_name="a", extensions=given)


def test_problems_in_extensions_have_positions() -> None:
    report = validate(
        "task: extended in a list\n"
        "things:\n"
        "- vm-name: a\n"
        "  safe: perhaps\n"
        "  speedss: 3\n"
        "- {speed: 100, speeds: []}\n"
        "- words: {a: b}\n"
        "- safe: true\n"
        "  is-safe: true\n"
        "- speed: 3\n"
        "safe: true\n"
    )
    assert [(p.line, p.column, p.severity, p.path) for p in report.problems] == [
        (4, 9, "error", "things[0].safe"),
        (5, 3, "warning", "things[0].speedss"),
        (6, 11, "error", "things[1].speed"),
        (7, 10, "error", "things[2].words"),
        (9, 3, "error", "things[3].is-safe"),
        (10, 3, "error", "things[4]"),
        (11, 1, "warning", "safe"),
    ]
    problems = [str(problem) for problem in report.problems]
    assert "expected true or false" in problems[0]
    assert "did you mean 'speeds'?" in problems[1]
    assert "needs speed and speeds together" in problems[5]
    assert "belongs to each entry of 'things'" in problems[6]


def test_unknown_extensions_are_ignored() -> None:
    text = "task: stop vm\nlist:\n  - vm-name: a\n    safe: true\n"
    assert load(text) == TaskContainer(tasks=[Stop(vm_name="a")])
    (problem,) = validate(text).problems
    assert problem.code == "unknown-key"


def test_description_has_fields_of_extensions() -> None:
    keys = [field.key for field in describe(Listed).fields]
    assert keys[-5:] == ["safe", "speed", "speeds", "words", "other"]
    assert find_field(Listed, "speed").extension == f"{Part.__module__}.Part"
    assert find_field(Listed, "vm-name").extension is None
    assert find_field(Listed, "speed").type == "an integer from 0 to 99"


def test_command_of_a_task_has_options_of_its_extensions(
    capsys: pytest.CaptureFixture[str],
) -> None:
    parser = argparse.ArgumentParser("shadowed")
    add_arguments(parser, Shadowed.declaration)

    def task(*words: str) -> Task:
        options = parser.parse_args(["vm1", "--host", "node01", *words])
        tasks: list[Task] = options.task.tasks(options, parser)
        (made,) = tasks
        return made

    assert task() == Shadowed(vm_name="vm1")
    given = ("--shadows-timeout", "3", "--timeout", "60", "--node", "a", "--no-fresh")
    extension = Shadows(timeout=3, host="a", fresh=False)
    assert task(*given) == Shadowed(vm_name="vm1", extensions=[extension])
    with pytest.raises(SystemExit):
        task("--shadows-timeout", "10")
    assert "argument --shadows-timeout: expected an integer from 0 to 9" in capsys.readouterr().err
    shown = " ".join(parser.format_help().split())
    assert f"added by {__name__}: Fields that are called like options of the command." in shown
    assert "100% fresh." in shown


def declare(**fields: Any) -> None:
    """A module's class statement, of which `of` is taken from the fields."""
    of = fields.pop("of", Listed)
    body = {"__module__": __name__, "__qualname__": "Wrong", "__annotations__": {}}
    for name, kind in fields.items():
        body["__annotations__"][name] = kind
        if kind is not str:
            body[name] = None
    type(Extension)("Wrong", (Extension,), body, of=of)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"vm_name": str | None}, "the key 'vm-name' is taken by Listed"),
        ({"name": str | None}, "the key 'name' is taken by Listed"),
        ({"driver": str | None}, "the key 'driver' is taken by Listed"),
        ({"words": str | None}, r"the key 'words' is taken by .*\.Part"),
        ({"is_safe": bool | None}, r"the key 'is-safe' is taken by .*\.Part"),
        ({"id": str | None, "of": Inline}, "the key 'id' is taken by Inline"),
        ({"task": str | None, "of": Inline}, "the key 'task' is taken by Inline"),
        ({"list": str | None, "of": Either}, "the key 'list' is taken by Either"),
        ({"fresh": str}, "its type must allow"),
        ({"emit": str | None}, "every message reserves this name"),
        ({"fresh": "Nowhere | None"}, "its types must be known"),
        ({"fresh": int | None}, "an integer needs a range"),
        ({"fresh": str | None, "of": Task}, "Task is not a task with a title"),
        ({"fresh": str | None, "of": Part}, "`of` must be a task"),
        ({"fresh": str | None, "of": "start vm"}, "`of` must be a task"),
        (
            {"fresh": str | None, "id": str | None, "of": (Listed, Inline)},
            "'id' is taken by Inline",
        ),
    ],
)
def test_contradictory_extension_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(DeclarationError, match=said):
        declare(**fields)
    (problem,) = validate("fresh: a\nvm-name: b", Inline).problems
    assert problem.code == "unknown-key"  # and nothing of it is left
    assert "fresh" not in [field.key for field in describe(Listed).fields]


def test_reserved_names_and_keywords_are_refused() -> None:
    with pytest.raises(DeclarationError, match="the name is reserved"):

        class Wrong(Extension, of=Listed):
            of: str | None = None  # type: ignore[assignment]

    with pytest.raises(DeclarationError, match="extensions: every message reserves this"):

        class Odd(Task, task="odd", result="odd done"):
            extensions: str | None = None  # type: ignore[assignment]

    with pytest.raises(DeclarationError, match="unexpected keyword argument 'off'"):

        class Misspelt(Extension, off=Listed):
            pass


def test_reloaded_module_replaces_its_extensions() -> None:
    class Again(Task, task="extended again", result="4 extended", layout="inline"):
        """One more."""

    def module() -> type[Extension]:
        class Reloaded(Extension, of=Again):
            """The same, declared twice."""

            fresh: Annotated[str | None, Wire("Anything.")] = None

        return Reloaded

    old, new = module(), module()
    read = load("task: extended again\nfresh: a")
    assert isinstance(read, TaskContainer)
    assert type(read.tasks[0].extensions[0]) is new
    with pytest.raises(ValidationError):
        Again(extensions=[old(fresh="a")])
