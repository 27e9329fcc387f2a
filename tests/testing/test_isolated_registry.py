"""Declarations in an isolated registry: seen inside, forgotten outside."""

import importlib
import sys
from pathlib import Path

import pytest
from hypothesis import strategies as st

from fastlib import Extension, Message, Result, ResultContainer, Start, Task, load, validate
from fastlib.codec.derivation import shape_of
from fastlib.message.describe import groups, message_types
from fastlib.message.registry import REGISTRY, class_of_title, titles
from fastlib.message.task import declarations
from fastlib.schema import message_kinds
from fastlib.testing import isolated_registry
from fastlib.testing.registered import registered
from tests.support.on_path import on_path

SNAPSHOT = "task: snapshot vm\nlist:\n- vm-name: vm1\n"
START = "task: start vm\nvm-configurations:\n- vm-name: vm1\n  tpm: true\n"


def declare() -> type[Task]:
    """Declare a task with its own result, an extension of fastlib's and a titled message."""

    class Size(Result):
        size: str | None = None

    class Snapshot(Task, task="snapshot vm", result="vm snapshotted", result_type=Size):
        vm_name: str

    class Tpm(Extension, of=Start):
        tpm: bool | None = None

    class Hello(Message, task="hello"):
        pass

    return Snapshot


def everything_derived() -> tuple[object, ...]:
    """Everything that is derived from the declarations, after each cache was filled."""
    message_kinds()  # fills what the registry holds only once it is needed, before it is copied
    groups()
    written = [
        load(text).to_yaml() for text in (SNAPSHOT, START, "task: hello\n") if validate(text).ok
    ]
    return (
        REGISTRY.snapshot(),
        titles("task"),
        titles("result"),
        [declared.task for declared in declarations()],
        message_types(),
        registered(),
        groups(),
        [kind.name for kind in message_kinds()],
        [str(problem) for problem in validate(START).problems],
        written,
    )


def test_declarations_and_derived_objects_are_removed() -> None:
    before = everything_derived()
    with isolated_registry():
        snapshot = declare()
        inside = everything_derived()
        assert class_of_title("task", "snapshot vm") is snapshot
        assert {"snapshot vm", "hello"} <= set(titles("task"))
        assert validate(START).problems == ()
        result = "result: vm snapshotted\nlist:\n- vm-name: a\n  status: success\n  size: 3\n"
        assert ResultContainer.from_yaml(result).results[0].size == "3"  # type: ignore[attr-defined]
        assert len(inside[-1]) == 3  # type: ignore[arg-type]
    assert everything_derived() == before
    assert class_of_title("task", "snapshot vm") is None
    assert not validate(SNAPSHOT).ok


def test_raised_error_ends_the_isolation() -> None:
    before = everything_derived()

    def fails() -> None:
        with isolated_registry():
            declare()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert everything_derived() == before


def test_entering_again_brings_the_declarations_back() -> None:
    context = isolated_registry()
    with context:
        snapshot = declare()
    assert class_of_title("task", "snapshot vm") is None
    with context:
        assert class_of_title("task", "snapshot vm") is snapshot
        assert type(load(SNAPSHOT).tasks[0]) is snapshot  # type: ignore[attr-defined]
    assert class_of_title("task", "snapshot vm") is None


def test_contexts_can_be_nested() -> None:
    with isolated_registry():
        snapshot = declare()
        with isolated_registry():

            class Other(Task, task="other", result="other done"):
                pass

            assert {"snapshot vm", "other"} <= set(titles("task"))
        assert class_of_title("task", "other") is None
        assert class_of_title("task", "snapshot vm") is snapshot


def test_entering_a_context_twice_at_once_is_refused() -> None:
    context = isolated_registry()
    with context, pytest.raises(RuntimeError, match="in use already"):
        context.__enter__()


def test_isolation_without_declarations_keeps_the_caches() -> None:
    shape = shape_of(Start)
    with isolated_registry():
        assert shape_of(Start) is shape
    assert shape_of(Start) is shape


def test_title_can_be_declared_again_after_the_isolation() -> None:
    for _ in range(2):
        with isolated_registry():
            declare()
    with isolated_registry():

        class Different(Task, task="snapshot vm", result="vm snapshotted"):
            pass

        assert class_of_title("task", "snapshot vm") is Different


def test_modules_with_declarations_are_imported_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "acme_isolated.py").write_text(
        "from fastlib import Task\nclass Snapshot(Task, task='snapshot vm', result='done'): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    context = isolated_registry()
    for _ in range(2):
        with isolated_registry():
            importlib.import_module("acme_isolated")
            assert class_of_title("task", "snapshot vm") is not None
        assert "acme_isolated" not in sys.modules
    with context:
        module = importlib.import_module("acme_isolated")
    with context:
        assert importlib.import_module("acme_isolated") is module
        assert class_of_title("task", "snapshot vm") is module.Snapshot
    assert "acme_isolated" not in sys.modules


@pytest.mark.parametrize(
    "statement",
    [
        "from acme_isolated import Snapshot",
        "from acme_isolated import tasks; Snapshot = tasks.Snapshot",
        "from acme_isolated.inner import tasks; Snapshot = tasks.Snapshot",
        "import acme_isolated.tasks; Snapshot = acme_isolated.tasks.Snapshot",
    ],
)
@pytest.mark.parametrize("known", [[], ["acme_isolated"], ["acme_isolated", "acme_isolated.inner"]])
def test_every_import_of_a_package_finds_the_new_declarations(
    tmp_path: Path, statement: str, known: list[str]
) -> None:
    """Also if a part of the package was imported before the context."""
    package = tmp_path / "acme_isolated"
    (package / "inner").mkdir(parents=True)
    (package / "inner/__init__.py").touch()
    (package / "tasks.py").write_text(
        "from fastlib import Task\nclass Snapshot(Task, task='snapshot vm', result='done'): ...\n"
    )
    (package / "inner/tasks.py").write_text("from acme_isolated.tasks import Snapshot\n")
    reexport = "from .tasks import Snapshot\n"
    (package / "__init__.py").write_text("" if known else reexport)
    if known and statement == "from acme_isolated import Snapshot":
        statement = "from acme_isolated.tasks import Snapshot"
    with on_path(tmp_path):
        for name in known:
            importlib.import_module(name)
        found = []
        again = isolated_registry()
        for context in (isolated_registry(), again, again):
            with context:
                names: dict[str, type] = {}
                exec(statement, names)
                assert class_of_title("task", "snapshot vm") is names["Snapshot"]
                found.append(names["Snapshot"])
        assert found[0] is not found[1]
        assert found[1] is found[2]


def test_hypothesis_generates_no_forgotten_message() -> None:
    with isolated_registry():
        snapshot = declare()
        assert isinstance(_example(st.from_type(snapshot)), snapshot)
    assert snapshot not in registered()


def _example(strategy: "st.SearchStrategy[Task]") -> Task:
    from hypothesis import Phase, find, settings

    return find(
        strategy,
        lambda _: True,
        settings=settings(max_examples=1, phases=[Phase.generate], database=None),
    )


@pytest.mark.parametrize("attempt", [1, 2])
@pytest.mark.usefixtures("isolated_registry")
def test_fixture_isolates_each_test(attempt: int) -> None:
    assert class_of_title("task", "snapshot vm") is None
    declare()
    assert class_of_title("task", "snapshot vm") is not None
