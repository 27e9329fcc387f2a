"""The log has the history of each domain: host, id and name in every line, as text and JSON."""

import asyncio
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastlib import (
    Evacuate,
    Migrate,
    MigrateParameter,
    Result,
    ResultContainer,
    Start,
    Stop,
    SwapWith,
    TaskContainer,
)
from fastlib.message import Cancel, Query, QueryHistory
from fastlib.migfra import Context
from fastlib.migfra.config.sections import RetrySection
from fastlib.migfra.hypervisors.simulated import SimulatedHypervisor, SimulatedOptions
from fastlib.migfra.plugin_api.hypervisor import NodeContext
from fastlib.migfra.tasks.descriptions import describe_container, describe_task
from fastlib.migfra.tasks.results import NO_DOMAIN
from fastlib.migfra.telemetry.logs import JsonFormatter, TextFormatter
from tests.support.migfra.bench import Bench, Play, patiently
from tests.support.migfra.scripted import Scripted, fail, gate
from tests.support.migfra.simulation import GIB, cluster_of, live
from tests.support.waiting import wait_until_async


class Lines(logging.Handler):
    """The lines of the log, in both formats."""

    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []
        self.json: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.text.append(TextFormatter("the program").format(record))
        self.json.append(json.loads(JsonFormatter("the program").format(record)))

    def about(self, vm_name: str | None) -> list[str]:
        """The messages about a domain."""
        return [line["message"] for line in self.json if line["vm-name"] == vm_name]

    def find(self, words: str) -> dict[str, Any]:
        """The one line with these words."""
        [found] = [line for line in self.json if words in line["message"]]
        return found


@pytest.fixture
def lines() -> Iterator[Lines]:
    logger, handler = logging.getLogger("fastlib"), Lines()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield handler
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


def without_seconds(messages: list[str]) -> list[str]:
    """The messages without the durations, which differ each time."""
    return [re.split(r" after \d", message)[0] for message in messages]


def test_log_has_the_history_of_one_domain(play: Play, lines: Lines) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        hypervisor.plan["vm1"] = fail(1)
        await bench.daemon(hypervisor, retry=RetrySection(first=0.001, longest=0.001))
        await bench.ask(Start(vm_name="vm2", memory=1024, vcpu_map=[[0], [1]]), "1")
        parameter = MigrateParameter(migration_type="live", retry_counter=2)
        task = Migrate(vm_name="vm1", destination="node02", parameter=parameter)
        await bench.ask(task, "2")
        await bench.ask(Stop(vm_name="vm2", force=True), "3")

    play(scene)
    assert without_seconds(lines.about("vm2")) == [
        "accepted: start vm of vm2, memory 1024, vcpu-map [[0], [1]]",
        "begins: start vm of vm2, memory 1024, vcpu-map [[0], [1]]",
        "start vm ended with success",
        "accepted: stop vm of vm2, force true",
        "begins: stop vm of vm2, force true",
        "stop vm ended with success",
    ]
    options = "destination node02, retry_counter 2, migration-type live"
    first, begins, retry, again, end = lines.about("vm1")
    assert first == f"accepted: migrate vm of vm1, {options}"
    assert begins == again == f"begins: migrate vm of vm1, {options}"
    assert retry.startswith("migrate vm failed, retry 1 of 2 in 0.0 s: attempt 0 failed")
    assert end.startswith("migrate vm ended with success after ")


def test_task_that_hangs_has_a_line_from_its_begin_on(play: Play, lines: Lines) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        plan, begun, go = gate()
        hypervisor.plan["vm1"] = plan
        await bench.daemon(hypervisor)
        await bench.send(Start(vm_name="vm1"), "1")
        await patiently(begun.wait())
        assert lines.about("vm1")[-1] == "begins: start vm of vm1"
        go.set()
        await bench.result()

    play(scene)


def test_text_and_json_have_the_same_fields(play: Play, lines: Lines) -> None:
    async def scene(bench: Bench) -> None:
        await bench.daemon()
        await bench.ask(Start(vm_name="vm1"), "7")
        await bench.ask(Start(vm_name="vm2"))
        await bench.ask(TaskContainer(tasks=[Stop(vm_name="a"), Stop(vm_name="b")]), "8")

    play(scene)
    for text, line in zip(lines.text, lines.json, strict=True):
        subject = " ".join(str(line[key] or "-") for key in ("host", "id", "vm-name"))
        level, message = line["level"].upper(), line["message"]
        assert text == f"{line['time']} {level} [{subject}] {message}"
    assert {line["host"] for line in lines.json} >= {"node01"}
    tasks = [line for line in lines.json if line["logger"] == "fastlib.migfra.task"]
    assert {line["vm-name"] for line in tasks} == {"vm1", "vm2", "a", "b"}


def test_each_container_that_is_accepted_names_its_domains(play: Play, lines: Lines) -> None:
    async def scene(bench: Bench) -> None:
        await bench.daemon()
        names = [f"vm{number}" for number in range(30)]
        tasks = [Start(vm_name=name) for name in names]
        await bench.ask(TaskContainer(tasks=tasks, id="many"))
        xml = "<domain><name>new</name></domain>"
        await bench.ask(TaskContainer(tasks=[Start(xml=xml)], id="xml"))

    play(scene)
    many = lines.find("accepted: start vm, 30 members")
    assert many["message"].endswith(", vm18, vm19 and 10 more")
    assert len(lines.about("vm29")) == 2  # that it begins and ends
    new = lines.find("accepted: start vm of new, xml of 33 characters")
    assert (new["id"], new["vm-name"]) == ("xml", "new")


@pytest.mark.parametrize("kind", ["expired", "cancelled"])
def test_log_reports_orders_that_never_begin(play: Play, lines: Lines, kind: str) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        plan, begun, go = gate()
        hypervisor.plan["vm1"] = plan
        await bench.daemon(hypervisor)
        sequence = TaskContainer(
            tasks=[Start(vm_name=name, concurrent_execution=False) for name in ("vm1", "vm2")],
            id="s",
        )
        if kind == "expired":
            await bench.ask("task: stop vm\nlist: [{vm-name: vm2}]\nexpires: 2020-01-01T00:00:00Z")
            return
        await bench.send(sequence)
        await patiently(begun.wait())
        await bench.send(Cancel(id="s"))
        await wait_until_async(lambda: "begins: cancel task, id s" in lines.about(None))
        go.set()
        await bench.result()

    play(scene)
    messages = lines.about("vm2")
    assert f"ended with {kind}" in messages[-1]
    assert not any(message.startswith("begins") for message in messages)


# Several domains


def _cluster(**more: Any) -> SimulatedOptions:
    names = [(f"vm{number}", "node01", {"memory": GIB}) for number in range(3)]
    description = cluster_of(*names, ("other", "node02"), hosts=("node01", "node02"), **more)
    return SimulatedOptions(cluster="log", create=description, speed=100.0, start_seconds=0.1)


async def _simulated(bench: Bench, **more: Any) -> None:
    from fastlib.migfra.hypervisors.simulated import Cluster

    Cluster.forget("log")
    options = _cluster(**more)
    hypervisor = SimulatedHypervisor(options, NodeContext("node01"))
    await bench.daemon(hypervisor)


def test_stop_by_regex_has_a_line_for_each_domain_with_its_reason(play: Play, lines: Lines) -> None:
    async def plan(context: Context) -> list[Result]:
        with context.about("vm2"):
            context.log.info("is asked once more")
        return [
            Result(vm_name="vm1", status="success"),
            Result(vm_name="vm2", status="error", details="vm2 has not shut down within 60 s"),
        ]

    class Regex(Scripted):
        async def stop(self, task: Stop, context: Context) -> Any:
            return await plan(context)

    async def scene(bench: Bench) -> None:
        await bench.daemon(Regex())
        await bench.ask(Stop(regex="vm.*", force=True), "r")

    play(scene)
    assert lines.about("vm1") == ["stop vm ended with success"]
    assert lines.about("vm2") == [
        "is asked once more",
        "stop vm ended with error: vm2 has not shut down within 60 s",
    ]
    first, begins, end = [m for m in lines.about(None) if "stop vm" in m]
    assert first == "accepted: stop vm, regex vm.*, force true"
    assert begins == "begins: stop vm, regex vm.*, force true"
    assert end.startswith("stop vm, regex vm.*, force true ended with error after ")
    assert end.endswith(": 2 domains, 1 with success, 1 with an error")
    levels = {line["message"]: line["level"] for line in lines.json}
    assert levels["stop vm ended with success"] == "info"
    assert levels["stop vm ended with error: vm2 has not shut down within 60 s"] == "warning"


@pytest.mark.parametrize(
    ("results", "count"),
    [
        ([Result(vm_name=NO_DOMAIN, status="error", details="no active domain matches")], ""),
        ([Result(vm_name="vm1", status="error", details="x")], ": 1 domain, 0 with success, 1 "),
    ],
    ids=("no domain", "one domain"),
)
def test_end_of_stop_by_regex_names_the_regex(
    play: Play, lines: Lines, results: list[Result], count: str
) -> None:
    class Regex(Scripted):
        async def stop(self, task: Stop, context: Context) -> Any:
            return results

    async def scene(bench: Bench) -> None:
        await bench.daemon(Regex())
        await bench.ask(Stop(regex="vm.*"), "r")

    play(scene)
    [end] = [m for m in lines.about(None) if "ended" in m and "stop vm" in m]
    assert end.startswith("stop vm, regex vm.* ended with error after ")
    assert (count or ": no active domain matches") in end


def test_answered_queries_are_not_part_of_the_story(play: Play, lines: Lines) -> None:
    async def scene(bench: Bench) -> None:
        await bench.daemon(Scripted())
        await bench.ask(QueryHistory(vm_name="vm1"))
        await bench.ask(Stop(vm_name="vm1"))

    play(scene)
    assert len([line for line in lines.about("vm1") if "ended" in line]) == 1
    assert not [line for line in lines.json if "query" in line["message"]]


def test_container_without_members_has_a_line_about_its_end(play: Play, lines: Lines) -> None:
    async def scene(bench: Bench) -> None:
        await bench.daemon(Scripted())
        await bench.ask(TaskContainer(task="stop vm", tasks=[], id="e"))

    play(scene)
    ends = [line for line in lines.json if "ended" in line["message"] and line["id"] == "e"]
    assert [(line["level"], line["message"]) for line in ends] == [
        (
            "warning",
            "stop vm ended with error: the list of stop vm is empty; expected at least one member",
        )
    ]


def test_evacuation_has_the_story_of_each_domain(play: Play, lines: Lines) -> None:
    async def scene(bench: Bench) -> None:
        await _simulated(bench)
        task = Evacuate(destinations=["node02"])
        answer: ResultContainer = await bench.ask(task, "e")
        assert [result.status for result in answer.results] == ["success"] * 3

    play(scene)
    for number in range(3):
        messages = lines.about(f"vm{number}")
        assert messages[-1] == "evacuate node ended with success"
        assert "evacuate node: phase downtime" in messages
        assert {line["id"] for line in lines.json if line["vm-name"] == f"vm{number}"} == {"e"}
    waited = [f"vm{n}" for n in range(3) if any("phase queued" in m for m in lines.about(f"vm{n}"))]
    assert len(waited) == 1  # two may migrate at once
    [end] = [m for m in lines.about(None) if "ended" in m and "evacuate" in m]
    assert end.startswith("evacuate node, destinations [node02] ended with success after ")
    assert end.endswith(": 3 domains, 3 with success, 0 with an error")


def test_each_daemon_of_a_process_names_its_host(tmp_path: Path, lines: Lines) -> None:
    async def main() -> None:
        from fastlib.migfra import Configuration, Daemon
        from fastlib.transport import MemoryBroker
        from tests.support.migfra.scripted import choice

        broker = MemoryBroker()
        async with asyncio.TaskGroup() as group:
            for name in ("node01", "node02"):
                configuration = Configuration(hostname=name, hypervisor=choice())
                daemon = Daemon(configuration, communicator=broker, in_memory=True)
                group.create_task(_open_and_close(daemon))

    async def _open_and_close(daemon: Any) -> None:
        async with daemon:
            pass

    asyncio.run(main())
    ended = [line["host"] for line in lines.json if line["message"] == "ended"]
    assert sorted(ended) == ["node01", "node02"]


def test_queries_have_no_line_at_their_begin(play: Play, lines: Lines) -> None:
    async def scene(bench: Bench) -> None:
        await bench.daemon()
        await bench.ask(Query())

    play(scene)
    assert not any(line["message"].startswith("begins") for line in lines.json)


# Descriptions


@pytest.mark.parametrize(
    ("task", "domain", "text"),
    [
        (Stop(vm_name="a"), "a", "stop vm of a"),
        (Stop(regex="a.*"), None, "stop vm, regex a.*"),
        (Start(vm_name="a" * 300), "a" * 300, f"start vm of {'a' * 100}…"),
        (Start(xml="<domain/>"), None, "start vm, xml of 9 characters"),
        (
            Migrate(vm_name="a", destination="b", parameter=live(vcpu_map=[[1, 2], [3]])),
            "a",
            "migrate vm of a, destination b, migration-type live, vcpu-map [[1, 2], [3]]",
        ),
        (
            Migrate(
                vm_name="a",
                destination="b",
                parameter=MigrateParameter(swap_with=SwapWith(vm_name="c", vcpu_map=[[0]])),
            ),
            "a",
            "migrate vm of a, destination b, swap-with vm-name c, swap-with vcpu-map [[0]]",
        ),
        (Cancel(id="7"), None, "cancel task, id 7"),
        (Start(vm_name="a", time_measurement=True), "a", "start vm of a, time-measurement true"),
    ],
    ids=lambda value: "",
)
def test_description_has_every_option(task: Any, domain: str | None, text: str) -> None:
    assert describe_task(task, domain) == text


def test_description_of_a_container_counts_its_tasks() -> None:
    container = TaskContainer(tasks=[Stop(vm_name="a"), Stop(regex="b.*"), Stop(vm_name="c")])
    assert describe_container(container) == "stop vm, 3 members: a, regex b.*, c"
    assert describe_container(TaskContainer(task="stop vm", tasks=[])) == "stop vm, without members"
