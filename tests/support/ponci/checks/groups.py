"""Groups that others make, remove or change while the daemon runs."""

import asyncio
import os
from typing import Any
from unittest import mock

from fastlib import (
    Repin,
    Resume,
    Start,
    Stop,
    Suspend,
)
from fastlib.migfra import Context
from tests.support.migfra.bench import HOST
from tests.support.ponci.checks.common import DONE, LAST_CPU, not_done
from tests.support.ponci.runner import PonciRunner
from tests.support.ponci.workload import Counter, LeaderlessProcess, Remover, status


async def missing_parent_is_created_again(runner: PonciRunner) -> None:
    for parent in runner.trees.parents:
        parent.rmdir()
    await runner.do(Start(vm_name="vm1", vcpu_map=[[0]]))
    assert await runner.domains() == {"vm1": "running"}


async def v1_process_in_one_tree_is_reported(runner: PonciRunner) -> None:
    with Counter(runner.directory) as counter:
        await runner.do(Start(vm_name="vm1"))
        cpuset, freezer = runner.trees.of("vm1")
        (cpuset / "cgroup.procs").write_text(f"{counter.pid}\n")
        said = await runner.error_of(Suspend(vm_name="vm1"))
        assert said == (
            f"vm1 has 1 process ({counter.pid}) in the tree of cpuset but not in that of freezer, "
            f"so they would not freeze; also write each into {freezer}/cgroup.procs"
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
    assert "beside or below it claims them" in said
    await runner.do(Repin(vm_name="vm1", vcpu_map=[[1]]))
    await runner.do(Stop(vm_name="vm1"))
    assert not group.exists()


async def v1_incomplete_domain_is_handled(runner: PonciRunner) -> None:
    """As a crash between the two trees leaves it."""
    cpuset, freezer = runner.trees.of("vm1")
    start, stop = Start(vm_name="vm1"), Stop(vm_name="vm1")
    freezer.mkdir()
    assert "vm1 exists on node01 already" in await runner.error_of(start)
    await not_done(runner, start, "the incomplete vm1 was removed", making=True)
    assert not freezer.exists()
    cpuset.mkdir()
    assert await runner.domains() == {"vm1": "incomplete"}
    assert "vm1 is incomplete" in await runner.error_of(Suspend(vm_name="vm1"))
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


async def v1_domain_in_one_tree_is_incomplete(runner: PonciRunner) -> None:
    cpuset, freezer = runner.trees.of("vm1")
    for here, missing in ((cpuset, freezer), (freezer, cpuset)):
        here.mkdir()
        assert await runner.domains() == {"vm1": "incomplete"}
        assert await runner.error_of(Start(vm_name="vm1")) == (
            f"vm1 exists on node01 already, but incomplete: it has {here} and not {missing}; "
            "stop it first"
        )
        for task in (Suspend(vm_name="vm1"), Resume(vm_name="vm1"),
                     Repin(vm_name="vm1", vcpu_map=[[0]])):  # fmt: skip
            assert await runner.error_of(task) == (
                f"vm1 is incomplete: it has {here} but not {missing}; stop it, then start it again"
            )
        assert await runner.do(Stop(vm_name="vm1")) is None
        assert not here.exists()
    # One that another program made, into which the kernel lets no process.
    cpuset.mkdir()
    freezer.mkdir()
    assert await runner.domains() == {"vm1": "incomplete"}
    assert await runner.do(Repin(vm_name="vm1", vcpu_map=[[0]])) is None
    (cpuset / "cpuset.mems").write_text("0\n")
    assert await runner.domains() == {"vm1": "running"}


async def query_works_without_the_parent(runner: PonciRunner) -> None:
    for parent in runner.trees.parents:
        parent.rmdir()
        node = await runner.node()
        assert (node.domains, node.cpus) == ((), LAST_CPU + 1)
    assert (await runner.error_of(Stop(vm_name="vm1"))).startswith("there is no domain vm1")
    assert await runner.do(Stop(regex=".*")) == "no active domain's name matches '.*'"
    said = await runner.error_of(Start(vm_name="vm1", vcpu_map=[[4000]]))
    assert "can only get the CPUs 0" in said
    assert not runner.trees.parents[0].exists()


async def start_outlasts_the_removal_of_the_parent(runner: PonciRunner) -> None:
    """Another program removes empty groups all the time."""
    with Remover(runner.trees.parents):
        for _ in range(5):
            assert await runner.do(Start(vm_name="vm1", vcpu_map=[[0]])) is None
            assert await runner.domains() == {"vm1": "running"}
            assert await runner.do(Stop(vm_name="vm1")) is None


async def parent_that_is_always_removed_is_reported(runner: PonciRunner) -> None:
    groups = runner.hypervisor._runtime.hierarchy
    make = groups.create

    def create(*arguments: Any) -> None:
        for parent in runner.trees.parents:
            parent.rmdir()
        make(*arguments)

    with mock.patch.object(groups, "create", create):
        assert await runner.error_of(Start(vm_name="vm1")) == (
            f"another program removed {runner.trees.parents[0]} each time before vm1 was in it "
            "(1000 tries); stop that program, then start vm1 again"
        )
    assert not any(parent.exists() for parent in runner.trees.parents)


async def groups_with_odd_names_are_reported(runner: PonciRunner) -> None:
    """Others may give a group a name that is not text."""
    await runner.do(Start(vm_name="vm1"))
    odd = b"odd \xff $(true)"
    for parent in runner.trees.parents:
        os.mkdir(os.fsencode(parent) + b"/" + odd)
    expected = "incomplete" if runner.trees.version == "v1" else "running"
    assert await runner.domains() == {"vm1": "running", "odd \\udcff $(true)": expected}
    results = await runner.results(Stop(regex=".*"))
    assert [(each.vm_name, each.status) for each in results] == [("vm1", "success")]


async def zombies_do_not_count(runner: PonciRunner) -> None:
    """A process that has ended, whether its parent knows it, and one whose first thread has."""
    with Counter(runner.directory) as ended, LeaderlessProcess() as leaderless:
        await runner.do(Start(vm_name="vm1"))
        runner.trees.join(ended.pid, "vm1")
        ended.process.kill()
        await runner.until(lambda: status(ended.pid, "State").startswith("Z"))
        await runner.until(lambda: not runner.trees.processes("vm1"))
        assert await runner.do(Suspend(vm_name="vm1")) is None
        assert await runner.do(Resume(vm_name="vm1")) is None
        runner.trees.join(leaderless.pid, "vm1")
        assert await runner.do(Suspend(vm_name="vm1")) is None
        assert await runner.domains() == {"vm1": "paused"}
        assert await runner.do(Resume(vm_name="vm1")) is None
        assert f"has 1 process ({leaderless.pid})" in await runner.error_of(Stop(vm_name="vm1"))
        assert await runner.do(Stop(vm_name="vm1", force=True)) is None
        assert leaderless.process.wait() == -9


async def domain_that_another_daemon_makes_or_removes_is_handled(runner: PonciRunner) -> None:
    """Two daemons of one host may have the same parent."""
    other = runner.another()
    await asyncio.to_thread(other.open)
    groups = runner.hypervisor._runtime.hierarchy
    prepare = groups.prepare

    def start_there() -> None:
        prepare()
        if not runner.trees.exists("vm1"):
            other.start(Start(vm_name="vm1"), Context(HOST))

    with mock.patch.object(groups, "prepare", start_there):
        said = await runner.error_of(Start(vm_name="vm1"))
    assert said == "another program has just made vm1; stop it first"
    assert await runner.domains() == {"vm1": "running"}
    delete = groups.delete

    def stop_there(name: str) -> None:
        other.stop(Stop(vm_name=name), Context(HOST))
        delete(name)

    with mock.patch.object(groups, "delete", stop_there):
        assert await runner.do(Stop(vm_name="vm1")) is None
    assert await runner.domains() == {}
