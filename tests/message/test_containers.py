"""Containers of tasks and results: titles, layouts, members."""

import itertools

import pytest

import fastlib
from fastlib import (
    Cancel,
    Evacuate,
    EvacuateParameter,
    Migrate,
    MigrateParameter,
    MigrationOptions,
    Query,
    Quit,
    Repin,
    Result,
    ResultContainer,
    Resume,
    Start,
    Stop,
    Suspend,
    SwapWith,
    Task,
    TaskContainer,
    TimeMeasurement,
    Timing,
)
from fastlib.message.node import NodeResult
from tests.support.problems import kinds_of_problems, refusal

TITLES = [
    (Start(vm_name="a"), "start vm", "vm started"),
    (Stop(vm_name="a"), "stop vm", "vm stopped"),
    (Migrate(vm_name="a", destination="b"), "migrate vm", "vm migrated"),
    (Evacuate(destinations=["b"]), "evacuate node", "node evacuated"),
    (Repin(vm_name="a", vcpu_map=[[0]]), "repin vm", "vm repinned"),
    (Suspend(vm_name="a"), "suspend vm", "vm suspended"),
    (Resume(vm_name="a"), "resume vm", "vm resumed"),
    (Quit(), "quit", "quit"),
    (Cancel(id="7"), "cancel task", "task cancelled"),
]


@pytest.mark.parametrize(("member", "title", "answer"), TITLES)
def test_type_of_the_members_gives_the_titles(member, title, answer):
    container = TaskContainer(tasks=[member], id="7")
    assert container.task == title
    assert container == TaskContainer(task=title, tasks=[member], id="7")
    result = Result(vm_name="a", status="success")
    answered = ResultContainer.answer(container, [result])
    assert answered == ResultContainer(result=answer, results=[result], id="7")


def test_plain_result_of_a_query_becomes_a_node_result():
    container = TaskContainer(tasks=[Query()], id="7")
    plain = Result(
        vm_name="n/a",
        status="error",
        details="no",
        time_measurement=TimeMeasurement({"overall": Timing(wall=1)}),
        process_id=1,
    )
    [result] = ResultContainer.answer(container, [plain]).results
    assert type(result) is NodeResult
    assert result.node is None
    assert all(getattr(result, name) == getattr(plain, name) for name in plain.__struct_fields__)
    assert result == NodeResult(
        status="error", details="no", time_measurement=plain.time_measurement, process_id=1
    )
    # Which is how it comes back.
    answer = ResultContainer.answer(container, [result])
    assert ResultContainer.load(answer.emit()) == answer == fastlib.load(answer.to_yaml())


OPTIONS = {
    "retry_counter": 1,
    "migration_type": "live",
    "rdma_migration": False,
    "pscom_hook_procs": "auto",
    "transport": "ssh",
    "bandwidth_limit": 1,
    "max_downtime": 2,
    "timeout": 3,
    "on_timeout": "pause",
    "auto_converge": True,
    "parallel_connections": 4,
    "compression": "zlib",
    "encrypted": True,
    "copy_storage": "all",
    "copy_disks": ("vda",),
    "source_disks": "remove",
}


def test_migration_and_evacuation_share_their_options():
    assert MigrationOptions.__struct_fields__ == tuple(OPTIONS)
    options = MigrationOptions(**OPTIONS).emit()
    for kind in (MigrateParameter, EvacuateParameter):
        assert issubclass(kind, MigrationOptions)
        assert kind(**OPTIONS).emit() == options
        assert list(kind(**OPTIONS).emit()) == list(options)
    # What each has beyond them stands where the C++ peers have it.
    assert list(EvacuateParameter(**OPTIONS, overbooking=True, mode="auto").emit()) == [
        "mode", "overbooking", *options,
    ]  # fmt: skip
    migrate = MigrateParameter(**OPTIONS, vcpu_map=[], swap_with=SwapWith(vm_name="a"))
    assert list(migrate.emit()) == [*options, "swap-with", "vcpu-map"]


def test_answer_takes_any_iterable_and_the_id_of_its_task():
    container = TaskContainer(tasks=[Stop(regex=".*")])
    results = (Result(vm_name=name, status="success") for name in "ab")
    answered = ResultContainer.answer(container, results)
    assert [result.vm_name for result in answered.results] == ["a", "b"]
    assert answered.id is None


@pytest.mark.parametrize(
    ("build", "path", "words"),
    [
        (lambda: TaskContainer(tasks=[Stop(vm_name="a"), Suspend(vm_name="a")]), "tasks",
         "all members of a container are of one type; got Stop, Suspend"),
        (lambda: TaskContainer(task="start vm", tasks=[Stop(vm_name="a")]), "task",
         "expected 'stop vm', the members' title"),
        (lambda: TaskContainer(task=1, tasks=[Stop(vm_name="a")]), "task",
         "expected 'stop vm', the members' title"),
        (lambda: TaskContainer(tasks=[Task()]), "tasks",
         "Task is not declared as a task with a title"),
        (lambda: TaskContainer(tasks=["quit"]), "tasks",
         "str is not declared as a task with a title"),
        (lambda: TaskContainer(tasks="quit"), "tasks", "expected a list of tasks; got 'quit'"),
        (lambda: TaskContainer(tasks=Quit()), "tasks", "expected a list of tasks; got Quit()"),
        (lambda: TaskContainer(tasks=[Quit(), Quit()]), "tasks",
         "quit takes exactly one member; got 2"),
        (lambda: TaskContainer(tasks=[Repin(vm_name="a", vcpu_map=[])] * 2), "tasks",
         "repin vm takes exactly one member; got 2"),
        (lambda: TaskContainer(task="migrate vm", tasks=[]), "tasks",
         "migrate vm takes exactly one member; got 0"),
        (lambda: ResultContainer(result="vm migrated", results=[]), "results",
         "vm migrated has exactly one result; got 0"),
        (lambda: ResultContainer(result="vm migrated",
                                 results=[Result(vm_name="a", status="error")] * 2), "results",
         "vm migrated has exactly one result; got 2"),
    ],
)  # fmt: skip
def test_contradictory_container_is_refused(build, path, words):
    assert refusal(build) == [(path, words)]


@pytest.mark.parametrize("title", ["", "no such task", "Start vm", 1, None, ["quit"]])
def test_container_without_members_needs_a_known_title(title):
    [(path, message)] = refusal(lambda: TaskContainer(task=title, tasks=[]))
    assert path == "task"
    assert message.startswith("expected one of " if title != "" else "give the title")
    assert "start vm" in message
    if title != "":
        assert message.endswith(f"got {title!r}")


def test_list_of_members_may_be_empty():
    # That is an error when it is executed, and one that the result can tell.
    container = TaskContainer(task="stop vm", tasks=[])
    assert container.to_yaml() == "---\ntask: stop vm\nlist: []\n---"
    assert TaskContainer.from_yaml(container.to_yaml()) == container
    assert ResultContainer.from_yaml("result: vm stopped\nlist: []").results == ()


@pytest.mark.parametrize(
    ("member", "outer"), list(itertools.product([None, True, False], [None, True, False]))
)
def test_inline_member_shares_concurrent_execution_with_its_container(member, outer):
    container = TaskContainer(
        tasks=[Migrate(vm_name="a", destination="b", concurrent_execution=member)],
        concurrent_execution=outer,
    )
    # The wire has one key for both; the member's word is the nearer one.
    shared = outer if member is None else member
    assert container.concurrent_execution is shared
    assert container.tasks[0].concurrent_execution is shared
    assert container.emit().get("concurrent-execution") is shared
    assert container.to_yaml().count("concurrent-execution") == (shared is not None)
    assert TaskContainer.from_yaml(container.to_yaml()) == container
    assert TaskContainer.load(container.emit()) == container


@pytest.mark.parametrize(
    ("member", "outer"), list(itertools.product([None, True, False], [None, True, False]))
)
def test_listed_member_has_its_own_concurrent_execution(member, outer):
    container = TaskContainer(
        tasks=[Suspend(vm_name="a", concurrent_execution=member)], concurrent_execution=outer
    )
    assert container.concurrent_execution is outer
    assert container.tasks[0].concurrent_execution is member
    assert TaskContainer.from_yaml(container.to_yaml()) == container
    assert TaskContainer.load(container.emit()) == container


@pytest.mark.parametrize(
    "text",
    [
        "task: quit",
        "---\ntask: quit\n...\n",
        "---\ntask: quit\n---",
        "task: quit\nlist:\n  - ~\n",
        "task: quit\nlist:\n  -\n",
        "task: quit\nlist:\n  - null",
        "task: quit\nlist:\n  - {}",
        "{task: quit, list: [~]}",
        "list: [null]\ntask: quit",
    ],
)
def test_quit_is_read_in_both_layouts_and_written_inline(text):
    container = TaskContainer.from_yaml(text)
    assert container == TaskContainer(tasks=[Quit()])
    assert container.to_yaml() == "---\ntask: quit\n---"
    assert fastlib.validate(text).problems == ()


def test_listed_quit_keeps_its_fields():
    inline = TaskContainer(tasks=[Quit(concurrent_execution=False, driver="qemu")], id="1")
    assert TaskContainer.from_yaml(inline.to_yaml()) == inline
    listed = (
        "task: quit\nlist:\n  - concurrent-execution: false\n    driver: qemu\nid: 1\n",
        "task: quit\nconcurrent-execution: false\nlist:\n  - driver: qemu\nid: 1\n",
    )
    for text in listed:
        assert TaskContainer.from_yaml(text) == inline
    assert TaskContainer.load({"task": "quit", "list": [None]}) == TaskContainer(tasks=[Quit()])


@pytest.mark.parametrize("text", ["task: quit\nlist: []", "task: quit\nlist: [~, ~]"])
def test_quit_has_exactly_one_member(text):
    assert kinds_of_problems(text) == [("error", "type", "list")]


def test_null_in_a_list_is_an_empty_member():
    # So that the problem is what the member needs, not what it is.
    assert kinds_of_problems("task: stop vm\nlist:\n  - ~") == [("error", "rule", "list[0]")]
    assert kinds_of_problems("task: suspend vm\nlist:\n  - ~") == [
        ("error", "missing", "list[0].vm-name")
    ]
