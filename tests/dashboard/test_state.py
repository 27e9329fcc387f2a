"""The state of the page: its changes by messages, the answers to readers, and its bounds."""

from datetime import UTC, datetime

import pytest

from fastlib.client import ObservedMessage
from fastlib.dashboard import hardware
from fastlib.dashboard import state as module
from fastlib.dashboard.hardware import Hardware, HugePages, NumaNode, StoragePool
from fastlib.dashboard.state import State
from fastlib.dashboard.texts import MAX_NAME, MAX_TEXT
from fastlib.message import Message, ResultContainer, TaskContainer
from fastlib.message.hardware import HugePagesReport, NumaNodeReport, StoragePoolReport
from fastlib.message.node import DomainReport, NodeReport, Presence, Progress, TaskReport

NOW = datetime.fromtimestamp(1_800_000_000).astimezone()
MIGRATION = "{task: migrate vm, id: m1, vm-name: vm1, destination: hostB}"


def seen(kind: type[Message], text: str, host: str = "hostA", topic: str = "status"):
    return ObservedMessage(
        host=host,
        topic=f"fast/migfra/{host}/{topic}",
        time=NOW,
        payload=text.encode(),
        message=kind.from_yaml(text),
    )


@pytest.fixture
def state():
    """A state with hostA, which is online."""
    state = State()
    state.add(seen(Presence, "{status: online, hypervisor: qemu, version: '1.0'}"), 0.0)
    return state


def progress(text, host="hostA"):
    return seen(Progress, f"{{id: m1, title: migrate vm, {text}}}", host)


def report(*, domains=(), tasks=(), **facts):
    return NodeReport(host="hostA", hypervisor="qemu", domains=domains, tasks=tasks, **facts)


def test_presence_gives_status_and_time_of_its_change(state):
    assert state.host("hostA").since is None, "a retained presence does not tell"
    state.add(seen(Presence, "status: offline"), 1.0)
    host = state.host("hostA")
    assert (host.status, host.since, host.hypervisor) == ("offline", NOW.timestamp(), "qemu")
    state.add(seen(Presence, "{status: online, degraded: the disk is full}"), 2.0)
    host = state.host("hostA")
    assert (host.status, host.degraded) == ("degraded", "the disk is full")


def test_claim_of_starting_daemon_changes_nothing(state):
    before = state.version
    state.add(seen(Presence, "{status: online, instance: abc}", host="hostC"), 1.0)
    assert state.version == before


def test_task_progress_and_result_are_work_and_its_end(state):
    state.add(seen(TaskContainer, MIGRATION), 1.0)
    (work,) = state.work
    assert (work.state, work.domain, work.destination) == ("sent", "vm1", "hostB")
    state.add(progress("vm-name: vm1, phase: memory, percent: 40"), 2.0)
    (work,) = state.work
    assert (work.state, work.percent, work.destination) == ("memory", 40, "hostB")
    assert state.destinations("hostA", "m1") == ["hostB"]
    result = "{result: vm migrated, id: m1, vm-name: vm1, status: error, details: no route}"
    state.add(seen(ResultContainer, result), 3.0)
    assert state.work == []
    (ended,) = state.results
    assert (ended.host, ended.domain, ended.failed, ended.details) == (
        "hostA", "vm1", True, "no route",
    )  # fmt: skip
    assert state.destinations("hostA", "m1") == []


def test_progress_of_domains_replaces_that_of_the_whole_task(state):
    state.add(progress("vm-name: n/a, phase: place"), 1.0)
    state.add(progress("vm-name: vm1, phase: queued, position: 1"), 2.0)
    state.add(progress("vm-name: vm2, phase: queued, position: 2"), 3.0)
    assert [(work.domain, work.position) for work in state.work] == [("vm1", 1), ("vm2", 2)]


def test_result_without_id_ends_the_oldest_task_without_id(state):
    for name in ("vm1", "vm2"):
        task = f"{{task: stop vm, list: [{{vm-name: {name}}}]}}"
        state.add(seen(TaskContainer, task), 1.0)
    assert [work.domain for work in state.work] == ["vm1", "vm2"]
    result = "{result: vm stopped, list: [{vm-name: vm1, status: success}]}"
    state.add(seen(ResultContainer, result), 2.0)
    assert [work.domain for work in state.work] == ["vm2"]


def test_report_adds_queue_and_ends_work_that_it_does_not_have(state):
    state.add(progress("vm-name: vm1, phase: memory, percent: 40"), 1.0)
    queued = TaskReport(id="s1", task="stop vm", vm_name="vm2", state="queued", since=5.0)
    query = TaskReport(id="q1", task="query node", state="running")
    state.report("hostA", report(tasks=[queued, query]), asked=2.0)
    (work,) = state.work
    assert (work.task, work.domain, work.state, work.since) == ("stop vm", "vm2", "queued", 5.0)


def test_report_does_not_end_work_that_began_after_the_question(state):
    state.add(progress("vm-name: vm1, phase: memory, percent: 40"), 3.0)
    state.report("hostA", report(), asked=2.0)
    assert [work.domain for work in state.work] == ["vm1"]


def test_report_keeps_progress_that_it_lacks(state):
    state.add(progress("vm-name: vm1, phase: memory, percent: 40"), 1.0)
    running = TaskReport(id="m1", task="migrate vm", vm_name="vm1", state="running", since=5.0)
    state.report("hostA", report(tasks=[running]), asked=2.0)
    (work,) = state.work
    assert (work.state, work.percent, work.since) == ("memory", 40, 5.0)


def test_report_of_unknown_host_is_ignored(state):
    before = state.version
    state.report("hostX", report(), asked=2.0)
    state.report_silence("hostX", "no answer")
    assert state.version == before


def test_silence_is_shown_until_the_next_answer(state):
    state.report_silence("hostA", "no answer within 10 s")
    assert state.host("hostA").silent == "no answer within 10 s"
    state.report("hostA", report(memory=10, free_memory=5), asked=2.0)
    assert state.host("hostA").silent is None


def test_hardware_of_a_report_is_shown_with_bounds(state, monkeypatch):
    assert state.host("hostA").hardware is None
    nodes = [NumaNodeReport(id=number, cpus=[0, 1], free_memory=5) for number in range(3)]
    pages = [HugePagesReport(size=size, total=size - 4, free=1) for size in (4, 2048)]
    pools = [
        StoragePoolReport(name="p" * 999, type="dir", path="/p", state="running", free=1),
        StoragePoolReport(name="q", details="d" * 9999),
    ]
    monkeypatch.setattr(hardware, "MAX_ROWS", 2)
    known = report(cpu_model="m" * 999, numa_nodes=nodes, huge_pages=pages, storage_pools=pools)
    state.report("hostA", known, asked=2.0)
    short = "…".rjust(MAX_NAME, "p")
    assert state.host("hostA").hardware == Hardware(
        cpu_model="…".rjust(MAX_NAME, "m"),
        numa_nodes=(NumaNode(0, 2, None, 5), NumaNode(1, 2, None, 5)),
        huge_pages=(HugePages(2048, 2044, 1),),
        storage_pools=(
            StoragePool(short, "running", None, 1),
            StoragePool("q", details="…".rjust(MAX_TEXT, "d")),
        ),
    )
    version = state.version
    state.report("hostA", known, asked=3.0)
    assert state.version == version, "nothing has changed"
    state.report("hostA", report(), asked=4.0)
    assert state.host("hostA").hardware is None


def test_late_result_of_a_query_brings_no_forgotten_host_back(state):
    state.remove("hostA")
    state.add(
        seen(ResultContainer, "{result: node queried, list: [{vm-name: n/a, status: error}]}"), 2.0
    )
    assert state.hosts == []


def test_forgotten_host_is_removed(state):
    state.add(seen(Presence, "status: offline", host="hostB"), 0.0)
    topic = "fast/migfra/hostB/status"
    state.add(ObservedMessage(host="hostB", topic=topic, time=NOW, payload=b"", message=None), 1.0)
    assert "hostB" not in state.hosts


def test_offline_host_has_the_time_of_its_presence(state):
    text = "{status: offline, time: 2026-11-01T08:00:00Z}"
    state.add(seen(Presence, text, host="hostB"), 0.0)
    view = state.host("hostB")
    assert view is not None
    assert view.since == datetime(2026, 11, 1, 8, tzinfo=UTC).timestamp()


def test_unreadable_message_is_an_error():
    state = State()
    observed = ObservedMessage(
        host="hostA", topic="fast/migfra/hostA/result", time=NOW, payload=b"", message=None
    )
    state.add(observed, 0.0)
    (ended,) = state.results
    assert (ended.title, ended.failed) == ("unreadable result", True)


# --- what readers get


def test_reader_gets_everything_then_only_changes(state):
    first = state.changes()
    assert first["full"]
    assert [host.name for host in first["hosts"]] == ["hostA"]
    assert state.changes(first["version"]) == {"version": first["version"], "full": False}
    state.add(seen(Presence, "status: online", host="hostB"), 1.0)
    second = state.changes(first["version"])
    assert [host.name for host in second["hosts"]] == ["hostB"]
    assert "results" not in second
    state.add(progress("vm-name: vm1, phase: memory"), 1.0)
    assert [work.domain for work in state.changes(second["version"])["work"]] == ["vm1"]


def test_reader_learns_of_removed_host_by_a_full_state(state):
    seen_version = state.version
    state.add(progress("vm-name: vm1, phase: memory"), 1.0)
    state.remove("hostA")
    changes = state.changes(seen_version)
    assert changes["full"]
    assert changes["hosts"] == []
    assert changes["work"] == []
    assert not state.changes(changes["version"])["full"]


def test_equal_report_changes_no_state(state):
    domains = [DomainReport(name="vm1", state="running")]
    state.report("hostA", report(domains=domains), asked=1.0)
    before = state.version
    state.report("hostA", report(domains=domains), asked=2.0)
    assert state.version == before


def test_lost_broker_is_a_change(state):
    state.set_broker(connected=True, time=1.0)
    before = state.version
    state.set_broker(connected=True, time=2.0)
    assert state.version == before
    state.set_broker(connected=False, time=3.0)
    assert state.changes(before)["broker"] == {"connected": False, "since": 3.0}


# --- bounds


def test_hosts_are_bounded_and_the_others_counted(monkeypatch):
    monkeypatch.setattr(module, "MAX_HOSTS", 3)
    state = State()
    for number in range(5):
        state.add(seen(Presence, "status: online", host=f"host{number}"), 0.0)
    assert state.hosts == ["host0", "host1", "host2"]
    assert state.changes()["hostsLeftOut"] == 2


def test_domains_are_bounded_and_the_others_counted(state, monkeypatch):
    monkeypatch.setattr(module, "MAX_DOMAINS", 3)
    state.add(seen(Presence, "status: online", host="hostB"), 0.0)
    domains = [DomainReport(name=f"vm{number}", state="running") for number in range(2)]
    for host in ("hostA", "hostB", "hostA"):
        state.report(host, report(domains=domains), asked=1.0)
    assert (len(state.host("hostA").domains), state.host("hostA").domains_left_out) == (2, 0)
    assert (len(state.host("hostB").domains), state.host("hostB").domains_left_out) == (1, 1)
    state.remove("hostA")
    state.report("hostB", report(domains=domains), asked=1.0)
    assert state.host("hostB").domains_left_out == 0


def test_work_is_bounded(state, monkeypatch):
    monkeypatch.setattr(module, "MAX_WORK", 3)
    for number in range(5):
        state.add(progress(f"vm-name: vm{number}, phase: memory"), float(number))
        task = f"{{task: migrate vm, id: t{number}, vm-name: x{number}, destination: hostB}}"
        state.add(seen(TaskContainer, task), float(number))
    assert len(state.work) == len(state._updated) == 3
    assert len(state._destinations) == 3


def test_results_and_their_texts_are_bounded(state, monkeypatch):
    monkeypatch.setattr(module, "MAX_RESULTS_OF_TASK", 2)
    long = "x" * 5000
    members = ", ".join(
        f"{{vm-name: {long}, status: {status}, details: {long}}}"
        for status in ("success", "error", "error", "success")
    )
    for _ in range(module.MAX_RESULTS // 3 + 1):
        state.add(seen(ResultContainer, f"{{result: vm stopped, list: [{members}]}}"), 1.0)
    assert len(state.results) == module.MAX_RESULTS
    last, *others = state.results[:3]
    assert last.details == "2 more results, 1 of them errors"
    assert last.failed
    for ended in others:
        assert len(ended.domain) == MAX_NAME
        assert len(ended.details) == MAX_TEXT
