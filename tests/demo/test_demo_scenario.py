"""The demo run from Python: its steps, its summary, and the failures that it detects."""

import asyncio
import re
import tempfile
from datetime import UTC, datetime

import pytest

from fastlib import Result, ResultContainer, Start, TaskContainer
from fastlib.cli.commands import demo as command
from fastlib.client import ObservedMessage
from fastlib.demo import Settings, SettingsError, TextView, run
from fastlib.demo.cluster import DemoCluster
from fastlib.demo.invariants import InvariantChecker
from fastlib.demo.layout import host_names
from fastlib.demo.live_view import _vms
from fastlib.demo.observer import Observer
from fastlib.message.node import Progress
from fastlib.message.topics import PROGRESS, RESULT, TASK
from fastlib.migfra.hypervisors.simulated import (
    Cluster,
    ClusterDescription,
    DomainDescription,
    Fault,
    HostDescription,
)
from fastlib.migfra.journal.group_commit import GroupCommit

FAST = {"speed": 100.0}


def run_demo(**settings):
    """Return the lines and the summary of a run."""
    lines = []
    summary = asyncio.run(run(Settings(**(FAST | settings)), TextView(lines.append)))
    return lines, summary


def sent(lines):
    """Return the lines of tasks that were sent for the first time."""
    return [line for line in lines if "->" in line[:8] and "(again)" not in line]


def test_scenario_runs_all_steps():
    lines, summary = run_demo()
    assert (summary.ok, summary.problems) == (True, [])
    assert [step.title for step in summary.steps] == [
        "3 daemons start",
        "8 VMs start",
        "a VM migrates live",
        "a pair of VMs swap hosts",
        "a VM gets new CPUs",
        "a VM is suspended",
        "a VM is resumed",
        "a host is evacuated under load",
        "a migration is cancelled half-way",
        "a daemon is killed during a migration",
        "all VMs stop",
        "all daemons quit",
    ]
    assert all(step.done for step in summary.steps)
    # 8 starts, 8 stops, a repin, two suspends, a resume, an evacuation, a cancel, three quits, and
    # the migrations: one, a swap, one under load, one cancelled, one lost and one in its stead.
    assert summary.tasks == 8 + 8 + 1 + 2 + 1 + 1 + 1 + 3 + 6
    assert summary.executed == summary.tasks - 1 - 3  # cancel and quit are the daemon's own
    assert summary.results["error"] == 2  # the cancelled one and the lost one
    assert summary.interrupted == 2
    evacuated = next(line for line in lines if "node evacuated: success" in line)
    assert summary.migrations == 1 + 2 + 1 + 1 + len(re.findall("vm-", evacuated))
    assert summary.bytes_moved > summary.migrations << 31  # the smallest VM has 2 GiB
    assert 0 < summary.longest_downtime < summary.cluster_seconds
    assert summary.restarts == 1
    assert summary.repeated >= 1
    assert lines[-1].endswith("each task has exactly one result, and none was executed twice")


def test_same_seed_sends_same_tasks():
    first, second, other = run_demo(), run_demo(), run_demo(seed=2)
    assert sorted(sent(first[0])) == sorted(sent(second[0]))
    assert sorted(sent(first[0])) != sorted(sent(other[0]))
    assert other[1].ok


def test_run_leaves_no_files_and_no_cluster(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = dict(Cluster._named)
    assert run_demo()[1].ok
    assert list(tmp_path.iterdir()) == []
    assert Cluster._named == before


# --- what goes wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "step", "text"),
    [
        ("start", 2, "does not start on demo-"),
        ("migrate", 3, "migrate vm"),
        ("repin", 5, "repin vm"),
        ("stop", 11, "stop vm"),
    ],
)
def test_fault_fails_step_and_ends_run(task, step, text):
    lines, summary = run_demo(faults=[Fault(kind="error", task=task, text="planned")])
    assert not summary.ok
    assert [step.done for step in summary.steps] == [True] * (step - 1) + [False]
    (problem,) = summary.problems
    assert problem.startswith(f"step {step}, ")
    assert text in problem
    assert "planned" in problem
    assert "the demo FAILED" in lines
    assert lines[-1] == f"  problem     {problem}"


def test_hanging_hypervisor_fails_step_after_timeout():
    fault = Fault(kind="hang", task="suspend")
    for timeout in (0.5, 5, 60):  # on a busy machine the steps before it need more time
        _, summary = run_demo(faults=[fault], timeout=timeout)
        assert not summary.ok
        if "step 6" in summary.problems[0]:
            break
    assert "step 6" in summary.problems[0]
    assert "suspend vm" in summary.problems[0]


def test_failure_of_a_daemon_ends_the_step(monkeypatch):
    """The error is in the summary, and no step waits for its timeout."""
    written = 0
    commit = GroupCommit._commit

    def fail_later(group, operations):
        nonlocal written
        written += 1
        if written > 20:
            raise RuntimeError("planned")
        return commit(group, operations)

    monkeypatch.setattr(GroupCommit, "_commit", fail_later)
    timeout = 250.0
    _, summary = run_demo(timeout=timeout)
    assert not summary.ok
    assert re.search("step 2, .*: the daemon of demo-. failed: .*planned", summary.problems[0])
    assert summary.seconds < timeout


def test_exit_status_is_1_after_failure(capsys):
    options = None  # only for what is complained of
    settings = Settings(faults=[Fault(kind="error", task="migrate")], **FAST)
    assert command.run_demo(settings, TextView(print), options) == 1
    assert "FAILED" in capsys.readouterr().out


def test_lost_journal_is_detected_as_double_execution(monkeypatch):
    """The daemon forgets executed orders, and executes repeated ones again."""
    start_daemon = DemoCluster.start_daemon

    async def forgetful(cluster: DemoCluster, host: str) -> None:
        for file in cluster._journals.glob(f"{host}*"):
            file.unlink()
        await start_daemon(cluster, host)

    monkeypatch.setattr(DemoCluster, "start_daemon", forgetful)
    for timeout in (2, 10, 60):  # on a busy machine the steps before it need more time
        _, summary = run_demo(timeout=timeout)
        assert not summary.ok
        if any("executed more than once" in problem for problem in summary.problems):
            return
    pytest.fail(f"never executed more than once: {summary.problems}")


def test_invariants_report_missing_vm_once():
    description = ClusterDescription(
        hosts=[HostDescription(name="a"), HostDescription(name="b")],
        domains=[DomainDescription(name="vm1", host="a"), DomainDescription(name="vm2", host="b")],
    )
    with Cluster(description) as cluster:
        invariants = InvariantChecker(cluster)
        invariants.running = {"vm1", "vm2"}
        invariants.check()
        assert invariants.problems == []
        cluster.stop("vm1", "a")
        invariants.check()
        invariants.check()
        assert invariants.problems == ["vm1 is on 0 hosts"]
        assert invariants.checks == 3


def observed(topic, message):
    return ObservedMessage(
        host="a", topic=topic("a"), time=datetime.now(UTC), payload=b"", message=message
    )


def test_observer_reports_missing_repeated_and_different_answers():
    observer = Observer(["a"])
    container = TaskContainer(tasks=[Start(vm_name="vm1")], id="1")

    def answer(status, id="1"):
        results = ResultContainer(
            result="vm started", id=id, results=[Result(vm_name="vm1", status=status)]
        )
        observer.record(observed(RESULT, results))

    observer.record(observed(TASK, container))
    assert observer.violations() == ["'start vm' 1 to a has 0 answers"]
    answer("success")
    assert observer.violations() == []
    answer("success")
    assert observer.violations() == ["'start vm' 1 to a was sent 1 times and answered 2 times"]
    observer.record(observed(TASK, container))
    assert observer.violations() == []
    answer("error")
    assert observer.violations() == ["'start vm' 1 to a has 2 answers"]
    answer("success", id="2")
    assert observer.violations()[0] == "a answered 2, which was not sent"


# --- settings and words ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"hosts": 2},
        {"hosts": 1001, "vms": 9999},
        {"hosts": 5, "vms": 9},
        {"speed": 0},
        {"speed": float("nan")},
        {"seed": -1},
        {"pause": -1},
        {"timeout": 0},
    ],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(SettingsError):
        Settings(**wrong)


def test_more_than_26_hosts_have_numbers():
    settings = Settings(hosts=30, vms=60)
    names = host_names(settings, "demo")
    assert (names[0], names[-1], len(set(names))) == ("demo-01", "demo-30", 30)


def test_observer_reports_unreadable_message():
    observer = Observer(["a"])
    observer.record(observed(RESULT, None))
    assert observer.violations() == ["fast/migfra/a/result cannot be read: None"]


def test_observer_keeps_progress_until_answer():
    observer = Observer(["a"])
    observer.record(observed(PROGRESS, Progress(id="1", vm_name="vm1", phase="memory")))
    observer.record(observed(TASK, TaskContainer(tasks=[Start(vm_name="vm1")], id="1")))
    observer.record(observed(PROGRESS, Progress(id="1", vm_name="vm1", phase="memory")))
    (record,) = observer.tasks
    assert [*record.progress] == ["vm1"]
    results = ResultContainer(
        result="vm started", id="1", results=[Result(vm_name="vm1", status="success")]
    )
    observer.record(observed(RESULT, results))
    observer.record(observed(PROGRESS, Progress(id="1", vm_name="vm1", phase="memory")))
    assert record.progress == {}


def test_live_view_counts_vms_of_full_host_by_state():
    states = ["paused", "paused", *["running"] * 7]
    description = ClusterDescription(
        hosts=[HostDescription(name="a")],
        domains=[
            DomainDescription(name=f"vm{number}", host="a", state=state, memory=1 << 20)
            for number, state in enumerate(states)
        ],
    )
    with Cluster(description) as cluster:
        domains = list(cluster.domains())
    assert _vms(domains).plain == "9 VMs, 2 paused"
    assert _vms(domains[1:3]).plain == "vm1 1.0 GiB paused  vm2 1.0 GiB  "
