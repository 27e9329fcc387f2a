"""Methods of a hypervisor that could not be called are found when its class is loaded."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pytest

from fastlib import Query, Resume, Start, Suspend, Task
from fastlib.migfra import (
    ConfigSection,
    Context,
    Daemon,
    Hypervisor,
    Outcome,
    PluginError,
    read_configuration,
)
from fastlib.migfra.plugin_api import discovery
from fastlib.migfra.plugin_api.annotation_names import bound_names
from fastlib.migfra.plugin_api.method_checks import is_misspelt, method_problems
from fastlib.testing import isolated_registry

if TYPE_CHECKING:
    from decimal import Decimal

HERE = __file__


def problems(**methods: Any) -> list[str]:
    return method_problems(type("Mine", (Hypervisor,), {"name": "mine", **methods}))


def only(**methods: Any) -> str:
    (problem,) = problems(**methods)
    return problem


# --- parameters -----------------------------------------------------------------------------------


def test_missing_context_is_found() -> None:
    def suspend(self, task): ...

    line = suspend.__code__.co_firstlineno
    assert only(suspend=suspend) == (
        f"Mine.suspend ({HERE}:{line}) must take (self, task, context); it takes (self, task): "
        "too many positional arguments"
    )


def test_further_required_parameter_is_found() -> None:
    def start(self, task, context, more): ...

    assert "must take (self, task, context); it takes (self, task, context, more)" in only(
        start=start
    )

    async def stop(self, task, context, *, force): ...

    assert "missing a required" in only(stop=stop)


def test_other_parameters_with_defaults_are_allowed() -> None:
    def start(self, task, context, more=None, *, force=False): ...

    def stop(self, *arguments): ...

    async def suspend(self, task: Any, context: object, **named: Any) -> None: ...

    class Resuming:
        @staticmethod
        def resume(task, context): ...

    assert problems(start=start, stop=stop, suspend=suspend, resume=vars(Resuming)["resume"]) == []


def test_static_method_without_a_context_is_found() -> None:
    @staticmethod
    def start(task): ...

    assert "Mine.start" in only(start=start)


@pytest.mark.parametrize("hint", [Start, str, int, Start | Resume, Start | None])
def test_parameter_that_refuses_its_task_is_found(hint: Any) -> None:
    def suspend(self, task, context): ...

    suspend.__annotations__["task"] = hint
    assert "'task' must accept Suspend; its type is " in only(suspend=suspend)


@pytest.mark.parametrize(
    "hint", [Suspend, Task, object, Any, Start | Suspend, Suspend | None, "Suspend"]
)
def test_parameter_that_accepts_its_task_is_allowed(hint: Any) -> None:
    def suspend(self, task, context: Context) -> Outcome: ...

    suspend.__annotations__["task"] = hint
    assert problems(suspend=suspend) == []


def test_subclass_of_the_task_is_too_narrow() -> None:
    with isolated_registry():

        class Narrow(Suspend, task="narrow", result="narrowed"):
            """A declared task."""

        def suspend(self, task, context): ...

        suspend.__annotations__["task"] = Narrow
        assert "must accept Suspend; its type is Narrow" in only(suspend=suspend)


def test_names_that_only_type_checkers_import_prove_nothing() -> None:
    def suspend(self, task: "Decimal", context: "Decimal"): ...

    assert problems(suspend=suspend) == []


def test_annotation_with_a_name_that_does_not_exist_is_found() -> None:
    def suspend(self, task: "Suspen | None", context: "list[Nothing]") -> "Outcome[Zq]": ...  # noqa: F821

    found = problems(suspend=suspend)
    assert [text.partition("): ")[2].partition(",")[0] for text in found] == [
        "the type of 'task' has the name 'Suspen' (did you mean 'Suspend'?)",
        "the type of 'context' has the name 'Nothing'",
        "the type of the result has the name 'Zq'",
    ]

    def close(self) -> "Nones": ...  # noqa: F821

    assert "has the name 'Nones'" in only(close=close)


def test_name_that_does_not_exist_hides_no_other_annotation() -> None:
    def suspend(self, task: Start, context: "Decimal"): ...

    assert "'task' must accept Suspend; its type is Start" in only(suspend=suspend)


@pytest.mark.parametrize(
    "source",
    [
        "from elsewhere import Known",
        "from elsewhere import Other as Known",
        "import Known.sub",
        "class Outer:\n        class Known: ...",
        "Known = int",
        "for Known in []: ...",
    ],
)
def test_names_are_those_that_the_source_of_a_module_binds(source: str) -> None:
    found = bound_names(f"if TYPE_CHECKING:\n    {source}\n")
    assert found is not None
    assert "Known" in found
    assert found <= {"Known", "Outer"}


def test_names_of_a_module_without_a_list_of_its_imports_are_not_known() -> None:
    assert bound_names("from elsewhere import *") is None
    assert bound_names("def") is None


def test_context_of_another_type_is_found() -> None:
    def suspend(self, task: Suspend, context: dict): ...

    assert "'context' must accept a Context; its type is dict" in only(suspend=suspend)

    def resume(self, context: Context, task: Resume): ...

    assert len(problems(resume=resume)) == 2


def test_recover_must_accept_every_task_of_the_hypervisor() -> None:
    def start(self, task, context): ...

    def stop(self, task, context): ...

    def recover(self, task: Start, context): ...

    assert "must accept any Task; its type is Start" in only(
        start=start, stop=stop, recover=recover
    )
    assert problems(start=start, recover=recover) == []


def test_generators_are_found() -> None:
    async def start(self, task, context):
        yield 1

    def stop(self, task, context):
        yield 1

    assert len(problems(start=start, stop=stop)) == 2
    assert all("must not contain `yield`" in text for text in problems(start=start, stop=stop))


def test_attributes_other_than_methods_are_found() -> None:
    assert "Mine.start must be a method" in only(start=3)


# --- methods of the life of a hypervisor ----------------------------------------------------------


def test_outages_must_be_async() -> None:
    def outages(self) -> Mapping[str, str]: ...

    assert "Mine.outages" in only(outages=outages)
    assert "must be `async def`" in only(outages=outages)


@pytest.mark.parametrize("name", ["capabilities", "migration_limits"])
def test_others_must_not_be_async(name: str) -> None:
    async def method(self): ...

    assert f"Mine.{name}" in only(**{name: method})
    assert "must not be `async`" in only(**{name: method})


@pytest.mark.parametrize("name", ["open", "close", "check_open"])
def test_open_and_close_may_be_both(name: str) -> None:
    async def method(self): ...

    def plain(self): ...

    assert problems(**{name: method}) == problems(**{name: plain}) == []


def test_arguments_of_the_life_are_found() -> None:
    def open(self, options): ...

    assert "must take no arguments beside self; it takes (self, options)" in only(open=open)


def test_constructor_with_other_parameters_is_found() -> None:
    def __init__(self, options): ...

    assert "Mine.__init__" in only(__init__=__init__)
    assert "must take (self, options, node)" in only(__init__=__init__)


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("suspnd", "suspend"),
        ("suspendd", None),
        ("susepnd", "suspend"),
        ("start_vm", "start"),
        ("evacuate_node", "evacuate"),
        ("migrat", "migrate"),
        ("recovr", "recover"),
        ("qurey", "query"),
    ],
)
def test_near_name_is_found(name: str, meant: str | None) -> None:
    async def method(self, task, context): ...

    found = problems(**{name: method})
    if meant is None:
        assert found == []
    else:
        line = method.__code__.co_firstlineno
        assert found == [
            f"Mine.{name} ({HERE}:{line}) must have the name of a task's method (did you mean "
            f"{meant!r}?); begin the name of a helper with an underscore"
        ]


def test_options_by_another_name_are_found() -> None:
    class MineOptions(ConfigSection):
        """The keys of the hypervisor."""

    assert only(options=MineOptions) == (
        "Mine.options: the class of the options must have the name Options: write "
        "`Options = MineOptions`"
    )
    assert problems(Options=MineOptions, part=MineOptions) == []


def test_near_name_with_a_missing_context_is_found() -> None:
    def suspnd(self, task): ...

    assert "did you mean 'suspend'?" in only(suspnd=suspnd)


@pytest.mark.parametrize(
    ("name", "meant"), [("opne", "open"), ("clsoe", "close"), ("outage", "outages")]
)
def test_near_name_of_the_life_is_found(name: str, meant: str) -> None:
    def method(self): ...

    assert f"did you mean {meant!r}?" in only(**{name: method})


@pytest.mark.parametrize(
    "name", ["started", "restart", "stop_all", "_suspnd", "closed", "opened", "snapshot"]
)
def test_helpers_are_allowed(name: str) -> None:
    def method(self, task, context): ...

    def other(self): ...

    assert problems(**{name: method}) == problems(**{name: other}) == []


def test_near_names_of_attributes_and_properties_are_allowed() -> None:
    assert problems(suspnd=3, opne=property(lambda self: 1)) == []


def test_method_of_a_declared_task_is_not_a_misspelling() -> None:
    def suspnd(self, task, context): ...

    with isolated_registry():

        class Suspnd(Task, task="suspnd", result="suspnded"):
            """A task with such a name."""

        assert problems(suspnd=suspnd) == []
    assert len(problems(suspnd=suspnd)) == 1


def test_inherited_methods_are_looked_at() -> None:
    class Base:
        def suspend(self, task): ...

    cls = type("Mine", (Base, Hypervisor), {"name": "mine"})
    assert "Mine.suspend" in method_problems(cls)[0]


@pytest.mark.parametrize(
    ("name", "word", "near"),
    [
        ("start", "start", False),
        ("strat", "start", True),
        ("stat", "start", True),
        ("starrt", "start", True),
        ("start1", "start", False),
        ("stuck", "start", False),
        ("abc", "abd", False),
    ],
)
def test_misspelt_words(name: str, word: str, near: bool) -> None:
    assert is_misspelt(name, word) is near


# --- where it is reported -------------------------------------------------------------------------


def test_every_problem_is_reported_at_once() -> None:
    def suspend(self, task): ...

    def start(self, task: Resume, context): ...

    def query(self, task: Query): ...

    assert len(problems(suspend=suspend, start=start, query=query)) == 3


@pytest.mark.parametrize("name", discovery.BUILT_IN)
def test_own_hypervisors_pass(name: str) -> None:
    assert method_problems(discovery.load(name)) == []


def test_daemon_refuses_a_broken_hypervisor() -> None:
    class Broken(Hypervisor):
        name = "broken"

        def suspend(self, task): ...  # type: ignore[no-untyped-def]

    configuration = read_configuration("{hostname: a, hypervisor: {type: dummy}}")
    with pytest.raises(PluginError, match=r"'broken' is broken: .*Broken.suspend \(.*:\d+\)"):
        Daemon(configuration, hypervisor=Broken(None, configuration.node), in_memory=True)
