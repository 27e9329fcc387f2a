"""Tasks and messages that are declared outside fastlib are like its own, by their declaration.

Declarations are global, and other tests walk all of them; so each test here gives back the tables
as it found them.
"""

import contextlib
import importlib
import itertools
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import pytest
from msgspec import Meta

import fastlib
import fastlib.message.describe
from fastlib import (
    DeclarationError,
    Message,
    NodeResult,
    PciId,
    Quit,
    Result,
    ResultContainer,
    Start,
    Stop,
    Task,
    TaskContainer,
    ValidationError,
)
from fastlib.codec import Needs, OneOf, Rule, Wire
from fastlib.message import registry, task

pytestmark = pytest.mark.usefixtures("isolated_registry")


def titles():
    return registry.titles("task"), registry.titles("result")


def round_trips(message):
    """The message, after it has been written and read in every form."""
    for style in ("block", "literal", "flow"):
        text = message.to_yaml(style=style)
        assert type(message).from_yaml(text) == message
        assert fastlib.load(text) == message
        report = fastlib.validate(text)
        assert report.problems == ()
        assert report.message == message
    assert type(message).load(message.emit()) == message
    return message


# --- layouts ------------------------------------------------------------------------------------


def test_a_list():
    class Snapshot(Task, task="snapshot vm", result="vm snapshotted"):
        """Keep a domain's state."""

        vm_name: Annotated[str, Wire("Name of the domain.")]
        keep: Annotated[int, Meta(ge=1, le=10)] | None = None

    container = TaskContainer(
        tasks=[Snapshot(vm_name="a", keep=3), Snapshot(vm_name="b", driver="qemu")], id="7"
    )
    assert round_trips(container).to_yaml() == (
        "---\ntask: snapshot vm\nlist:\n  - vm-name: a\n    keep: 3\n  - driver: qemu\n"
        '    vm-name: b\nid: "7"\n---'
    )
    assert type(container.tasks[0]) is Snapshot
    assert Snapshot.from_yaml("vm-name: a\nkeep: 0x3") == Snapshot(vm_name="a", keep=3)
    results = [Result(vm_name="a", status="success"), Result(vm_name="b", status="error")]
    answer = round_trips(ResultContainer.answer(container, results))
    assert answer.result == "vm snapshotted"
    assert list(answer.emit()) == ["result", "list", "id"]


def test_inline():
    class Rename(Task, task="rename vm", result="vm renamed", layout="inline"):
        vm_name: str
        new_name: str

    container = TaskContainer(
        tasks=[Rename(vm_name="a", new_name="b", time_measurement=True)],
        concurrent_execution=False,
        host="n1",
    )
    assert round_trips(container).to_yaml() == (
        "---\ntask: rename vm\nconcurrent-execution: false\ntime-measurement: true\nvm-name: a\n"
        "new-name: b\nhost: n1\n---"
    )
    assert container.tasks[0].concurrent_execution is False
    with pytest.raises(ValidationError, match="exactly one member"):
        TaskContainer(tasks=[Rename(vm_name="a", new_name="b")] * 2)
    report = fastlib.validate("task: rename vm\nlist:\n  - {vm-name: a, new-name: b}")
    assert not report.ok


def test_an_own_key():
    class Clone(Task, task="clone vm", result="vm cloned", key="clones"):
        vm_name: str

    container = TaskContainer(tasks=[Clone(vm_name="a"), Clone(vm_name="b")])
    assert round_trips(container).emit() == {
        "task": "clone vm",
        "clones": [{"vm-name": "a"}, {"vm-name": "b"}],
    }
    report = fastlib.validate("task: clone vm\nlist:\n  - vm-name: a\n")
    assert "stand under 'clones'" in report.warnings[0].message
    # The key is known to whom it does not belong, too.
    report = fastlib.validate("task: stop vm\nclones:\n  - vm-name: a\n")
    assert "belongs to clone vm" in report.warnings[0].message


@pytest.mark.parametrize("written", ["list", "inline"])
def test_both_layouts(written):
    layouts = ("list", "inline") if written == "list" else ("inline", "list")

    class Ping(Task, task="ping", result="pong", layout=layouts, key="pings"):
        vm_name: str

    container = round_trips(TaskContainer(tasks=[Ping(vm_name="a")], id="x"))
    assert list(container.emit()) == (
        ["task", "pings", "id"] if written == "list" else ["task", "vm-name", "id"]
    )
    for text in ("task: ping\nvm-name: a\nid: x", "task: ping\npings:\n  - vm-name: a\nid: x\n"):
        assert TaskContainer.from_yaml(text) == container
        assert fastlib.load(text) == container
        assert fastlib.validate(text).problems == ()
    two = "task: ping\npings:\n  - vm-name: a\n  - vm-name: b\n"
    assert fastlib.validate(two).ok == (written == "list")


@pytest.mark.parametrize(
    ("layout", "written", "understood"),
    [
        ("list", "list", ["list"]),
        ("inline", "vm-name", ["inline"]),
        (("list", "inline"), "list", ["list", "inline"]),
        (("inline", "list"), "vm-name", ["list", "inline"]),
    ],
)
def test_layouts_of_results(layout, written, understood):
    title = f"pong as {written}, {len(understood)} understood"

    class Ping(Task, task="ping", result=title, result_layout=layout):
        vm_name: str

    container = TaskContainer(tasks=[Ping(vm_name="a")], id="x")
    answer = ResultContainer.answer(container, [Result(vm_name="a", status="success")])
    assert written in round_trips(answer).emit()
    texts = {
        "list": f"result: '{title}'\nlist:\n  - vm-name: a\n    status: success\nid: x\n",
        "inline": f"result: '{title}'\nvm-name: a\nstatus: success\nid: x\n",
    }
    for name, text in texts.items():
        assert fastlib.validate(text).ok == (name in understood)
        if name in understood:
            assert fastlib.load(text) == answer


def test_members_of_every_kind():
    class Part(Message):
        name: str
        size: Annotated[int, Meta(ge=0, le=255)] | None = None

    class Everything(
        Task, task="everything", result="everything done", layout=("inline", "list"), key="all"
    ):
        rules: ClassVar[tuple[Rule, ...]] = (OneOf("text", "parts"), Needs("flag", "text"))

        text: str | None = None
        flag: bool | None = None
        size: Annotated[int, Meta(ge=0, le=5)] | None = None
        ratio: float | None = None
        mode: Literal["a", "b"] | None = None
        words: Sequence[str] | None = None
        numbers: Sequence[Sequence[Annotated[int, Meta(ge=0, le=9)]]] | None = None
        parts: Sequence[Part] | None = None
        part: Part | None = None
        free: Mapping[str, str] | None = None
        tree: Any | None = None
        renamed: str | None = msgspec.field(default=None, name="Other_Name")
        spelled: Annotated[str | None, Wire("Twice.", aliases=("spelt",))] = None
        devices: Sequence[PciId] | None = None

    member = Everything(
        text="no",
        flag=True,
        size=3,
        ratio=0.5,
        mode="b",
        words=["a", "42", ""],
        numbers=[[0, 1], []],
        parts=[Part(name="x"), Part(name="y", size=255)],
        part=Part(name="z"),
        free={"a b": "c"},
        tree={"a": ["1", {"b": "c"}]},
        renamed="r",
        spelled="s",
        devices=[PciId(vendor=1, device=2)],
    )
    container = round_trips(TaskContainer(tasks=[member]))
    tree = container.emit()
    assert tree["Other_Name"] == "r"
    spelt = {("spelt" if key == "spelled" else key): value for key, value in tree.items()}
    assert TaskContainer.load(spelt) == container
    assert round_trips(TaskContainer(tasks=[Everything(text="")])).emit()["text"] == ""
    with pytest.raises(ValidationError) as caught:
        Everything(flag=True)
    assert [p.message for p in caught.value.problems] == ["needs text or parts", "needs text"]
    with pytest.raises(ValidationError) as caught:
        Everything(text="a", size=6, mode="c", parts=[Quit()], numbers=[[10]])
    assert [p.path for p in caught.value.problems] == ["size", "mode", "numbers[0][0]", "parts[0]"]
    [problem] = fastlib.validate("task: everything\ntext: a\npart: {nmae: x, name: y}").problems
    assert (problem.path, problem.suggestion) == ("part.nmae", "name")


def test_a_task_may_extend_a_task():
    class Boot(Start, task="boot vm", result="vm booted", key="boots"):
        kernel: str

    member = Boot(vm_name="a", kernel="/vmlinuz", vcpu_map=[[0]])
    container = round_trips(TaskContainer(tasks=[member]))
    assert container.task == "boot vm"
    with pytest.raises(ValidationError, match="needs vm-name or xml"):
        Boot(kernel="/vmlinuz")
    # They are two tasks all the same.
    with pytest.raises(ValidationError, match="of one type; got Boot, Start"):
        TaskContainer(tasks=[member, Start(vm_name="a")])
    assert round_trips(TaskContainer(tasks=[Start(vm_name="a")])).task == "start vm"


def test_a_task_without_a_title_is_no_member():
    class Mine(Stop):
        pass

    with pytest.raises(ValidationError, match="Mine is not declared as a task with a title"):
        TaskContainer(tasks=[Mine(vm_name="a")])
    # It is a message, though, and can be the base of one with a title.
    assert Mine.from_yaml(Mine(vm_name="a").to_yaml()) == Mine(vm_name="a")


def test_a_title_may_be_any_text():
    numbers = itertools.count()
    for title in ("no", "42", "a: b", "-", "Größe ändern", "x\ny", "'"):

        class Odd(Task, task=title, result=f"{title} done", layout=("list", "inline")):
            vm_name: str

        # A class of its own each, not a new version of the same one.
        Odd.__qualname__ = f"Odd{next(numbers)}"
        container = round_trips(TaskContainer(tasks=[Odd(vm_name="a")]))
        assert container.task == title
        round_trips(ResultContainer.answer(container, []))


# --- results of an own type -----------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["list", "inline", ("list", "inline"), ("inline", "list")])
def test_a_task_may_have_results_of_its_own_type(layout):
    class Size(Message):
        """What a disk takes."""

        name: str
        bytes: Annotated[int, Meta(ge=0, le=2**64 - 1), Wire("What it takes.", unit="bytes")]

    class Measured(Result):
        """How large a domain's disks are."""

        disks: Annotated[Sequence[Size] | None, Wire("Its disks.")] = None
        mode: Literal["thin", "thick"] | None = None

    class Measure(Task, task="measure vm", result="vm measured", result_layout=layout,
                  result_type=Measured):  # fmt: skip
        vm_name: str

    assert Measure.declaration.result_type is Measured
    container = TaskContainer(tasks=[Measure(vm_name="a")], id="7")
    disks = [Size(name="vda", bytes=2**40), Size(name="vdb", bytes=0)]
    result = Measured(vm_name="a", status="success", disks=disks, mode="thin")
    answer = ResultContainer.answer(container, [result])
    assert round_trips(answer).results == (result,)
    tree = {
        "vm-name": "a",
        "status": "success",
        "disks": [{"name": "vda", "bytes": 2**40}, {"name": "vdb", "bytes": 0}],
        "mode": "thin",
    }
    inline = layout in ("inline", ("inline", "list"))
    members = tree if inline else {"list": [tree]}
    assert answer.emit() == {"result": "vm measured", **members, "id": "7"}
    # By the fast reader, by the exact one, and with what is wrong in it.
    for text in (answer.to_yaml(), answer.to_yaml(style="flow")):
        assert type(fastlib.load(text).results[0]) is Measured
        path = "mode" if inline else "list[0].mode"
        [problem] = fastlib.validate(text.replace("thin", "thn")).problems
        assert (problem.path, problem.suggestion) == (path, "thin")
    # An error has no more to tell than a plain result has, and becomes one of the type.
    failed = Result(vm_name="a", status="error", details="no")
    answer = ResultContainer.answer(container, [failed])
    assert answer.results == (Measured(vm_name="a", status="error", details="no"),)
    assert round_trips(answer).emit() == (
        {"result": "vm measured", "id": "7"}
        | (failed.emit() if inline else {"list": [failed.emit()]})
    )
    with pytest.raises(ValidationError) as caught:
        ResultContainer(result="vm measured", results=[NodeResult(status="success")])
    [problem] = caught.value.problems
    assert problem.path == "results[0]"
    assert problem.message.startswith("expected a Measured; got NodeResult(")
    assert fastlib.message.describe.describe(Measure).result.type.endswith("Measured")


def test_results_of_an_own_type_stand_under_their_title_only():
    class Counted(Result):
        count: Annotated[int, Meta(ge=0, le=9)] | None = None

    class Count(Task, task="count", result="counted", result_type=Counted):
        pass

    mine = Counted(vm_name="a", status="success", count=1)
    plain = Result(vm_name="b", status="error")
    both = round_trips(ResultContainer(result="counted", results=[mine, plain]))
    assert [type(result) for result in both.results] == [Counted, Counted]
    for title in ("vm started", "another site's", "unknown"):
        with pytest.raises(ValidationError, match=r"results\[1\]: expected a Result; got Counted"):
            ResultContainer(result=title, results=[plain, mine])
        read = ResultContainer.load({"result": title, "list": [mine.emit()]})
        assert type(read.results[0]) is Result


def test_a_type_of_results_may_be_replaced():
    # As when its module is loaded anew.
    for key in ("one", "two"):
        field = {key: str | None}
        kind = declare(field, base=Result, name="Replaced", members={key: None})
        again = declare(name="Again", task="again", result="again done", result_type=kind)
        answer = ResultContainer.answer(
            TaskContainer(tasks=[again(vm_name="a")]),
            [kind(vm_name="a", status="success", **{key: "x"})],
        )
        assert round_trips(answer).emit()["list"][0][key] == "x"


# --- what the declaration makes known -----------------------------------------------------------


def test_the_title_is_known_everywhere():
    before = titles()

    class Freeze(Task, task="freeze vm", result="vm frozen"):
        vm_name: str

    assert titles() == ([*before[0], "freeze vm"], [*before[1], "vm frozen"])
    assert [declared.task for declared in task.declarations()][-1] == "freeze vm"
    declared = TaskContainer(tasks=[Freeze(vm_name="a")]).declaration
    assert declared is Freeze.declaration
    assert (declared.task, declared.result, declared.type) == ("freeze vm", "vm frozen", Freeze)
    assert (declared.layouts, declared.key, declared.result_layouts) == (
        ("list",),
        "list",
        ("list",),
    )
    [problem] = fastlib.validate("task: freze vm").problems
    assert problem.suggestion == "freeze vm"
    assert TaskContainer(task="freeze vm", tasks=[]).declaration is declared


def test_a_message_with_a_title():
    class Hello(Message, task="hello"):
        """A scheduler says that it is there."""

        source: str
        weight: float | None = None

    hello = round_trips(Hello(source="s1", weight=0.5))
    assert hello.to_yaml() == "---\ntask: hello\nsource: s1\nweight: 0.5\n---"
    assert Hello.from_yaml("source: s1\nweight: .5") == hello
    [problem] = fastlib.validate("task: helo\nsource: s1").problems
    assert problem.suggestion == "hello"
    # It is no member of a container.
    assert not fastlib.validate("task: hello\nlist: []", TaskContainer).ok


def test_a_declaration_of_a_package_of_its_own(tmp_path, monkeypatch):
    source = '''
        """Tasks of one site, their hints not evaluated."""

        from __future__ import annotations

        from typing import Annotated

        from msgspec import Meta

        from fastlib import Message, Task
        from fastlib.codec import Wire


        class Window(Message):
            begin: str


        class Drain(Task, task="drain node", result="node drained", layout="inline"):
            window: Window
            grace: Annotated[int, Meta(ge=0, le=3600), Wire("Time to end.", unit="s")] = 60
        '''
    (tmp_path / "site_tasks_of_a_test.py").write_text(textwrap.dedent(source))
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("site_tasks_of_a_test")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    container = fastlib.load("task: drain node\nwindow: {begin: '08:00'}")
    member = module.Drain(window=module.Window(begin="08:00"))
    assert member.grace == 60
    assert container == TaskContainer(tasks=[member])
    assert round_trips(container).to_yaml() == (
        '---\ntask: drain node\nwindow:\n  begin: "08:00"\ngrace: 60\n---'
    )
    # Loading a module anew declares its tasks anew.
    again = importlib.reload(module)
    member = again.Drain(window=again.Window(begin="08:00"))
    assert fastlib.load("task: drain node\nwindow: {begin: '08:00'}").tasks == (member,)
    round_trips(TaskContainer(tasks=[member]))


def test_a_declaration_may_come_after_its_title():
    # As when a plug-in is loaded: until then, the title is another site's.
    results = [Result(vm_name="a", status="success")]
    answer = ResultContainer(result="late result", results=results)
    text = answer.to_yaml()
    assert list(answer.emit()) == ["result", "list"]
    assert fastlib.load(text) == ResultContainer.load(answer.emit()) == answer
    [problem] = fastlib.validate(text).problems
    assert (problem.severity, problem.code, problem.path) == ("warning", "unknown-title", "result")
    assert not fastlib.validate("task: late task\nvm-name: a").ok

    class Late(
        Task, task="late task", result="late result", layout="inline", result_layout="inline"
    ):
        vm_name: str

    assert list(round_trips(answer).emit()) == ["result", "vm-name", "status"]
    round_trips(TaskContainer(tasks=[Late(vm_name="a")]))


def test_a_declaration_may_be_replaced():
    # As when its module is loaded anew.
    def declared(layout, key):
        class Again(Task, task="again", result="again done", layout=layout, key=key):
            vm_name: str

        return Again

    for layout, key in (("list", "list"), ("list", "again"), ("inline", "list"), ("list", "one")):
        container = TaskContainer(tasks=[declared(layout, key)(vm_name="a")])
        assert ("vm-name" if layout == "inline" else key) in round_trips(container).emit()


# --- declarations that cannot work --------------------------------------------------------------


def declare(hints=None, base=Task, name="Broken", members=None, **keywords):
    """What a class statement with these hints does."""
    namespace = {
        "__module__": __name__,
        "__qualname__": f"<declared>.{name}",  # a name that is not public
        "__annotations__": hints if hints is not None else {"vm_name": str},
        **(members or {}),
    }
    return type(base)(name, (base,), namespace, **keywords)


BROKEN = {
    "a task's title is taken": lambda: declare(task="start vm", result="b"),
    "a message's title is taken": lambda: declare(task="init agent", result="b"),
    "the result's title is taken": lambda: declare(task="a", result="vm started"),
    "no such layout": lambda: declare(task="a", result="b", layout="lsit"),
    "no layout": lambda: declare(task="a", result="b", layout=()),
    "one of the layouts is none": lambda: declare(task="a", result="b", layout=("list", "table")),
    "no such result layout": lambda: declare(task="a", result="b", result_layout="lsit"),
    "no title": lambda: declare(task="", result="b"),
    "no result title": lambda: declare(task="a", result=""),
    "a title that is no text": lambda: declare(task=1, result="b"),
    "a list key that is the container's": lambda: declare(task="a", result="b", key="id"),
    "a list key that is the title's": lambda: declare(task="a", result="b", key="task"),
    "an inline key that is the container's": lambda: declare(
        hints={"id": str}, task="a", result="b", layout="inline"
    ),
    "an inline key that is the title's": lambda: declare(
        hints={"task": str}, task="a", result="b", layout="inline"
    ),
    "an inline key that is the container's host": lambda: declare(
        hints={"host": str | None},
        task="a",
        result="b",
        layout=("list", "inline"),
        members={"host": None},
    ),
    "an inline alias that is the container's": lambda: declare(
        hints={"number": Annotated[str, Wire(aliases=("id",))]},
        task="a",
        result="b",
        layout="inline",
    ),
    "an inline attribute that is the container's": lambda: declare(
        hints={"host": str},
        members={"host": msgspec.field(name="target")},
        task="a",
        result="b",
        layout="inline",
    ),
    "a member's key that is the list's": lambda: declare(
        hints={"list": Sequence[str]}, task="a", result="b", layout=("inline", "list")
    ),
    "a key for two fields": lambda: declare(
        hints={"vm_name": str, "name": Annotated[str, Wire(aliases=("vm-name",))]},
        task="a",
        result="b",
    ),
    "an integer without a range": lambda: declare(hints={"size": int}, task="a", result="b"),
    "an integer with half a range": lambda: declare(
        hints={"size": Annotated[int, Meta(ge=0)]}, task="a", result="b"
    ),
    "a set": lambda: declare(hints={"names": set[str]}, task="a", result="b"),
    "a complex number": lambda: declare(hints={"number": complex}, task="a", result="b"),
    "bytes": lambda: declare(
        hints={"data": bytes | None}, members={"data": None}, task="a", result="b"
    ),
    "one of two types": lambda: declare(hints={"size": str | bool}, task="a", result="b"),
    "keys that are no text": lambda: declare(
        hints={"names": Mapping[bool, str]}, task="a", result="b"
    ),
    "a literal that is no text": lambda: declare(
        hints={"size": Literal[1, 2]}, task="a", result="b"
    ),
    "deep in a list": lambda: declare(
        hints={"sizes": Sequence[Sequence[int]]}, task="a", result="b"
    ),
    "a message with a title that is taken": lambda: declare(base=Message, task="quit"),
    "a message without a title": lambda: declare(base=Message, task=""),
    "a message with a field of no type": lambda: declare(
        base=Message, hints={"x": object}, task="a"
    ),
    "a message with a field for its title": lambda: declare(
        base=Message, hints={"task": str}, task="a"
    ),
    "results of no type": lambda: declare(task="a", result="b", result_type=None),
    "results that are no results": lambda: declare(task="a", result="b", result_type=Stop),
    "a result with an integer without a range": lambda: declare(
        task="a",
        result="b",
        result_type=declare({"size": int | None}, base=Result, members={"size": None}),
    ),
    "a result that a failure does not have": lambda: declare(
        task="a", result="b", result_type=declare({"size": str}, base=Result)
    ),
    "an inline result's key that is the container's": lambda: declare(
        task="a",
        result="b",
        result_layout="inline",
        result_type=declare({"id": str | None}, base=Result, members={"id": None}),
    ),
    "a result's key that is the list's": lambda: declare(
        task="a",
        result="b",
        result_layout=("inline", "list"),
        result_type=declare({"list": str | None}, base=Result, members={"list": None}),
    ),
    "a field that hides a method": lambda: declare(hints={"load": float}, task="a", result="b"),
    "a message's field that hides a method": lambda: declare(
        base=Message, hints={"emit": str}, task="a"
    ),
    "a field that hides the declaration": lambda: declare(
        hints={"declaration": str}, task="a", result="b"
    ),
}


@pytest.mark.parametrize("reason", BROKEN)
def test_a_broken_declaration_fails_at_once_and_leaves_nothing(reason):
    before = titles(), list(task.declarations())
    with pytest.raises(DeclarationError) as caught:
        BROKEN[reason]()
    assert str(caught.value)
    assert (titles(), list(task.declarations())) == before


@pytest.mark.parametrize("reason", BROKEN)
def test_validate_never_raises_whatever_was_declared(reason):
    with contextlib.suppress(DeclarationError):
        BROKEN[reason]()
    for title in ("a", "1", "no such title"):
        for rest in ("", "list: []", "list:\n  - vm-name: a\n", "id: 7", "vm-name: a", "x: b"):
            fastlib.validate(f"task: {title}\n{rest}")


@pytest.mark.parametrize(
    ("reason", "key"),
    [
        ("an integer without a range", "size"),
        ("a set", "names"),
        ("deep in a list", "sizes"),
        ("a key for two fields", "vm-name"),
        ("an inline key that is the container's", "id"),
        ("a literal that is no text", "size"),
        ("a result with an integer without a range", "size"),
        ("a result that a failure does not have", "size"),
        ("an inline result's key that is the container's", "id"),
        ("a result's key that is the list's", "list"),
    ],
)
def test_a_broken_declaration_is_named(reason, key):
    with pytest.raises(DeclarationError, match=rf"(?s)Broken.*\b{key}\b"):
        BROKEN[reason]()


def test_a_taken_title_names_both():
    with pytest.raises(DeclarationError, match=r"'task: quit'.*fastlib\.message\.tasks\.Quit"):
        declare(task="quit", result="b")


@pytest.mark.parametrize(
    "broken",
    [
        lambda: declare(task="a"),
        lambda: declare(result="b"),
        lambda: declare(task="a", result="b", colour="red"),
        lambda: declare(base=Message, task="a", result="b"),
        lambda: declare(base=Message, layout="list"),
    ],
)
def test_a_misspelt_class_statement_is_a_type_error(broken):
    before = titles()
    with pytest.raises(TypeError):
        broken()
    assert titles() == before


def test_the_keys_of_a_listed_member_are_its_own():
    # The container's keys are on another level there.
    listed = declare({"id": str, "host": str, "task": str}, task="a", result="b")
    container = TaskContainer(tasks=[listed(id="1", host="2", task="3")], id="4")
    assert round_trips(container).emit() == {
        "task": "a",
        "list": [{"id": "1", "host": "2", "task": "3"}],
        "id": "4",
    }


# --- mistakes of whoever writes a declaration -----------------------------------------------------


MISTAKEN = {
    "a default of the wrong kind": (
        lambda: declare({"x": int}, members={"x": "a"}, task="a", result="b"),
        "range",
    ),
    "a default outside its set": (
        lambda: declare({"x": Literal["a", "b"]}, members={"x": "c"}, task="a", result="b"),
        r"Broken\.x: its default does not fit: expected one of a, b; got 'c'",
    ),
    "None for what is not optional": (
        lambda: declare({"x": str}, members={"x": None}, task="a", result="b"),
        r"Broken\.x: its default",
    ),
    "a rule about no field": (
        lambda: declare(
            {"x": str | None},
            members={"x": None, "rules": (OneOf("x", "yy"),)},
            task="a",
            result="b",
        ),
        "'yy', which is no field",
    ),
    "aliases that are one text": (lambda: Wire("doc", aliases="x"), "aliases="),
    "a key that is no text": (lambda: declare(task="a", result="b", key=3), "a key is text"),
    "a mutable message": (lambda: declare(task="a", result="b", frozen=False), "does not change"),
    "a check of its own": (
        lambda: declare(members={"__post_init__": lambda self: None}, task="a", result="b"),
        "write a Rule instead",
    ),
    "a missing keyword": (lambda: declare(task="a"), "Broken: .*'result'"),
    "a misspelt keyword": (lambda: declare(tsk="a", result="b"), "Broken: .*'tsk'"),
}


@pytest.mark.parametrize("mistake", MISTAKEN)
def test_a_mistake_in_a_declaration_is_told_at_once(mistake):
    make, words = MISTAKEN[mistake]
    with pytest.raises(DeclarationError, match=words):
        make()


def test_a_misspelt_key_is_named_where_a_rule_misses_it():
    report = fastlib.validate("task: stop vm\nlist:\n  - vm-nam: vm1\n")
    [error] = report.errors
    assert error.message == "needs vm-name or regex; there is 'vm-nam' instead"
