"""Stop by force: the processes that end, and the report about the others."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest import SkipTest, mock

from fastlib import (
    Cancel,
    Resume,
    Start,
    Stop,
    Suspend,
)
from fastlib.migfra.hypervisors.ponci.decisions import why_not_killable
from fastlib.migfra.hypervisors.ponci.freezers import V1Freezer
from fastlib.migfra.hypervisors.ponci.hierarchy import Hierarchy
from fastlib.migfra.hypervisors.ponci.inspection import inspect
from fastlib.migfra.hypervisors.ponci.mounts import V2Mount
from fastlib.migfra.hypervisors.ponci.v2 import V2
from tests.support.ponci.checks.common import put, running
from tests.support.ponci.runner import PonciRunner
from tests.support.ponci.workload import Counter, ForkingProcess, LeaderlessProcess, Stuck


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
        runner.trees.make("vm1/below")
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


async def force_kills_processes_that_do_not_freeze(runner: PonciRunner) -> None:
    with Stuck() as stuck:
        await put(runner, stuck)
        await runner.do(Stop(vm_name="vm1", force=True))
        assert stuck.process.wait() == -9


async def stop_reports_processes_that_do_not_die(runner: PonciRunner) -> None:
    await runner.open(stop_timeout=0.2)
    with Counter(runner.directory) as counter:
        await runner.do(Start(vm_name="vm1"))
        runner.trees.join(counter.pid, "vm1")
        with _unkillable(runner):
            said = await runner.error_of(Stop(vm_name="vm1", force=True))
        assert said.startswith(
            f"vm1 still has 1 process ({counter.pid}) 0.2 s after they were killed; "
            f"1 process ({counter.pid}) not ended yet: wait for that; then stop vm1 again"
        )
        await runner.open(stop_timeout=600.0)
        with _unkillable(runner):
            id = await runner.send(Stop(vm_name="vm1", force=True))
            await running(runner, id)
            await runner.bench.send(Cancel(id=id), id="c")
            answers = {answer.id: answer for answer in [await runner.bench.result() for _ in "12"]}
        assert str(answers[id].results[0].details).startswith("cancelled")
        assert runner.trees.exists("vm1")


@contextmanager
def _unkillable(runner: PonciRunner) -> Iterator[None]:
    """In the block, the kernel kills no process of a domain, but says that it did."""
    groups = runner.hypervisor._runtime.hierarchy
    with (
        mock.patch.object(groups, "kill", return_value=True),
        mock.patch("signal.pidfd_send_signal"),
    ):
        yield


async def force_kills_frozen_groups_in_a_domain(runner: PonciRunner) -> None:
    """A manager of containers has frozen some of its groups, and another program the domain."""
    groups = ("vm1", "vm1/below", "vm1/below/deeper", "vm1/beside")
    for frozen in (("vm1/below",), ("vm1/below/deeper", "vm1"), groups):
        with ForkingProcess() as forker, ExitStack() as stack:
            counters = {name: stack.enter_context(Counter(runner.directory)) for name in groups}
            await runner.do(Start(vm_name="vm1"))
            for name in groups:
                if name != "vm1":
                    runner.trees.make(name)
                runner.trees.join(counters[name].pid, name)
            runner.trees.join(forker.pid, "vm1/beside")
            forker.begin()
            for name in frozen:
                runner.trees.freeze(name, True)
            assert await runner.do(Stop(vm_name="vm1", force=True)) is None
            assert not runner.trees.exists("vm1")
            assert [each.process.wait() for each in counters.values()] == [-9] * len(groups)


async def v1_force_is_refused_while_a_group_above_is_frozen(runner: PonciRunner) -> None:
    with Counter(runner.directory) as counter:
        await _frozen_from_above(runner, counter)
        parent = runner.trees.parents[-1]
        assert await runner.error_of(Stop(vm_name="vm1", force=True)) == (
            f"vm1 cannot be stopped: {parent}, which is above it, is frozen, and with cgroup v1 a "
            "frozen process does not end; thaw that group first "
            f"({runner.trees.thaw_command('')}), then stop vm1 again"
        )
        (result,) = await runner.results(Stop(regex="vm.", force=True))
        assert "thaw that group first" in str(result.details)
        now = counter.count
        runner.trees.freeze("", False)
        await runner.until(lambda: counter.count > now)  # so it was not killed
        assert await runner.do(Stop(vm_name="vm1", force=True)) is None
        assert counter.process.wait() == -9
        # One without processes can be deleted anyway.
        await runner.do(Start(vm_name="vm1"))
        runner.trees.freeze("", True)
        assert await runner.do(Stop(vm_name="vm1", force=True)) is None
        runner.trees.freeze("", False)


async def v2_force_kills_while_a_group_above_is_frozen(runner: PonciRunner) -> None:
    with Counter(runner.directory) as counter:
        await _frozen_from_above(runner, counter)
        assert await runner.do(Stop(vm_name="vm1", force=True)) is None
        assert counter.process.wait() == -9
        runner.trees.freeze("", False)


async def _frozen_from_above(runner: PonciRunner, counter: Counter) -> None:
    """Start vm1 with a process, and freeze the parent."""
    await runner.do(Start(vm_name="vm1"))
    runner.trees.join(counter.pid, "vm1")
    await runner.until(lambda: counter.count > 0)
    runner.trees.freeze("", True)
    await runner.until(lambda: runner.trees.state("vm1") == "frozen")


async def v1_processes_frozen_by_other_groups_are_reported(runner: PonciRunner) -> None:
    """A process of the domain in cpuset may be in any group of freezer."""
    with Counter(runner.directory) as counter:
        await runner.do(Start(vm_name="vm1"))
        await runner.do(Start(vm_name="other one"))
        cpuset, freezer = runner.trees.of("vm1")[0], runner.trees.of("other one")[1]
        (cpuset / "cgroup.procs").write_text(f"{counter.pid}\n")
        (freezer / "cgroup.procs").write_text(f"{counter.pid}\n")
        await runner.do(Suspend(vm_name="other one"))
        assert await runner.domains() == {"vm1": "paused", "other one": "paused"}
        cause = f"its thread {counter.pid} is frozen by {freezer}, which is not a part of it"
        remedy = f"thaw that group first (echo THAWED > '{freezer}/freezer.state')"
        assert await runner.error_of(Resume(vm_name="vm1")) == (
            f"vm1 cannot run as a whole: {cause}; {remedy}, then resume vm1"
        )
        said = await runner.error_of(Stop(vm_name="vm1", force=True))
        assert said.startswith(f"vm1 cannot be stopped: its thread {counter.pid} is frozen by")
        assert remedy in said
        now = counter.count
        await runner.do(Resume(vm_name="other one"))
        await runner.until(lambda: counter.count > now)
        assert await runner.domains() == {"vm1": "running", "other one": "running"}
        assert await runner.do(Stop(vm_name="vm1", force=True)) is None
        assert counter.process.wait() == -9


async def v1_processes_frozen_by_v2_are_reported(runner: PonciRunner) -> None:
    """A machine with v1 usually has v2 without controllers as well, which freezes, too."""
    unified = runner.trees.unified
    if unified is None:
        raise SkipTest("no cgroup v2 is mounted beside v1")
    group = unified / f"{runner.parent}-unified"
    group.mkdir()
    try:
        with Counter(runner.directory) as counter, Counter(runner.directory) as other:
            await runner.do(Start(vm_name="vm1"))
            for each in (counter, other):
                runner.trees.join(each.pid, "vm1")
            (group / "cgroup.procs").write_text(f"{counter.pid}\n")
            (group / "cgroup.freeze").write_text("1\n")
            await runner.until(lambda: "frozen 1" in (group / "cgroup.events").read_text())
            assert await runner.domains() == {"vm1": "partly paused"}
            said = await runner.error_of(Resume(vm_name="vm1"))
            assert f"is frozen by {group}, which is not a part of it; thaw that group" in said
            assert await runner.do(Stop(vm_name="vm1", force=True)) is None
            assert counter.process.wait() == other.process.wait() == -9
    finally:
        group.rmdir()


async def v1_frozen_process_in_a_v2_group_is_reported(runner: PonciRunner) -> None:
    """Where a domain is a group of v2, and v1 freezes beside it."""
    unified = runner.trees.unified
    if unified is None:
        raise SkipTest("no cgroup v2 is mounted beside v1")
    freezer = V1Freezer(runner.trees.roots[-1])
    parent = unified / runner.parent
    groups = V2(V2Mount(unified), [runner.parent], [freezer])
    (parent / "vm1").mkdir(parents=True)
    try:
        with Counter(runner.directory) as counter:
            (parent / "vm1/cgroup.procs").write_text(f"{counter.pid}\n")
            assert why_not_killable(inspect(groups, "vm1")) is None
            await runner.do(Start(vm_name="v1"))
            runner.trees.join(counter.pid, "v1")
            await runner.do(Suspend(vm_name="v1"))
            view = inspect(groups, "vm1")
            assert view.still == {counter.pid}
            assert not view.running
            said = why_not_killable(view)
            assert said is not None
            assert f"its thread {counter.pid} is frozen by {runner.trees.of('v1')[-1]}" in said
            await runner.do(Resume(vm_name="v1"))
            assert why_not_killable(inspect(groups, "vm1")) is None
        await runner.until(lambda: "populated 0" in (parent / "vm1/cgroup.events").read_text())
    finally:
        (parent / "vm1").rmdir()
        parent.rmdir()


async def v1_group_frozen_during_a_kill_is_reported(runner: PonciRunner) -> None:
    await runner.open(stop_timeout=0.2)
    with Counter(runner.directory) as counter:
        await runner.do(Start(vm_name="vm1"))
        runner.trees.join(counter.pid, "vm1")
        groups = runner.hypervisor._runtime.hierarchy

        def kill(name: str) -> bool:
            runner.trees.freeze("", True)
            return Hierarchy.kill(groups, name)

        with mock.patch.object(groups, "kill", kill):
            said = await runner.error_of(Stop(vm_name="vm1", force=True))
        assert said.startswith(
            f"vm1 still has 1 process ({counter.pid}) 0.2 s after they were killed; vm1 cannot be "
            f"stopped: {runner.trees.parents[-1]}, which is above it, is frozen, and with cgroup v1"
        )
        runner.trees.freeze("", False)
        assert counter.process.wait() == -9
        assert await runner.do(Stop(vm_name="vm1")) is None


async def v1_single_threads_frozen_by_other_groups_are_reported(runner: PonciRunner) -> None:
    with LeaderlessProcess() as process:
        await runner.do(Start(vm_name="vm1"))
        await runner.do(Start(vm_name="vm2"))
        runner.trees.join(process.pid, "vm1")
        (thread,) = runner.trees.threads("vm1")
        (runner.trees.of("vm2")[-1] / "tasks").write_text(f"{thread}\n")
        runner.trees.freeze("vm2", True)
        said = await runner.error_of(Stop(vm_name="vm1", force=True))
        assert f"its thread {thread} is frozen by {runner.trees.of('vm2')[-1]}" in said
        runner.trees.freeze("vm2", False)
        assert await runner.do(Stop(vm_name="vm1", force=True)) is None
        assert process.process.wait() == -9
