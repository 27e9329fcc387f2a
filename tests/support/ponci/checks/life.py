"""The life of a domain: start, repin, suspend, resume, stop, query."""

import asyncio

from fastlib import (
    Repin,
    Resume,
    Start,
    Stop,
    Suspend,
    Task,
)
from fastlib.migfra import Context, DaemonServices
from tests.support.migfra.bench import HOST
from tests.support.ponci.checks.common import LAST_CPU, LAST_NODE
from tests.support.ponci.runner import PonciRunner
from tests.support.ponci.workload import Counter


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
            f"vm2 has 1 process ({counter.pid}), so it cannot be deleted; end them or move "
            "them to another group, or kill them and stop it with force: true"
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
        await runner.until(lambda: outside.count > meanwhile + 10)
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
    assert node.numa_nodes is not None
    assert {cpu for each in node.numa_nodes for cpu in each.cpus} == set(range(LAST_CPU + 1))
    for each in node.numa_nodes:
        assert each.memory is not None
        assert each.free_memory is not None
        assert each.memory > each.free_memory > 0
    assert node.capabilities is not None
    assert node.capabilities["cgroup"] == runner.trees.version
    assert node.capabilities["parent"] == str(runner.trees.parents[0])
    tasks = node.capabilities["tasks"]
    assert {"start vm", "stop vm", "suspend vm", "resume vm", "repin vm"} < set(tasks)
    assert not {"migrate vm", "evacuate node"} & set(tasks)


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


async def parent_limits_the_domains(runner: PonciRunner) -> None:
    (runner.trees.parents[0] / "cpuset.cpus").write_text("0\n")
    said = await runner.error_of(Start(vm_name="vm1", vcpu_map=[[0, 1]]))
    assert "the CPU 1, but domains on node01 can only get the CPUs 0" in said
    await runner.do(Start(vm_name="vm1", vcpu_map=[[0]]))
    assert (await runner.node()).cpus == 1
