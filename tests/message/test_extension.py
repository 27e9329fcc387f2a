"""Tasks and messages that are declared outside of fastlib work like its own."""

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
from fastlib.message import task
from tests.support.declarations import declare, registered_titles, round_trips

pytestmark = pytest.mark.usefixtures("isolated_registry")


def test_listed_task_travels_in_a_list():
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


def test_inline_task_travels_beside_the_title():
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


def test_list_may_have_a_key_of_its_own():
    class Clone(Task, task="clone vm", result="vm cloned", key="clones"):
        vm_name: str

    container = TaskContainer(tasks=[Clone(vm_name="a"), Clone(vm_name="b")])
    assert round_trips(container).emit() == {
        "task": "clone vm",
        "clones": [{"vm-name": "a"}, {"vm-name": "b"}],
    }
    report = fastlib.validate("task: clone vm\nlist:\n  - vm-name: a\n")
    assert "are under 'clones'" in report.warnings[0].message
    # The key is known to whom it does not belong, too.
    report = fastlib.validate("task: stop vm\nclones:\n  - vm-name: a\n")
    assert "belongs to clone vm" in report.warnings[0].message


@pytest.mark.parametrize("written", ["list", "inline"])
def test_task_may_be_read_in_both_layouts(written):
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
def test_results_have_a_layout_of_their_own(layout, written, understood):
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


def test_fields_of_every_type_are_read_and_written():
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


def test_task_may_extend_a_task():
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


def test_task_without_a_title_is_refused_as_a_member():
    class Mine(Stop):
        pass

    with pytest.raises(ValidationError, match="Mine is not declared as a task with a title"):
        TaskContainer(tasks=[Mine(vm_name="a")])
    # It is a message, though, and can be the base of one with a title.
    assert Mine.from_yaml(Mine(vm_name="a").to_yaml()) == Mine(vm_name="a")


def test_title_may_be_any_text():
    numbers = itertools.count()
    for title in ("no", "42", "a: b", "-", "Größe ändern", "x\ny", "'"):

        class Odd(Task, task=title, result=f"{title} done", layout=("list", "inline")):
            vm_name: str

        # A class of its own each, not a new version of the same one.
        Odd.__qualname__ = f"Odd{next(numbers)}"
        container = round_trips(TaskContainer(tasks=[Odd(vm_name="a")]))
        assert container.task == title
        round_trips(ResultContainer.answer(container, []))


@pytest.mark.parametrize("layout", ["list", "inline", ("list", "inline"), ("inline", "list")])
def test_task_may_have_a_result_type(layout):
    class Size(Message):
        """The size of a disk."""

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


def test_result_type_belongs_to_its_title_only():
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


def test_result_type_may_be_replaced():
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


def test_declared_title_is_known_everywhere():
    before = registered_titles()

    class Freeze(Task, task="freeze vm", result="vm frozen"):
        vm_name: str

    assert registered_titles() == ([*before[0], "freeze vm"], [*before[1], "vm frozen"])
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


def test_message_may_have_a_title():
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


def test_package_may_declare_tasks_with_postponed_annotations(tmp_path, monkeypatch):
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


def test_title_may_be_declared_after_a_message_with_it_was_read():
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


def test_declaration_may_be_replaced():
    # As when its module is loaded anew.
    def declared(layout, key):
        class Again(Task, task="again", result="again done", layout=layout, key=key):
            vm_name: str

        return Again

    for layout, key in (("list", "list"), ("list", "again"), ("inline", "list"), ("list", "one")):
        container = TaskContainer(tasks=[declared(layout, key)(vm_name="a")])
        assert ("vm-name" if layout == "inline" else key) in round_trips(container).emit()


def test_listed_member_may_have_keys_of_the_container():
    # The container's keys are on another level there.
    listed = declare({"id": str, "host": str, "task": str}, task="a", result="b")
    container = TaskContainer(tasks=[listed(id="1", host="2", task="3")], id="4")
    assert round_trips(container).emit() == {
        "task": "a",
        "list": [{"id": "1", "host": "2", "task": "3"}],
        "id": "4",
    }
