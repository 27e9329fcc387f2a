"""What ponci must do, whichever version of cgroups it has, each with real processes.

The same checks run on this machine and in a guest, whose kernel has another version.
"""

import asyncio
import os
import re
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from unittest import mock

from fastlib import (
    Cancel,
    DeviceIvshmem,
    Evacuate,
    Migrate,
    PciAddress,
    PciId,
    Repin,
    Resume,
    Start,
    Stop,
    Suspend,
    Task,
)
from fastlib.migfra import Context, DaemonServices, HypervisorError
from fastlib.migfra.hypervisors.ponci.hierarchy import Hierarchy
from tests.support.migfra.bench import HOST
from tests.support.ponci.runner import Check, PonciRunner
from tests.support.ponci.workload import Counter, ForkingProcess, Stuck

DONE = "found done after the daemon's restart"


def online(what: str) -> list[int]:
    """The numbers of the machine's CPUs or memory nodes, of which there are few."""
    text = Path(f"/sys/devices/system/{what}/online").read_text().strip()
    first, _, last = text.partition("-")
    return list(range(int(first), int(last or first) + 1))


LAST_CPU = online("cpu")[-1]
LAST_NODE = online("node")[-1]


# The life of a domain


async def domain_binds_its_processes_to_cpus_and_memory(runner: PonciRunner) -> None:
    assert LAST_CPU > 0, "these checks need two CPUs"
    with Counter(runner.directory) as counter:
        assert await runner.do(Start(vm_name="vm1", vcpu_map=[[LAST_CPU]])) is None
        runner.trees.join(counter.pid, "vm1")
        assert counter.allowed("Cpus") == str(LAST_CPU)
        await runner.do(Repin(vm_name="vm1", vcpu_map=[[0]]))
        assert counter.allowed("Cpus") == "0"
        await runner.do(Repin(vm_name="vm1", vcpu_map=[[1, 0]]))
        assert counter.allowed("Cpus") == "0-1"
        assert await runner.do(Start(vm_name="vm2", memnode_map=[[LAST_NODE]])) is None
        runner.trees.join(counter.pid, "vm2")
        assert counter.allowed("Mems") == str(LAST_NODE)
        assert counter.allowed("Cpus") == f"0-{LAST_CPU}"
        assert await runner.domains() == {"vm1": "running", "vm2": "running"}
        assert await runner.do(Stop(vm_name="vm1")) is None
        assert not runner.trees.exists("vm1")
        said = await runner.error_of(Stop(vm_name="vm2"))
        assert said == (
            f"vm2 has 1 process ({counter.pid}), so that it cannot be deleted; end them or move "
            "them to another group, or stop it with force: true, which kills them"
        )
        assert counter.runs
        runner.trees.leave(counter.pid)
        assert await runner.do(Stop(vm_name="vm2", undefine=True)) is None
        assert counter.runs
    assert await runner.domains() == {}


async def suspended_domain_does_not_run(runner: PonciRunner) -> None:
    with Counter(runner.directory) as inside, Counter(runner.directory) as outside:
        await runner.do(Start(vm_name="vm1"))
        runner.trees.join(inside.pid, "vm1")
        await runner.until(lambda: inside.count > 0)
        assert await runner.do(Suspend(vm_name="vm1")) is None
        assert runner.trees.state("vm1") == "frozen"
        assert await runner.domains() == {"vm1": "paused"}
        frozen_at, meanwhile = inside.count, outside.count
        await runner.until(lambda: outside.count > meanwhile + 100)
        assert inside.count == frozen_at
        assert await runner.do(Suspend(vm_name="vm1")) == "vm1 was paused already"
        assert "has 1 process" in await runner.error_of(Stop(vm_name="vm1"))
        assert runner.trees.state("vm1") == "frozen"
        assert await runner.do(Repin(vm_name="vm1", vcpu_map=[[0]])) is None
        assert await runner.do(Resume(vm_name="vm1")) is None
        await runner.until(lambda: inside.count > frozen_at)
        assert inside.allowed("Cpus") == "0"
        assert await runner.do(Resume(vm_name="vm1")) == "vm1 was running already"
        assert await runner.domains() == {"vm1": "running"}


async def empty_domain_can_be_suspended_and_stopped(runner: PonciRunner) -> None:
    await runner.do(Start(vm_name="vm1"))
    await runner.do(Suspend(vm_name="vm1"))
    assert await runner.domains() == {"vm1": "paused"}
    await runner.do(Stop(vm_name="vm1"))
    assert await runner.domains() == {}


async def force_kills_all_processes_of_a_domain(runner: PonciRunner) -> None:
    await _force(runner)


async def force_kills_processes_one_by_one_without_cgroup_kill(runner: PonciRunner) -> None:
    groups = runner.hypervisor._runtime.hierarchy
    with mock.patch.object(groups, "kill", lambda name: Hierarchy.kill(groups, name)):
        await _force(runner)


async def _force(runner: PonciRunner) -> None:
    with (
        Counter(runner.directory) as first,
        Counter(runner.directory) as second,
        ForkingProcess() as forker,
    ):
        await runner.do(Start(vm_name="vm1"))
        for folder in runner.trees.of("vm1"):
            (folder / "below").mkdir()
            for file in ("cpuset.cpus", "cpuset.mems"):
                if runner.trees.version == "v1" and (folder / file).exists():
                    (folder / "below" / file).write_text((folder / file).read_text())
        runner.trees.join(first.pid, "vm1")
        runner.trees.join(second.pid, "vm1/below")
        runner.trees.join(forker.pid, "vm1")
        forker.begin()
        await runner.until(lambda: runner.trees.processes("vm1") - {first.pid, forker.pid})
        assert await runner.do(Stop(vm_name="vm1", force=True)) is None
        assert not runner.trees.exists("vm1")
        assert first.process.wait() == second.process.wait() == -9
        # A suspended one is killed as well.
        with Counter(runner.directory) as third:
            await runner.do(Start(vm_name="vm1"))
            runner.trees.join(third.pid, "vm1")
            await runner.do(Suspend(vm_name="vm1"))
            assert await runner.do(Stop(vm_name="vm1", force=True)) is None
            assert third.process.wait() == -9


async def stop_by_regex_stops_matching_domains(runner: PonciRunner) -> None:
    with Counter(runner.directory) as counter:
        for name in ("vm1", "vm2", "other"):
            await runner.do(Start(vm_name=name))
        runner.trees.join(counter.pid, "vm2")
        results = await runner.results(Stop(regex="vm[0-9]"))
        assert [(each.vm_name, each.status) for each in results] == [
            ("vm1", "success"),
            ("vm2", "error"),
        ]
        assert "vm2 has 1 process" in str(results[1].details)
        assert await runner.domains() == {"other": "running", "vm2": "running"}
        assert await runner.do(Stop(regex="x.*")) == "no active domain's name matches 'x.*'"
        results = await runner.results(Stop(regex=".*", force=True))
        assert [(each.vm_name, each.status) for each in results] == [
            ("other", "success"),
            ("vm2", "success"),
        ]
        assert counter.process.wait() == -9


async def timers_and_progress_are_reported(runner: PonciRunner) -> None:
    await runner.do(Start(vm_name="vm1"))
    measured: tuple[tuple[Task, str], ...] = (
        (Suspend(vm_name="vm1", time_measurement=True), "suspend-vm1"),
        (Resume(vm_name="vm1", time_measurement=True), "resume-vm1"),
        (Repin(vm_name="vm1", vcpu_map=[[0]], time_measurement=True), "repin"),
        (Start(vm_name="vm2", time_measurement=True), "start"),
    )
    for task, timer in measured:
        (result,) = await runner.results(task)
        assert result.time_measurement is not None
        assert set(result.time_measurement.timings) == {"overall", timer}
    phases: list[str] = []
    services = DaemonServices(report=lambda facts: phases.append(facts.phase))
    context = Context(HOST, services=services)
    reported = (Start(vm_name="vm3"), Suspend(vm_name="vm3"), Resume(vm_name="vm3"),
                Stop(vm_name="vm3", force=True))  # fmt: skip
    for each in reported:
        method = getattr(runner.hypervisor, type(each).__name__.lower())
        await asyncio.to_thread(method, each, context)
    assert phases == ["create", "freeze", "thaw", "delete"]


async def query_describes_the_host(runner: PonciRunner) -> None:
    node = await runner.node()
    assert (node.host, node.hypervisor, node.cpus) == (HOST, "ponci", LAST_CPU + 1)
    assert node.memory is not None
    assert node.free_memory is not None
    assert node.memory > node.free_memory > 0
    assert node.capabilities is not None
    assert node.capabilities["cgroup"] == runner.trees.version
    assert node.capabilities["parent"] == str(runner.trees.parents[0])
    tasks = node.capabilities["tasks"]
    assert {"start vm", "stop vm", "suspend vm", "resume vm", "repin vm"} < set(tasks)
    assert not {"migrate vm", "evacuate node"} & set(tasks)


# What is refused


async def migration_is_not_supported(runner: PonciRunner) -> None:
    await runner.do(Start(vm_name="vm1"))
    for task, title in (
        (Migrate(vm_name="vm1", destination="node02"), "migrate vm"),
        (Evacuate(destinations=["node02"]), "evacuate node"),
    ):
        assert await runner.error_of(task) == f"hypervisor ponci has no support for {title}"
    assert await runner.domains() == {"vm1": "running"}


async def unsupported_fields_are_refused(runner: PonciRunner) -> None:
    cpus = f"0-{LAST_CPU}"
    for task, words in (
        (Start(xml="<domain><name>vm1</name></domain>"), "no XML; give 'vm-name'"),
        (Start(vm_name="vm1", vcpus=2), "no vCPUs; say with one row of 'vcpu-map'"),
        (Start(vm_name="vm1", memory=1024), "no limit of memory; leave 'memory' out"),
        (Start(vm_name="vm1", transient=False), "leave 'transient' out"),
        (Start(vm_name="vm1", pci_ids=[PciId(vendor=1, device=2)]), "leave 'pci-ids' out"),
        (Start(vm_name="vm1", devs=[PciAddress.parse("00:01.0")]), "leave 'devs' out"),
        (Start(vm_name="vm1", ivshmem=DeviceIvshmem(id="a", size="1M")), "leave 'ivshmem' out"),
        (Start(vm_name="vm1", driver="qemu"), "has no driver 'qemu'; leave 'driver' out"),
        (
            Start(vm_name="vm1", vcpu_map=[[0], [1]]),
            "the vcpu-map has 2 rows, but a cgroup has one set of CPUs .* give one row, such as "
            r"vcpu-map: \[\[0, 1",
        ),
        (Start(vm_name="vm1", vcpu_map=[[]]), "the vcpu-map has an empty row"),
        (Start(vm_name="vm1", memnode_map=[[0], [0]]), "the memnode-map has 2 rows"),
        (
            Start(vm_name="vm1", vcpu_map=[[0, 4000]]),
            f"the CPU 4000, but domains on node01 can get the CPUs {cpus} only; choose among",
        ),
        (
            Start(vm_name="vm1", memnode_map=[[900]]),
            "the memory node 900, but domains on node01 can get the memory nodes 0",
        ),
    ):
        said = await runner.error_of(task)
        assert re.search(words, said), (words, said)
        assert await runner.domains() == {}
    await runner.do(Start(vm_name="vm1", vcpu_map=[[0]]))
    for rows, words in (([[0], [1]], "has 2 rows"), ([[4000]], "the CPU 4000, but")):
        said = await runner.error_of(Repin(vm_name="vm1", vcpu_map=rows))
        assert words in said
    sets = runner.hypervisor._runtime.hierarchy.sets("vm1")
    assert sets.cpus == {0}


async def start_does_not_probe_ssh(runner: PonciRunner) -> None:
    assert await runner.do(Start(vm_name="vm1", probe_with_ssh=False)) is None
    said = "vm2 was not probed, as a cgroup does not answer on SSH"
    assert await runner.do(Start(vm_name="vm2", probe_with_ssh=True)) == said
    assert await runner.do(Start(vm_name="vm3", probe_hostname="a")) == said.replace("vm2", "vm3")


async def invalid_names_are_refused(runner: PonciRunner) -> None:
    for name in ("cgroup.procs", "cpuset.cpus", "freezer.state", "tasks", "memory.max", "cpu.x"):
        tasks: list[Task] = [
            Start(vm_name=name), Stop(vm_name=name, force=True), Suspend(vm_name=name)
        ]  # fmt: skip
        for task in tasks:
            assert f"{name!r} cannot be the name of a cgroup" in await runner.error_of(task)
    for name in ("..", "../x", "a/b", "/", ".", " x", "a\nb"):
        tasks = [Start(vm_name=name), Stop(vm_name=name, force=True), Suspend(vm_name=name),
                 Resume(vm_name=name), Repin(vm_name=name, vcpu_map=[[0]])]  # fmt: skip
        for task in tasks:
            assert "cannot be the name of a domain" in await runner.error_of(task)
    assert await runner.domains() == {}
    for name in ("vm-1.example.org", "größe", "x" * 200, "cpusets", "_cpuset.cpus"):
        await runner.do(Start(vm_name=name))
        assert await runner.domains() == {name: "running"}
        await runner.do(Stop(vm_name=name))


async def existing_and_missing_domains_are_reported(runner: PonciRunner) -> None:
    for task in (Stop(vm_name="vm9"), Stop(vm_name="vm9", force=True), Suspend(vm_name="vm9"),
                 Resume(vm_name="vm9"), Repin(vm_name="vm9", vcpu_map=[[0]])):  # fmt: skip
        assert await runner.error_of(task) == (
            f"there is no domain vm9 on node01, which would be the group "
            f"{runner.trees.of('vm9')[0]}; look at its spelling, or start it first"
        )
    await runner.do(Start(vm_name="vm1", vcpu_map=[[0]]))
    said = await runner.error_of(Start(vm_name="vm1", vcpu_map=[[1]]))
    assert said == (
        f"vm1 is there on node01 already, as {runner.trees.of('vm1')[0]}; stop it first"
    )
    assert runner.hypervisor._runtime.hierarchy.sets("vm1").cpus == {0}


async def parent_limits_the_domains(runner: PonciRunner) -> None:
    (runner.trees.parents[0] / "cpuset.cpus").write_text("0\n")
    said = await runner.error_of(Start(vm_name="vm1", vcpu_map=[[0, 1]]))
    assert "the CPU 1, but domains on node01 can get the CPUs 0 only" in said
    await runner.do(Start(vm_name="vm1", vcpu_map=[[0]]))
    assert (await runner.node()).cpus == 1


async def root_can_be_the_parent(runner: PonciRunner) -> None:
    await runner.open(parent="/")
    name = f"{runner.parent}-top"
    assert await runner.do(Start(vm_name=name, vcpu_map=[[0]], memnode_map=[[0]])) is None
    try:
        assert all((root / name).is_dir() for root in runner.trees.roots)
        domains = await runner.domains()
        assert domains[name] == domains[runner.parent] == "running"
        assert (await runner.node()).cpus == LAST_CPU + 1
    finally:
        await runner.do(Stop(vm_name=name))
    assert not any((root / name).exists() for root in runner.trees.roots)


async def missing_parent_is_created_again(runner: PonciRunner) -> None:
    for parent in runner.trees.parents:
        parent.rmdir()
    await runner.do(Start(vm_name="vm1", vcpu_map=[[0]]))
    assert await runner.domains() == {"vm1": "running"}


async def frozen_group_above_is_reported(runner: PonciRunner) -> None:
    with Counter(runner.directory) as counter:
        await runner.do(Start(vm_name="vm1"))
        runner.trees.join(counter.pid, "vm1")
        await runner.open(freeze_timeout=0.2)
        runner.trees.freeze("", True)
        try:
            await runner.until(lambda: runner.trees.state("vm1") == "frozen")
            said = await runner.error_of(Resume(vm_name="vm1"))
            assert said == (
                f"vm1 is thawed, but a group above {runner.trees.of('vm1')[0]} is frozen; thaw that"
            )
        finally:
            runner.trees.freeze("", False)
        await runner.until(lambda: runner.trees.state("vm1") == "running")


async def daemon_refuses_to_freeze_or_kill_itself(runner: PonciRunner) -> None:
    await runner.do(Start(vm_name="vm1"))
    runner.trees.join(os.getpid(), "vm1")
    try:
        assert "migfra itself runs in vm1 and would freeze itself" in await runner.error_of(
            Suspend(vm_name="vm1")
        )
        assert "migfra itself runs in vm1 and would kill itself" in await runner.error_of(
            Stop(vm_name="vm1", force=True)
        )
    finally:
        runner.trees.leave(os.getpid())


# What does not freeze


async def suspend_times_out_and_thaws(runner: PonciRunner) -> None:
    await runner.open(freeze_timeout=0.2)
    with Stuck() as stuck, Counter(runner.directory) as counter:
        await _put(runner, stuck, counter)
        said = await runner.error_of(Suspend(vm_name="vm1"))
        assert said.startswith("vm1 has not frozen within 0.2 s and runs on; one of its processes")
        assert await runner.domains() == {"vm1": "running"}
        now = counter.count
        await runner.until(lambda: counter.count > now)
        stuck.release()
        await runner.do(Suspend(vm_name="vm1"))
        await runner.do(Resume(vm_name="vm1"))


async def cancelled_suspend_thaws(runner: PonciRunner) -> None:
    await runner.open(freeze_timeout=600.0)
    with Stuck() as stuck, Counter(runner.directory) as counter:
        await _put(runner, stuck, counter)
        suspending = await runner.send(Suspend(vm_name="vm1"))
        await runner.until(lambda: runner.trees.state("vm1") == "freezing")
        assert await runner.domains() == {"vm1": "freezing"}
        # Who comes behind waits, and can be cancelled while it does.
        behind = await runner.send(Resume(vm_name="vm1"))
        await _running(runner, behind)
        for id in (behind, suspending):
            await runner.bench.send(Cancel(id=id), id=f"cancel-{id}")
            answers = {answer.id: answer for answer in [await runner.bench.result() for _ in "12"]}
            assert answers[f"cancel-{id}"].results[0].status == "success"
            assert answers[id].results[0].details == "cancelled"
        assert runner.trees.state("vm1") == "running"
        now = counter.count
        await runner.until(lambda: counter.count > now)


async def force_kills_processes_that_do_not_freeze(runner: PonciRunner) -> None:
    with Stuck() as stuck:
        await _put(runner, stuck)
        await runner.do(Stop(vm_name="vm1", force=True))
        assert stuck.process.wait() == -9


async def _put(runner: PonciRunner, stuck: Stuck, *others: Counter) -> None:
    """Start vm1 with processes, one of which is stuck."""
    await runner.do(Start(vm_name="vm1"))
    for each in (stuck, *others):
        runner.trees.join(each.pid, "vm1")
    stuck.wait()
    await runner.until(lambda: stuck.is_stuck)


async def _running(runner: PonciRunner, id: str) -> None:
    while not any(
        task.id == id and task.state == "running" for task in (await runner.node()).tasks
    ):
        await asyncio.sleep(0)


# What did not die, by a hypervisor that says so


async def stop_reports_processes_that_do_not_die(runner: PonciRunner) -> None:
    await runner.open(stop_timeout=0.2)
    with Counter(runner.directory) as counter:
        await runner.do(Start(vm_name="vm1"))
        runner.trees.join(counter.pid, "vm1")
        with _unkillable(runner):
            said = await runner.error_of(Stop(vm_name="vm1", force=True))
        assert said.startswith(
            f"vm1 still has 1 process ({counter.pid}) 0.2 s after they were killed; they wait for a"
        )
        await runner.open(stop_timeout=600.0)
        with _unkillable(runner):
            id = await runner.send(Stop(vm_name="vm1", force=True))
            await _running(runner, id)
            await runner.bench.send(Cancel(id=id), id="c")
            answers = {answer.id: answer for answer in [await runner.bench.result() for _ in "12"]}
        assert str(answers[id].results[0].details).startswith("cancelled")
        assert runner.trees.exists("vm1")


def _unkillable(runner: PonciRunner) -> AbstractContextManager[object]:
    """In the block, the kernel kills no process of a domain, but says that it did."""
    return mock.patch.object(runner.hypervisor._runtime.hierarchy, "kill", return_value=True)


# After a crash of the daemon


async def recover_finishes_interrupted_start(runner: PonciRunner) -> None:
    start = Start(vm_name="vm1", vcpu_map=[[0]])
    await _not_done(runner, start, "the daemon ended before vm1 was made")
    await _not_done(
        runner, start, "what there was of vm1 is taken back: start it again", making=True
    )
    await runner.do(start)
    assert await runner.recover(start, making=True) == DONE
    assert await runner.recover(Start(vm_name="vm1"), making=True) == DONE
    other = Start(vm_name="vm1", vcpu_map=[[1]])
    await _not_done(runner, other, "is taken back", making=True)
    assert not runner.trees.exists("vm1")


async def recover_finishes_interrupted_suspend(runner: PonciRunner) -> None:
    suspend, resume = Suspend(vm_name="vm1"), Resume(vm_name="vm1")
    await _not_done(runner, suspend, "there is no domain vm1")
    await runner.open(freeze_timeout=0.2)
    with Stuck() as stuck:
        await _put(runner, stuck)
        await _not_done(runner, suspend, "ended while this was under way; vm1 runs on node01")
        assert await runner.recover(resume) == DONE
        runner.trees.freeze("vm1", True)
        await _not_done(runner, suspend, "vm1 has not frozen within 0.2 s and runs on")
        assert runner.trees.state("vm1") == "running"
        runner.trees.freeze("vm1", True)
        stuck.release()
        assert await runner.recover(suspend) == DONE
        assert runner.trees.state("vm1") == "frozen"
        await _not_done(runner, resume, "vm1 is paused on node01")
        await runner.do(resume)


async def recover_finishes_interrupted_stop(runner: PonciRunner) -> None:
    stop, force = Stop(vm_name="vm1"), Stop(vm_name="vm1", force=True)
    assert await runner.recover(stop) == DONE
    with Counter(runner.directory) as counter:
        await runner.do(Start(vm_name="vm1"))
        runner.trees.join(counter.pid, "vm1")
        await _not_done(runner, stop, "vm1 runs on node01")
        await _not_done(runner, force, "vm1 runs on node01")
        assert counter.runs
        # It was killing them: each perhaps frozen, and told to end or not.
        runner.trees.freeze("vm1", True)
        assert await runner.recover(force, killed=["vm1"]) == DONE
        assert counter.process.wait() == -9
    await runner.do(Start(vm_name="vm1"))
    some = Stop(regex="vm.", force=True)
    await _not_done(runner, some, "before the first domain was stopped")
    results = await runner.recover(some, names=["vm1", "vm2"])
    assert [(each.vm_name, each.status) for each in results] == [
        ("vm1", "error"),
        ("vm2", "success"),
    ]


async def recover_finishes_interrupted_repin(runner: PonciRunner) -> None:
    await runner.do(Start(vm_name="vm1", vcpu_map=[[0, 1]]))
    assert await runner.recover(Repin(vm_name="vm1", vcpu_map=[[1, 0]])) == DONE
    await _not_done(runner, Repin(vm_name="vm1", vcpu_map=[[1]]), "vm1 is not pinned like that")


async def _not_done(runner: PonciRunner, task: Task, words: str, **notes: object) -> None:
    outcome = None
    error: HypervisorError | None = None
    try:
        outcome = await runner.recover(task, **notes)
    except HypervisorError as raised:
        error = raised
    assert words in str(error), f"{task} ended with {error or outcome}"


# What the machine does not permit

_OPEN = """
import ctypes, os, sys
from fastlib import Start, Stop
from fastlib.migfra import Context, HypervisorError
from fastlib.migfra.plugin_api.hypervisor import NodeContext
from fastlib.migfra.hypervisors.ponci import PonciHypervisor, PonciOptions
hypervisor = PonciHypervisor(PonciOptions(parent=sys.argv[1]), NodeContext("node01"))
{first}
try:
    hypervisor.open()
    hypervisor.start(Start(vm_name="vm1", vcpu_map=[[0]]), Context("node01"))
    hypervisor.stop(Stop(vm_name="vm1"), Context("node01"))
except HypervisorError as error:
    print(error)
else:
    print("it works")
"""
_NOBODY = "os.setgroups([]); os.setgid(65534); os.setuid(65534)"
_READ_ONLY = """
libc = ctypes.CDLL(None, use_errno=True)
assert libc.unshare(0x00020000) == 0  # CLONE_NEWNS
assert libc.mount(None, b"/", None, 0x44000, None) == 0  # MS_REC | MS_PRIVATE
for point in sys.argv[2:]:
    assert libc.mount(None, point.encode(), None, 0x1021, None) == 0  # MS_REMOUNT|BIND|RDONLY
"""


async def unprivileged_user_is_refused(runner: PonciRunner) -> None:
    said = _opened(runner, _NOBODY)
    assert "not this user's to change (Permission denied); run the daemon as root, or del" in said


async def unprivileged_user_can_use_delegated_group(runner: PonciRunner) -> None:
    for parent in runner.trees.parents:
        os.chown(parent, 65534, 65534)
    assert _opened(runner, _NOBODY) == "it works\n"


async def read_only_mount_is_reported(runner: PonciRunner) -> None:
    said = _opened(runner, _READ_ONLY, *runner.trees.roots)
    assert "is mounted read-only; mount its file system writable" in said


def _opened(runner: PonciRunner, first: str, *more: object) -> str:
    """What a hypervisor says that opens in a process of its own."""
    command = [sys.executable, "-c", _OPEN.format(first=first), f"{runner.parent}/new"]
    done = subprocess.run([*command, *map(str, more)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1, done.stdout
    return done.stdout


# Of one version only


async def v1_process_in_one_tree_is_reported(runner: PonciRunner) -> None:
    with Counter(runner.directory) as counter:
        await runner.do(Start(vm_name="vm1"))
        cpuset, freezer = runner.trees.of("vm1")
        (cpuset / "cgroup.procs").write_text(f"{counter.pid}\n")
        said = await runner.error_of(Suspend(vm_name="vm1"))
        assert said == (
            f"vm1 has 1 process ({counter.pid}) in the tree of cpuset but not in that of freezer, "
            f"which would not freeze; write each into {freezer}/cgroup.procs as well"
        )
        assert runner.trees.state("vm1") == "running"
        assert "has 1 process" in await runner.error_of(Stop(vm_name="vm1"))
        await runner.do(Stop(vm_name="vm1", force=True))
        assert counter.process.wait() == -9


async def v1_exclusive_groups_are_reported(runner: PonciRunner) -> None:
    await runner.do(Start(vm_name="vm1"))
    group = runner.trees.of("vm1")[0]
    (group / "below").mkdir()
    (group / "below/cpuset.cpus").write_text("1")
    said = await runner.error_of(Repin(vm_name="vm1", vcpu_map=[[0]]))
    assert said.startswith(f"the kernel refuses '0' for {group}/cpuset.cpus (Device or resource")
    assert "beside or below it have a claim on them" in said
    await runner.do(Repin(vm_name="vm1", vcpu_map=[[1]]))
    await runner.do(Stop(vm_name="vm1"))
    assert not group.exists()


async def v1_incomplete_domain_is_handled(runner: PonciRunner) -> None:
    """As a crash between the two trees leaves it."""
    cpuset, freezer = runner.trees.of("vm1")
    start, stop = Start(vm_name="vm1"), Stop(vm_name="vm1")
    freezer.mkdir()
    assert "vm1 is there on node01 already" in await runner.error_of(start)
    await _not_done(runner, start, "what there was of vm1 is taken back", making=True)
    assert not freezer.exists()
    cpuset.mkdir()
    assert await runner.domains() == {"vm1": "incomplete"}
    assert "somebody else has removed the group" in await runner.error_of(Suspend(vm_name="vm1"))
    assert await runner.recover(stop) == DONE
    cpuset.mkdir()
    await runner.do(stop)
    assert not cpuset.exists()
    with Counter(runner.directory) as counter:
        await runner.do(start)
        (cpuset / "cgroup.procs").write_text(f"{counter.pid}\n")
        freezer.rmdir()
        await runner.do(Stop(vm_name="vm1", force=True))
        assert counter.process.wait() == -9


async def _open_error(runner: PonciRunner, parent: str) -> str:
    """Return the error of a hypervisor that opens with that parent group."""
    try:
        await asyncio.to_thread(runner.another(parent=parent).open)
    except HypervisorError as error:
        return str(error)
    raise AssertionError(f"a hypervisor opened with the parent {parent}")


async def v2_parent_with_processes_is_refused(runner: PonciRunner) -> None:
    (parent,) = runner.trees.parents
    with Counter(runner.directory) as counter:
        (parent / "cgroup.procs").write_text(f"{counter.pid}\n")
        said = await runner.error_of(Start(vm_name="vm1"))
        assert said.startswith(f"{parent} has processes of its own (1), and then cgroup v2 lets")
        error = await _open_error(runner, f"{runner.parent}/new")
        assert f"{parent} has processes of its own (1)" in error
        # What the kernel makes of a group in one of this kind.
        (parent / "vm1").mkdir()
        assert (parent / "vm1/cgroup.type").read_text() == "domain invalid\n"
        (parent / "vm1").rmdir()


async def v2_threaded_parent_is_refused(runner: PonciRunner) -> None:
    (parent,) = runner.trees.parents
    top = parent.with_name(f"{runner.parent}-threaded")
    for group, told in (
        (parent / "new", f"{parent} is of the type 'domain threaded'"),
        (top, f"{top} is of the type 'threaded'"),
    ):
        group.mkdir()
        try:
            (group / "cgroup.type").write_text("threaded\n")
            await asyncio.to_thread(runner.another(parent=str(group.relative_to(top.parent))).open)
        except HypervisorError as error:
            said = str(error)
        finally:
            group.rmdir()
        assert said.startswith(f"{told}, so that no process can be put into groups in it; name")


async def v2_threads_of_a_domain_are_found(runner: PonciRunner) -> None:
    with Counter(runner.directory) as counter:
        await runner.do(Start(vm_name="vm1"))
        (group,) = runner.trees.of("vm1")
        runner.trees.join(counter.pid, "vm1")
        (group / "threads").mkdir()
        (group / "threads/cgroup.type").write_text("threaded\n")
        (group / "threads/cgroup.threads").write_text(f"{counter.pid}\n")
        await runner.do(Suspend(vm_name="vm1"))
        await runner.do(Resume(vm_name="vm1"))
        assert f"vm1 has 1 process ({counter.pid})" in await runner.error_of(Stop(vm_name="vm1"))
        await runner.do(Stop(vm_name="vm1", force=True))
        assert counter.process.wait() == -9


async def v2_too_many_groups_are_reported(runner: PonciRunner) -> None:
    (parent,) = runner.trees.parents
    (parent / "cgroup.max.descendants").write_text("1\n")
    await runner.do(Start(vm_name="vm1"))
    said = await runner.error_of(Start(vm_name="vm2"))
    assert "vm2 would be one group too many; raise cgroup.max.descendants" in said


def of(version: str) -> list[Check]:
    """The checks for a version of cgroups."""
    return [
        value
        for name, value in globals().items()
        if asyncio.iscoroutinefunction(value)
        and not name.startswith("_")
        and (name[:2] not in ("v1", "v2") or name[:2] == version)
    ]
